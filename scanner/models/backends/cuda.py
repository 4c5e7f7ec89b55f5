"""Both networks on a GPU: half precision where it is harmless, full batches of one shape.

Classes and scores are those of the CPU within the tolerance that ``tests/models`` state, not to the
bit: sums are taken in another order, and a window's company may choose another kernel.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as fn

from scanner.models.backends.chipnet import relative
from scanner.models.backends.engines import flipped
from scanner.models.backends.runners import Network, torch_name
from scanner.models.backends.torch_ops import TorchOps
from scanner.models.batching import Batcher

WINDOWS: Final = 8
"""Windows a batch; a tile has nine at most, so two readers keep it full."""
CHIPS: Final = 32
"""Chips a batch, each in the same number of views."""
HALF: Final = torch.float16
"""Precision of convolutions and products: three more bits than bfloat16, and values here are small
(an overflow would be no number, which is refused)."""


class CudaWindows:
    """See ``engines.Windows``; ``device`` may be ``cpu`` in tests."""

    def __init__(self, network: Network, device: str = "cuda", most: int = WINDOWS) -> None:
        self.at_once = most
        self._network = network
        self._device = device
        self._ops = TorchOps(device)
        self._logits = Batcher(self._run_logits, most)
        self._classes = Batcher(self._run_classes, most)

    @property
    def name(self) -> str:
        """See ``engines.Windows``."""
        return torch_name("f16", device_name(self._device))

    def logits(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``engines.Windows``."""
        return np.stack(self._logits.results(list(scaled)))

    def class_map(self, scaled: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See ``engines.Windows``."""
        return np.stack(self._classes.results(list(scaled)))

    def _run_logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return self._forward(batch).cpu().numpy()

    def _run_classes(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            logits = self._forward(batch)
            if not torch.isfinite(logits).all():
                raise FloatingPointError("logits are not numbers")
            whole = fn.interpolate(logits, batch.shape[2:], mode="bilinear", align_corners=False)
            return whole.argmax(1).to(torch.uint8).cpu().numpy()

    def _forward(self, batch: NDArray[np.float32]) -> torch.Tensor:
        with torch.autocast(self._device, HALF):
            logits: torch.Tensor = self._network(self._ops, self._ops.constant(batch))
        return logits.float()


class CudaChips:
    """See ``engines.Chips``; in float32, since scores are rounded to 4 decimals."""

    def __init__(
        self, network: Network, flips: int, with_relative: bool, device: str = "cuda"
    ) -> None:
        self.flips = flips
        self._network = network
        self._device = device
        self._relative = with_relative
        self._ops = TorchOps(device)
        self._batches = Batcher(self._run, CHIPS)

    @property
    def name(self) -> str:
        """See ``engines.Chips``."""
        return torch_name("f32", device_name(self._device))

    def logits(self, scaled: NDArray[np.float32], views: range) -> NDArray[np.float32]:
        """See ``engines.Chips``."""
        given = relative(scaled) if self._relative and len(scaled) else scaled
        found = self._batches.results([flipped(chip[None], views) for chip in given])
        return np.array(found, np.float32).reshape(len(scaled), len(views))

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run chips in their views, (chip, view, band, y, x); other views are another batch."""
        views = batch.reshape(-1, *batch.shape[2:])
        with torch.inference_mode():
            logits: torch.Tensor = self._network(self._ops, self._ops.constant(views))
            return logits.reshape(len(batch), -1).cpu().numpy()


def device_name(device: str) -> str:
    """Return the name of a GPU, as its driver tells it."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
