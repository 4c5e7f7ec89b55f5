"""Known places: mines (or anything labelled) out of a CSV of coordinates or out of polygons."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely

from scanner.area.aoi import only_area
from scanner.area.geojson import read_outline
from scanner.errors import TrainingError
from training.collect.table import checked, read_table

Bounds = tuple[float, float, float, float]
"""West, south, east, north, degrees."""

MAX_DRAWS: Final = 200_000
"""Points thrown at a polygon before it is called too thin to be hit."""

SAME_DEG: Final = 2e-5
"""Places this close, some two metres, are one."""

SHOWN: Final = 10
"""Bad rows that are printed; the rest is counted."""


@dataclass(frozen=True)
class Place:
    """Where a chip is wanted: its middle in degrees, what it shows, who says so."""

    lon: float
    lat: float
    label: int | None
    """1 mine, 0 not, ``None`` unknown."""
    source: str
    name: str | None = None
    """Unique within the source; ``None`` names it by its coordinates (1e-5 degrees)."""

    @property
    def chip_id(self) -> str:
        """Id and file name of its chip: letters, digits, ``-`` and single ``_``."""
        return f"{slug(self.source)}-{slug(self.name, 80) if self.name else self._at()}"

    def _at(self) -> str:
        lat, lon = round(abs(self.lat) * 1e5), round(abs(self.lon) * 1e5)
        return f"{'S' if self.lat < 0 else 'N'}{lat:07d}{'W' if self.lon < 0 else 'E'}{lon:08d}"


@dataclass(frozen=True)
class Found:
    """The places of a file and what was left out of it."""

    places: tuple[Place, ...]
    bad: tuple[tuple[str, str], ...] = ()
    """(line or polygon, reason)."""
    outside: int = 0
    """Outside the bounds."""
    twice: int = 0
    """Named before in the same file."""

    def told(self, path: Path) -> list[str]:
        """Return what to print: counts, then the bad ones by name."""
        lines = [f"{path}: {len(self.places)} places"]
        if self.outside:
            lines[0] += f", {self.outside} outside the bounds skipped"
        if self.twice:
            lines[0] += f", {self.twice} named twice"
        if self.bad:
            lines[0] += f", {len(self.bad)} bad"
        lines += [f"{path}: {where}: {why}" for where, why in self.bad[:SHOWN]]
        if len(self.bad) > SHOWN:
            lines.append(f"{path}: and {len(self.bad) - SHOWN} more bad ones")
        return lines


@dataclass
class _Gather:
    """Sorts candidate places into kept, outside and named twice."""

    bounds: Bounds | None
    places: dict[str, Place] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)
    outside: int = 0
    twice: int = 0

    def take(self, place: Place) -> None:
        if self.bounds is not None and not within(self.bounds, place.lon, place.lat):
            self.outside += 1
        elif place.chip_id in self.places:
            self.twice += 1
        else:
            self.places[place.chip_id] = place

    def found(self) -> Found:
        return Found(tuple(self.places.values()), tuple(self.bad), self.outside, self.twice)


def read_csv(path: Path, label: int | None, source: str, bounds: Bounds | None = None) -> Found:
    """Read a CSV of coordinates; see :func:`table.read_table` for what a bad row is."""
    table = read_table(path)
    gather = _Gather(bounds, bad=[(f"line {line}", why) for line, why in table.bad])
    for row in table.rows:
        gather.take(Place(row.lon, row.lat, label, source))
    return gather.found()


def read_polygons(path: Path) -> tuple[list[Any], list[tuple[str, str]]]:
    """Return the valid polygons of a GeoJSON file, each for itself, and the bad ones by number.

    Crossing edges are repaired. ``AoiError`` where the file as a whole cannot be used.
    """
    good, bad = [], []
    for number, rings in enumerate(read_outline(path).polygons, start=1):
        drawn = only_area(shapely.make_valid(shapely.Polygon(rings[0], rings[1:])))
        if drawn.area > 0:
            good.append(drawn)
        else:
            bad.append((f"polygon {number}", "has no area"))
    return good, bad


def in_polygons(
    path: Path,
    label: int | None,
    source: str,
    bounds: Bounds | None = None,
    *,
    points: int = 0,
    seed: int = 0,
) -> Found:
    """Return places in each polygon of a GeoJSON file: its middle, or ``points`` random ones.

    The middle is the centroid, or a point inside where the centroid lies outside.
    """
    polygons, bad = read_polygons(path)
    gather = _Gather(bounds, bad=bad)
    for number, polygon in enumerate(polygons, start=1):
        rng = np.random.default_rng([seed, number])
        spots = [random_point(polygon, rng) for _ in range(points)] or [middle(polygon)]
        for lon, lat in spots:
            try:
                gather.take(Place(*checked(round(lon, 7), round(lat, 7)), label, source))
            except ValueError as error:
                gather.bad.append((f"polygon {number}", str(error)))
    return gather.found()


def middle(polygon: Any) -> tuple[float, float]:
    """Return the centroid of a polygon, or a point on it where that lies outside."""
    point = polygon.centroid
    if not shapely.contains(polygon, point):
        point = polygon.representative_point()
    return float(point.x), float(point.y)


def random_point(polygon: Any, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a point (lon, lat) inside a polygon, every square metre as likely as any other."""
    west, south, east, north = polygon.bounds
    low, high = np.sin(np.radians([south, north]))  # a sphere's area is even in sin(lat)
    shapely.prepare(polygon)
    for size in (16, 256, 4096, MAX_DRAWS):
        lon = rng.uniform(west, east, size)
        lat = np.degrees(np.arcsin(rng.uniform(low, high, size)))
        inside = np.flatnonzero(shapely.contains_xy(polygon, lon, lat))
        if inside.size:
            return float(lon[inside[0]]), float(lat[inside[0]])
    raise TrainingError(
        f"a polygon near {west:.4f}, {south:.4f}: too thin to draw points in; draw it wider"
    )


def within(bounds: Bounds, lon: float, lat: float) -> bool:
    """Tell whether a place lies within bounds, edges included."""
    west, south, east, north = bounds
    return west <= lon <= east and south <= lat <= north


def slug(text: str, limit: int = 40) -> str:
    """Return a text as a part of a file name; ``__`` is left to those who join parts with it."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_]+", "-", plain))
    return plain[:limit].strip("-_") or "chip"


def unique(places: Iterable[Place]) -> list[Place]:
    """Return places, each once; ``TrainingError`` where two of one id differ in place or label."""
    known: dict[str, Place] = {}
    for place in places:
        other = known.setdefault(place.chip_id, place)
        apart = max(abs(place.lon - other.lon), abs(place.lat - other.lat))
        if place.label != other.label or apart > SAME_DEG:
            raise TrainingError(
                f"chip {place.chip_id}: two places have this id, labelled {other.label} at "
                f"{other.lat:.6f}, {other.lon:.6f} and {place.label} at {place.lat:.6f}, "
                f"{place.lon:.6f}; keep one, or give them sources of their own"
            )
    return list(known.values())
