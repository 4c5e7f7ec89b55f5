"""Model cards: what a model directory holds, what it needs, and what it was measured to do.

A model directory is ``model.safetensors`` beside ``card.json``. The card uses the property names
of the STAC Machine Learning Model extension (MLM) v1.5 and, for what that has no name for, keys
that begin with ``mining:``. This module needs no torch, so a client can check a model cheaply.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from scanner.errors import ConfigError, ModelError
from scanner.models.calibration import Calibration as Calibration
from scanner.models.calibration import rescale
from scanner.models.check import CLASSIFIER_CLASSES as CLASSIFIER_CLASSES
from scanner.models.check import SEGMENTER_CLASSES as SEGMENTER_CLASSES
from scanner.models.check import Task, check_card, check_network
from scanner.models.mlm import from_mlm, to_mlm
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, first_problem, read_json, weights_digest

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class Scaling:
    """From reflectance to network input: clip to [low, high], minus mean, over std; NaN -> 0."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float = 0.0
    high: float | tuple[float, ...] = 1.0
    """One for all bands, or one a band."""

    def apply(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale float32 (n, band, y, x); nodata (NaN) becomes 0, the mean of its band."""
        shape = (1, -1, 1, 1)
        mean, std, high = (
            np.asarray(values, np.float32).reshape(shape)
            for values in (self.mean, self.std, self.high)
        )
        scaled = np.clip(reflectance, np.float32(self.low), high)
        scaled -= mean  # in place: a window is 8 MB, and fresh memory costs more than the sums
        scaled /= std
        scaled[np.isnan(scaled)] = 0
        return scaled.astype(np.float32, copy=False)


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
    """Pixels a side the network takes; ``None`` takes any. A chip of another size is resized."""
    chip_size: int | None = None
    """Pixels a side of a chip (classifier)."""
    resolution: float = 10.0
    """Metres a pixel."""
    threshold: float | None = None
    """Score from which a chip is called a mine (classifier)."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Scores for other uses, by the names of ``THRESHOLDS``, at the calibration's prevalence."""
    calibration: Calibration | None = None
    style: dict[str, Any] | None = None
    """What ``style.apply_style`` does to reflectance before it is scaled; ``None`` is nothing."""
    parameters: int = 0
    training_data: str = ""
    metrics: dict[str, Any] | None = None
    licence: str = ""
    credit: str = ""
    limits: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of everything ``predict`` depends on: weights, bands, style, calibration.

        It is the model's identity in a run; thresholds, metrics and texts may change without it.
        What a card does not use is left out, so that a card of an earlier version keeps its digest.
        """
        values = [self.sha256, self.bands, self.optional_bands, self.chip_size, self.config]
        values += [asdict(self.scaling), self.calibration.plain() if self.calibration else None]
        if self.style is not None:
            values.append({"style": self.style})
        if self.chip_size is not None and self.input_size not in (None, self.chip_size):
            values.append({"input_size": self.input_size})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def prevalence(self) -> float:
        """Share of mines the scores are relative to; ``ModelError`` where nothing is calibrated."""
        if self.calibration is None:
            raise ModelError(f"{self.name}: no calibration, so no prevalence; give a classifier")
        return self.calibration.prevalence

    def cut(self, choice: float | str | None = None, prior: float | None = None) -> float:
        """Return the score from which a chip is a mine, where scores are rescaled to ``prior``.

        Args:
            choice: a score, taken as it is; the name of a threshold (``high-recall`` or
                ``high_recall``); or ``None`` for the card's default. Those of the card move with
                the scores, so that the same chips are called.
            prior: see ``calibration.rescale``.

        Raises ``ConfigError`` if the score is none, or the card has no threshold of that name.
        """
        if isinstance(choice, float | int):
            if not 0 <= choice <= 1:
                raise ConfigError(f"threshold {choice:g}: not within 0..1; give a score")
            return float(choice)
        found = self.threshold if choice is None else self.thresholds.get(choice.replace("-", "_"))
        if found is None:
            known = ", ".join(self.thresholds).replace("_", "-") or "none by name"
            raise ConfigError(
                f"threshold {choice!r}: the card of {self.name} has {known}; "
                "give one of these, or a score"
            )
        return rescale(found, self.prevalence, prior)

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
        check_card(card, path)
        check_network(card, path)
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
        check_card(card, folder / CARD_FILE)
        check_network(card, folder / CARD_FILE)
        text = json.dumps(to_mlm(card), indent=2, allow_nan=False)
        (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")
        return card

    def inputs(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Check, style and scale reflectance (n, band, y, x) for the network, float32.

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
        if self.style is not None:
            from scanner.models.style import apply_style

            full = apply_style(full, self.style)
        return self.scaling.apply(full)


def _validated(values: dict[str, Any], path: Path) -> ModelCard:
    try:
        return TypeAdapter(ModelCard).validate_python(values)
    except ValidationError as error:
        raise ModelError(f"{path}: {first_problem(error)}; correct the card") from error
