"""Where the demo lies: one metric frame for the ground, two UTM granules that look at it.

The ground is drawn once, in an equal-area frame centred on 54 W (the seam of zones 21S and 22S),
and sampled into each granule's own grid, so that both granules show the same ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CENTER: Final = (-54.0, -7.0121)
"""Longitude and latitude of the frame's origin: on the zone seam, midway in tile row 38."""

PIXEL: Final = 10.0
"""Metres a pixel of the frame."""

HALF_WIDTH: Final = 10_800.0
"""Metres from the origin to the frame's east and west edge."""

HALF_HEIGHT: Final = 9_600.0
"""Metres from the origin to the frame's north and south edge."""

SHAPE: Final = (int(2 * HALF_HEIGHT / PIXEL), int(2 * HALF_WIDTH / PIXEL))
"""Rows and columns of the frame; row 0 is north."""

TILE_M: Final = 20_160.0
"""Metres a tile of the absolute grid (design, section 3), used to put a scar across its seam."""

_CRS: Final = pyproj.CRS.from_proj4(
    f"+proj=laea +lon_0={CENTER[0]} +lat_0={CENTER[1]} +datum=WGS84 +units=m +no_defs"
)

_AOI_OUTLINE: Final = (
    (-8900, 3900),
    (-6400, 7600),
    (-2100, 7950),
    (1700, 7300),
    (5600, 7900),
    (8900, 5800),
    (8600, 800),
    (8950, -4700),
    (7300, -7900),
    (1900, -7500),
    (-2600, -7950),
    (-7200, -7700),
    (-8950, -4300),
    (-8500, -200),
)


@lru_cache
def _transformer(epsg: int) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, _CRS, always_xy=True)


def to_frame(
    x: NDArray[np.float64], y: NDArray[np.float64], epsg: int = 4326
) -> NDArray[np.float64]:
    """Return frame metres (n, 2), east and north of the origin, of coordinates in ``epsg``."""
    east, north = _transformer(epsg).transform(x, y)
    return np.stack([np.asarray(east, np.float64), np.asarray(north, np.float64)], axis=-1)


def to_geographic(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return a geometry of the frame (metres) in EPSG:4326, rounded to 1e-7 degrees."""

    def change(points: NDArray[np.float64]) -> NDArray[np.float64]:
        there = _transformer(4326).transform(points[:, 0], points[:, 1], direction="INVERSE")
        return np.round(np.stack(there, axis=-1), 7)

    return shapely.transform(geometry, change)


def aoi() -> shapely.Polygon:
    """Return the outline of the demo's area of interest (EPSG:4326), as in aois/demo.geojson."""
    outline = to_geographic(shapely.Polygon(_AOI_OUTLINE))
    return shapely.Polygon(np.round(shapely.get_coordinates(outline), 5))


def tile_seam_x(y: float) -> float:
    """Return the frame's x where a column seam of the tiles of zone 21S passes at frame ``y``."""
    lon, lat = shapely.get_coordinates(to_geographic(shapely.Point(0.0, y)))[0]
    utm = pyproj.Transformer.from_crs(4326, 32721, always_xy=True)
    easting, northing = utm.transform(lon, lat)
    seam = np.floor(easting / TILE_M) * TILE_M
    return float(to_frame(np.array([seam]), np.array([northing]), 32721)[0, 0])


@dataclass(frozen=True)
class Granule:
    """The part of one MGRS granule that the demo makes: a north-up grid of 10 m in UTM."""

    name: str
    """MGRS tile such as ``21MZN``."""
    epsg: int
    left: int
    top: int
    width: int
    height: int
    """Columns and rows of 10 m; even, so that 20 m pixels fill the same rectangle."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in metres of the CRS."""
        right, bottom = self.left + 10 * self.width, self.top - 10 * self.height
        return float(self.left), float(bottom), float(right), float(self.top)

    def frame_pixels(self) -> tuple[Floats, Floats]:
        """Return column and row in the frame of every pixel centre, (height, width) each.

        UTM to frame is smooth, so a polynomial of second degree through a coarse net of exact
        points serves (its residual is below a centimetre) and spares millions of transforms.
        """
        cols, rows = np.arange(self.width) + 0.5, np.arange(self.height) + 0.5
        net_c, net_r = np.meshgrid(
            np.linspace(0, self.width, 15), np.linspace(0, self.height, 15), indexing="xy"
        )
        exact = to_frame(
            (self.left + PIXEL * net_c).ravel(), (self.top - PIXEL * net_r).ravel(), self.epsg
        )
        c, r = net_c.ravel() / 1000, net_r.ravel() / 1000
        terms = np.stack([np.ones_like(c), c, r, c * c, c * r, r * r], axis=1)
        (cx, cy) = np.linalg.lstsq(terms, exact, rcond=None)[0].T
        u, v = (cols / 1000)[None, :], (rows / 1000)[:, None]

        def surface(k: NDArray[np.float64]) -> NDArray[np.float64]:
            bent = k[0] + u * (k[1] + k[3] * u) + v * (k[2] + k[5] * v) + k[4] * (u * v)
            return np.asarray(bent, dtype=np.float64)

        column = (surface(cx) + HALF_WIDTH) / PIXEL - 0.5
        row = (HALF_HEIGHT - surface(cy)) / PIXEL - 0.5
        return column.astype(np.float32), row.astype(np.float32)


def _granule(name: str, epsg: int, west: float, east: float) -> Granule:
    """Return the grid, on multiples of 60 m, inside frame x ``west`` .. ``east``."""
    corners = shapely.Polygon.from_bounds(west, -9_300, east, 9_300)
    lonlat = shapely.get_coordinates(to_geographic(corners))
    utm = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    x, y = utm.transform(lonlat[:, 0], lonlat[:, 1])
    left, right = np.sort(x)[1] // 60 * 60, np.sort(x)[-2] // 60 * 60
    bottom, top = np.sort(y)[1] // 60 * 60, np.sort(y)[-2] // 60 * 60
    return Granule(
        name, epsg, int(left), int(top), int(right - left) // 10, int(top - bottom) // 10
    )


def granules() -> tuple[Granule, Granule]:
    """Return the two granules; they overlap by about 9 km across the zone seam."""
    return (
        _granule("21MZN", 32721, -10_400, 4_500),
        _granule("22MAT", 32722, -4_500, 10_400),
    )
