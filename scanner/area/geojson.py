"""GeoJSON polygons out of a file nobody vouches for.

Only ``json`` and our own checks touch the bytes. GDAL and geopandas choose a reader by content, so
with them a file named .geojson could name other files of this machine, or addresses, to be read.
What could cost time or memory (bytes, values, positions, nesting) is capped before it is paid for.
"""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from scanner.errors import AoiError

MAX_BYTES: Final = 20_000_000
"""Largest file that is read."""

MAX_VERTICES: Final = 100_000
"""Most positions of all rings together."""

MAX_VALUES: Final = 10 * MAX_VERTICES
"""Most JSON values (commas) a file may hold; each costs memory when parsed."""

MAX_DEPTH: Final = 20
"""Deepest nesting of geometry collections."""

TO_DEGREES: Final = "ogr2ogr -t_srs EPSG:4326 -lco RFC7946=YES new.geojson old.geojson"
"""The command that puts right most files refused here."""

_POINT_FIX: Final = "give polygons, or for a square around a point use --center LAT,LON --radius KM"

_DEGREE_CRS: Final = re.compile(r"(CRS:?84|EPSG:.*\b(4326|4674))$", re.IGNORECASE)
"""Names of CRSs whose coordinates are (lon, lat) as we want them.

4674 (SIRGAS 2000, the official one of Brazil) agrees with WGS 84 to less than a metre.
"""

Ring = NDArray[np.float64]


@dataclass(frozen=True)
class Outline:
    """The polygons of a file: rings (n, 2) of (lon, lat), the first of each the outer one."""

    polygons: tuple[tuple[Ring, ...], ...]
    name: str | None


def read_outline(path: Path) -> Outline:
    """Read the polygons of a GeoJSON file; ``AoiError`` names file, fact and fix."""
    where = f"AOI {shown(path)}"
    data = _parse(_read(path, where), where)
    reader = _Reader(where)
    if not isinstance(data, dict):
        reader.refuse(
            "is JSON but no GeoJSON object", "give a Feature, FeatureCollection or geometry"
        )
    names = reader.read_object(data)
    if not reader.polygons:
        reader.refuse("holds no polygon", _POINT_FIX)
    return Outline(tuple(reader.polygons), names)


def shown(value: Any, limit: int = 200) -> str:
    """Return a text from outside as part of one printable line."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _read(path: Path, where: str) -> bytes:
    """Return the bytes of a regular file (or of a link to one), never more than allowed."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/|/vsi", path.as_posix()):
        raise AoiError(f"{where}: is an address, not a file; download it and give the file")
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
        if stat.S_ISDIR(mode):
            raise AoiError(f"{where}: is a folder; give a GeoJSON file in it")
        if not stat.S_ISREG(mode):
            raise AoiError(f"{where}: is a device or pipe, no file; save it as a GeoJSON file")
        if size <= MAX_BYTES:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            size = max(size, len(data))
    except FileNotFoundError as error:
        raise AoiError(f"{where}: does not exist; check the path") from error
    except (OSError, ValueError) as error:
        raise AoiError(f"{where}: cannot be read ({shown(error)}); check the path") from error
    if size > MAX_BYTES:
        raise AoiError(
            f"{where}: has {size / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f} MB; "
            "keep only the outline, and simplify it (ogr2ogr -simplify 0.0005)"
        )
    return data


def _parse(data: bytes, where: str) -> Any:
    """Return the parsed JSON."""
    if not data.strip():
        raise AoiError(f"{where}: is empty; give a GeoJSON file")
    nested = data.count(b"[") + data.count(b"{")
    if nested > 2 * MAX_VERTICES or data.count(b",") > MAX_VALUES:
        raise AoiError(
            f"{where}: holds far more than {MAX_VERTICES:,} positions; "
            "simplify the outline (ogr2ogr -simplify 0.0005)"
        )
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise AoiError(f"{where}: is not UTF-8 text; save it as GeoJSON in UTF-8") from error
    except RecursionError as error:
        raise AoiError(f"{where}: is nested too deeply; give a plain GeoJSON file") from error
    except ValueError as error:
        fact = shown(error, 120)
        raise AoiError(
            f"{where}: is not JSON ({fact}); give a GeoJSON file (ogr2ogr new.geojson old.kml)"
        ) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class _Reader:
    """Walks through one GeoJSON object and gathers its polygons."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.polygons: list[tuple[Ring, ...]] = []
        self.vertices = 0

    def refuse(self, fact: str, fix: str) -> NoReturn:
        raise AoiError(f"{self.where}: {fact}; {fix}")

    def read_object(self, data: dict[str, Any]) -> str | None:
        """Read a collection, a feature or a geometry; return its name where it tells one."""
        kind = data.get("type")
        self._check_crs(data)
        if kind == "FeatureCollection":
            features = self._list(data.get("features"), "features of the collection")
            if not features:
                self.refuse("holds no feature", "draw at least one polygon")
            names = {self._feature(f, f"feature {i + 1}") for i, f in enumerate(features)}
            return names.pop() if len(names) == 1 else _text(data.get("name"))
        if kind == "Feature":
            return self._feature(data, "the feature")
        self._geometry(data, "the geometry")
        return None

    def _feature(self, feature: Any, what: str) -> str | None:
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            self.refuse(f"{what} is not of type Feature", "give valid GeoJSON")
        self._check_crs(feature)
        self._geometry(feature.get("geometry"), what)
        properties = feature.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        found = (_text(properties.get(key)) for key in ("name", "Name", "NAME"))
        return next((name for name in found if name), None)

    def _geometry(self, geometry: Any, what: str, depth: int = 0) -> None:
        if geometry is None:
            self.refuse(f"{what} has no geometry (null)", "draw a polygon, or take it out")
        if not isinstance(geometry, dict):
            self.refuse(f"{what} has no GeoJSON geometry", "give valid GeoJSON")
        self._check_crs(geometry)
        kind, inside = geometry.get("type"), geometry.get("coordinates")
        if kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
            self.refuse(f"{what} is a {kind}, which has no area", _POINT_FIX)
        elif kind == "Polygon":
            self._polygon(inside, what)
        elif kind == "MultiPolygon":
            for polygon in self._list(inside, f"coordinates of {what}"):
                self._polygon(polygon, what)
        elif kind == "GeometryCollection":
            if depth == MAX_DEPTH:
                self.refuse(f"{what} nests geometry collections too deeply", "give its polygons")
            for part in self._list(geometry.get("geometries"), f"geometries of {what}"):
                self._geometry(part, what, depth + 1)
        else:
            self.refuse(
                f"type {shown(kind, 40)!r} of {what} is none of GeoJSON's",
                "give a Feature, FeatureCollection, Polygon or MultiPolygon",
            )

    def _polygon(self, coordinates: Any, what: str) -> None:
        rings = self._list(coordinates, f"coordinates of {what}")
        if not rings:
            self.refuse(f"a polygon of {what} is empty", "draw it, or take it out")
        self.polygons.append(tuple(self._ring(ring, what) for ring in rings))

    def _ring(self, ring: Any, what: str) -> Ring:
        positions = self._list(ring, f"a ring of {what}")
        self.vertices += len(positions)
        if self.vertices > MAX_VERTICES:
            self.refuse(
                f"has more than {MAX_VERTICES:,} positions",
                "simplify the outline (ogr2ogr -simplify 0.0005)",
            )
        try:
            points = np.array([_position(p) for p in positions], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            self.refuse(f"a ring of {what} holds a position that is not [lon, lat]", "correct it")
        if not np.isfinite(points).all():
            self.refuse(f"a ring of {what} holds a number that is not finite", "correct it")
        if len(points) < 4:
            self.refuse(
                f"a ring of {what} has {len(points)} positions, fewer than 4",
                "draw at least a triangle, its first position repeated as the last",
            )
        if not np.array_equal(points[0], points[-1]):
            self.refuse(f"a ring of {what} is not closed", "repeat its first position as the last")
        self._check_degrees(points)
        return points

    def _check_degrees(self, points: Ring) -> None:
        """Refuse what is no (lon, lat) in degrees, and say what it looks like."""
        (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
        x, y = max(abs(west), abs(east)), max(abs(south), abs(north))
        reach = f"coordinates reach x={west if x == -west else east:.6g}, "
        reach += f"y={south if y == -south else north:.6g}"
        if max(x, y) > 360:
            self.refuse(f"{reach}: metres, not degrees", f"reproject to EPSG:4326 ({TO_DEGREES})")
        if y > 90 and x <= 90 and y <= 180:
            self.refuse(
                f"{reach}: looks like lat, lon order", "GeoJSON wants lon, lat: swap the two"
            )
        if y > 90:
            self.refuse(f"{reach}: latitudes end at 90", f"give EPSG:4326 ({TO_DEGREES})")
        if x > 180:
            self.refuse(
                f"{reach}: longitudes run from -180 to 180", "subtract 360 from those above"
            )

    def _check_crs(self, data: dict[str, Any]) -> None:
        """Refuse the member ``crs`` of old GeoJSON if it names anything but (lon, lat) degrees."""
        crs = data.get("crs")
        if crs is None:
            return
        properties = crs.get("properties") if isinstance(crs, dict) else None
        name = properties.get("name") if isinstance(properties, dict) else None
        if not (isinstance(name, str) and _DEGREE_CRS.search(name)):
            told = shown(name if name is not None else crs, 60)
            self.refuse(f"its crs is {told!r}", f"reproject to EPSG:4326 ({TO_DEGREES})")

    def _list(self, value: Any, what: str) -> list[Any]:
        if not isinstance(value, list):
            self.refuse(f"{what} is no list", "give valid GeoJSON")
        return value


def _position(position: Any) -> tuple[float, float]:
    """Return (lon, lat) of a GeoJSON position; a height is passed over."""
    if not isinstance(position, list) or len(position) < 2:
        raise TypeError
    lon, lat = position[0], position[1]
    if type(lon) not in (int, float) or type(lat) not in (int, float):
        raise TypeError
    return float(lon), float(lat)


def _text(value: Any) -> str | None:
    """Return a name as one printable line, or ``None``."""
    text = " ".join(shown(value).split()) if isinstance(value, str) else ""
    return text or None
