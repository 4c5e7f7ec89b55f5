"""Where: areas of interest and the absolute grid."""
