"""A QGIS project of a run, and its styles."""
