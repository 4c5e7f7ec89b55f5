"""What every file of polygons must pass, whatever its format: caps, and checks of its rings.

The file comes from outside and nobody vouches for it. What could cost time or memory is capped
before it is paid for; what is refused becomes an ``AoiError`` of one line: object, fact, fix.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from scanner.errors import AoiError, shown

MAX_BYTES: Final = 20_000_000
"""Largest file of an AOI that is read."""

MAX_VERTICES: Final = 100_000
"""Most positions of all rings of an AOI together."""

TO_DEGREES: Final = "ogr2ogr -t_srs EPSG:4326 -lco RFC7946=YES new.geojson old.geojson"
"""The command that puts right most files refused here."""

POINT_FIX: Final = "give polygons, or for a square around a point use --center LAT,LON --radius KM"
"""What to do with a file that holds points or lines."""

Ring = NDArray[np.float64]


@dataclass(frozen=True)
class Caps:
    """How large a file may be, and what may come out of it."""

    bytes: int = MAX_BYTES
    vertices: int = MAX_VERTICES
    features: int = 10_000
    seconds: int = 20
    """Processor time a process may take that reads the file for us."""
    memory: int = 1 << 30
    """Address space it may take, bytes."""
    point_fix: str = POINT_FIX


@dataclass(frozen=True)
class Feature:
    """The polygons of one feature: rings (n, 2) of (lon, lat), the first of each the outer one."""

    polygons: tuple[tuple[Ring, ...], ...]
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """Its property ``name``, ``Name`` or ``NAME``."""
        return told_name(self.properties, ("name", "Name", "NAME"))


@dataclass(frozen=True)
class Outline:
    """The features of a file, in its order, and the name they share or the file tells."""

    features: tuple[Feature, ...]
    name: str | None

    @property
    def polygons(self) -> tuple[tuple[Ring, ...], ...]:
        """The polygons of all features."""
        return tuple(polygon for feature in self.features for polygon in feature.polygons)


class RingReader:
    """Checks the rings of one file as they come, whatever format they were read from."""

    def __init__(self, where: str, caps: Caps) -> None:
        self.where = where
        self.caps = caps
        self._vertices = 0

    def refuse(self, fact: str, fix: str) -> NoReturn:
        """Raise an ``AoiError`` that names the file."""
        raise AoiError(f"{self.where}: {fact}; {fix}")

    def count(self, positions: int) -> None:
        """Refuse the file once all its rings have too many positions."""
        self._vertices += positions
        if self._vertices > self.caps.vertices:
            self.refuse(
                f"has more than {self.caps.vertices:,} positions",
                "simplify the outline (ogr2ogr -simplify 0.0005)",
            )

    def check(self, points: Ring, what: str) -> Ring:
        """Return the positions (n, 2) of a ring if they are one, in degrees."""
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


def read_file(path: Path, where: str, most: int) -> bytes:
    """Return the bytes of a regular file (or of a link to one), never more than ``most``."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/|/vsi", path.as_posix()):
        raise AoiError(f"{where}: is an address, not a file; download it and give the file")
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
        if stat.S_ISDIR(mode):
            raise AoiError(f"{where}: is a folder; give a GeoJSON file in it")
        if not stat.S_ISREG(mode):
            raise AoiError(f"{where}: is a device or pipe, no file; save it as a GeoJSON file")
        if size <= most:
            with path.open("rb") as file:
                data = file.read(most + 1)
            size = max(size, len(data))
    except FileNotFoundError as error:
        raise AoiError(f"{where}: does not exist; check the path") from error
    except (OSError, ValueError) as error:
        raise AoiError(f"{where}: cannot be read ({shown(error)}); check the path") from error
    if size > most:
        raise AoiError(
            f"{where}: has {size / 1e6:.0f} MB, more than {most / 1e6:.0f} MB; "
            "keep only the outline, and simplify it (ogr2ogr -simplify 0.0005)"
        )
    return data


def told_name(properties: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """Return the first of some properties that holds a text, as one printable line."""
    found = (one_line(properties.get(key)) for key in keys)
    return next((name for name in found if name), None)


def one_line(value: Any) -> str | None:
    """Return a text as one printable line, or ``None`` where there is none."""
    text = " ".join(shown(value).split()) if isinstance(value, str) else ""
    return text or None
