"""Doing it: clusters and the pipeline."""
