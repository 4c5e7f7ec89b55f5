"""Networks walked through without computing: only the sizes of what each step would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanner.models.backends.weights import Layer

Shape = tuple[int, ...]


class ShapeOps:
    """``Ops`` of sizes; ``ValueError`` where a step cannot be taken."""

    def constant(self, values: NDArray[np.float32]) -> Shape:
        """See ``Ops``."""
        return values.shape

    def shape(self, x: Shape) -> Shape:
        """See ``Ops``."""
        return x

    def conv(
        self, x: Shape, layer: Layer, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> Shape:
        """See ``Ops``."""
        out, wide, kernel = layer.weight.shape[:3]
        if x[1] != wide * groups:
            raise ValueError(f"{x[1]} channels where {wide * groups} are needed")
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in x[2:]]
        if min(sides) < 1:
            raise ValueError(f"nothing is left of {x[2]} pixels a side")
        return (x[0], out, *sides)

    def linear(self, x: Shape, layer: Layer) -> Shape:
        """See ``Ops``."""
        out, wide = layer.weight.shape
        if x[-1] != wide:
            raise ValueError(f"{x[-1]} channels where {wide} are needed")
        return (*x[:-1], out)

    def norm(self, x: Shape, layer: Layer) -> Shape:
        """See ``Ops``."""
        return x

    def attention(self, query: Shape, key: Shape, value: Shape, heads: int) -> Shape:
        """See ``Ops``."""
        if query[2] % heads:
            raise ValueError(f"{query[2]} channels for {heads} heads")
        return query

    def tokens(self, x: Shape) -> Shape:
        """See ``Ops``."""
        return (x[0], x[2] * x[3], x[1])

    def picture(self, x: Shape, height: int, width: int) -> Shape:
        """See ``Ops``."""
        return (x[0], x[2], height, width)

    def activation(self, x: Shape, kind: str) -> Shape:
        """See ``Ops``."""
        return x

    def add(self, x: Shape, y: Shape) -> Shape:
        """See ``Ops``."""
        if x != y:
            raise ValueError(f"{x} and {y} have no sum")
        return x

    def resize(self, x: Shape, height: int, width: int) -> Shape:
        """See ``Ops``."""
        return (*x[:2], height, width)

    def max_pool(self, x: Shape) -> Shape:
        """See ``Ops``."""
        return (*x[:2], *((side - 1) // 2 + 1 for side in x[2:]))

    def mean(self, x: Shape) -> Shape:
        """See ``Ops``."""
        return x[:2]
