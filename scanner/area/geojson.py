"""GeoJSON polygons out of a file nobody vouches for.

Only ``json`` and our own checks touch the bytes. GDAL and geopandas choose a reader by content, so
with them a file named .geojson could name other files of this machine, or addresses, to be read.
What could cost time or memory (bytes, values, positions, nesting) is capped before it is paid for.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from scanner.area.rings import (
    TO_DEGREES,
    Caps,
    Feature,
    Outline,
    Ring,
    RingReader,
    one_line,
    read_file,
)
from scanner.errors import AoiError, shown

__all__ = ["MAX_DEPTH", "TO_DEGREES", "Outline", "Ring", "read_outline"]

MAX_DEPTH: Final = 20
"""Deepest nesting of geometry collections."""

VALUES: Final = 10
"""JSON values (commas) a file may hold for each position; each costs memory when parsed."""

_DEGREE_CRS: Final = re.compile(r"(CRS:?84|EPSG:.*\b(4326|4674))$", re.IGNORECASE)
"""Names of CRSs whose coordinates are (lon, lat) as we want them.

4674 (SIRGAS 2000, the official one of Brazil) agrees with WGS 84 to less than a metre.
"""

_AOI: Final = Caps()


def read_outline(path: Path, where: str | None = None, caps: Caps = _AOI) -> Outline:
    """Read the polygons of a GeoJSON file; ``AoiError`` names file, fact and fix.

    Args:
        path: the file.
        where: what messages call it; ``AOI <path>`` unless given.
        caps: how large it may be.
    """
    where = where or f"AOI {shown(path)}"
    data = _parse(read_file(path, where, caps.bytes), where, caps)
    reader = _Reader(where, caps)
    if not isinstance(data, dict):
        reader.refuse(
            "is JSON but no GeoJSON object", "give a Feature, FeatureCollection or geometry"
        )
    name = reader.read_object(data)
    if not any(feature.polygons for feature in reader.features):
        reader.refuse("holds no polygon", caps.point_fix)
    return Outline(tuple(reader.features), name)


def _parse(data: bytes, where: str, caps: Caps) -> Any:
    """Return the parsed JSON."""
    if not data.strip():
        raise AoiError(f"{where}: is empty; give a GeoJSON file")
    nested = data.count(b"[") + data.count(b"{")
    if nested > 2 * caps.vertices or data.count(b",") > VALUES * caps.vertices:
        raise AoiError(
            f"{where}: holds far more than {caps.vertices:,} positions; "
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


class _Reader(RingReader):
    """Walks through one GeoJSON object and gathers its features."""

    def __init__(self, where: str, caps: Caps) -> None:
        super().__init__(where, caps)
        self.features: list[Feature] = []
        self._polygons: list[tuple[Ring, ...]] = []

    def read_object(self, data: dict[str, Any]) -> str | None:
        """Read a collection, a feature or a geometry; return its name where it tells one."""
        kind = data.get("type")
        self._check_crs(data)
        if kind == "FeatureCollection":
            features = self._list(data.get("features"), "features of the collection")
            if not features:
                self.refuse("holds no feature", "draw at least one polygon")
            names = {self._feature(f, f"feature {i + 1}") for i, f in enumerate(features)}
            return names.pop() if len(names) == 1 else one_line(data.get("name"))
        if kind == "Feature":
            return self._feature(data, "the feature")
        self._geometry(data, "the geometry")
        self._keep({})
        return None

    def _feature(self, feature: Any, what: str) -> str | None:
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            self.refuse(f"{what} is not of type Feature", "give valid GeoJSON")
        self._check_crs(feature)
        self._geometry(feature.get("geometry"), what)
        properties = feature.get("properties")
        return self._keep(properties if isinstance(properties, dict) else {})

    def _keep(self, properties: dict[str, Any]) -> str | None:
        """Close the feature whose polygons have been read; return its name."""
        self.features.append(Feature(tuple(self._polygons), properties))
        self._polygons = []
        return self.features[-1].name

    def _geometry(self, geometry: Any, what: str, depth: int = 0) -> None:
        if geometry is None:
            self.refuse(f"{what} has no geometry (null)", "draw a polygon, or take it out")
        if not isinstance(geometry, dict):
            self.refuse(f"{what} has no GeoJSON geometry", "give valid GeoJSON")
        self._check_crs(geometry)
        kind, inside = geometry.get("type"), geometry.get("coordinates")
        if kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
            self.refuse(f"{what} is a {kind}, which has no area", self.caps.point_fix)
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
        self._polygons.append(tuple(self._ring(ring, what) for ring in rings))

    def _ring(self, ring: Any, what: str) -> Ring:
        positions = self._list(ring, f"a ring of {what}")
        self.count(len(positions))
        try:
            points = np.array([_position(p) for p in positions], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            self.refuse(f"a ring of {what} holds a position that is not [lon, lat]", "correct it")
        return self.check(points, what)

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
