"""Measure a classifier on labelled chips: samples -> scores -> figures -> what people open."""
