"""SCL first: which solar days are worth reading for this tile.

A tile of three bands costs 28 MB a date, its scene classification under 2 MB. So the SCL of every
candidate is read first, and the few days that show most of this tile clear are chosen.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import dask.array as da
import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray

from scanner.area.grid import CELL_PX, HALO_PX, Tile, pixel_to_geographic
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.composite import NO_VIEW, day_ranks, scl_rank
from scanner.imagery.item import Item

STEP: Final = 4
"""Every fourth SCL pixel (80 m) is enough to rank days."""

VALID_WEIGHT: Final = 1e-3
"""What a valid but unclear pixel counts: so that a tile always under cloud is still looked at."""


@dataclass(frozen=True)
class DayChoice:
    """The solar days to read for one tile, in order of time, and the clear share of each."""

    days: tuple[dt.date, ...]
    clear_share: tuple[float, ...]


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
    """
    has_scl = [item.asset_key("SCL") is not None for item in items]
    footprints = [None if has else item.footprint for has, item in zip(has_scl, items, strict=True)]
    days = [item.solar_day for item in items]
    empty = da.zeros((0, 1, 1, 1), dtype="uint8", chunks=-1)
    return da.map_blocks(
        _choose_block,
        empty if scl is None else scl.data,
        days=days,
        footprints=footprints,
        tile=tile,
        max_scenes=max_scenes,
        clear_scl=tuple(clear_scl),
        latest=latest,
        drop_axis=[0, 1, 2, 3],
        dtype=object,
        meta=np.empty((), dtype=object),
    )


def pick_days(ranks: NDArray[np.uint8], max_scenes: int, latest: bool = False) -> list[int]:
    """Return indices of the days to read, greedily: each adds most to what is still little seen.

    ``ranks`` is (day, pixel), 0 clear, ``NO_VIEW`` nodata, between them worse and worse views. A
    clear pixel counts 1 / (1 + its clear views so far)^2, so that a strip only one orbit sees is
    not left out because another orbit shows more of the tile. Equal gains go to the later day.
    """
    clear = ranks == 0
    worth = clear + VALID_WEIGHT * (ranks != NO_VIEW)
    views = np.zeros(ranks.shape[1], dtype=np.float32)
    chosen: list[int] = []
    rest = list(range(len(ranks)))
    while rest and len(chosen) < max_scenes:
        gains = {day: float((worth[day] / (1 + views) ** 2).sum()) for day in rest}
        if latest:
            fresh = [day for day in rest if float(clear[day].mean()) >= LATEST_SHARE]
            best = max(fresh, default=max(rest, key=lambda day: (gains[day], day)))
        else:
            best = max(rest, key=lambda day: (round(gains[day], 3), day))
        if gains[best] == 0:
            break
        chosen.append(best)
        rest.remove(best)
        views += clear[best]
    return sorted(chosen)


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
) -> NDArray[Any]:
    halo = HALO_PX * RESOLUTION // SCL_RESOLUTION
    cell = CELL_PX * RESOLUTION // SCL_RESOLUTION
    wanted = np.kron(tile.mask, np.ones((cell // STEP, cell // STEP), dtype=bool))
    rows, cols = np.nonzero(wanted)
    ranks = np.full((len(days), rows.size), NO_VIEW, dtype=np.uint8)
    position = 0
    for index, footprint in enumerate(footprints):
        if footprint is None:
            core = scl[position, 0, halo:-halo:STEP, halo:-halo:STEP]
            ranks[index] = scl_rank(core, clear_scl)[rows, cols]
            position += 1
        else:
            scale = STEP * SCL_RESOLUTION // RESOLUTION
            lon, lat = pixel_to_geographic(tile.core_geobox, rows * scale, cols * scale)
            ranks[index] = np.where(shapely.contains_xy(footprint, lon, lat), 0, NO_VIEW)
    distinct = sorted(set(days))
    ranks = day_ranks(ranks, [distinct.index(day) for day in days], len(distinct))
    chosen = pick_days(ranks, max_scenes, latest)
    out = np.empty((), dtype=object)
    out[()] = DayChoice(
        days=tuple(distinct[i] for i in chosen),
        clear_share=tuple(round(float((ranks[i] == 0).mean()), 4) for i in chosen),
    )
    return out
