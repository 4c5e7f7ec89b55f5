"""The overview: one picture of the ground around a point, what of it was seen, what covers it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from scanner.area.aoi import square_aoi
from scanner.area.grid import Zone, from_geographic
from scanner.config import SearchConfig
from scanner.detection.cells import SUSPICIOUS
from scanner.detection.segment import MARGIN, STRIDE, WINDOW
from scanner.errors import CatalogError, ReadError, TrainingError
from scanner.imagery.access import culprit, gdal_env, signed, signer_for
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.catalog import search_items
from scanner.imagery.composite import clear_mask
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.models.segmenter import Segmenter
from scanner.results.chip_files import from_dn
from training.collect.pixels import Chip, look, read
from training.collect.settings import ChipConfig
from training.collect.window import Window, candidates

LOG = logging.getLogger(__name__)
SCL_STEP: Final = SCL_RESOLUTION // RESOLUTION


@dataclass(frozen=True)
class Overview:
    """The ground around a point."""

    geobox: GeoBox
    reflectance: NDArray[np.float32]
    """(band, y, x), NaN nodata."""
    clear: NDArray[np.bool_]
    """(y, x): seen clear on at least one day."""
    days: tuple[str, ...]
    items: tuple[Item, ...]
    """Every item of the search, unsigned, for the chips to come."""


def overview_geobox(lat: float, lon: float, radius_km: float, size: int) -> GeoBox:
    """Return a square grid of at most ``size`` pixels a side, none smaller than 10 m.

    It lies in the UTM zone of its middle and begins on the edge of a 20 m pixel.
    """
    side = 2000 * radius_km
    pixels = min(size, math.ceil(side / RESOLUTION))
    pixels += pixels % SCL_STEP  # so that SCL pixels fill it
    metres = max(RESOLUTION, side / pixels)
    zone = Zone(int((lon + 180) // 6) % 60 + 1, south=lat < 0)
    x, y = (float(v) for v in from_geographic(zone.epsg, lon, lat))
    left, top = (
        round((v + sign * pixels * metres / 2) / SCL_RESOLUTION) * SCL_RESOLUTION
        for v, sign in ((x, -1), (y, 1))
    )
    return GeoBox((pixels, pixels), Affine(metres, 0, left, 0, -metres, top), f"EPSG:{zone.epsg}")


def read_overview(
    lat: float,
    lon: float,
    radius_km: float,
    size: int,
    search: SearchConfig,
    chip: ChipConfig,
    scratch: Path,
) -> Overview:
    """Search and compose the ground around a point, as the scan does, in this process.

    The demo makes its scenes in ``scratch``.

    Raises ``CatalogError`` where no scene shows it, ``ReadError`` naming what could not be read.
    """
    found = search_items(square_aoi(lat, lon, radius_km), search, scratch)
    geobox = overview_geobox(lat, lon, radius_km, size)
    window = Window(geobox, geobox, 0)
    here = candidates(found.items, window, chip.look_at or chip.max_scenes)
    if not here:
        raise CatalogError(found.advice or f"{search.catalog}: no scene around {lat:g},{lon:g}")
    pixels, used = read_window(here, window, chip, search)
    refused = [why for why in pixels.refused if why]
    if not np.any(pixels.dn):
        raise CatalogError(
            f"{search.catalog}: no data around {lat:g},{lon:g} ({', '.join(refused) or 'clouds'}); "
            "widen --date or raise --max-cloud"
        )
    clear = _seen_clear(used, geobox, chip, search) & (pixels.dn > 0).all(0)
    days = tuple(sorted({str(item.solar_day) for item in used}))
    return Overview(geobox, from_dn(pixels.dn), clear, days, found.items)


def read_window(
    here: Sequence[Item], window: Window, chip: ChipConfig, search: SearchConfig
) -> tuple[Chip, list[Item]]:
    """Read one window: the SCL of its days first, then the pixels of those chosen, with them.

    A scene that cannot be read is left out by name; ``ReadError`` where none can be blamed.
    """
    left = list(here)
    while True:
        try:
            return _read_once(left, window, chip, search)
        except ReadError as error:
            bad = culprit(error, left)
            if bad is None or len(left) == 1:
                raise
            LOG.warning("%s: left out (%s)", bad.id, error)
            left = [item for item in left if item.id != bad.id]


def _read_once(
    here: Sequence[Item], window: Window, chip: ChipConfig, search: SearchConfig
) -> tuple[Chip, list[Item]]:
    env = gdal_env(search)
    ready = signed(list(here), signer_for(search))
    days = look(ready, window, chip, env).compute(scheduler="threads").item()
    used = [item for item in ready if item.solar_day in days]
    pixels: Chip = read(used, window, chip, env).compute(scheduler="threads").item()
    return pixels, used


def _seen_clear(
    items: Sequence[Item], geobox: GeoBox, chip: ChipConfig, search: SearchConfig
) -> NDArray[np.bool_]:
    """Return where any item shows clear ground; one without SCL counts as clear everywhere."""
    known = [item for item in items if item.asset_key("SCL") is not None]
    if len(known) < len(items):
        return np.ones(geobox.shape, dtype=bool)
    coarse = geobox.zoom_out(SCL_STEP)
    cube = load_cube(known, coarse, ("SCL",), engine=chip.engine, env=gdal_env(search))
    scl = np.asarray(cube.data[:, 0].compute(scheduler="threads"))
    seen = clear_mask(scl, chip.clear_scl).any(axis=0)
    return seen.repeat(SCL_STEP, axis=0).repeat(SCL_STEP, axis=1)


def cover(reflectance: NDArray[np.float32], segmenter: Segmenter) -> NDArray[np.uint8]:
    """Return the class of each pixel, window by window, each seen with a margin around it."""
    _, height, width = reflectance.shape
    rows, cols = (math.ceil(n / STRIDE) * STRIDE for n in (height, width))
    room = ((0, 0), (MARGIN, MARGIN + rows - height), (MARGIN, MARGIN + cols - width))
    wide = np.pad(reflectance, room, constant_values=np.nan)
    out = np.zeros((rows, cols), dtype=np.uint8)
    keep = slice(MARGIN, MARGIN + STRIDE)
    for top in range(0, rows, STRIDE):
        for left in range(0, cols, STRIDE):
            window = wide[:, top : top + WINDOW, left : left + WINDOW]
            classes = segmenter.class_map(window[None])[0]
            out[top : top + STRIDE, left : left + STRIDE] = classes[keep, keep]
    return out[:height, :width]


def cells(geobox: GeoBox, side_km: float) -> list[tuple[slice, slice]]:
    """Cut a grid into squares of ``side_km``, from its north-west corner; the last may be less.

    Raises ``TrainingError`` where a cell would be smaller than a pixel or larger than the grid.
    """
    height, width = geobox.shape
    step = round(1000 * side_km / abs(geobox.resolution.x))
    if not 1 <= step <= max(height, width):
        raise TrainingError(
            f"classification distance {side_km:g} km: cells of {step} pixels in an overview of "
            f"{width}; choose it between a pixel and the overview"
        )
    return [
        (slice(top, min(top + step, height)), slice(left, min(left + step, width)))
        for top in range(0, height, step)
        for left in range(0, width, step)
    ]


def shares(classes: NDArray[Any], clear: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the suspicious share of a cell's clear pixels, and its clear share."""
    seen = int(clear.sum())
    hits = int((np.isin(classes, SUSPICIOUS) & clear).sum())
    return (hits / seen if seen else 0.0), seen / clear.size
