"""What can be recognised: model cards, the segmenter, the classifier."""
