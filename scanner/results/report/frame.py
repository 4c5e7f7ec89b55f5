"""The grid all pictures of the report's map share: web mercator, as wide as the area."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from scanner.area.aoi import Aoi
from scanner.area.grid import CELL_M, PIXEL_M

CRS: Final = "EPSG:3857"
LONGEST_PX: Final = 2400
"""Longest side of a picture: 84 m a pixel where the area is 200 km wide, 10 m up to 24 km."""
MARGIN_M: Final = 1.5 * CELL_M
"""Shown around the area: its cells reach over its outline by less."""

Bounds = tuple[float, float, float, float]
_RADIUS: Final = 6378137.0
_EDGE: Final = math.pi * _RADIUS


@dataclass(frozen=True)
class Frame:
    """Bounds (xmin, ymin, xmax, ymax) in metres of EPSG:3857 and the shape (y, x) of a picture."""

    bounds: Bounds
    shape: tuple[int, int]

    @property
    def pixel(self) -> float:
        """Width of a pixel, metres of EPSG:3857."""
        return (self.bounds[2] - self.bounds[0]) / self.shape[1]

    @property
    def ground_pixel(self) -> float:
        """Metres a pixel covers on the ground, in the middle."""
        _, lat = from_mercator(np.array(self.bounds[::2]), np.array(self.bounds[1::2]))
        return self.pixel * math.cos(math.radians(float(lat.mean())))

    def window(self, bounds: Bounds) -> tuple[slice, slice, Affine]:
        """Return rows and columns that hold a box in degrees, and the affine of their corner."""
        west, south, east, north = bounds
        xs, ys = to_mercator(np.array([west, east]), np.array([south, north]))
        xmin, ymin, xmax, ymax = self.bounds
        dx, dy = (xmax - xmin) / self.shape[1], (ymax - ymin) / self.shape[0]
        cols = np.clip([(xs[0] - xmin) / dx - 1, (xs[1] - xmin) / dx + 2], 0, self.shape[1])
        rows = np.clip([(ymax - ys[1]) / dy - 1, (ymax - ys[0]) / dy + 2], 0, self.shape[0])
        (left, right), (top, bottom) = cols.astype(int).tolist(), rows.astype(int).tolist()
        place = Affine(dx, 0, xmin + left * dx, 0, -dy, ymax - top * dy)
        return slice(top, bottom), slice(left, right), place

    @property
    def corners(self) -> list[list[float]]:
        """South-west and north-east as Leaflet wants them: [[lat, lon], [lat, lon]]."""
        x, y = np.array(self.bounds[::2]), np.array(self.bounds[1::2])
        lon, lat = from_mercator(x, y)
        return [[round(float(a), 7), round(float(o), 7)] for a, o in zip(lat, lon, strict=True)]


def frame_of(aoi: Aoi) -> Frame:
    """Return the frame of an area: its bounds and a margin, 10 m a pixel or as many as allowed."""
    west, south, east, north = aoi.geometry.bounds
    xs, ys = to_mercator(np.array([west, east]), np.array([south, north]))
    stretch = 1 / math.cos(math.radians((south + north) / 2))
    margin = MARGIN_M * stretch
    xmin, xmax = float(xs[0]) - margin, float(xs[1]) + margin
    ymin, ymax = float(ys[0]) - margin, float(ys[1]) + margin
    xmin, xmax = max(xmin, -_EDGE), min(xmax, _EDGE)
    pixel = max(PIXEL_M * stretch, (xmax - xmin) / LONGEST_PX, (ymax - ymin) / LONGEST_PX)
    columns, rows = (max(1, round(side / pixel)) for side in (xmax - xmin, ymax - ymin))
    return Frame((xmin, ymin, xmax, ymax), (rows, columns))


def square(bounds: Bounds, margin_m: float, least_m: float, most_px: int) -> Frame:
    """Return a square of 10 m pixels, or of ``most_px`` where that is fewer, around degrees."""
    west, south, east, north = bounds
    xs, ys = to_mercator(np.array([west, east]), np.array([south, north]))
    stretch = 1 / math.cos(math.radians((south + north) / 2))
    side = max(float(np.ptp(xs)), float(np.ptp(ys))) + 2 * margin_m * stretch
    side = max(side, least_m * stretch)
    x, y = float(xs.mean()), float(ys.mean())
    size = min(most_px, math.ceil(side / (PIXEL_M * stretch)))
    return Frame((x - side / 2, y - side / 2, x + side / 2, y + side / 2), (size, size))


def to_mercator(
    lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take degrees to metres of EPSG:3857."""
    return _RADIUS * np.radians(lon), _RADIUS * np.arctanh(np.sin(np.radians(lat)))


def from_mercator(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take metres of EPSG:3857 to degrees."""
    return np.degrees(x / _RADIUS), np.degrees(np.arcsin(np.tanh(y / _RADIUS)))
