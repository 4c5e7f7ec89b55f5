"""SCL first: which solar days are worth reading for this tile, and which cells need a look.

A tile of three bands costs 28 MB a date, its scene classification under 2 MB. So the SCL of every
candidate is read first. Of the days it takes the fewest that show every pixel clear as often as
wanted; of the cells those with more than dense vegetation on or near them. A mine shows bare ground
or ponds, and intact forest is most of a protected area.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import dask.array as da
import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray

from scanner.area.grid import CELL_PX, HALO_PX, TILE_CELLS, Tile, pixel_to_geographic
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION, Scl
from scanner.imagery.composite import (
    DAY_SHARE,
    NO_VIEW,
    STEADY_DAYS,
    STRIP,
    clear_mask,
    day_ranks,
    scl_rank,
)
from scanner.imagery.item import Item
from scanner.imagery.readers import take_count

CELL_SCL: Final = CELL_PX * RESOLUTION // SCL_RESOLUTION
"""Pixels of a cell at 20 m: 24."""

HALO_SCL: Final = HALO_PX * RESOLUTION // SCL_RESOLUTION
"""Pixels of the halo at 20 m: 32."""

STEP: Final = 4
"""Every fourth SCL pixel (80 m) is enough to rank days."""

ENOUGH: Final = 5e-4
"""A day is read if it adds more than a first clear view of this share of the pixels, or as much.

A second view counts a quarter of a first one, a third a ninth. In a full tile it is 20 ha.
"""

LOOK_SHARE: Final = 0.25
"""A pixel is worth a look if at least this share of its clear views shows no vegetation.

Around clouds a few views in a hundred are called dark, water or unclassified by mistake, seldom
the same pixel again; ground that was laid bare in the last quarter of the dates is still found.
"""

LOOK_VIEWS: Final = 2
"""... and at least so many, where there are more: once may be a mistake of the SCL, and a median
shows nothing that only one of several views shows."""

LOOK_SIDE: Final = 8
"""Pixels a side (160 m) of the square in which such pixels are counted: a scar lies together, while
the SCL's errors are strewn, and a cell's size of ground near clouds holds a hectare of them."""

LOOK_PIXELS: Final = 5
"""So many such pixels (0.04 ha each) in a square are worth a look."""

LOOK_DOUBTFUL: Final = 12
"""... or so many (half a hectare) of doubtful ones, or some of both: of pixels that were called
dark, as forest in the shade of terrain is, or were clear once and then unclassified, as rims of
clouds are. Ponds and tailings may be called so too, but seldom all of a mine."""


COUNT_BITS: Final = 12
"""Bits for how many days show a pixel in one way: over four thousand, a day each for 11 years."""


@dataclass(frozen=True)
class DayChoice:
    """The solar days to read for one tile, in order of time, and where it needs a look."""

    days: tuple[dt.date, ...]
    clear_share: tuple[float, ...]
    """Of each day."""
    cells: NDArray[np.bool_] = field(compare=False)
    """Cells of the AOI (42, 42) that may hold more than dense vegetation."""
    clear_fraction: NDArray[np.float64] = field(compare=False)
    """Share of each cell (42, 42) that the SCL calls clear on one of the days, 0..1."""
    day_bits: NDArray[np.uint32] = field(compare=False)
    """Bit set of the days that saw ``DAY_SHARE`` of a cell clear, (42, 42)."""
    bytes_read: int = 0
    """Of the SCL, as far as their format tells."""


def solar_days(items: Sequence[Item]) -> list[dt.date]:
    """Return the distinct solar days of ``items``, in order of time."""
    return sorted({item.solar_day for item in items})


def choose_days(
    scl: xr.DataArray | None,
    items: Sequence[Item],
    tile: Tile,
    *,
    max_scenes: int,
    clear_scl: Sequence[int],
    latest: bool = False,
    clear_views: int = 3,
    screen: bool = True,
    count: str | None = None,
) -> da.Array:
    """Return, lazily, a 0-d object array holding the :class:`DayChoice` of this tile.

    Args:
        scl: cube (item, 1, y, x) at 20 m of the items that have an SCL, in the items' order;
            ``None`` where none has.
        items: all candidates; one without SCL counts as clear inside its footprint.
        tile: only its AOI cells count.
        max_scenes: days to choose, at most.
        clear_scl: SCL classes taken as clear.
        latest: prefer the latest days that still add a clear view (``--composite latest-clear``).
        clear_views: clear views wanted of each pixel.
        screen: leave out cells of dense vegetation; without it, or where a chosen day has an item
            without SCL, every cell of the AOI needs a look.
        count: key under which the bytes of ``scl`` are counted (``load_cube``).
    """
    has_scl = [item.asset_key("SCL") is not None for item in items]
    footprints = [None if has else item.footprint for has, item in zip(has_scl, items, strict=True)]
    days = [item.solar_day for item in items]
    return da.map_blocks(
        _choose_block,
        da.zeros((0, 1, 1, 1), dtype="uint8", chunks=-1) if scl is None else scl.data,
        days=days,
        footprints=footprints,
        tile=tile,
        max_scenes=max_scenes,
        clear_scl=tuple(clear_scl),
        latest=latest,
        clear_views=clear_views,
        screen=screen,
        count=count,
        drop_axis=[0, 1, 2, 3],
        dtype=object,
        meta=np.empty((), dtype=object),
    )


def pick_days(
    ranks: NDArray[np.uint8], max_scenes: int, latest: bool = False, clear_views: int = 3
) -> list[int]:
    """Return indices of the fewest days that show every pixel clear ``clear_views`` times.

    ``ranks`` is (day, pixel), 0 clear, ``NO_VIEW`` nodata, between them worse and worse views; of a
    pixel that is clear on no day any view counts, so that it is still looked at. Days are taken
    greedily, at most ``max_scenes``: each adds most to what is still little seen, where the n-th
    view of a pixel counts 1 / n^2, so that a strip only one orbit sees is not left out because
    another orbit shows more of the tile. Equal gains go to the later day. It ends when no day adds
    ``ENOUGH``; a day that later ones made needless is given up.
    """
    clear = ranks == 0
    shows = clear | ((ranks != NO_VIEW) & ~clear.any(axis=0))
    enough = ENOUGH * ranks.shape[1]
    views = np.zeros(ranks.shape[1], dtype=np.int32)
    chosen: list[int] = []
    rest = list(range(len(ranks)))
    while rest and len(chosen) < max_scenes:
        gains = {day: _worth(views + shows[day], clear_views) for day in rest}
        now = _worth(views, clear_views)
        useful = [day for day in rest if gains[day] - now >= enough and gains[day] > now]
        if not useful:
            break
        fresh = [day for day in useful if latest and float(clear[day].mean()) >= LATEST_SHARE]
        best = max(fresh, default=max(useful, key=lambda day: (round(gains[day], 3), day)))
        chosen.append(best)
        rest.remove(best)
        views += shows[best]
    for day in list(chosen):
        without = views - shows[day]
        if _worth(views, clear_views) - _worth(without, clear_views) < enough:
            chosen.remove(day)
            views = without
    return sorted(chosen)


def _worth(views: NDArray[np.int32], wanted: int) -> float:
    """Return what so many views of each pixel are worth: 1 + 1/4 + 1/9 ... of those wanted."""
    worth = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, wanted + 1) ** 2)])
    counts = np.bincount(np.minimum(views, wanted), minlength=wanted + 1)
    return float(counts @ worth)


LATEST_SHARE: Final = 0.05
"""``latest-clear`` passes over days that show less than this share of the tile clear."""


def _choose_block(
    scl: NDArray[np.uint8],
    *,
    days: list[dt.date],
    footprints: list[shapely.Geometry | None],
    tile: Tile,
    max_scenes: int,
    clear_scl: tuple[int, ...],
    latest: bool,
    clear_views: int,
    screen: bool,
    count: str | None,
) -> NDArray[Any]:
    ranks = _ranks(scl, footprints, tile, clear_scl)
    distinct = sorted(set(days))
    ranks = day_ranks(ranks, [distinct.index(day) for day in days], len(distinct))
    chosen = pick_days(ranks, max_scenes, latest, clear_views)
    read = {distinct[i] for i in chosen}
    told = all(shape is None for shape, day in zip(footprints, days, strict=True) if day in read)
    known = [day for shape, day in zip(footprints, days, strict=True) if shape is None]
    fraction, bits = _cells_seen(
        [scl[[day == distinct[i] for day in known], 0] for i in chosen], clear_scl
    )
    views = 1 if latest else LOOK_VIEWS
    look = worth_a_look(scl[:, 0], known, clear_scl, views) if screen and told else tile.mask
    out = np.empty((), dtype=object)
    out[()] = DayChoice(
        days=tuple(distinct[i] for i in chosen),
        clear_share=tuple(round(float((ranks[i] == 0).mean()), 4) for i in chosen),
        cells=tile.mask & look,
        clear_fraction=fraction,
        day_bits=bits,
        bytes_read=take_count(count) if count else 0,
    )
    return out


def _ranks(
    scl: NDArray[np.uint8],
    footprints: list[shapely.Geometry | None],
    tile: Tile,
    clear_scl: tuple[int, ...],
) -> NDArray[np.uint8]:
    """Return the rank (item, place) of every fourth pixel of the AOI's cells."""
    wanted = np.kron(tile.mask, np.ones((CELL_SCL // STEP, CELL_SCL // STEP), dtype=bool))
    rows, cols = np.nonzero(wanted)
    ranks = np.full((len(footprints), rows.size), NO_VIEW, dtype=np.uint8)
    position = 0
    for index, footprint in enumerate(footprints):
        if footprint is None:
            core = scl[position, 0, HALO_SCL:-HALO_SCL:STEP, HALO_SCL:-HALO_SCL:STEP]
            ranks[index] = scl_rank(core, clear_scl)[rows, cols]
            position += 1
        else:
            scale = STEP * SCL_RESOLUTION // RESOLUTION
            lon, lat = pixel_to_geographic(tile.core_geobox, rows * scale, cols * scale)
            ranks[index] = np.where(shapely.contains_xy(footprint, lon, lat), 0, NO_VIEW)
    return ranks


def _cells_seen(
    scl_of_day: Sequence[NDArray[np.uint8]], clear_scl: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    """Return each cell's clear fraction and bit set of days from the SCL (item, y, x) of each."""
    side = TILE_CELLS * CELL_SCL
    clear = np.zeros((side, side), dtype=bool)
    bits = np.zeros((TILE_CELLS, TILE_CELLS), dtype=np.uint32)
    for day, scl in enumerate(scl_of_day):
        if not len(scl):
            continue
        core = scl[:, HALO_SCL:-HALO_SCL, HALO_SCL:-HALO_SCL]
        shown = np.asarray(clear_mask(core, clear_scl).any(axis=0))
        clear |= shown
        bits |= np.where(_cells(shown).mean(axis=(1, 3)) >= DAY_SHARE, np.uint32(1 << day), 0)
    return _cells(clear).mean(axis=(1, 3)), bits.astype(np.uint32)


def _cells(core: NDArray[Any]) -> NDArray[Any]:
    """Return the pixels of a core at 20 m as (row, y, column, x) of its cells."""
    return core.reshape(TILE_CELLS, CELL_SCL, TILE_CELLS, CELL_SCL)


def worth_a_look(
    scl: NDArray[np.uint8],
    days: Sequence[dt.date],
    clear_scl: Sequence[int],
    views: int = LOOK_VIEWS,
) -> NDArray[np.bool_]:
    """Return the cells (42, 42) with more than dense vegetation on them or within half a cell.

    A pixel speaks for a look where ``LOOK_SHARE`` of its clear views, over all dates, show anything
    but vegetation; and where it was seen often and never clear, for bright ground is called cloud
    on every date (seen less often than ``STEADY_DAYS``, nothing could be made of it).
    ``LOOK_PIXELS`` of them in a square of ``LOOK_SIDE`` are enough, or ``LOOK_DOUBTFUL``.

    Args:
        scl: (item, 1072, 1072), the chunk at 20 m, all candidates.
        days: solar day of each item; where granules of a day overlap, they are one view.
        clear_scl: SCL classes taken as clear.
        views: clear views that must speak for it, where there are as many.
    """
    granules = [
        [number for number, when in enumerate(days) if when == day] for day in sorted(set(days))
    ]
    table, weight = _counted(clear_scl), np.empty(scl.shape[1:], dtype=np.float32)
    for top in range(0, len(weight), STRIP):  # what fits a cache
        rows = slice(top, top + STRIP)
        weight[rows] = _weight(scl[:, rows], granules, clear_scl, table, views)
    found = cv2.boxFilter(
        weight, -1, (LOOK_SIDE, LOOK_SIDE), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    enough = (found >= LOOK_PIXELS * LOOK_DOUBTFUL).astype(np.uint8)
    reach = CELL_SCL - LOOK_SIDE + 1  # with a square's own half, half a cell on each side
    near = np.asarray(cv2.dilate(enough, np.ones((reach, reach), np.uint8)), dtype=bool)
    return np.asarray(_cells(near[HALO_SCL:-HALO_SCL, HALO_SCL:-HALO_SCL]).any(axis=(1, 3)))


def _weight(
    scl: NDArray[np.uint8],
    granules: Sequence[list[int]],
    clear_scl: Sequence[int],
    table: NDArray[np.uint64],
    views: int,
) -> NDArray[np.int64]:
    """Return what each pixel (y, x) adds: five of twelve weigh as much as twelve of five, or 0."""
    packed = np.zeros(scl.shape[1:], dtype=np.uint64)
    for of_day in granules:
        packed += table[_one_view(scl[of_day], clear_scl)]
    counts = packed >> _SHIFTS[:, None, None] & np.uint64(2**COUNT_BITS - 1)
    clear, bare, dark, plain, seen = counts.astype(np.int16)
    needed = np.maximum(np.minimum(views, clear), LOOK_SHARE * clear)
    doubtful = (bare - dark < needed) | ((clear == 1) & (plain == 0))
    speaks = np.where(clear > 0, bare >= needed, seen >= STEADY_DAYS)
    return np.asarray(speaks * np.where(doubtful, LOOK_PIXELS, LOOK_DOUBTFUL))


_SHIFTS: Final = COUNT_BITS * np.arange(5, dtype=np.uint64)


def _counted(clear_scl: Sequence[int]) -> NDArray[np.uint64]:
    """Return what a view of each SCL value adds to the counts of its pixel, five in one number.

    They are: clear; clear and no vegetation; dark; bare or water; any view.
    """
    value = np.arange(256)
    clear = clear_mask(value, clear_scl)
    bare = clear & (value != Scl.VEGETATION)
    plain = bare & np.isin(value, (Scl.BARE_SOIL, Scl.WATER))
    kinds = np.stack([clear, bare, bare & (value == Scl.DARK), plain, value != Scl.NODATA])
    return np.asarray((kinds.astype(np.uint64) << _SHIFTS[:, None]).sum(axis=0, dtype=np.uint64))


def _one_view(scl: NDArray[np.uint8], clear_scl: Sequence[int]) -> NDArray[np.uint8]:
    """Return the SCL (y, x) of a day's granules (item, y, x): the first clear one, or any."""
    view = scl[0]
    for other in scl[1:]:
        better = clear_mask(other, clear_scl) & ~clear_mask(view, clear_scl)
        view = np.where(better | (view == Scl.NODATA), other, view)
    return np.asarray(view)
