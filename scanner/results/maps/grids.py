"""Grids of pixels in a CRS: what a picture or a raster lies on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from affine import Affine
from pyproj import Transformer

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top."""
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Grid:
    """Pixels of a picture, north up: CRS as ``EPSG:n``, corner, pixel size, rows and columns."""

    crs: str
    left: float
    top: float
    dx: float
    dy: float
    shape: tuple[int, int]

    @classmethod
    def over(cls, crs: str, bounds: Bounds, shape: tuple[int, int]) -> Grid:
        """Lay ``shape`` (rows, columns) over ``bounds``."""
        left, bottom, right, top = bounds
        return cls(crs, left, top, (right - left) / shape[1], (top - bottom) / shape[0], shape)

    @property
    def affine(self) -> Affine:
        """Pixel to place."""
        return Affine(self.dx, 0, self.left, 0, -self.dy, self.top)

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top."""
        rows, cols = self.shape
        return self.left, self.top - rows * self.dy, self.left + cols * self.dx, self.top

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.shape[0] * self.shape[1]

    def part(self, box: Box, shrink: int = 1) -> Grid:
        """Return the grid of a window, a pixel for ``shrink`` of them."""
        left, top, right, bottom = box
        shape = ((bottom - top) // shrink, (right - left) // shrink)
        corner = self.left + left * self.dx, self.top - top * self.dy
        return Grid(self.crs, *corner, self.dx * shrink, self.dy * shrink, shape)

    def blocks(self, side: int) -> Iterator[tuple[slice, slice, Grid]]:
        """Yield rows, columns and grid of each block, row by row."""
        for top in range(0, self.shape[0], side):
            for left in range(0, self.shape[1], side):
                bottom, right = min(top + side, self.shape[0]), min(left + side, self.shape[1])
                box = (left, top, right, bottom)
                yield slice(top, bottom), slice(left, right), self.part(box)


@lru_cache(maxsize=256)
def transformer(crs: str, to_crs: str) -> Transformer:
    """Return a transformer, x before y."""
    return Transformer.from_crs(crs, to_crs, always_xy=True)


def moved_bounds(crs: str, to_crs: str, bounds: Bounds) -> Bounds:
    """Return the bounds in another CRS; across 180 degrees they are all longitudes."""
    left, bottom, right, top = transformer(crs, to_crs).transform_bounds(*bounds)
    return (left, bottom, right, top) if left <= right else (-180.0, bottom, 180.0, top)
