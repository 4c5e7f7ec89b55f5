"""The way to the shipped models: labels, training, cards."""
