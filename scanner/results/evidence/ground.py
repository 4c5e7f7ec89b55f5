"""The ground around one site: which pixels are looked at again, and which are the site's own."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from scanner.area.grid import Zone, from_geographic, pixel_to_geographic
from scanner.errors import RunError
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.results.finished import FinishedRun

LEAST_M: Final = 960
"""Least side of the window: two cells, so that a small site is seen in its surroundings."""
MOST_M: Final = 4800
"""Greatest side. Of a larger site the window shows the largest part."""
WIDER: Final = 1.5
"""The window is so many times as wide as the site."""
APART_M: Final = 60
"""The surroundings begin this far from any site: its edge is in the pixels of both."""

_SITE: Final = re.compile(r"site_(\d{2})([NS])_\d{1,9}_\d{1,9}")


@dataclass(frozen=True)
class Ground:
    """A square window of 10 m pixels around a site, in the UTM zone of the site's first cell."""

    zone: Zone
    geobox: GeoBox
    """Its corner lies on a 20 m pixel's, so that SCL pixels fill it."""
    outline: BaseGeometry
    """Of the site, whole, in metres of the zone."""
    inside: NDArray[np.bool_]
    """Pixels of the outline."""
    around: NDArray[np.bool_]
    """Pixels of no site, some way off their edges."""
    share: float
    """How much of the outline's area lies in the window."""

    @property
    def side_m(self) -> int:
        """Metres a side."""
        return int(self.geobox.shape.x) * RESOLUTION

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The window as (xmin, ymin, xmax, ymax), metres of the zone."""
        box = self.geobox.boundingbox
        return float(box.left), float(box.bottom), float(box.right), float(box.top)

    @property
    def footprint(self) -> shapely.Polygon:
        """The window in EPSG:4326, three points a side."""
        rows, cols = self.geobox.shape
        t = np.array([0, 0.5, 1, 1, 1, 0.5, 0, 0]), np.array([0, 0, 0, 0.5, 1, 1, 1, 0.5])
        lon, lat = pixel_to_geographic(self.geobox, t[1] * rows, t[0] * cols)
        return shapely.Polygon(np.column_stack([lon, lat]))


def zone_of(run: FinishedRun, detection_id: str) -> Zone:
    """Return the zone of a site's first cell; ``RunError`` where the id is not one of ours."""
    match = _SITE.fullmatch(detection_id)
    if match is None or not 1 <= int(match[1]) <= 60:
        raise RunError(
            f"{run.path}/detections.parquet: {detection_id[:80]!r} is no id of mining-scan's; "
            "run the scan again"
        )
    return Zone(int(match[1]), match[2] == "S")


def ground_of(run: FinishedRun, site: Any) -> Ground:
    """Return the ground of a row of ``run.sites``; ``RunError`` where its id is not one of ours."""
    zone = zone_of(run, str(site.detection_id))
    outline = _in_metres(site.geometry, zone.epsg)
    geobox = _window(outline, zone.epsg)
    box = geobox.boundingbox
    window = shapely.box(box.left, box.bottom, box.right, box.top)
    seen = shapely.intersection(outline, window)
    sites = [_in_metres(one, zone.epsg) for one in run.sites.geometry if _near(one, site.geometry)]
    others = shapely.buffer(shapely.union_all([outline, *sites]), APART_M)
    return Ground(
        zone=zone,
        geobox=geobox,
        outline=outline,
        inside=_pixels(seen, geobox),
        around=~_pixels(shapely.intersection(others, window), geobox),
        share=min(float(seen.area / outline.area), 1.0),
    )


def _window(outline: BaseGeometry, epsg: int) -> GeoBox:
    xmin, ymin, xmax, ymax = outline.bounds
    wanted = WIDER * max(xmax - xmin, ymax - ymin)
    step = 2 * SCL_RESOLUTION
    side = min(max(math.ceil(wanted / step) * step, LEAST_M), MOST_M)
    if max(xmax - xmin, ymax - ymin) > MOST_M:
        largest = max(shapely.get_parts(outline), key=lambda part: float(part.area))
        wide = max(largest.bounds[2] - largest.bounds[0], largest.bounds[3] - largest.bounds[1])
        middle = shapely.box(*largest.bounds).centroid
        if wide > MOST_M:  # the middle of its bounds may show none of it
            middle = largest.representative_point()
        x, y = middle.x, middle.y
    else:
        x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
    left = round((x - side / 2) / SCL_RESOLUTION) * SCL_RESOLUTION
    top = round((y + side / 2) / SCL_RESOLUTION) * SCL_RESOLUTION
    n = side // RESOLUTION
    return GeoBox((n, n), Affine(RESOLUTION, 0, left, 0, -RESOLUTION, top), f"EPSG:{epsg}")


def _pixels(area: BaseGeometry, geobox: GeoBox) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies in an area; all it touches where no centre does."""
    if area.is_empty:
        return np.zeros(tuple(geobox.shape), dtype=bool)
    for touched in (False, True):
        found = geometry_mask(
            [area], tuple(geobox.shape), geobox.affine, all_touched=touched, invert=True
        )
        if found.any():
            break
    return np.asarray(found, dtype=bool)


def _in_metres(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    moved = shapely.transform(geometry, lambda c: np.column_stack(from_geographic(epsg, *c.T)))
    return moved if moved.is_valid else shapely.make_valid(moved)


def _near(geometry: BaseGeometry, site: BaseGeometry) -> bool:
    """Tell whether a site may reach into another's window: within a twentieth of a degree."""
    west, south, east, north = geometry.bounds
    w, s, e, n = site.bounds
    return bool(west < e + 0.05 and east > w - 0.05 and south < n + 0.05 and north > s - 0.05)
