"""What people open: atomic files, GeoParquet, coverage."""
