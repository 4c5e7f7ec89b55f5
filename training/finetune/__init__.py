"""Training on folders of images: a classifier of chips, a segmenter of land cover."""
