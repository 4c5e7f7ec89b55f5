"""Chips in batches to scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scanner.models.classifier import Classifier

DECIMALS = 4
"""Scores are rounded before any threshold, so that the last bits of a sum decide nothing."""


def classify(chips: NDArray[np.float32], classifier: Classifier) -> NDArray[np.float64]:
    """Return the score of each chip (n, band, 48, 48), the calibrated probability of mining.

    Batches never mix tiles, and the classifier pads them to one shape, so a chip's score does not
    depend on its neighbours. Raises ``ModelError`` where a score is not a number.
    """
    if not len(chips):
        return np.empty(0, dtype=np.float64)
    return np.asarray(np.round(classifier.predict(chips).astype(np.float64), DECIMALS))
