"""Where one chip lies on the ground, and which of the items found show it.

All is read on the 10 m grid the scan has, so SCL pixels match. A chip lies in the UTM zone of its
middle, its corner on the edge of a 20 m pixel.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from scanner.area.grid import Zone, from_geographic, pixel_to_geographic
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.item import Item
from training.collect.settings import ChipConfig

PROBE_M: Final = 160
"""The offset of an item is checked on pixels of this size (from overviews), as in the scan."""

PROBE_PX: Final = 64
"""... in a square of so many of them around the chip: a chip alone may be all bright soil."""


@dataclass(frozen=True)
class Window:
    """Where a chip lies: the grid it is read on, the grid it is kept on."""

    read: GeoBox
    """10 m; even sides, so that SCL pixels of 20 m fill it."""
    keep: GeoBox
    margin: int
    """Pixels read around the kept ground, for resampling."""

    @property
    def footprint(self) -> shapely.Polygon:
        """The kept ground as a polygon in EPSG:4326, three points a side."""
        rows, cols = self.keep.shape
        t = np.array([0, 0.5, 1, 1, 1, 0.5, 0, 0]), np.array([0, 0, 0, 0.5, 1, 1, 1, 0.5])
        lon, lat = pixel_to_geographic(self.keep, t[1] * rows, t[0] * cols)
        return shapely.Polygon(np.column_stack([lon, lat]))

    @property
    def probe(self) -> GeoBox:
        """The ground on which an item's offset is checked."""
        box = self.read.boundingbox
        x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
        half = PROBE_M * PROBE_PX / 2
        corner = (math.floor((x - half) / PROBE_M), math.ceil((y + half) / PROBE_M))
        affine = Affine(PROBE_M, 0, corner[0] * PROBE_M, 0, -PROBE_M, corner[1] * PROBE_M)
        return GeoBox((PROBE_PX, PROBE_PX), affine, self.read.crs)


def window_at(lon: float, lat: float, chip: ChipConfig) -> Window:
    """Return the window of a chip whose middle lies within 10 m of a place."""
    zone = Zone(int((lon + 180) // 6) % 60 + 1, south=lat < 0)
    x, y = (float(v) for v in from_geographic(zone.epsg, lon, lat))
    n = chip.pixels or max(1, round(chip.size_m / RESOLUTION))
    size = chip.size_m if chip.pixels else n * RESOLUTION
    left = round((x - size / 2) / SCL_RESOLUTION) * SCL_RESOLUTION
    top = round((y + size / 2) / SCL_RESOLUTION) * SCL_RESOLUTION
    crs = f"EPSG:{zone.epsg}"
    keep = GeoBox((n, n), Affine(size / n, 0, left, 0, -size / n, top), crs)
    margin = 0 if size == n * RESOLUTION else SCL_RESOLUTION
    side = 2 * math.ceil((size + 2 * margin) / SCL_RESOLUTION)
    corner = Affine(RESOLUTION, 0, left - margin, 0, -RESOLUTION, top + margin)
    return Window(GeoBox((side, side), corner, crs), keep, margin // RESOLUTION)


def candidates(items: Sequence[Item], window: Window, most: int) -> list[Item]:
    """Return the items over a window of its ``most`` least cloudy solar days, in reading order.

    Of one day those in the window's own zone come first: they need no warping.
    """
    ground, epsg = window.footprint, window.read.crs.epsg
    here = [item for item in items if shapely.intersects(item.footprint, ground)]
    chosen = set(least_cloudy(here)[:most])
    here = [item for item in here if item.solar_day in chosen]
    return sorted(here, key=lambda i: (i.solar_day, i.epsg != epsg, i.datetime, i.id))


def least_cloudy(items: Sequence[Item]) -> list[dt.date]:
    """Return the solar days of items, least cloudy first by the catalog; of equals the later."""
    covers: dict[dt.date, list[float]] = {}
    for item in items:
        cover = item.cloud_cover
        covers.setdefault(item.solar_day, []).append(100.0 if cover is None else cover)
    return sorted(covers, key=lambda day: (float(np.mean(covers[day])), -day.toordinal()))
