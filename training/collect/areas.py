"""Where samples may be drawn (protected areas, circles) and what they must keep away from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Geod

from scanner.area.aoi import Aoi, read_aoi
from scanner.errors import TrainingError
from training.collect.places import read_polygons
from training.collect.table import Row, Table, checked, number, read_table

EARTH_KM: Final = 6371.0
"""Mean radius; distances on this sphere are right to half a percent."""

EDGE_DEG: Final = 0.002
"""Points stand this far apart on outlines that are to be kept away from (some 200 m)."""

TABLES: Final = (".csv", ".tsv", ".txt")
RADIUS_NAMES: Final = ("km", "radius_km", "radius")
_GEOD: Final = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Area:
    """Ground to draw samples in; its name is the samples' source."""

    name: str
    geometry: Any
    """Polygon or multipolygon, EPSG:4326."""


def circle(lat: float, lon: float, km: float, name: str | None = None) -> Area:
    """Return a circle of ``km`` radius on the ellipsoid, drawn with 128 corners."""
    where = f"circle {lat:g},{lon:g},{km:g}"
    if not 0 < km <= 1000:
        raise TrainingError(f"{where}: its radius is not within 0..1000 km; correct it")
    try:
        checked(lon, lat)
    except ValueError as error:
        raise TrainingError(f"{where}: {error}; give LAT,LON,KM") from error
    azimuth = np.linspace(360, 0, 128, endpoint=False)
    n = len(azimuth)
    lons, lats, _ = _GEOD.fwd(np.full(n, lon), np.full(n, lat), azimuth, np.full(n, km * 1000))
    ring = np.column_stack([lons, lats])
    label = name or f"circle_{lat:g}_{lon:g}_{km:g}km"
    return Area(label, Aoi(label, shapely.Polygon(ring)).geometry)  # Aoi checks seams and poles


def read_circles(path: Path) -> tuple[list[Area], list[tuple[str, str]]]:
    """Read circles from a CSV with lat, lon, km and maybe name; and the bad rows by line."""
    table = read_table(path)
    km = table.column(RADIUS_NAMES)
    if km is None:
        raise TrainingError(f"{path}: no column km with the radius; add it")
    areas = []
    bad = [(f"line {line}", why) for line, why in table.bad]
    for row in table.rows:
        try:
            name = row.values.get("name", "").strip() or None
            areas.append(circle(row.lat, row.lon, number(row.values[km], km), name))
        except (ValueError, TrainingError) as error:
            bad.append((f"line {row.line}", str(error)))
    return areas, bad


def read_areas(paths: Sequence[Path]) -> list[Area]:
    """Read protected areas, one a GeoJSON file, named as it says or as its file."""
    return [Area(aoi.name, aoi.geometry) for aoi in map(read_aoi, paths)]


class KeepOff:
    """Known mines or towns, and how far samples stay away from them.

    Args:
        what: the word for it in messages.
        km: least distance in kilometres.
        lonlat: points (n, 2) in degrees.
        polygons: ground that is itself out of bounds; its outline counts for the distance.
    """

    def __init__(
        self, what: str, km: float, lonlat: NDArray[np.float64], polygons: Sequence[Any] = ()
    ) -> None:
        from scipy.spatial import cKDTree

        outlines = [shapely.get_coordinates(shapely.segmentize(p, EDGE_DEG)) for p in polygons]
        points = np.concatenate([np.asarray(lonlat, np.float64).reshape(-1, 2), *outlines])
        self.what, self.km, self.count = what, km, len(lonlat) + len(polygons)
        self._inside = shapely.STRtree(list(polygons)) if polygons else None
        self._tree = cKDTree(on_sphere(points)) if len(points) else None

    def too_near(self, lon: float, lat: float) -> bool:
        """Tell whether a place lies nearer than ``km``, or within a polygon."""
        if (
            self._inside is not None
            and self._inside.query(shapely.Point(lon, lat), predicate="intersects").size
        ):
            return True
        if self._tree is None:
            return False
        chord, _ = self._tree.query(on_sphere(np.array([[lon, lat]]))[0])
        return bool(arc_km(float(chord)) < self.km)


def read_keep_off(path: Path, what: str, km: float) -> tuple[KeepOff, list[tuple[str, str]]]:
    """Read points (CSV) or polygons (GeoJSON) to keep away from; and what was bad in the file."""
    if path.suffix.lower() in TABLES:
        table: Table = read_table(path)
        rows: tuple[Row, ...] = table.rows
        lonlat = np.array([(row.lon, row.lat) for row in rows]).reshape(-1, 2)
        keep = KeepOff(what, km, lonlat)
        bad = [(f"line {line}", why) for line, why in table.bad]
    else:
        polygons, bad = read_polygons(path)
        keep = KeepOff(what, km, np.empty((0, 2)), polygons)
    if not keep.count:
        raise TrainingError(
            f"{path}: holds no {what} to keep away from; correct it or leave it out"
        )
    return keep, bad


def on_sphere(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn degrees (n, 2) into points on the unit sphere (n, 3)."""
    lon, lat = np.radians(lonlat).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def arc_km(chord: float) -> float:
    """Turn a chord of the unit sphere into kilometres on the ground."""
    return 2 * EARTH_KM * math.asin(min(chord / 2, 1.0))
