"""The chip networks in the words of ``Ops``: ``narrow`` and torchvision's ResNet-18 and -34."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.models.backends.ops import Ops, X
from scanner.models.backends.weights import Weights

NARROW: Final = 32
"""Channels of the first stage of ``narrow``."""
DEPTHS: Final = {"narrow": (2, 2, 2), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Blocks a stage of the networks described here; others run in torch alone."""
DULL: Final = 0.02
"""Added to a chip's spread, so that plain ground is not blown up to noise."""
LIMIT: Final = 6.0
"""Relative bands are cut to this many spreads."""


def relative(scaled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return scaled bands (n, band, y, x) and a second copy normalised within the chip.

    As ``networks.ChipNet`` does in training: minus the median (the lower of the two middle values,
    as torch takes it), over the mean absolute deviation.
    """
    flat = scaled.reshape(*scaled.shape[:2], -1)
    middle = (flat.shape[2] - 1) // 2
    median = np.partition(flat, middle, axis=2)[:, :, middle]
    centred = scaled - median[:, :, None, None]
    spread = np.abs(centred).mean((2, 3), keepdims=True) + np.float32(DULL)
    return np.concatenate([scaled, np.clip(centred / spread, -LIMIT, LIMIT)], axis=1)


def chipnet(ops: Ops[X], weights: Weights, config: Mapping[str, Any], x: X) -> X:
    """Return logits (n, 1) of chips (n, channel, y, x), relative copies included.

    Raises ``LookupError`` or ``ValueError`` where the weights are not those of ``config``.
    """
    depths = DEPTHS[config["backbone"]]
    channels = ops.shape(x)[1]
    if config["backbone"] == "narrow":
        width = NARROW
        stem = weights.layer("net.0", width, channels, 3, 3, norm="net.1")
        x = ops.activation(ops.conv(x, stem, padding=1), "relu")
        names = [f"net.{3 + index}" for index in range(sum(depths))]
        head, first = "net.12", 2
    else:
        width = 64
        stem = weights.layer("net.conv1", width, channels, 7, 7, norm="net.bn1")
        x = ops.max_pool(ops.activation(ops.conv(x, stem, stride=2, padding=3), "relu"))
        names = [f"net.layer{1 + s}.{b}" for s, depth in enumerate(depths) for b in range(depth)]
        head, first = "net.fc.1", 1
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = (2 if stage else first) if block == 0 else 1
            x = _block(ops, weights, names.pop(0), x, width << stage, stride)
    last = weights.layer(head, 1, width << (len(depths) - 1))
    return ops.linear(ops.mean(x), last)


def _block(ops: Ops[X], weights: Weights, name: str, x: X, width: int, stride: int) -> X:
    """Two convolutions beside a shortcut, which is one too where sizes or channels change."""
    given = ops.shape(x)[1]
    first, second = (
        weights.layer(f"{name}.conv{i}", width, wide, 3, 3, norm=f"{name}.bn{i}")
        for i, wide in ((1, given), (2, width))
    )
    y = ops.activation(ops.conv(x, first, stride=stride, padding=1), "relu")
    y = ops.conv(y, second, padding=1)
    if stride != 1 or given != width:
        down = f"{name}.downsample"
        shortcut = weights.layer(f"{down}.0", width, given, 1, 1, norm=f"{down}.1")
        x = ops.conv(x, shortcut, stride=stride)
    return ops.activation(ops.add(y, x), "relu")
