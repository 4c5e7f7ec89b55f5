"""Land cover: a SegFormer behind a Protocol, one copy a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from scanner.errors import ModelError
from scanner.models.card import ModelCard
from scanner.models.hub import segmenter_card
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, read_weights

CLASS_STRIP = 128
"""Rows of the class map made at a time: the logits of a whole window would be 7 float planes."""


class Segmenter(Protocol):
    """What the scan needs of a land cover model."""

    @property
    def card(self) -> ModelCard:
        """What the model is, needs and was measured to do."""
        ...

    def predict(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reflectance 0..1 (n, band, y, x), NaN nodata -> probabilities (n, class, y, x)."""
        ...

    def class_map(self, reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Reflectance 0..1 (n, band, y, x), NaN nodata -> most probable class (n, y, x)."""
        ...


class SegformerSegmenter:
    """A SegFormer of transformers, by our own card or one derived from the files of others.

    Windows go through the network one by one, so a result never depends on its neighbours.
    """

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        self._network = network.eval()
        self._card = card
        channels, order = card.config.get("channels"), card.config.get("order")
        self._channels = torch.tensor(channels) if channels else None
        self._order = torch.tensor(order) if order else None

    @property
    def card(self) -> ModelCard:
        """What the model is, needs and was measured to do."""
        return self._card

    def predict(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities, float32 (n, class, y, x); see :class:`Segmenter`."""
        inputs = self._card.inputs(reflectance)
        n, _, height, width = inputs.shape
        out = np.empty((n, len(self._card.classes), height, width), np.float32)
        for index in range(n):
            logits = upsample(self._logits(inputs[index : index + 1]), height, width)
            out[index] = logits.softmax(1)[0].numpy()
        return out

    def class_map(self, reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the most probable class, uint8 (n, y, x), without making probabilities."""
        inputs = self._card.inputs(reflectance)
        n, _, height, width = inputs.shape
        out = np.empty((n, height, width), np.uint8)
        for index in range(n):
            logits = upsample(self._logits(inputs[index : index + 1]), height, width)
            for row in range(0, height, CLASS_STRIP):
                strip = slice(row, row + CLASS_STRIP)
                out[index, strip] = logits[0, :, strip].argmax(0).to(torch.uint8).numpy()
        return out

    def _logits(self, inputs: NDArray[np.float32]) -> torch.Tensor:
        """Logits of one window, (1, class, y / 4, x / 4), our classes in our order."""
        with torch.inference_mode():
            batch = torch.from_numpy(inputs)
            if self._order is not None:
                batch = batch[:, self._order]
            logits: torch.Tensor = self._network(pixel_values=batch).logits
            if not torch.isfinite(logits).all():  # argmax would take it for background: no mine
                raise ModelError(
                    f"{self._card.name}: its logits are not numbers; report it with the tile's id"
                )
            return logits if self._channels is None else logits[:, self._channels]


def upsample(logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bring logits to the size of their window, bilinear."""
    with torch.inference_mode():
        return nn.functional.interpolate(
            logits, size=(height, width), mode="bilinear", align_corners=False
        )


def load_segmenter(name: str | Path | None = None) -> Segmenter:
    """Load the shipped segmenter, a model directory, one in transformers form, or a hub id.

    A model is loaded once a process. Raises ``ModelError`` if it is not what it should be; there
    is no fallback to another one.
    """
    folder, card = segmenter_card(name)
    return _load(folder, repr(card), None if name is None else str(name))


@cache
def _load(folder: Path, expected: str, name: str | None) -> Segmenter:
    folder, card = segmenter_card(name)
    if repr(card) != expected:
        raise ModelError(f"{folder}: changed while it was read; run again")
    network = _own(folder, card) if (folder / CARD_FILE).exists() else foreign(folder, card)
    return SegformerSegmenter(network, card)


def build_network(config: dict[str, Any]) -> nn.Module:
    """Build a SegFormer without weights from the ``config`` of a card (SegformerConfig's keys)."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    network: nn.Module = SegformerForSemanticSegmentation(SegformerConfig(**config))
    return network


def _own(folder: Path, card: ModelCard) -> nn.Module:
    path = folder / WEIGHTS_FILE
    try:
        with torch.device("meta"):  # what it takes is bounded by the weights there are
            network = build_network(card.config)
        network.load_state_dict(read_weights(path, card.sha256), strict=True, assign=True)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: does not fit mining:config of its card ({first}); fetch the model again"
        ) from error
    return network.float()


def foreign(folder: Path, card: ModelCard) -> nn.Module:
    """Return the network of a directory in transformers form, as ``hub.segmenter_card`` checked it.

    transformers is given numbers alone and no name of a file: it would follow its ``config.json``
    to other code, and an ``adapter_config.json`` to other weights. Raises ``ModelError``.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    network: nn.Module
    report: dict[str, Any]
    loader: Any = SegformerForSemanticSegmentation
    try:
        network, report = loader.from_pretrained(
            None,
            config=SegformerConfig(**card.config["network"]),
            state_dict=read_weights(folder / WEIGHTS_FILE, card.sha256),
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"{folder}: not loaded ({first}); fetch the model again") from error
    wrong = [key for kind in ("missing_keys", "mismatched_keys") for key in report.get(kind, ())]
    if wrong:
        raise ModelError(
            f"{folder / WEIGHTS_FILE}: {len(wrong)} weights missing or of another shape, first "
            f"{wrong[0]}; give the whole model (adapters must be merged)"
        )
    return network


def set_threads(n: int) -> None:
    """Give torch ``n`` threads in this process (both models); call it once, in each worker."""
    torch.set_num_threads(n)
