"""Model cards: what a model directory holds, what it needs, and what it was measured to do.

A model directory is ``model.safetensors`` beside ``card.json``. The card uses the property names
of the STAC Machine Learning Model extension (MLM) v1.5 and, for what that has no name for, keys
that begin with ``mining:``. This module needs no torch, so a client can check a model cheaply.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from scanner.errors import ModelError
from scanner.imagery.bands import COMMON_NAMES
from scanner.models.mlm import from_mlm, to_mlm
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, read_json, weights_digest

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
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Scaling:
    """From reflectance to network input: clip to [low, high], minus mean, over std; NaN -> 0."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float = 0.0
    high: float = 1.0

    def apply(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale float32 (n, band, y, x); nodata (NaN) becomes 0, the mean of its band."""
        shape = (1, -1, 1, 1)
        mean = np.asarray(self.mean, np.float32).reshape(shape)
        std = np.asarray(self.std, np.float32).reshape(shape)
        scaled = (np.clip(reflectance, np.float32(self.low), np.float32(self.high)) - mean) / std
        np.nan_to_num(scaled, copy=False, nan=0.0)
        return scaled.astype(np.float32, copy=False)


@dataclass(frozen=True, config=_STRICT)
class Calibration:
    """score = sigmoid(a * logit + b), right where ``prevalence`` of the chips are mines.

    For another prevalence q, add log(q / (1 - q)) - log(prevalence / (1 - prevalence)) to b.
    """

    a: float
    b: float
    prevalence: float
    method: Literal["platt"] = "platt"


@dataclass(frozen=True, config=_STRICT)
class ModelCard:
    """What a model is, needs and was measured to do; ``read`` and ``write`` its directory."""

    name: str
    task: Task
    architecture: str
    bands: tuple[str, ...]
    scaling: Scaling
    sha256: str
    """Of the weights file; see ``digest`` for the identity of the whole model."""
    config: dict[str, Any]
    """What the network is built from; nothing else is read from the weights but numbers."""
    classes: tuple[str, ...]
    optional_bands: tuple[str, ...] = ()
    input_size: int | None = None
    """Pixels a side the network takes; ``None`` takes any."""
    chip_size: int | None = None
    """Pixels a side of a chip (classifier)."""
    resolution: float = 10.0
    """Metres a pixel."""
    threshold: float | None = None
    """Score from which a chip is called a mine (classifier)."""
    calibration: Calibration | None = None
    parameters: int = 0
    training_data: str = ""
    metrics: dict[str, Any] | None = None
    licence: str = ""
    credit: str = ""
    limits: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of everything ``predict`` depends on: weights, bands, scaling, calibration.

        It is the model's identity in a run; threshold, metrics and texts may change without it.
        """
        values = [self.sha256, self.bands, self.optional_bands, self.chip_size, self.config]
        values += [asdict(self.scaling), asdict(self.calibration) if self.calibration else None]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @classmethod
    def read(cls, folder: Path | str) -> ModelCard:
        """Read and check a model directory, weights file included.

        Raises ``ModelError`` naming file, fact and fix: a file is missing, too large or no
        safetensors file, the card is no JSON or says what this version cannot do, or the weights
        are not those the card was written for.
        """
        folder = Path(folder)
        path = folder / CARD_FILE
        card = _validated(from_mlm(read_json(path), path), path)
        _check(card, path)
        found = weights_digest(folder / WEIGHTS_FILE)
        if found != card.sha256:
            raise ModelError(
                f"{folder / WEIGHTS_FILE}: sha256 is {found[:12]}..., the card says "
                f"{card.sha256[:12]}...; fetch the model again, card and weights together"
            )
        return card

    def write(self, folder: Path | str) -> ModelCard:
        """Write ``card.json`` beside the weights in ``folder``; returns it with their sha256."""
        folder = Path(folder)
        card = replace(self, sha256=weights_digest(folder / WEIGHTS_FILE))
        _check(card, folder / CARD_FILE)
        text = json.dumps(to_mlm(card), indent=2, allow_nan=False)
        (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")
        return card

    def inputs(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Check and scale reflectance (n, band, y, x) to what the network takes, float32.

        Bands are ``bands`` or ``bands + optional_bands``; optional ones left out count as nodata.
        """
        size = "y, x" if self.chip_size is None else f"{self.chip_size}, {self.chip_size}"
        fits = reflectance.ndim == 4 and reflectance.shape[1] in (
            len(self.bands),
            len(self.bands) + len(self.optional_bands),
        )
        if fits and self.chip_size is not None:
            fits = reflectance.shape[2:] == (self.chip_size, self.chip_size)
        if not fits:
            raise ModelError(
                f"{self.name}: input of shape {reflectance.shape}, it takes (n, band, {size}) with "
                f"bands {' '.join(self.bands + self.optional_bands)}; cut it so"
            )
        absent = len(self.bands) + len(self.optional_bands) - reflectance.shape[1]
        pad = ((0, 0), (0, absent), (0, 0), (0, 0))
        full = np.pad(reflectance, pad, constant_values=np.nan) if absent else reflectance
        return self.scaling.apply(full)


def _validated(values: dict[str, Any], path: Path) -> ModelCard:
    try:
        return TypeAdapter(ModelCard).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{path}: {where} = {first.get('input')!r}: {first['msg']}; correct the card"
        ) from error


def _check(card: ModelCard, path: Path) -> None:
    """Refuse a card that this version cannot honour."""
    every = card.bands + card.optional_bands
    unknown = [band for band in every if band not in COMMON_NAMES or band == "SCL"]
    problem = None
    if unknown or len(set(every)) != len(every) or not card.bands:
        problem = f"bands {every}, known are {' '.join(b for b in COMMON_NAMES if b != 'SCL')}"
    elif card.classes != CLASSES[card.task]:
        problem = f"classes {card.classes}, expected are {CLASSES[card.task]} in this order"
    elif len(card.scaling.mean) != len(every) or len(card.scaling.std) != len(every):
        problem = f"scaling for {len(card.scaling.mean)} bands of {len(every)}"
    elif not min(card.scaling.std) > 0 or not card.scaling.low < card.scaling.high:
        problem = "scaling with a deviation or range that is not positive"
    elif card.task == "classification" and None in (
        card.threshold,
        card.calibration,
        card.chip_size,
    ):
        problem = "a classifier without threshold, calibration or chip size"
    if problem is not None:
        raise ModelError(f"{path}: {problem}; correct the card or take another model")
