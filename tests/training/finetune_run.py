"""One training run as a process of its own, to be killed by a test."""

from __future__ import annotations

import sys
from pathlib import Path

from training.finetune.classifier import train_classifier
from training.recipe import ClassifierRecipe

if __name__ == "__main__":
    recipe = ClassifierRecipe(
        backbone="narrow",
        pretrained="no",
        epochs=5,
        batch=4,
        input_size=24,
        rate=0.002,
        plateau_patience=1,
        ema=0.5,
        augment="medium",
    )
    train_classifier(Path(sys.argv[1]), Path(sys.argv[2]), recipe)
