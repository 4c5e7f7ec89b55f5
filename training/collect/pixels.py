"""One chip's pixels, in two small lazy graphs as for a tile of the scan.

First the SCL of the least cloudy days decides which days show this chip clear (:func:`look`); then
their bands become the composite, through the scan's own cube, reflectance and median
(:func:`read`). Another number of pixels is resampled from the finished composite.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from scanner.area.grid import pixel_to_geographic
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.composite import NO_VIEW, STEADY_BIT, composite, day_ranks, scl_rank
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset
from scanner.imagery.screen import pick_days
from scanner.imagery.trust import doubts, has_scl, load_scl
from scanner.results.chip_files import RGB, to_dn
from training.collect.settings import ChipConfig
from training.collect.window import Window, least_cloudy


@dataclass(frozen=True)
class Chip:
    """What a worker sends back."""

    dn: NDArray[np.uint16]
    """(band, y, x), reflectance * 10000, 0 nodata."""
    clear_fraction: float
    """Share of the chip seen clear on at least one day."""
    usable_fraction: float
    """The same, with ground that looks alike on all days though the SCL calls it cloud."""
    refused: tuple[str | None, ...]
    """For each item why it was not used, or ``None``."""


def look(
    items: Sequence[Item], window: Window, chip: ChipConfig, env: Mapping[str, str]
) -> da.Array:
    """Return, lazily, the solar days to read: a 0-d object array holding a tuple of dates.

    Those that show most of the chip clear; of equals the less cloudy by the catalog.
    """
    latest = chip.composite == "latest-clear"
    days = sorted({i.solar_day for i in items}) if latest else least_cloudy(items)[::-1]
    coarse = window.read.zoom_out(SCL_RESOLUTION // RESOLUTION)
    scl = load_scl(items, coarse, engine=chip.engine, env=env)
    return da.map_blocks(
        _look_block,
        da.zeros((0, 1, 1, 1), dtype="uint8", chunks=-1) if scl is None else scl.data,
        days=days,
        day_of_item=[days.index(item.solar_day) for item in items],
        footprints=[
            None if has else item.footprint for has, item in zip(has_scl(items), items, strict=True)
        ],
        geobox=coarse,
        chip=chip,
        drop_axis=[0, 1, 2, 3],
        dtype=object,
        meta=np.empty((), dtype=object),
    )


def _look_block(
    scl: NDArray[np.uint8],
    *,
    days: list[dt.date],
    day_of_item: list[int],
    footprints: list[Any],
    geobox: GeoBox,
    chip: ChipConfig,
) -> NDArray[Any]:
    height, width = geobox.shape
    rows, cols = np.mgrid[:height, :width] + 0.5
    ranks = np.full((len(footprints), height, width), NO_VIEW, dtype=np.uint8)
    position = 0
    for index, footprint in enumerate(footprints):
        if footprint is None:
            ranks[index] = scl_rank(scl[position, 0], chip.clear_scl)
            position += 1
        else:  # an item without SCL counts as clear inside its footprint
            lon, lat = pixel_to_geographic(geobox, rows, cols)
            ranks[index] = np.where(shapely.contains_xy(footprint, lon, lat), 0, NO_VIEW)
    best = day_ranks(ranks.reshape(len(ranks), -1), day_of_item, len(days))
    chosen = pick_days(best, chip.max_scenes, chip.composite == "latest-clear")
    out = np.empty((), dtype=object)
    out[()] = tuple(sorted(days[i] for i in chosen))
    return out


def read(
    items: Sequence[Item], window: Window, chip: ChipConfig, env: Mapping[str, str]
) -> da.Array:
    """Return, lazily, the :class:`Chip` of a window from the (signed) items of its days."""
    coarse = window.read.zoom_out(SCL_RESOLUTION // RESOLUTION)
    probed = load_scl(items, window.probe, engine=chip.engine, env=env)
    refused = doubts(items, window.probe, probed, engine=chip.engine, env=env)
    image = composite(
        load_cube(items, window.read, chip.bands, engine=chip.engine, env=env),
        load_scl(items, coarse, engine=chip.engine, env=env),
        offsets=[resolve_offset(item) for item in items],
        has_scl=has_scl(items),
        clear_scl=chip.clear_scl,
        method=chip.composite,
        optional=[band for band in chip.bands if band not in RGB],
        refused=refused,
    )
    return da.map_blocks(
        _read_block,
        image.data,
        refused,
        window=window,
        drop_axis=[0, 1, 2],
        dtype=object,
        meta=np.empty((), dtype=object),
    )


def _read_block(
    image: NDArray[np.float32], refused: NDArray[np.object_], *, window: Window
) -> NDArray[Any]:
    m = window.margin
    rows, cols = window.keep.shape
    scale = abs(window.keep.resolution.x) / RESOLUTION
    high, wide = m + math.ceil(rows * scale), m + math.ceil(cols * scale)
    bits = image[-1, m:high, m:wide].astype(np.uint32)
    out = np.empty((), dtype=object)
    out[()] = Chip(
        to_dn(resampled(image[:-1], window)),
        round(float(((bits & ((1 << STEADY_BIT) - 1)) > 0).mean()), 4),
        round(float((bits > 0).mean()), 4),
        tuple(refused),
    )
    return out


def resampled(image: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Bring reflectance (band, y, x) from the read grid to the kept one: cut, or bilinear."""
    height, width = window.keep.shape
    if window.margin == 0:
        return image[:, :height, :width]
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    out = np.full((len(image), height, width), np.nan, dtype=np.float32)
    reproject(
        image, out,
        src_transform=window.read.affine, dst_transform=window.keep.affine,
        src_crs=str(window.read.crs), dst_crs=str(window.keep.crs),
        src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling.bilinear,
    )  # fmt: skip
    return out
