"""The one place where coordinates change their system: UTM metres, pixels, degrees."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Floats = NDArray[np.float64]


def to_geographic(epsg: int, x: Any, y: Any) -> tuple[Floats, Floats]:
    """Turn metres of a UTM zone (EPSG 326xx, 327xx) into (lon, lat) degrees of EPSG:4326.

    Longitudes run on across the 180th meridian (180.01, not -179.99), so that no shape made of
    them is torn apart. Takes numbers or arrays of one shape; gives float64 arrays of that shape.
    """
    lon, lat = _transformer(epsg, True).transform(_array(x), _array(y))
    meridian = central_meridian(epsg % 100)
    return (_array(lon) - meridian + 180) % 360 - 180 + meridian, _array(lat)


def from_geographic(epsg: int, lon: Any, lat: Any) -> tuple[Floats, Floats]:
    """Turn (lon, lat) degrees of EPSG:4326 into metres (x, y) of a UTM zone (EPSG 326xx, 327xx)."""
    x, y = _transformer(epsg, False).transform(_array(lon), _array(lat))
    return _array(x), _array(y)


def pixel_to_geographic(geobox: GeoBox, rows: Any, cols: Any) -> tuple[Floats, Floats]:
    """Turn pixel coordinates of a UTM geobox into (lon, lat).

    Pixel coordinates are continuous: (0, 0) is the outer corner of the first pixel, and the centre
    of the pixel with the indices i, j is (i + 0.5, j + 0.5).
    """
    a = geobox.affine
    rows, cols = _array(rows), _array(cols)
    x = a.c + a.a * cols + a.b * rows
    y = a.f + a.d * cols + a.e * rows
    return to_geographic(_epsg(geobox), x, y)


def geographic_to_pixel(geobox: GeoBox, lon: Any, lat: Any) -> tuple[Floats, Floats]:
    """Turn (lon, lat) into pixel coordinates (rows, cols); undoes :func:`pixel_to_geographic`."""
    x, y = from_geographic(_epsg(geobox), lon, lat)
    a = ~geobox.affine
    return a.d * x + a.e * y + a.f, a.a * x + a.b * y + a.c


def square_ring(lon: float, lat: float, half_m: float, points: int = 32) -> Floats:
    """Return the ring (n, 2) of (lon, lat) around a square of sides 2 * ``half_m`` metres.

    The square is drawn in the equal-area azimuthal projection centred on it, with ``points`` to a
    side, so its area is right wherever it lies and its sides hold across seams of UTM zones.
    """
    side = np.linspace(-half_m, half_m, points, endpoint=False)
    edge = np.full(points, half_m)
    x = np.concatenate([side, edge, -side, -edge])
    y = np.concatenate([-edge, side, edge, -side])
    local = f"+proj=laea +lat_0={float(lat)!r} +lon_0={float(lon)!r} +ellps=WGS84 +units=m"
    ring = np.column_stack(Transformer.from_crs(local, "EPSG:4326", always_xy=True).transform(x, y))
    return np.vstack([ring, ring[:1]])


def central_meridian(number: int) -> int:
    """Return the longitude in degrees of the middle of UTM zone ``number`` (1 to 60)."""
    return 6 * number - 183


@lru_cache(maxsize=256)
def _transformer(epsg: int, geographic: bool) -> Transformer:
    """Return a cached transformer; pyproj's are safe to share between threads since 3.1."""
    if epsg // 100 not in (326, 327) or not 1 <= epsg % 100 <= 60:
        raise ValueError(f"EPSG:{epsg} is no UTM zone on WGS 84 (326xx or 327xx)")
    pair = (epsg, 4326) if geographic else (4326, epsg)
    return Transformer.from_crs(*pair, always_xy=True)


def _epsg(geobox: GeoBox) -> int:
    return int(str(geobox.crs).removeprefix("EPSG:"))


def _array(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)
