"""A tile's class map to cells: which are suspicious, how they look, how well they were seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

from scanner.area.grid import CELL_PX, CORE_PX, HALO_PX, TILE_CELLS, Tile
from scanner.config import PixelConfig
from scanner.detection.segment import APRON
from scanner.imagery.bands import RESOLUTION
from scanner.imagery.composite import DAY_SHARE, STEADY_BIT
from scanner.models.card import SEGMENTER_CLASSES

WATER: Final = SEGMENTER_CLASSES.index("water")
BARREN: Final = SEGMENTER_CLASSES.index("barren")
SUSPICIOUS: Final = tuple(
    SEGMENTER_CLASSES.index(name) for name in ("building", "road", "water", "barren")
)
"""Ground that a mine shows and intact forest does not."""

CELL_AREA_PX: Final = CELL_PX * CELL_PX
"""Pixels of a cell; all fractions are shares of it."""


@dataclass(frozen=True)
class CellStats:
    """Per cell of a tile, arrays (42, 42) in the tile's row and column order."""

    clear_fraction: NDArray[np.float64]
    """Share of the cell seen clear on at least one day, 0..1."""
    suspicious_fraction: NDArray[np.float64]
    """Share of the cell that is suspicious after smoothing, 0..1."""
    suspicious: NDArray[np.bool_]
    """Cells of the AOI that go to the classifier."""
    days: NDArray[np.uint32]
    """Bit set of the solar days that observed the cell."""
    mask: NDArray[np.bool_]
    """Suspicious pixels after smoothing, (2016, 2016)."""


def suspicious_mask(classes: NDArray[np.uint8], close: int, open_: int) -> NDArray[np.bool_]:
    """Return the core's suspicious pixels, smoothed by closing then opening with an ellipse.

    ``classes`` is the core plus ``APRON`` px a side; ``close`` and ``open_`` are diameters in
    pixels, 0 leaves a step out.
    """
    mask = np.isin(classes, SUSPICIOUS).astype(np.uint8)
    for operation, size in ((cv2.MORPH_CLOSE, close), (cv2.MORPH_OPEN, open_)):
        if size > 1:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
            mask = cv2.morphologyEx(mask, operation, kernel).astype(np.uint8)
    return mask[APRON:-APRON, APRON:-APRON].astype(bool)


def suspicious_cells(
    image: NDArray[np.float32],
    classes: NDArray[np.uint8],
    cells: NDArray[np.bool_],
    n_days: int,
    pixels: PixelConfig,
) -> CellStats:
    """Count each cell's pixels and mark the cells worth a second look.

    Args:
        image: composite (band + 1, 2144, 2144), the last plane the bit set of clear days.
        classes: class map of the core plus ``APRON``.
        cells: (42, 42), those that are judged.
        n_days: solar days in the composite.
        pixels: smoothing and the two limits.
    """
    core = image[:, HALO_PX : HALO_PX + CORE_PX, HALO_PX : HALO_PX + CORE_PX]
    day_bits = core[-1].astype(np.uint32)
    judged = day_bits > 0  # clear, or steady: ground the SCL calls cloud on every day
    day_bits &= (1 << STEADY_BIT) - 1
    clear = day_bits > 0
    mask = suspicious_mask(classes, pixels.smoothing_close, pixels.smoothing_open)
    hits, ground = _count(mask & judged), _count(judged)
    share = np.divide(hits, ground, out=np.zeros(hits.shape), where=ground > 0)
    chosen = (share > pixels.suspicious_share) | (hits >= pixels.suspicious_pixels)
    days = np.zeros((TILE_CELLS, TILE_CELLS), dtype=np.uint32)
    for day in range(n_days):
        seen = _count((day_bits >> day & 1).astype(bool)) >= DAY_SHARE * CELL_AREA_PX
        days |= np.where(seen, np.uint32(1 << day), np.uint32(0))
    return CellStats(
        clear_fraction=_count(clear) / CELL_AREA_PX,
        suspicious_fraction=hits / CELL_AREA_PX,
        suspicious=chosen & cells & (ground > 0),
        days=days,
        mask=mask,
    )


def cut_chips(
    image: NDArray[np.float32],
    cells: Sequence[tuple[int, int]],
    index: list[int],
    shifts: Sequence[tuple[int, int]] | None = None,
) -> NDArray[np.float32]:
    """Return the chips (n, band, 48, 48) of ``cells`` (row, column), bands ``index``.

    ``shifts`` (rows, columns in pixels, at most the halo) moves each chip off its cell.
    """
    chips = []
    for (r, c), (down, right) in zip(cells, shifts or [(0, 0)] * len(cells), strict=True):
        top, left = HALO_PX + r * CELL_PX + down, HALO_PX + c * CELL_PX + right
        chips.append(image[index, top : top + CELL_PX, left : left + CELL_PX])
    return np.stack(chips) if chips else np.empty((0, len(index), CELL_PX, CELL_PX), np.float32)


def centring_shifts(
    mask: NDArray[np.bool_], cells: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return how far each cell's suspicious ground lies off its middle: rows, columns, pixels.

    ``mask`` is ``CellStats.mask``; a cell without suspicious ground is not moved.
    """
    shifts = []
    middle = (CELL_PX - 1) / 2
    for r, c in cells:
        inside = mask[r * CELL_PX : (r + 1) * CELL_PX, c * CELL_PX : (c + 1) * CELL_PX]
        at = np.argwhere(inside).mean(axis=0) - middle if inside.any() else np.zeros(2)
        shifts.append((round(float(at[0])), round(float(at[1]))))
    return shifts


def cell_pieces(
    classes: NDArray[np.uint8], stats: CellStats, tile: Tile
) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Outline what a site may be drawn from, cell by cell, for every suspicious cell.

    Returns (row, column) -> pieces, each ``kind`` (barren, water, suspicious), ``component`` and
    ``component_px`` (of water: which body it belongs to and its size in this tile, so that a pond
    can be told from a river later; else 0), ``px``, and ``geometry``, WKB in the tile's CRS,
    metres.
    """
    core = classes[APRON:-APRON, APRON:-APRON]
    wanted = np.kron(stats.suspicious, np.ones((CELL_PX, CELL_PX), dtype=bool))
    bodies, n_bodies, sizes = _water_bodies(classes)
    material = np.where(core == BARREN, 1, 0).astype(np.int32)
    material = np.where(core == WATER, bodies + 1, material)
    pieces: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for cell, value, shape, px in _outlines(material, wanted, tile, n_bodies + 2):
        body = value - 1 if value > 1 else 0
        pieces.setdefault(cell, []).append(
            {
                "kind": "water" if body else "barren",
                "component": body,
                "component_px": int(sizes[body]) if body else 0,
                "px": px,
                "geometry": shape,
            }
        )
    for cell, _, shape, px in _outlines(stats.mask.astype(np.int32), wanted, tile, 2):
        pieces.setdefault(cell, []).append(
            {"kind": "suspicious", "component": 0, "component_px": 0, "px": px, "geometry": shape}
        )
    return pieces


def _count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Sum a core-sized mask cell by cell, (42, 42)."""
    blocks = mask.reshape(TILE_CELLS, CELL_PX, TILE_CELLS, CELL_PX)
    return np.asarray(blocks.sum(axis=(1, 3), dtype=np.int64))


def _water_bodies(
    classes: NDArray[np.uint8],
) -> tuple[NDArray[np.int32], int, NDArray[np.int32]]:
    """Label bodies of water (8 neighbours): labels in the core, their count, sizes in pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (classes == WATER).astype(np.uint8), connectivity=8
    )
    core = np.asarray(labels[APRON:-APRON, APRON:-APRON], dtype=np.int32)
    return core, count, np.asarray(stats[:, cv2.CC_STAT_AREA], dtype=np.int32)


def _outlines(
    values: NDArray[np.int32], wanted: NDArray[np.bool_], tile: Tile, n_values: int
) -> list[tuple[tuple[int, int], int, bytes, int]]:
    """Vectorise ``values`` > 0 within ``wanted`` cells, one multipolygon a cell and value."""
    where = wanted & (values > 0)
    if not where.any():
        return []
    rows, cols = np.nonzero(where)
    codes = (rows // CELL_PX * TILE_CELLS + cols // CELL_PX) * n_values + values[rows, cols]
    unique, labels, counts = np.unique(codes, return_inverse=True, return_counts=True)
    raster = np.zeros((CORE_PX, CORE_PX), dtype=np.int32)
    raster[where] = labels + 1
    west, _, _, north = tile.core_bounds
    transform = Affine(RESOLUTION, 0, west, 0, -RESOLUTION, north)
    parts: dict[int, list[shapely.Polygon]] = {}
    for shape, label in rasterio.features.shapes(raster, mask=where, transform=transform):
        shell, *holes = shape["coordinates"]
        parts.setdefault(int(label) - 1, []).append(shapely.Polygon(shell, holes))
    result = []
    for index in sorted(parts):
        cell, value = divmod(int(unique[index]), n_values)
        geometry = shapely.to_wkb(shapely.MultiPolygon(parts[index]))
        result.append((divmod(cell, TILE_CELLS), value, geometry, int(counts[index])))
    return result
