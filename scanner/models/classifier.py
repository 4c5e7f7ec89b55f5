"""Mine or not: a ResNet on chips behind a Protocol, one copy a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from scanner.errors import ModelError
from scanner.models.backends.chipnet import DEPTHS, chipnet
from scanner.models.backends.choose import Kind, resolved
from scanner.models.backends.engines import Chips, chips_engine, module_engine
from scanner.models.backends.runners import check_fits
from scanner.models.backends.weights import Weights
from scanner.models.calibration import calibrate as calibrate
from scanner.models.card import ModelCard
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, read_arrays, read_weights, shipped

if TYPE_CHECKING:
    from torch import nn

GLANCE: Final = 2
"""Views of a chip that are enough where it is surely no mine: most chips are, and the classifier
would take as long as all else on the ground it looks at."""

SURELY_NONE: Final = 0.5
"""... which is a score in each of them below this share of the lowest threshold its card names."""


class Classifier(Protocol):
    """What the scan needs of a chip model."""

    @property
    def card(self) -> ModelCard:
        """What the model is, needs and was measured to do."""
        ...

    @property
    def backend(self) -> str:
        """What it runs on, ``openvino 2026.4.1 f32``."""
        ...

    def predict(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reflectance 0..1 (n, band, y, x), NaN nodata -> calibrated scores 0..1 (n,).

        Chips measure ``card.chip_size`` pixels a side; those of a scan are cells, 48.
        """
        ...

    def logits(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same chips -> mean logits over all views of each (n,), uncalibrated."""
        ...


class ResnetClassifier:
    """A network of chips with its card: scaling before, calibration after."""

    def __init__(self, engine: Chips, card: ModelCard) -> None:
        if card.calibration is None:
            raise ModelError(f"{card.name}: no calibration; a classifier's card needs one")
        self._engine = engine
        self._card = card
        self._calibration = card.calibration
        named = [t for t in (card.threshold, *card.thresholds.values()) if t is not None]
        self._surely_none = SURELY_NONE * min(named, default=0.0)

    @property
    def card(self) -> ModelCard:
        """What the model is, needs and was measured to do."""
        return self._card

    @property
    def backend(self) -> str:
        """What it runs on, ``openvino 2026.4.1 f32``."""
        return self._engine.name

    def predict(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated scores, float32 (n,); see :class:`Classifier`.

        A chip that is surely no mine in ``GLANCE`` views is scored by these alone.
        """
        inputs = self._inputs(reflectance)
        seen = self._engine.logits(inputs, range(min(GLANCE, self._engine.flips)))
        logits = seen.mean(1)
        sure = calibrate(seen.max(1), self._calibration) < self._surely_none  # NaN is not
        rest = range(GLANCE, self._engine.flips)
        if rest:
            more = self._engine.logits(inputs[~sure], rest)
            logits[~sure] = np.concatenate([seen[~sure], more], axis=1).mean(1)
        scores = calibrate(logits, self._calibration)
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        if bad:
            raise ModelError(
                f"{self._card.name}: {bad} of {len(scores)} scores are not numbers; "
                "report it with the tile's id"
            )
        return scores

    def logits(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return mean logits, float32 (n,); see :class:`Classifier`."""
        every = range(self._engine.flips)
        return np.asarray(self._engine.logits(self._inputs(reflectance), every).mean(1))

    def _inputs(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = self._card.inputs(reflectance)
        size = self._card.input_size
        if size is not None and inputs.shape[2:] != (size, size):
            inputs = _resized(inputs, size)
        return inputs


def classifier_of(network: nn.Module, card: ModelCard) -> ResnetClassifier:
    """Return a network that is in memory, as training has it, as a classifier, in torch."""
    return ResnetClassifier(module_engine(network, _flips(card.config)), card)


def load_classifier(name: str | Path | None = None) -> Classifier:
    """Load the shipped classifier or a model directory, once a process.

    Raises ``ModelError`` if it is not what it should be; there is no fallback to another one.
    """
    folder = shipped("classifier") if name is None else Path(name)
    card = ModelCard.read(folder)
    return _load(folder, repr(card), resolved())


@cache
def _load(folder: Path, expected: str, _: tuple[Kind, int | None]) -> Classifier:
    card = ModelCard.read(folder)
    path = folder / WEIGHTS_FILE
    if repr(card) != expected:
        raise ModelError(f"{folder}: changed while it was read; run again")
    if card.task != "classification":
        raise ModelError(f"{folder / CARD_FILE}: a model for {card.task}; give a classifier")
    try:
        return ResnetClassifier(_engine(path, card), card)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: does not fit mining:config of its card ({first}); fetch the model again"
        ) from error


def _engine(path: Path, card: ModelCard) -> Chips:
    """Return the network of a card on this process's engine; a few networks run in torch alone."""
    config = card.config
    if config["backbone"] not in DEPTHS:
        from scanner.models.chip_networks import build_network

        module = build_network(config)
        module.load_state_dict(read_weights(path, card.sha256), strict=True)
        return module_engine(module.float(), _flips(config))
    weights = Weights(read_arrays(path, card.sha256))
    with_relative = bool(config.get("relative", True))

    def network(ops: Any, x: Any) -> Any:
        return chipnet(ops, weights, config, x)

    side = card.input_size or card.chip_size or 1
    check_fits(network, int(config["bands"]) * (2 if with_relative else 1), side)
    weights.check_all_used()
    return chips_engine(network, _flips(config), with_relative)


def _flips(config: dict[str, Any]) -> int:
    return int(config.get("flips", 1))


def _resized(inputs: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    import torch

    from scanner.models.chip_networks import resized

    return np.ascontiguousarray(resized(torch.from_numpy(inputs), size).numpy())
