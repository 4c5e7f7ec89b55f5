"""Land cover: a SegFormer behind a Protocol, one copy a process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from scanner.errors import ModelError
from scanner.models.backends.choose import Kind, resolved, use
from scanner.models.backends.engines import Windows, windows_engine
from scanner.models.backends.runners import check_fits
from scanner.models.backends.segformer import segformer
from scanner.models.backends.weights import Weights
from scanner.models.card import ModelCard
from scanner.models.class_map import upsample
from scanner.models.hub import segmenter_card
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, read_arrays

FIRST: Final = "segformer.stages.0.patch_embeddings.proj.weight"
LAST: Final = "decode_head.classifier"
"""Layers that know the order of bands and of classes."""


class Segmenter(Protocol):
    """What the scan needs of a land cover model."""

    @property
    def card(self) -> ModelCard:
        """What the model is, needs and was measured to do."""
        ...

    @property
    def backend(self) -> str:
        """What it runs on, ``openvino 2026.4.1 f32``."""
        ...

    @property
    def at_once(self) -> int:
        """Windows worth handing in together: 1 on a CPU, a batch on a GPU."""
        ...

    def predict(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reflectance 0..1 (n, band, y, x), NaN nodata -> probabilities (n, class, y, x)."""
        ...

    def class_map(self, reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Reflectance 0..1 (n, band, y, x), NaN nodata -> most probable class (n, y, x)."""
        ...


class SegformerSegmenter:
    """A SegFormer by our own card, or by one derived from the files of others."""

    def __init__(self, engine: Windows, card: ModelCard) -> None:
        self._engine = engine
        self._card = card

    @property
    def card(self) -> ModelCard:
        """What the model is, needs and was measured to do."""
        return self._card

    @property
    def backend(self) -> str:
        """What it runs on, ``openvino 2026.4.1 f32``."""
        return self._engine.name

    @property
    def at_once(self) -> int:
        """Windows worth handing in together: 1 on a CPU, a batch on a GPU."""
        return self._engine.at_once

    def predict(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities, float32 (n, class, y, x); see :class:`Segmenter`."""
        inputs = self._card.inputs(reflectance)
        n, _, height, width = inputs.shape
        out = np.empty((n, len(self._card.classes), height, width), np.float32)
        for index in range(n):
            logits = self._engine.logits(inputs[index : index + 1])[0]
            if not np.isfinite(logits).all():
                raise self._no_numbers()
            out[index] = _softmax(upsample(logits, height, width))
        return out

    def class_map(self, reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the most probable class, uint8 (n, y, x), without making probabilities."""
        inputs = self._card.inputs(reflectance)
        if not len(inputs):
            return np.empty((0, *inputs.shape[2:]), np.uint8)
        try:
            return self._engine.class_map(inputs)
        except FloatingPointError as error:
            raise self._no_numbers() from error

    def _no_numbers(self) -> ModelError:
        return ModelError(
            f"{self._card.name}: its logits are not numbers; report it with the tile's id"
        )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities (class, y, x) of logits, which are used up."""
    logits -= logits.max(0)
    np.exp(logits, out=logits)
    logits /= logits.sum(0)
    return logits


def load_segmenter(name: str | Path | None = None) -> Segmenter:
    """Load the shipped segmenter, a model directory, one in transformers form, or a hub id.

    A model is loaded once a process. Raises ``ModelError`` if it is not what it should be; there
    is no fallback to another one.
    """
    folder, card = segmenter_card(name)
    return _load(folder, repr(card), None if name is None else str(name), resolved())


@cache
def _load(folder: Path, expected: str, name: str | None, _: tuple[Kind, int | None]) -> Segmenter:
    folder, card = segmenter_card(name)
    if repr(card) != expected:
        raise ModelError(f"{folder}: changed while it was read; run again")
    path, config = folder / WEIGHTS_FILE, card.config
    try:
        if (folder / CARD_FILE).exists():
            weights = Weights(read_arrays(path, card.sha256))
        else:
            config = {**card.config["network"], "num_labels": len(card.classes)}
            weights = Weights(_foreign_arrays(folder, card))

        def network(ops: Any, x: Any) -> Any:
            return segformer(ops, weights, config, x)

        check_fits(network, len(card.bands) + len(card.optional_bands))
        weights.check_all_used()
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: does not fit mining:config of its card ({first}); fetch the model again"
        ) from error
    return SegformerSegmenter(windows_engine(network), card)


def _foreign_arrays(folder: Path, card: ModelCard) -> Mapping[str, NDArray[Any]]:
    """Return the weights of a model in transformers form, turned to our bands and classes.

    Its first layer takes the bands in our order, its last gives our classes in ours.
    """
    from scanner.models.cover_networks import foreign

    tensors = foreign(folder, card).state_dict()
    arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    order = np.argsort(card.config["order"])
    arrays[FIRST] = arrays[FIRST][:, order]
    for part in ("weight", "bias"):
        arrays[f"{LAST}.{part}"] = arrays[f"{LAST}.{part}"][card.config["channels"]]
    return arrays


def set_threads(n: int) -> None:
    """Give both models ``n`` threads in this process; call it once, in each worker."""
    use(threads=n)
