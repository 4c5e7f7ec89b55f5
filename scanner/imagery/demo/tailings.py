"""Pictures of mining scars: pale tailings, dull pits, turbid ponds, regrowth, a frayed edge.

A scar is drawn at 2.5 m and averaged to 10 m, so that its pixels mix as real ones do. Its inside is
a mosaic of uneven cells (working pits of 15 to 40 m), each one material; ponds keep a bright berm.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from scanner.imagery.demo.frame import HALF_HEIGHT, HALF_WIDTH, PIXEL, SHAPE, Floats
from scanner.imagery.demo.scars import Scar, Style, outline
from scanner.imagery.demo.texture import DEGRADED, fill, noise, smoothstep

_FINE: Final = 4
_STEP: Final = PIXEL / _FINE


@dataclass(frozen=True)
class _Palette:
    red: float
    """Median B04 of the bright tailings."""
    green: float
    blue: float
    """Ratios to B04."""
    ponds: float
    dull: float
    green_share: float
    """Shares of the cells that are pond, dull bare ground, regrowth."""


_PALETTES: Final[dict[Style, _Palette]] = {
    "orange": _Palette(2450, 0.80, 0.54, 0.20, 0.34, 0.14),
    "pale": _Palette(2750, 0.84, 0.61, 0.25, 0.27, 0.12),
    "white": _Palette(3300, 0.87, 0.69, 0.18, 0.16, 0.06),
    "yellow": _Palette(2450, 0.85, 0.51, 0.22, 0.30, 0.12),
    "dull": _Palette(2050, 0.83, 0.58, 0.20, 0.40, 0.16),
}

_PONDS: Final = np.array(
    [
        (800, 1230, 1290, 760),  # tan
        (640, 960, 960, 520),  # brown
        (760, 1420, 1180, 620),  # yellow-green
        (1080, 1600, 1020, 480),  # turquoise
        (1250, 1950, 1900, 1150),  # milky
        (440, 640, 480, 340),  # dark green
    ],
    dtype=np.float32,
)
_POND_SHARES: Final = (0.30, 0.22, 0.18, 0.10, 0.08, 0.12)


@dataclass(frozen=True)
class Patch:
    """A scar's picture, to be laid over the frame's pixels from ``row``, ``col`` on."""

    row: int
    col: int
    color: Floats
    """(4, rows, cols) DN."""
    alpha: Floats
    """Share of the pixel covered, the frayed edge included."""
    inside: Floats
    """Share of the pixel inside the scar's outline."""
    ponds: Floats
    """Share of the pixel that is pond."""


def _signed_distance(mask: NDArray[np.uint8]) -> Floats:
    """Return metres to the outline, positive inside."""
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(255 - mask, cv2.DIST_L2, 5)
    return np.asarray(inside - outside, dtype=np.float32) * np.float32(_STEP)


def _tailings(red: Floats, palette: _Palette, tint: Floats) -> Floats:
    """Return bare ground (4, ...) from its B04; darker ground is greener and has more B08."""
    green = red * (palette.green + 0.08 * np.clip((2000 - red) / 1000, -0.5, 1) + 0.03 * tint)
    blue = red * (palette.blue + 0.05 * np.clip((2000 - red) / 1000, -0.5, 1) + 0.05 * tint)
    ratio = np.interp(red, [600, 1000, 1500, 2000, 3000, 4200], [2.0, 1.8, 1.5, 1.26, 1.12, 1.06])
    return np.stack([blue, green, red, red * ratio.astype(np.float32)])


@dataclass(frozen=True)
class _Mosaic:
    """Uneven cells that fill a patch at 2.5 m."""

    cell: NDArray[np.intp]
    """Cell of each pixel."""
    neighbor: NDArray[np.intp]
    """The next nearest cell of each pixel."""
    border: Floats
    """Metres to the border with that neighbour."""
    rank: Floats
    """A cell's draw, 0..1, evenly spread; alike in cells close by, so that ponds come in groups."""


def _mosaic(rng: np.random.Generator, shape: tuple[int, int]) -> _Mosaic:
    spacing = rng.uniform(24, 38) / _STEP
    rows, cols = np.mgrid[0 : shape[0] : spacing, 0 : shape[1] : spacing]
    seeds = np.stack([rows.ravel(), cols.ravel()], axis=1)
    seeds = seeds + rng.uniform(-0.62, 0.62, seeds.shape) * spacing
    seeds = seeds[rng.random(len(seeds)) > 0.22]
    pixels = np.moveaxis(np.indices(shape), 0, -1).astype(np.float64)
    for axis in range(2):
        pixels[..., axis] += 4 / _STEP * noise(rng, shape, 24 / _STEP, 2)
    tree = KDTree(seeds)
    distance, index = tree.query(pixels.reshape(-1, 2), k=2)
    border = (distance[:, 1] - distance[:, 0]).reshape(shape) / 2 * _STEP
    near = np.clip(seeds.astype(np.intp), 0, np.array(shape) - 1)
    likeness = noise(rng, shape, 3.5 * spacing)[near[:, 0], near[:, 1]]
    draw = 0.8 * likeness + rng.normal(0, 0.7, len(seeds))
    rank = (np.argsort(np.argsort(draw)) + rng.random(len(seeds))) / len(seeds)
    cell, neighbor = index[:, 0].reshape(shape), index[:, 1].reshape(shape)
    return _Mosaic(cell, neighbor, border.astype(np.float32), rank.astype(np.float32))


def _inside(
    rng: np.random.Generator, shape: tuple[int, int], style: Style
) -> tuple[Floats, Floats]:
    """Return the mosaic's colours (4, rows, cols) and its ponds' cover, at 2.5 m."""
    palette = _PALETTES[style]
    mosaic = _mosaic(rng, shape)
    cell, border, count = mosaic.cell, mosaic.border, len(mosaic.rank)
    broad, fine = noise(rng, shape, 130 / _STEP, 3), noise(rng, shape, 14 / _STEP, 2)
    brightness = rng.normal(0, 1, count).astype(np.float32)
    is_pond = mosaic.rank < palette.ponds
    is_green = mosaic.rank > 1 - palette.green_share
    is_dull = (mosaic.rank > 1 - palette.green_share - palette.dull) & ~is_green
    swell = 0.40 * brightness[cell] + 0.90 * broad + 0.18 * fine
    bare = palette.red * np.exp(0.24 * swell)
    bare = np.where(is_dull[cell], bare * rng.uniform(0.42, 0.68, count)[cell], bare)
    bare = np.clip(bare, 620, 4300).astype(np.float32)
    color = _tailings(bare, palette, 0.6 * broad + 0.4 * fine)
    green = is_green[cell] * smoothstep(border + 3 * fine, -2, 6) * 0.9
    color += green * (DEGRADED * (1 + 0.12 * fine) - color)
    hue = rng.choice(len(_PONDS), count, p=_POND_SHARES)
    merged = (
        is_pond[cell] & is_pond[mosaic.neighbor] & (hue[cell] // 2 == hue[mosaic.neighbor] // 2)
    )
    berm = np.where(merged, np.float32(9), border) + 1.2 * fine
    ponds = is_pond[cell] * smoothstep(berm, 0, 3)
    pond_colors = _PONDS[hue] * rng.normal(1, 0.1, (count, 1)).astype(np.float32)
    color += ponds * (np.moveaxis(pond_colors[cell], -1, 0) - color)
    return color.astype(np.float32), ponds.astype(np.float32)


def _coarse(image: Floats) -> Floats:
    size = (image.shape[1] // _FINE, image.shape[0] // _FINE)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def draw(scar: Scar) -> Patch:
    """Return the picture of ``scar``; the same scar gives the same pixels wherever it is drawn."""
    rng = np.random.default_rng([zlib.crc32(scar.name.encode()), 23])
    polygon = outline(scar)
    west, south, east, north = polygon.buffer(70).bounds
    col = max(int((west + HALF_WIDTH) // PIXEL), 0)
    row = max(int((HALF_HEIGHT - north) // PIXEL), 0)
    cols = min(int((east + HALF_WIDTH) // PIXEL) + 1, SHAPE[1]) - col
    rows = min(int((HALF_HEIGHT - south) // PIXEL) + 1, SHAPE[0]) - row
    shape = (rows * _FINE, cols * _FINE)
    corner = (-HALF_WIDTH + col * PIXEL, HALF_HEIGHT - row * PIXEL)
    mask = fill(shapely.get_coordinates(polygon.exterior), shape, _STEP, *corner)
    distance = _signed_distance(mask)
    color, ponds = _inside(rng, shape, scar.style)
    fray = noise(rng, shape, 26 / _STEP, 3)
    bites = 0.05 * polygon.area**0.5 * noise(rng, shape, 75 / _STEP, 2)
    if scar.shape != "blocky":
        bites = np.zeros_like(bites)
    core = smoothstep(distance + 3.5 * fray + bites, -3, 3)
    skirt = smoothstep(distance + 13 * fray + bites, -26, 0) * 0.55
    alpha = core + (1 - core) * skirt
    worn = DEGRADED * (1 + 0.15 * noise(rng, shape, 20 / _STEP, 2))
    color = worn + np.where(alpha > 0, core / np.maximum(alpha, 1e-6), 0) * (color - worn)
    weight = _coarse(alpha)
    blended = np.stack([_coarse(band * alpha) for band in color]) / np.maximum(weight, 1e-6)
    inside = _coarse(mask.astype(np.float32) / np.float32(255))
    return Patch(row, col, blended.astype(np.float32), weight, inside, _coarse(ponds * core))
