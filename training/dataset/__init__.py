"""From chips to a dataset folder: sources -> split -> leakage -> build (and augment)."""
