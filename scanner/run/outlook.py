"""What the items promise of each tile, before a pixel is read: views, clear cover, pixels, gaps.

Everything here follows from the items' footprints, days and cloud cover. Tiles go through in
batches against a tree of the footprints, so that a river basin takes seconds and little memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from scanner.area.aoi import only_area
from scanner.area.grid import CELL_M, PIXEL_M, TILE_CELLS, Tile, to_geographic
from scanner.config import PixelConfig
from scanner.imagery.catalog import chunk_footprint
from scanner.imagery.item import Item

BATCH: Final = 500
"""Tiles looked at together; bounds the memory of the pairs of tiles and items."""

SIDE: Final = 7
"""A tile's cells are judged in 7 x 7 blocks of 6 x 6, each at the middle of its AOI cells."""

BLOCK_PX: Final = 512
"""Pixels a side of a COG's block, as GDAL writes them; whole blocks are read.

In blocks of 1024 px a full tile costs about 1.4 times as much.
"""

VALID_WEIGHT: Final = 1e-3
"""What a pixel under cloud counts beside a clear one: days with data go before those without."""

UNKNOWN_CLOUD: Final = 0.5
"""Cloud taken for an item that tells none."""

ENOUGH: Final = 0.95
"""Days are taken to be added until this share of the places has its clear views.

A scan adds them until each pixel has, by the real clouds; it also picks the days by those. Chosen,
not measured.
"""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Outlook:
    """What the items promise of one tile."""

    items: NDArray[np.int64]
    """Places in the list of items of the candidates: those that meet its chunk."""
    chosen: Bools
    """Which of them are of the days expected to be read."""
    most: Bools
    """Which of them are of the days read where clouds leave no choice: ``max_scenes`` of them."""
    days: int
    """Solar days with a candidate."""
    days_read: int
    """Days expected to be read: with data in the AOI, until ``clear_views`` are expected."""
    days_most: int
    """Days read at most: with data in the AOI, up to ``max_scenes``."""
    clear: float
    """Expected share of its AOI cells seen clear at least once (:func:`expected_clear`)."""
    share_10: Floats
    """Share of the 10 m blocks it reads that hold data, one a candidate."""
    share_20: Floats
    """The same at 20 m, where blocks are twice as large on the ground."""
    gap: Any
    """Part of its core that no item shows (EPSG:4326), empty where all of it is shown."""


class Outlooks:
    """Items made ready for looking tiles up.

    Args:
        items: candidates of the whole run.
        pixels: how many days are read, and until how many clear views.
    """

    def __init__(self, items: Sequence[Item], pixels: PixelConfig) -> None:
        self._footprints = np.array([item.footprint for item in items], dtype=object)
        shapely.prepare(self._footprints)
        self._tree = shapely.STRtree(self._footprints)
        self._days = np.array([item.solar_day.toordinal() for item in items], dtype=np.int64)
        self._cloud = np.array([cloud_share(item) for item in items], dtype=np.float64)
        has_scl = np.array([item.asset_key("SCL") is not None for item in items], dtype=bool)
        self._told = np.where(has_scl, self._cloud, 0.0)  # without SCL a scan sees no cloud
        self._pixels = pixels

    def of(self, tiles: Sequence[Tile]) -> Iterator[Outlook]:
        """Yield the outlook of each tile, in their order."""
        for start in range(0, len(tiles), BATCH):
            yield from self._batch(tiles[start : start + BATCH])

    def _batch(self, tiles: Sequence[Tile]) -> Iterator[Outlook]:
        chunks = np.array([chunk_footprint(tile) for tile in tiles], dtype=object)
        found, items = self._tree.query(chunks, predicate="intersects")
        order = np.lexsort((items, found))
        found, items = found[order], items[order]
        shares = [
            self._shares(items, found, _blocks(tiles, PIXEL_M * scale * BLOCK_PX / 2))
            for scale in (1, 2)
        ]
        ends = np.searchsorted(found, np.arange(len(tiles) + 1))
        for index, tile in enumerate(tiles):
            here = slice(ends[index], ends[index + 1])
            yield self._one(tile, items[here], shares[0][here], shares[1][here])

    def _shares(
        self, items: NDArray[np.int64], grounds: NDArray[np.int64], corners: Floats
    ) -> Floats:
        """Return the share of its ground each item shows; 1 where it covers it, else sampled."""
        shown = self._footprints[items]
        share = np.ones(len(items))
        squares = np.asarray(shapely.polygons(corners), dtype=object)
        partly = np.flatnonzero(~shapely.covers(shown, squares[grounds]))
        lon, lat = np.moveaxis(np.einsum("pc,tcd->tpd", _LATTICE, corners), -1, 0)
        at = grounds[partly]
        share[partly] = shapely.contains_xy(shown[partly, None], lon[at], lat[at]).mean(axis=1)
        return share

    def _one(
        self, tile: Tile, items: NDArray[np.int64], share_10: Floats, share_20: Floats
    ) -> Outlook:
        lon, lat, weight = sample_points(tile)
        seen = np.ones((len(items), len(lon)), dtype=bool)
        partly = share_10 < 1  # the blocks reach beyond the core
        seen[partly] = shapely.contains_xy(self._footprints[items[partly], None], lon, lat)
        days, cloud = self._days[items], self._cloud[items]
        distinct, day_of = np.unique(days, return_inverse=True)
        gain = np.zeros(len(distinct))  # of one day, the item that shows most
        np.maximum.at(gain, day_of, ((1 - cloud[:, None] + VALID_WEIGHT) * seen) @ weight)
        best = np.lexsort((distinct, gain))[::-1][: self._pixels.max_scenes]
        best = best[gain[best] > 0]
        missed = np.ones((len(distinct), len(lon)))
        np.minimum.at(missed, day_of, np.where(seen, self._told[items][:, None], 1.0))
        enough = days_until(missed[best], weight, self._pixels.clear_views)
        read, most = (np.isin(day_of, best[:count]) for count in (enough, len(best)))
        return Outlook(
            items=items,
            chosen=read,
            most=most,
            days=len(distinct),
            days_read=enough,
            days_most=len(best),
            clear=expected_clear(seen, days, cloud, weight, enough),
            share_10=share_10,
            share_20=share_20,
            gap=self._gap(tile, items[np.argsort(-share_10, kind="stable")]),
        )

    def _gap(self, tile: Tile, items: NDArray[np.int64]) -> Any:
        core: Any = tile.footprint
        shown = self._footprints[items]
        if shapely.covers(shown, core).any():
            return shapely.Polygon()
        for footprint in shown:
            core = shapely.difference(core, footprint)
            if core.is_empty:
                break
        return only_area(core)


def expected_clear(
    seen: Bools,
    days: NDArray[np.int64],
    cloud: Floats,
    weight: Floats,
    max_scenes: int,
) -> float:
    """Return the expected share of places seen clear at least once, within 0..1.

    A place is missed on a day with the chance that the granule's cloud cover tells (the least of
    the day's items that show it), each day for itself. Of its days the ``max_scenes`` least cloudy
    count. So it is an estimate: clouds keep to places and seasons, and days are chosen for the
    tile, by what is really clear there.

    Args:
        seen: (item, place), whether the item shows the place.
        days: (item,), its day.
        cloud: (item,), 0..1.
        weight: (place,), how many cells each stands for.
        max_scenes: days read, at most.
    """
    if not len(days):
        return 0.0
    order = np.argsort(days, kind="stable")
    starts = np.flatnonzero(np.diff(days[order], prepend=days[order[0]] - 1))
    missed = np.where(seen, cloud[:, None], 1.0)[order]
    by_day = np.sort(np.minimum.reduceat(missed, starts, axis=0), axis=0)
    clear = 1 - by_day[:max_scenes].prod(axis=0)
    return float(np.clip((clear * weight).sum() / weight.sum(), 0, 1))


def days_until(missed: Floats, weight: Floats, clear_views: int) -> int:
    """Return how many days, in their order, are expected to be read: at most all of them.

    That many give ``ENOUGH`` of the places their clear views, each day's clouds for themselves; of
    a place that few days show, no more views are wanted. Where that is never so, it is all days.

    Args:
        missed: (day, place), the chance that the place is not seen clear.
        weight: (place,), how many cells each stands for.
        clear_views: wanted of each place.
    """
    shown = (missed < 1).sum(axis=0)
    few = np.arange(clear_views)[:, None] < np.minimum(clear_views, shown)
    views = np.zeros((clear_views, missed.shape[1]))  # chance of 0, 1, 2 ... views so far
    views[0] = 1.0
    for count, miss in enumerate(missed, start=1):
        views[1:] = views[1:] * miss + views[:-1] * (1 - miss)
        views[0] *= miss
        if ((views * few).sum(axis=0) * weight).sum() <= (1 - ENOUGH) * weight.sum():
            return count
    return len(missed)


def cloud_share(item: Item) -> float:
    """Return an item's cloud cover as 0..1, ``UNKNOWN_CLOUD`` where it tells none."""
    cover = item.cloud_cover
    return UNKNOWN_CLOUD if cover is None or np.isnan(cover) else min(max(cover / 100, 0.0), 1.0)


def sample_points(tile: Tile) -> tuple[Floats, Floats, Floats]:
    """Return (lon, lat, weight) of up to 49 places that stand for the tile's AOI cells."""
    size = TILE_CELLS // SIDE
    whole = len(tile.cells) == TILE_CELLS**2  # most are, and their mask takes long to make
    mask = np.ones((TILE_CELLS, TILE_CELLS), dtype=bool) if whole else tile.mask
    blocks = mask.reshape(SIDE, size, SIDE, size).swapaxes(1, 2).reshape(SIDE**2, -1)
    rows, cols = np.divmod(np.arange(SIDE**2), SIDE)
    r, c = np.divmod(np.arange(size**2), size)
    weight = blocks.sum(axis=1).astype(np.float64)
    held = weight > 0
    row = (rows * size + (blocks @ r) / np.maximum(weight, 1))[held]
    col = (cols * size + (blocks @ c) / np.maximum(weight, 1))[held]
    xmin, _, _, ymax = tile.core_bounds
    lon, lat = to_geographic(tile.epsg, xmin + (col + 0.5) * CELL_M, ymax - (row + 0.5) * CELL_M)
    return lon, lat, weight[held]


def _blocks(tiles: Sequence[Tile], margin: float) -> Floats:
    """Return corners (tile, 4, 2) of the blocks read for each: its chunk and half a block more."""
    out = np.empty((len(tiles), 4, 2))
    zones = np.array([tile.epsg for tile in tiles])
    for epsg in np.unique(zones):
        here = np.flatnonzero(zones == epsg)
        bounds = [tiles[index].bounds for index in here.tolist()]
        west, south, east, north = np.array(bounds, dtype=np.float64).T
        x = np.stack([west - margin, east + margin, east + margin, west - margin], axis=-1)
        y = np.stack([south - margin, south - margin, north + margin, north + margin], axis=-1)
        out[here] = np.stack(to_geographic(int(epsg), x, y), axis=-1)
    return out


def _lattice(size: int = 8) -> Floats:
    """Return the weights (point, corner) of ``size`` x ``size`` places spread over four corners."""
    u, v = (np.indices((size, size)).reshape(2, -1) + 0.5) / size
    return np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=-1)


_LATTICE: Final = _lattice()
