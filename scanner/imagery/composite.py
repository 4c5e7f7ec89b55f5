"""Many dates to one picture: the clear median, how clear each day was, and what was never clear.

Every observation of a pixel has a rank: 0 is a clear view, higher ranks are worse and worse views,
and ``NO_VIEW`` is nodata. A pixel is composed from the observations of its best rank alone, so that
clear views win, and a pixel that was never clear still shows its least bad value while staying
unclear.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from scanner.computing import computing
from scanner.imagery.bands import NODATA, RESOLUTION, SCL_RESOLUTION, Scl
from scanner.imagery.readers import Area
from scanner.imagery.reflectance import to_reflectance

NO_VIEW: Final = 255
"""Rank of a pixel without data."""

UNCLEAR_RANKS: Final[dict[int, int]] = {
    Scl.THIN_CIRRUS: 1,
    Scl.CLOUD_SHADOW: 3,
    Scl.CLOUD_MEDIUM: 4,
    Scl.SNOW: 4,
    Scl.CLOUD_HIGH: 5,
    Scl.SATURATED: 6,
    Scl.NODATA: 7,
}
"""How bad a view is where its class is not taken as clear; classes not named here have rank 2."""

MAX_DAYS: Final = 23
"""Days a composite can hold: the plane of clear days is a bit set kept exactly in float32."""

STEADY_BIT: Final = 23
"""Bit of that plane set where a pixel was never clear, yet looked the same on every day."""

STEADY_DAYS: Final = 3
"""Days a pixel must have been looked at before it can be called steady."""

STEADY_SPREAD: Final = 0.05
"""Most that a steady pixel's mean reflectance may differ between days.

Clouds come and go and differ by more; bright soil called cloud on every date does not.
"""

DAY_SHARE: Final = 0.5
"""A day counts as an observation of a cell when it saw at least this share of it clear."""

FEW_DAYS: Final = 6
"""Up to so many days exchanging planes is faster than sorting pixel by pixel."""

STRIP: Final = 134
"""Rows composed at a time (2144 = 16 x 134), which bounds the memory of many dates."""


def clear_mask(scl: NDArray[Any], clear_scl: Sequence[int]) -> NDArray[np.bool_]:
    """Return where ``scl`` is a clear view of the ground."""
    table = np.zeros(256, dtype=bool)
    table[list(clear_scl)] = True
    return np.asarray(table[scl])


def scl_rank(scl: NDArray[Any], clear_scl: Sequence[int]) -> NDArray[np.uint8]:
    """Return the rank of each SCL pixel: 0 clear, then worse and worse, ``NO_VIEW`` for nodata."""
    table = np.full(256, 2, dtype=np.uint8)
    for value, rank in UNCLEAR_RANKS.items():
        table[value] = rank
    table[list(clear_scl)] = 0
    table[Scl.NODATA] = NO_VIEW
    return np.asarray(table[scl])


def day_ranks(
    ranks: NDArray[np.uint8], day_of_item: Sequence[int], n_days: int
) -> NDArray[np.uint8]:
    """Return the best rank of each solar day (day, ...) from ranks an item (item, ...)."""
    best = np.full((n_days, *ranks.shape[1:]), NO_VIEW, dtype=np.uint8)
    for index, day in enumerate(day_of_item):
        np.minimum(best[day], ranks[index], out=best[day])
    return best


def composite(
    cube: xr.DataArray,
    scl: xr.DataArray | None,
    *,
    offsets: Sequence[int],
    has_scl: Sequence[bool],
    clear_scl: Sequence[int],
    method: str = "median",
    optional: Collection[str] = (),
    refused: da.Array | None = None,
    areas: Sequence[Area] | None = None,
) -> xr.DataArray:
    """Return the lazy composite of a one-chunk cube, dims (band, y, x), float32.

    The bands hold reflectance 0..1, NaN where no day has data; one more band ``clear_days`` holds,
    as an exact integer, a bit set of the solar days (in order of time) that saw the pixel clear;
    its ``STEADY_BIT`` tells ground that the SCL most likely takes for cloud.

    Args:
        cube: DN (item, band, y, x) at 10 m, a single chunk.
        scl: SCL (item, 1, y/2, x/2) at 20 m of the items that have one, in order, or ``None``.
        offsets: DN to add, one an item (``reflectance.resolve_offset``).
        has_scl: which items have an SCL; the others count as clear wherever they have data.
        clear_scl: SCL classes taken as clear.
        method: ``median`` (the lower median, so of two values the darker) or ``latest-clear``.
        optional: bands an item may lack; a pixel without data in another one is not seen.
        refused: lazy (item,); an item with a reason here is not used.
        areas: the parts of the grid that were read (``load_cube``); elsewhere nothing is seen.
            ``None`` is all of it.
    """
    days = [str(day)[:10] for day in cube.solar_day.values]
    distinct = sorted(set(days))
    if len(distinct) > MAX_DAYS:
        raise ValueError(f"{len(distinct)} solar days; a composite holds {MAX_DAYS} at most")
    bands = [*cube.band.values.tolist(), "clear_days"]
    n_items, _, height, width = cube.shape
    data = da.map_blocks(
        _composite_block,
        cube.data,
        da.zeros((0, 1, 1, 1), dtype="uint8", chunks=-1) if scl is None else scl.data,
        da.zeros(n_items, dtype=bool, chunks=-1) if refused is None else refused,
        offsets=np.asarray(offsets, dtype=np.int32),
        has_scl=tuple(has_scl),
        day_of_item=[distinct.index(day) for day in days],
        clear_scl=tuple(clear_scl),
        latest=method == "latest-clear",
        areas=None if areas is None else tuple(areas),
        needed=[n for n, band in enumerate(cube.band.values.tolist()) if band not in optional],
        chunks=((1,), (len(bands),), (height,), (width,)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), dtype=np.float32),
    )
    # the axis of items goes in a step of its own: Dask fuses no read with a step that drops one
    data = data.map_blocks(
        _picture, drop_axis=[0], dtype=np.float32, meta=np.empty((0, 0, 0), dtype=np.float32)
    )
    coords = {"band": bands, "y": cube.y, "x": cube.x}
    return xr.DataArray(
        data, dims=("band", "y", "x"), coords=coords, attrs={**cube.attrs, "days": distinct}
    )


@computing
def _composite_block(
    dn: NDArray[np.uint16],
    scl: NDArray[np.uint8],
    refused: NDArray[np.bool_],
    *,
    offsets: NDArray[np.int32],
    has_scl: tuple[bool, ...],
    day_of_item: list[int],
    clear_scl: tuple[int, ...],
    latest: bool,
    needed: list[int],
    areas: tuple[Area, ...] | None,
) -> NDArray[np.float32]:
    """Compose strip by strip; ranks are made of the SCL for a strip's columns alone."""
    n_items, n_bands, height, width = dn.shape
    picture = np.full((1, n_bands + 1, height, width), np.nan, dtype=np.float32)
    out = picture[0]
    out[-1] = 0
    places = np.cumsum(has_scl) - 1
    for rows, cols in _strips(((0, 0, height, width),) if areas is None else areas):
        strip = dn[:, :, rows, cols]
        ranks = np.zeros((n_items, *strip.shape[2:]), dtype=np.uint8)
        for index in range(n_items):
            if has_scl[index]:
                ranks[index] = scl_rank(_fine(scl[places[index], 0], rows, cols), clear_scl)
                # pixels with data where the SCL has none are views, if bad ones
                ranks[index][ranks[index] == NO_VIEW] = UNCLEAR_RANKS[Scl.NODATA]
            blank = (strip[index, needed] == NODATA).any(axis=0)
            ranks[index][blank | bool(refused[index])] = NO_VIEW
        values = to_reflectance(strip, offsets)
        out[:-1, rows, cols], out[-1, rows, cols] = compose(
            values, ranks, day_of_item, latest=latest, needed=needed
        )
    return picture


def _picture(block: NDArray[np.float32]) -> NDArray[np.float32]:
    picture: NDArray[np.float32] = block[0]
    return picture


def _strips(areas: Sequence[Area]) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of each area, a few rows at a time."""
    for top, left, bottom, right in areas:
        for row in range(top, bottom, STRIP):
            yield slice(row, min(row + STRIP, bottom)), slice(left, right)


def _fine(scl: NDArray[Any], rows: slice, cols: slice) -> NDArray[Any]:
    """Return what is known at 20 m (y/2, x/2) on some rows and columns of the grid of 10 m."""
    factor = SCL_RESOLUTION // RESOLUTION
    coarse = scl[
        rows.start // factor : -(-rows.stop // factor),
        cols.start // factor : -(-cols.stop // factor),
    ]
    fine = np.repeat(np.repeat(coarse, factor, axis=0), factor, axis=1)
    top, left = rows.start % factor, cols.start % factor
    return fine[top : top + rows.stop - rows.start, left : left + cols.stop - cols.start]


def compose(
    values: NDArray[np.float32],
    ranks: NDArray[np.uint8],
    day_of_item: Sequence[int],
    *,
    latest: bool = False,
    needed: Sequence[int] | slice = slice(None),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compose reflectance (item, band, y, x) under ranks (item, y, x).

    Returns the picture (band, y, x) and the bit set of clear days (y, x). Items of one solar day
    are first made one: per pixel the item of the better rank, the earlier of equals. Only the bands
    of ``needed`` are sure to have a value wherever there is a view.
    """
    n_days = max(day_of_item) + 1
    day_rank = day_ranks(ranks, day_of_item, n_days)
    by_day = np.full((n_days, *values.shape[1:]), np.nan, dtype=np.float32)
    for index in reversed(range(len(day_of_item))):
        day = day_of_item[index]
        taken = (ranks[index] == day_rank[day]) & (ranks[index] != NO_VIEW)
        np.copyto(by_day[day], values[index], where=taken)
    steady = _steady(by_day[:, needed], day_rank)
    use = (day_rank == day_rank.min(axis=0)) & (day_rank != NO_VIEW)
    count = use.sum(axis=0)
    if latest:
        pick = np.broadcast_to(n_days - 1 - np.argmax(use[::-1], axis=0), by_day.shape[1:])
        picture = np.take_along_axis(by_day, pick[None], axis=0)[0]
    else:
        by_day[np.broadcast_to(~use[:, None], by_day.shape)] = np.nan
        _sort_days(by_day)  # NaN last, where a band that may be lacking was not seen too
        picture = by_day[0]
        for middle in range(1, (n_days + 1) // 2):  # the lower median of 2 * middle + 1 or + 2
            np.copyto(picture, by_day[middle], where=np.isfinite(by_day[2 * middle]))
    picture[:, count == 0] = np.nan
    bits = (2.0 ** np.arange(n_days, dtype=np.float32)).reshape(-1, 1, 1)
    clear_days = ((day_rank == 0) * bits).sum(axis=0, dtype=np.float32)
    clear_days[steady] = 2.0**STEADY_BIT
    return picture, clear_days


def _sort_days(by_day: NDArray[np.float32]) -> None:
    """Sort (day, band, y, x) along its days in place, NaN last.

    A few days are exchanged whole planes at a time, which takes a fifth of numpy's time: it would
    gather each pixel's values first.
    """
    if len(by_day) > FEW_DAYS:
        by_day.sort(axis=0)
        return
    for last in range(len(by_day) - 1, 0, -1):
        for day in range(last):
            high = np.maximum(by_day[day], by_day[day + 1])  # NaN if one is
            np.fmin(by_day[day], by_day[day + 1], out=by_day[day])  # NaN if both are
            by_day[day + 1] = high


def _steady(by_day: NDArray[np.float32], day_rank: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels never clear that look the same on all of at least three days."""
    never = (day_rank != 0).all(axis=0) & ((day_rank != NO_VIEW).sum(axis=0) >= STEADY_DAYS)
    if not never.any():
        return np.asarray(never)
    brightness = by_day[:, :, never].mean(axis=1)
    spread = np.nanmax(brightness, axis=0) - np.nanmin(brightness, axis=0)
    never[never] = spread <= STEADY_SPREAD
    return np.asarray(never)
