"""A run as a static STAC catalog."""
