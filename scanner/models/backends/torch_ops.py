"""Networks computed at once by torch, on the CPU or a GPU.

Pictures are kept with channels last, so that tokens and pictures are two views of one memory and
nothing is copied between attention and convolutions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as fn

from scanner.models.backends.weights import NORM_EPS, Layer

LAST: Final = torch.channels_last


class TorchOps:
    """``Ops`` of tensors; weights are brought to ``device`` once."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._layers: dict[Layer, tuple[torch.Tensor, torch.Tensor]] = {}

    def constant(self, values: NDArray[np.float32]) -> torch.Tensor:
        """See ``Ops``."""
        x = torch.from_numpy(values).to(self._device, non_blocking=True)
        return x.contiguous(memory_format=LAST) if x.ndim == 4 else x

    def shape(self, x: torch.Tensor) -> tuple[int, ...]:
        """See ``Ops``."""
        return tuple(x.shape)

    def conv(
        self, x: torch.Tensor, layer: Layer, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> torch.Tensor:
        """See ``Ops``."""
        weight, bias = self._of(layer)
        return fn.conv2d(x, weight, bias, stride, padding, 1, groups)

    def linear(self, x: torch.Tensor, layer: Layer) -> torch.Tensor:
        """See ``Ops``."""
        return fn.linear(x, *self._of(layer))

    def norm(self, x: torch.Tensor, layer: Layer) -> torch.Tensor:
        """See ``Ops``."""
        weight, bias = self._of(layer)
        return fn.layer_norm(x, weight.shape, weight, bias, NORM_EPS)

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int
    ) -> torch.Tensor:
        """See ``Ops``."""

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

        mixed = fn.scaled_dot_product_attention(split(query), split(key), split(value))
        return mixed.transpose(1, 2).flatten(2)

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """See ``Ops``."""
        return x.permute(0, 2, 3, 1).flatten(1, 2)

    def picture(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """See ``Ops``."""
        return x.reshape(x.shape[0], height, width, -1).permute(0, 3, 1, 2)

    def activation(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        """See ``Ops``."""
        if kind == "relu":
            return x.relu_()
        return fn.gelu(x) if kind == "gelu" else fn.silu(x, inplace=True)

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """See ``Ops``."""
        return x.add_(y) if x.dtype == y.dtype else x + y  # under autocast they may differ

    def resize(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """See ``Ops``."""
        return fn.interpolate(x, (height, width), mode="bilinear", align_corners=False)

    def max_pool(self, x: torch.Tensor) -> torch.Tensor:
        """See ``Ops``."""
        return fn.max_pool2d(x, 3, 2, 1)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """See ``Ops``."""
        return x.mean((2, 3))

    def _of(self, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        if layer not in self._layers:
            weight = torch.from_numpy(layer.weight).to(self._device)
            if weight.ndim == 4:
                weight = weight.contiguous(memory_format=LAST)
            self._layers[layer] = weight, torch.from_numpy(layer.bias).to(self._device)
        return self._layers[layer]
