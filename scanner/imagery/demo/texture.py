"""Noise, spectra and drawing shared by the demo's ground, scars and sky.

Spectra are DN of L2A without offset (reflectance * 10000), order B02 B03 B04 B08, measured on real
L2A composites of mining along Amazon streams: 272 chips of 48 x 48 pixels of 10 m, those
whose 5th percentile of B02 is below 350 (little haze). Medians over pixels chosen by NDVI and NDWI:

- forest (NDVI > 0.82): 245 418 224 2882; inside pure forest chips the pixels' standard deviation
  is 0.15 of the mean, correlated 0.55 with the next pixel and 0.2 with the one after;
- bare (NDVI < 0.4, NDWI < 0): 1132 1632 1924 2835; G/R 0.9 at R 1000 to 0.82 at R 3000, B/R 0.64 to
  0.58, N/R 1.9 to 1.14; inside a scar B04 is correlated 0.91, 0.78, 0.68, 0.61 at 1 to 4 pixels and
  spreads from 700 (5th percentile) over 1760 to 3450 (95th);
- water (NDWI > 0.05): 650 1004 914 579, ponds of 3 pixels (median) to 40 (95th percentile);
- degraded vegetation (NDVI 0.6 to 0.82): 339 546 367 2766.

No pixel of theirs is copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from scanner.imagery.demo.frame import HALF_HEIGHT, HALF_WIDTH, PIXEL, SHAPE, Floats

BANDS: Final = ("B02", "B03", "B04", "B08")
"""Bands the demo has, in the order of every array's first axis."""


def spectrum(*values: float) -> Floats:
    """Return a spectrum of four bands shaped (4, 1, 1), to be multiplied with an image."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


FOREST: Final = spectrum(208, 378, 197, 2760)
DEGRADED: Final = spectrum(400, 610, 520, 2600)
RIVER: Final = spectrum(545, 800, 850, 480)
SAND: Final = spectrum(1180, 1640, 1960, 2560)
LAKE: Final = spectrum(325, 345, 275, 225)
STREAM: Final = spectrum(370, 540, 500, 1250)
ROAD: Final = spectrum(760, 1090, 1480, 2300)


def noise(
    rng: np.random.Generator, shape: tuple[int, int], wavelength: float, octaves: int = 1
) -> Floats:
    """Return smooth noise (rows, cols) of mean about 0 and standard deviation 1.

    ``wavelength`` in pixels; each further octave has half the wavelength and half the height.
    """
    total = np.zeros(shape, np.float32)
    height = 1.0
    for _ in range(octaves):
        step = max(wavelength / 2, 1.0)
        rows, cols = int(shape[0] / step) + 4, int(shape[1] / step) + 4
        coarse = rng.standard_normal((rows, cols), dtype=np.float32)
        size = (max(int(cols * step), shape[1] + 1), max(int(rows * step), shape[0] + 1))
        fine = coarse if step <= 1 else cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        total += height * fine[: shape[0], : shape[1]]
        wavelength, height = wavelength / 2, height / 2
    total -= total.mean()
    total /= max(float(total.std()), 1e-6)
    return total


def blur(image: Floats, sigma: float) -> Floats:
    """Return (rows, cols) smoothed by a Gaussian of ``sigma`` pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)


def smoothstep(values: Floats, low: float, high: float) -> Floats:
    """Return 0 below ``low``, 1 above ``high``, a smooth rise between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def lay(ground: Floats, color: Floats, alpha: Floats) -> None:
    """Lay ``color`` (4, rows, cols or 1, 1) over ``ground`` (4, rows, cols), in place."""
    for band in range(len(ground)):
        top = color[band]
        ground[band] += alpha * (top - ground[band])


_FINE = 2
_SHIFT = 4


def _fixed(points: NDArray[np.float64], pixel: float, left: float, top: float) -> NDArray[np.int32]:
    """Return metres as OpenCV's fixed-point columns and rows of a grid starting at left, top."""
    cols = (points[..., 0] - left) / pixel - 0.5
    rows = (top - points[..., 1]) / pixel - 0.5
    return np.round(np.stack([cols, rows], axis=-1) * (1 << _SHIFT)).astype(np.int32)


def fill(
    polygon: NDArray[np.float64], shape: tuple[int, int], pixel: float, left: float, top: float
) -> NDArray[np.uint8]:
    """Return a mask (rows, cols), 255 inside ``polygon`` (n, 2 metres)."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [_fixed(polygon, pixel, left, top)], 255, shift=_SHIFT)
    return mask


class Brush:
    """Draws lines and polygons of the frame (metres) and gives their cover a pixel, 0..1."""

    def __init__(self) -> None:
        self._mask = np.zeros((SHAPE[0] * _FINE, SHAPE[1] * _FINE), np.uint8)

    def _points(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        return _fixed(points, PIXEL / _FINE, -HALF_WIDTH, HALF_HEIGHT)

    def polygon(self, points: NDArray[np.float64]) -> None:
        """Fill a polygon, (n, 2) metres."""
        cv2.fillPoly(self._mask, [self._points(points)], 255, shift=_SHIFT)

    def line(self, points: NDArray[np.float64], widths: Iterable[float]) -> None:
        """Draw a line whose width in metres is given for every vertex."""
        for (col, row), width in zip(self._points(points).tolist(), widths, strict=True):
            radius = int(width / 2 / (PIXEL / _FINE) * (1 << _SHIFT))
            cv2.circle(self._mask, (col, row), max(radius, 1), 255, -1, shift=_SHIFT)

    def cover(self) -> Floats:
        """Return the share of every frame pixel that was drawn on, (rows, cols)."""
        small = cv2.resize(self._mask, SHAPE[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(small, dtype=np.float32) / np.float32(255)
