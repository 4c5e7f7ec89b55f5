"""The words networks are described in; each engine speaks them in its own way."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from scanner.models.backends.weights import Layer

X = TypeVar("X")
"""What an engine computes with: a tensor, or a node of a graph."""


class Ops(Protocol[X]):
    """Steps of a network. Pictures are (n, channel, y, x), tokens (n, y * x, channel)."""

    def shape(self, x: X) -> tuple[int, ...]:
        """Return the sizes of ``x``."""
        ...

    def conv(self, x: X, layer: Layer, stride: int = 1, padding: int = 0, groups: int = 1) -> X:
        """Convolve a picture; weight (out, in / groups, k, k)."""
        ...

    def linear(self, x: X, layer: Layer) -> X:
        """Multiply the last axis by weight (out, in), add bias."""
        ...

    def norm(self, x: X, layer: Layer) -> X:
        """Normalise each token to mean 0 and deviation 1, then scale and shift it."""
        ...

    def attention(self, query: X, key: X, value: X, heads: int) -> X:
        """Scaled dot product attention of tokens, channels split over ``heads``."""
        ...

    def tokens(self, x: X) -> X:
        """Picture to tokens."""
        ...

    def picture(self, x: X, height: int, width: int) -> X:
        """Tokens to picture."""
        ...

    def activation(self, x: X, kind: str) -> X:
        """``gelu``, ``relu`` or ``silu``; ``x`` may be given up."""
        ...

    def add(self, x: X, y: X) -> X:
        """Sum; ``x`` may be given up."""
        ...

    def resize(self, x: X, height: int, width: int) -> X:
        """Resize a picture, bilinear, corners not aligned."""
        ...

    def max_pool(self, x: X) -> X:
        """Largest of 3 x 3, every second pixel, one pixel of padding."""
        ...

    def mean(self, x: X) -> X:
        """Picture (n, channel, y, x) to its mean (n, channel)."""
        ...

    def constant(self, values: NDArray[np.float32]) -> X:
        """Take an array in, as input to the steps above."""
        ...
