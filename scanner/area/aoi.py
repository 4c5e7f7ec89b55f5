"""Areas of interest: a polygon in EPSG:4326 with a name, read from a file or drawn round a point.

An ``Aoi`` that exists is sane: valid, of a sensible size, in degrees, off the poles and on one side
of the 180th meridian. Whatever is not becomes an ``AoiError`` of one line: object, fact, fix.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely
from pyproj import Geod
from shapely.geometry.base import BaseGeometry

from scanner.area.coordinates import square_ring
from scanner.area.formats import AOI_FORMATS, read_format
from scanner.area.geojson import read_outline
from scanner.area.rings import Caps, Outline, Ring
from scanner.config import ScanConfig
from scanner.errors import AoiError, ConfigError, shown

MAX_KM2: Final = 10_000_000.0
"""Largest area: all of Amazonia is 6.7 million km2."""

MAX_BOUNDARY_DEG: Final = 5_000.0
"""Longest boundary, in degrees: it bounds the work of laying the grid."""

MAX_LAT: Final = 84.0
"""UTM, and so the grid, ends there."""

MAX_RADIUS_KM: Final = 500.0
"""Largest half side of a square around a point."""

PRECISION_DEG: Final = 1e-7
"""Coordinates are rounded to this, about a centimetre, so that a digest means the same ground."""

REPAIRED: Final = 0.01
"""A repair of crossing edges may change the area by this share; beyond, the drawing is unclear."""

PAIRS_PER_EDGE: Final = 10
"""Edges, itself among them, that may lie close to an edge on average."""

SPARE_PAIRS: Final = 200_000
"""How many more pairs of close edges there may be in all, for long edges."""

SPARE_PAIRS_REPAIR: Final = 10_000
"""The same in a polygon to be repaired, which costs more."""

_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
_GEOD: Final = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Aoi:
    """A named area: polygon or multipolygon, EPSG:4326, (lon, lat).

    Raises ``AoiError`` where the geometry cannot be scanned.
    """

    name: str
    geometry: shapely.Polygon | shapely.MultiPolygon

    def __post_init__(self) -> None:
        """Check the geometry."""
        if problem := _problem(self.geometry):
            raise AoiError(f"AOI {shown(self.name)}: {problem}")

    @cached_property
    def slug(self) -> str:
        """The name as a file may be called: 1 to 64 of ``A-Za-z0-9_-``."""
        plain = unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", plain)[:64].strip("-")
        if not slug or _RESERVED.fullmatch(slug):
            slug = f"aoi-{self.digest[:12]}"
        return slug

    @cached_property
    def digest(self) -> str:
        """sha256 of the ground it covers (normalised WKB at 1e-7 degrees), whatever its name."""
        shape = shapely.normalize(_rounded(self.geometry))  # normal form: rings turn clockwise
        wkb = shapely.to_wkb(shape, byte_order=1, output_dimension=2)
        return hashlib.sha256(wkb).hexdigest()

    @cached_property
    def area_km2(self) -> float:
        """Area on the ellipsoid."""
        return _km2(self.geometry)

    def to_geojson(self) -> dict[str, Any]:
        """Return it as a GeoJSON Feature."""
        return {
            "type": "Feature",
            "properties": {"name": self.name},
            "geometry": json.loads(shapely.to_geojson(self.geometry)),
        }


def read_aoi(path: Path | str) -> Aoi:
    """Read a GeoJSON file, zipped shapefile, GeoPackage or KML; its features become one area.

    The name is the property ``name`` (or ``Name``, ``NAME``), else the file's. Crossing edges are
    repaired if that leaves the area as it is.

    Raises:
        AoiError: The file or its content was refused; the message says why and what to do.
    """
    path = Path(path)
    where = f"AOI {shown(path)}"
    outline = _read(path, where)
    if crossing(ring for rings in outline.polygons for ring in rings):
        raise AoiError(
            f"{where}: its edges cross or run side by side too often for an outline; "
            "simplify it (ogr2ogr -simplify 0.0005), and let its parts not overlap"
        )
    try:
        area = shapely.union_all([valid_polygon(rings, where) for rings in outline.polygons])
        geometry = _sound(area, where)
    except shapely.errors.GEOSException as error:
        raise AoiError(f"{where}: cannot be solved ({shown(error, 80)}); draw it anew") from error
    return Aoi(outline.name or shown(path.stem) or "aoi", geometry)


def square_aoi(lat: float, lon: float, radius_km: float = 10) -> Aoi:
    """Return the square of sides 2 * ``radius_km`` centred on a point (degrees, EPSG:4326).

    Raises:
        AoiError: A number is out of range.
    """
    where = f"center {lat:g},{lon:g}"
    if not all(math.isfinite(v) for v in (lat, lon, radius_km)):
        raise AoiError(f"{where}: a number is not finite; give --center LAT,LON --radius KM")
    if abs(lat) > 90 >= abs(lon):
        raise AoiError(f"{where}: looks like lon, lat order; give --center LAT,LON")
    if abs(lat) > MAX_LAT or abs(lon) > 180:
        raise AoiError(
            f"{where}: out of range; give LAT,LON in degrees, LAT within {MAX_LAT:g} of the equator"
        )
    if not 0.1 <= radius_km <= MAX_RADIUS_KM:
        raise AoiError(
            f"{where}: radius {radius_km:g} km is not between 0.1 and {MAX_RADIUS_KM:g}; change it"
        )
    ring = square_ring(lon, lat, radius_km * 1000)
    name = f"center_{lat:.4f}_{lon:.4f}_{radius_km:g}km"
    return Aoi(name, _sound(shapely.Polygon(ring), where))


def _read(path: Path, where: str) -> Outline:
    """Return the polygons of a file, in the format its suffix tells; GeoJSON has any other."""
    return read_format(path, where, Caps(), AOI_FORMATS) or read_outline(path)


def _sound(geometry: BaseGeometry, where: str) -> Any:
    """Return a geometry rounded, or raise ``AoiError`` if it cannot be scanned as it is or then."""
    problem = _problem(geometry)
    rounded = geometry if problem else _rounded(geometry)
    if problem := problem or _problem(rounded):
        raise AoiError(f"{where}: {problem}")
    return rounded


def read_area(config: ScanConfig) -> Aoi:
    """Return the AOI of the settings: a file, or a square around a point."""
    if (config.aoi is None) == (config.center is None):
        raise ConfigError("give either an AOI file or --center LAT,LON, and not both")
    if config.aoi is not None:
        return read_aoi(config.aoi)
    lat, lon = config.center or (0.0, 0.0)
    return square_aoi(lat, lon, config.radius_km)


def _problem(geometry: BaseGeometry) -> str | None:
    """Return why a geometry cannot be scanned, and the fix, or ``None``; cheapest first."""
    if geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        return "has no area; draw a polygon"
    west, south, east, north = geometry.bounds
    if not all(math.isfinite(v) for v in (west, south, east, north)):
        return "has a coordinate that is not finite; correct it"
    if max(-west, east) > 180 or max(-south, north) > 90:
        return "is not in degrees (lon, lat); reproject to EPSG:4326"
    if east - west > 180:
        return (
            f"spans {east - west:.0f} degrees of longitude, as if it crossed the 180th meridian; "
            "split it there into two files and scan each"
        )
    if max(-south, north) > MAX_LAT:
        return f"reaches latitude {max(-south, north):g}, beyond {MAX_LAT:g}; cut it off there"
    if geometry.length > MAX_BOUNDARY_DEG:
        return (
            f"has a boundary {geometry.length:,.0f} degrees long, more than "
            f"{MAX_BOUNDARY_DEG:,.0f}; simplify it, or split it and scan the parts"
        )
    if not shapely.is_valid(geometry):
        return f"is not valid ({shown(shapely.is_valid_reason(geometry), 80)}); draw it anew"
    if (area := _km2(geometry)) > MAX_KM2:
        return f"has {area:,.0f} km2, more than {MAX_KM2:,.0f}; split it and scan the parts"
    return None


def _km2(geometry: BaseGeometry) -> float:
    """Return the area on the ellipsoid, edges straight in degrees."""
    dense = shapely.orient_polygons(shapely.segmentize(geometry, 0.1))
    area, _ = _GEOD.geometry_area_perimeter(dense)
    return abs(float(area)) / 1e6


def valid_polygon(rings: tuple[Ring, ...], where: str) -> BaseGeometry:
    """Return a valid polygon of its rings, repaired where that leaves its area as it is.

    Raises:
        AoiError: It cannot be repaired so.
    """
    drawn = shapely.Polygon(rings[0], rings[1:])
    if shapely.is_valid(drawn):
        return drawn
    reason = shown(shapely.is_valid_reason(drawn), 80)
    area: BaseGeometry = shapely.Polygon()
    if not crossing(rings, SPARE_PAIRS_REPAIR):
        area = only_area(shapely.make_valid(drawn))
    if not area.area > 0 or abs(area.area - drawn.area) > REPAIRED * area.area:
        raise AoiError(
            f"{where}: a polygon is not valid ({reason}), and a repair would change its area; "
            "draw it without crossing edges"
        )
    return area


def only_area(geometry: BaseGeometry) -> BaseGeometry:
    """Return the polygons of a geometry, without the points and lines an overlay can leave."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def crossing(rings: Iterable[Ring], spare: int = SPARE_PAIRS) -> bool:
    """Tell whether edges may cross so often that solving them would take minutes, or hours.

    Counts the pairs of edges whose boxes meet: a few for each edge of an outline, plus ``spare``.
    """
    edges = np.concatenate([np.hstack([ring[:-1], ring[1:]]) for ring in rings])
    low, high = np.minimum(edges[:, :2], edges[:, 2:]), np.maximum(edges[:, :2], edges[:, 2:])
    boxes = shapely.box(*low.T, *high.T)
    tree = shapely.STRtree(boxes)
    step, left = max(1, 500_000 // len(boxes)), spare + PAIRS_PER_EDGE * len(boxes)
    for start in range(0, len(boxes), step):
        left -= tree.query(boxes[start : start + step]).shape[1]
        if left < 0:
            return True
    return False


def _rounded(geometry: BaseGeometry) -> Any:
    """Return the polygons at the precision of digests, 2D, in one order, outer rings to the left.

    So the same ground is the same geometry, wherever its rings began and whichever way they ran.
    """
    shape = shapely.set_precision(shapely.force_2d(geometry), PRECISION_DEG)
    shape = shapely.set_precision(shape, 0)  # the grid is the digest's; overlays stay exact
    shape = shapely.normalize(shapely.transform(shape, lambda c: c + 0.0))  # no -0.0
    parts = shapely.get_parts(shape)
    one = parts[0] if len(parts) == 1 else shape  # one polygon is none of several
    return shapely.orient_polygons(one)
