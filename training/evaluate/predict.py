"""Score chips with a classifier: arrays in, a table out; the same way for every command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scanner.errors import TrainingError
from scanner.models.calibration import rescale
from scanner.models.card import ModelCard
from scanner.models.classifier import Classifier, load_classifier
from training.calibrate import DECIMALS
from training.evaluate.samples import Samples
from training.pictures import BANDS, to_reflectance

LABELS: Final = ("forest", "mining")
BATCH: Final = 256
"""Chips read before they are scored; more would only cost memory."""


@dataclass(frozen=True)
class Scored:
    """What became of each sample."""

    scores: NDArray[np.float64]
    """At the prevalence asked for, (n,); NaN where the image could not be used."""
    reasons: dict[int, str]
    """Row -> why its image could not be used."""
    cropped: int
    """Images larger than a chip, of which the middle was scored."""


def predict(
    images: NDArray[Any] | Sequence[NDArray[Any]],
    classifier: Classifier | Path | str | None = None,
    *,
    threshold: float | str | None = None,
    prior: float | None = None,
) -> pd.DataFrame:
    """Classify arrays.

    Args:
        images: one image or several, each either reflectance, float (band, y, x) within 0..1 and
            NaN nodata, bands B02 B03 B04 [B08 B11 B12]; or a picture, uint8 (y, x, 3) R G B.
        classifier: a model, its directory, or ``None`` for the shipped one.
        threshold: a score, or the name of a threshold of the card; ``None`` takes its default.
        prior: share of mines to rescale scores to; ``None`` stays at the card's prevalence.

    Returns:
        A row an image: ``probability``, ``label`` (mining or forest), ``is_mining``.

    Raises ``TrainingError`` naming the image that is none, is too small or lacks a band.
    """
    model: Classifier
    if classifier is None or isinstance(classifier, Path | str):
        model = load_classifier(classifier)
    else:
        model = classifier
    listed = list(images) if np.ndim(images[0]) == 3 else [np.asarray(images)]
    chips = [
        to_chip(_reflectance(image, f"image {row}"), model.card, f"image {row}")[0]
        for row, image in enumerate(listed)
    ]
    scores = rescaled(model.predict(np.stack(chips)), model.card, prior)
    return judged(scores, model.card.cut(threshold, prior))


def judged(scores: NDArray[np.float64], cut: float) -> pd.DataFrame:
    """Return probability, label and is_mining of each score; the last two empty where it is NaN."""
    known = np.isfinite(scores)
    mining = pd.array(scores >= cut, dtype="boolean")
    mining[~known] = pd.NA
    label = pd.Series(np.where(scores >= cut, LABELS[1], LABELS[0]), dtype=object).where(known)
    return pd.DataFrame({"probability": scores, "label": label, "is_mining": mining})


def score(
    samples: Samples,
    classifier: Classifier,
    prior: float | None = None,
    told: Callable[[int], object] = lambda done: None,
) -> Scored:
    """Score samples batch by batch; an image that cannot be used is named, never filled in.

    ``told`` is called with the number of rows done since the last call.
    """
    card = classifier.card
    scores = np.full(len(samples.table), np.nan)
    reasons: dict[int, str] = {}
    cropped = 0
    for start in range(0, len(scores), BATCH):
        rows, chips = [], []
        for row in range(start, min(start + BATCH, len(scores))):
            try:
                chip, cut = to_chip(samples.read(row), card, str(samples.table["sample_id"][row]))
            except TrainingError as error:
                reasons[row] = str(error)
                continue
            rows.append(row)
            chips.append(chip)
            cropped += cut
        if rows:
            scores[rows] = rescaled(classifier.predict(np.stack(chips)), card, prior)
        told(min(start + BATCH, len(scores)) - start)
    return Scored(scores, reasons, cropped)


def rescaled(raw: NDArray[np.float32], card: ModelCard, prior: float | None) -> NDArray[np.float64]:
    """Round scores as a scan does, then take them to ``prior``."""
    rounded = np.asarray(raw, np.float64).round(DECIMALS)
    return rescale(rounded, card.prevalence, prior)


def to_chip(
    image: NDArray[np.float32], card: ModelCard, name: str
) -> tuple[NDArray[np.float32], bool]:
    """Return what the classifier takes of an image, (band, y, x), and whether it was larger.

    Bands the card may go without are NaN where the image lacks them. Of a larger image the middle
    is taken, at its own resolution: a resized one would show the ground at a scale the classifier
    has never seen. Raises ``TrainingError`` for a smaller one.
    """
    size = card.chip_size or min(image.shape[1:])
    height, width = image.shape[1:]
    if min(height, width) < size:
        raise TrainingError(
            f"{name}: {height} x {width} pixels, the classifier takes {size} x {size} at "
            f"{card.resolution:g} m; give a larger image"
        )
    top, left = (height - size) // 2, (width - size) // 2
    middle = image[:, top : top + size, left : left + size]
    have = [band for band, pixels in zip(BANDS, middle, strict=False) if np.isfinite(pixels).any()]
    if not have:
        raise TrainingError(f"{name}: holds no data in its middle; take it out")
    missing = [band for band in card.bands if band not in have]
    if missing:
        raise TrainingError(
            f"{name}: has {' '.join(have)}, the classifier needs {missing[0]} too; give that band"
        )
    wanted = card.bands + card.optional_bands
    chip = np.full((len(wanted), size, size), np.nan, np.float32)
    for place, band in enumerate(wanted):
        if band in have:
            chip[place] = middle[BANDS.index(band)]
    return chip, (height, width) != (size, size)


def _reflectance(image: NDArray[Any], name: str) -> NDArray[np.float32]:
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return to_reflectance(image)
    if image.ndim == 3 and np.issubdtype(image.dtype, np.floating) and image.shape[0] in (3, 4, 6):
        return image.astype(np.float32)
    raise TrainingError(
        f"{name}: {image.dtype} of shape {image.shape}; give reflectance, float (band, y, x), or a "
        "picture, uint8 (y, x, 3)"
    )
