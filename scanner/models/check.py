"""What a card must say for this version to honour it. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from scanner.errors import ModelError
from scanner.imagery.bands import COMMON_NAMES
from scanner.models.networks import check_chips, check_segformer
from scanner.models.store import shown
from scanner.models.style import check_style

if TYPE_CHECKING:
    from scanner.models.card import ModelCard

SEGMENTER_CLASSES: Final = (
    "background",
    "building",
    "road",
    "water",
    "barren",
    "forest",
    "agriculture",
)
"""Classes of every segmenter, in this order (the names are LoveDA's)."""
CLASSIFIER_CLASSES: Final = ("not_mine", "mine")
"""Classes of every classifier; the score is the probability of the second."""

Task = Literal["semantic-segmentation", "classification"]
CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "semantic-segmentation": SEGMENTER_CLASSES,
    "classification": CLASSIFIER_CLASSES,
}
THRESHOLDS: Final = ("balanced", "high_recall", "high_precision")
"""Names of the thresholds a classifier's card may hold besides the default one."""
LARGEST: Final = 1e6
"""Largest number of a scaling, and one over the smallest deviation: reflectances are about 1."""
MAX_SIDE: Final = 2048
"""Pixels a side of an input, at most."""


def check_card(card: ModelCard, path: Path) -> None:
    """Refuse (``ModelError`` naming ``path``) a card that this version cannot honour."""
    problem = _problem(card)
    if problem is None and card.style is not None:
        try:
            check_style(card.style)
        except (ModelError, TypeError) as error:
            problem = str(error)[:200]
    if problem is not None:
        raise ModelError(f"{path}: {problem}; correct the card or take another model")


def check_network(card: ModelCard, path: Path) -> None:
    """Refuse settings of a network that are not just its sizes."""
    bands, source = len(card.bands + card.optional_bands), f"{path}: mining:config"
    if card.task == "classification":
        check_chips(card.config, bands, source)
    else:
        config = check_segformer(card.config, bands, source)
        if config.get("num_labels") != len(card.classes):
            raise ModelError(
                f"{source}: num_labels {config.get('num_labels')} for {len(card.classes)} classes; "
                "correct the card"
            )


def _problem(card: ModelCard) -> str | None:
    every = card.bands + card.optional_bands
    unknown = [band for band in every if band not in COMMON_NAMES or band == "SCL"]
    problem = None
    if unknown or len(set(every)) != len(every) or not card.bands:
        known = " ".join(b for b in COMMON_NAMES if b != "SCL")
        problem = f"bands {shown(every)}, known are {known}"
    elif card.classes != CLASSES[card.task]:
        problem = f"classes {shown(card.classes)}, expected are {CLASSES[card.task]} in this order"
    elif not len(card.scaling.mean) == len(card.scaling.std) == len(every) or np.size(
        card.scaling.high
    ) not in (1, len(every)):
        problem = f"scaling for {len(card.scaling.mean)} bands of {len(every)}"
    elif not min(card.scaling.std) > 0 or not card.scaling.low < np.min(card.scaling.high):
        problem = "scaling with a deviation or range that is not positive"
    elif problem := _out_of_range(card):
        pass
    elif card.task == "classification" and None in (
        card.threshold,
        card.calibration,
        card.chip_size,
    ):
        problem = "a classifier without threshold, calibration or chip size"
    elif unnamed := [name for name in card.thresholds if name not in THRESHOLDS]:
        problem = f"threshold {shown(unnamed[0])}, known are {', '.join(THRESHOLDS)}"
    elif not all(0 <= cut <= 1 for cut in (*card.thresholds.values(), card.threshold or 0.0)):
        problem = "a threshold outside 0..1"
    return problem


def _out_of_range(card: ModelCard) -> str | None:
    """Return what of a card is too large, too fine or too odd to be meant."""
    scaling = card.scaling
    numbers = [*scaling.mean, *scaling.std, scaling.low, *np.atleast_1d(scaling.high).tolist()]
    if not all(abs(value) <= LARGEST for value in numbers) or min(scaling.std) < 1 / LARGEST:
        return f"scaling beyond {LARGEST:g}"
    sides = [side for side in (card.input_size, card.chip_size) if side is not None]
    if not all(1 <= side <= MAX_SIDE for side in sides):
        return f"input_size or chip_size not within 1..{MAX_SIDE}"
    if not 0 < len(card.name) <= 1000 or not (card.name + card.architecture).isprintable():
        return f"a name that cannot be shown, {shown(card.name)}"
    return None
