"""Land cover labels of our own making, from spectral rules on six bands of L2A reflectance.

The network that learns from them sees three bands only. The rules aim at what a scan needs: water
with its turbid ponds, bare ground down to a few pixels in forest, forest, other vegetation.
Roads and buildings can hardly be told from bare ground by rules; few pixels carry these labels.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from scanner.models.card import SEGMENTER_CLASSES

BACKGROUND, BUILDING, ROAD, WATER, BARREN, FOREST, AGRICULTURE = range(len(SEGMENTER_CLASSES))
IGNORE: Final = 255
"""Label of pixels the loss and the metrics leave out."""

LAND_COVER: Final = {1: WATER, 2: FOREST, 4: AGRICULTURE, 5: BUILDING, 6: BARREN, 9: AGRICULTURE}
"""Classes of the ``multispectral`` land cover product; the others are ignored."""


def spectral_labels(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Label reflectance (6, y, x) in B02 B03 B04 B08 B11 B12; returns uint8 (y, x)."""
    blue, green, red, nir, swir, _ = pixels
    ndvi = _ratio(nir, red)
    mndwi = _ratio(green, swir)
    cloud = _cloud(blue, red, nir, swir)
    water = (mndwi > 0.0) & (ndvi < 0.3) & (swir < 0.16) & (nir < 0.26) & ~cloud
    water |= (mndwi > 0.25) & (ndvi < 0.2) & (nir < 0.3) & ~cloud
    water |= (_ratio(green, nir) > 0.0) & (swir < 0.22) & ~cloud  # ponds, sharp at 10 m
    around = cv2.blur((ndvi > 0.7).astype(np.float32), (21, 21), borderType=cv2.BORDER_REFLECT)
    bare = (ndvi < 0.38) & (red > 0.07)
    bare |= (ndvi < 0.52) & (red > 0.055) & (around > 0.5)  # small scars: mixed pixels in forest
    bare |= (ndvi < 0.25) & (swir > 0.12)
    bare &= ~water & ~cloud
    forest = (ndvi > 0.72) & (red < 0.042) & (green < 0.075) & (swir < 0.235)
    labels = np.full(red.shape, AGRICULTURE, np.uint8)
    labels[forest] = FOREST
    labels[bare] = BARREN
    labels[_thin(bare)] = ROAD
    labels[water] = WATER
    fringe = cv2.dilate(cloud.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    labels[fringe] = IGNORE
    labels[cloud] = BACKGROUND
    return _unsure(labels, pixels, ndvi, mndwi)


def _cloud(
    blue: NDArray[np.float32],
    red: NDArray[np.float32],
    nir: NDArray[np.float32],
    swir: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Cloud and haze: bright blue, hardly less than red; bare ground is redder."""
    white = (blue > 0.14) & (blue > 0.85 * red) & (nir > 0.2) & (swir > 0.12)
    grown = cv2.morphologyEx(white.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(grown, bool)


def _thin(bare: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Bare lines: at most four pixels wide, 20 long, straight for the most part."""
    mask = bare.astype(np.uint8)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    lines = mask & ~cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    out = np.zeros(bare.shape, bool)
    for part in range(1, count):
        _, _, width, height, area = stats[part]
        length = float(np.hypot(width, height))
        if length >= 20 and area < 3.0 * length:
            ys, xs = np.nonzero(parts == part)
            spread = np.linalg.svd(np.stack([ys, xs], 1) - [ys.mean(), xs.mean()], False)[1]
            if spread[1] < 0.15 * spread[0]:
                out |= parts == part
    return out


def _unsure(
    labels: NDArray[np.uint8],
    pixels: NDArray[np.float32],
    ndvi: NDArray[np.float32],
    mndwi: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Leave out nodata, and shadow: dark pixels whose indices say neither water nor plants."""
    dark = (pixels[3] < 0.12) & (ndvi >= 0.3) & (mndwi > -0.25)
    empty = (pixels <= 0).any(0)
    return np.where(dark | empty, IGNORE, labels).astype(np.uint8)


def _ratio(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((a - b) / np.maximum(a + b, 1e-4), np.float32)
