"""Tables of coordinates: a CSV whose columns are found by name, row by row, nothing lost silently.

Every row of the file ends as a :class:`Row` or as a bad row with its line number and the reason.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scanner.area.aoi import MAX_LAT
from scanner.area.geojson import shown
from scanner.errors import TrainingError

LAT_NAMES: Final = ("lat", "latitude", "lat_dd", "lat_center", "y", "lat_y")
LON_NAMES: Final = ("lon", "lng", "long", "longitude", "lon_dd", "lon_center", "x", "lon_x")
"""Column names in the order they are tried, whatever their case."""

DELIMITERS: Final = (",", ";", "\t", "|")
MAX_BYTES: Final = 200_000_000

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True)
class Row:
    """A good row: its line in the file, its place in degrees, its other values by column name."""

    line: int
    lon: float
    lat: float
    values: dict[str, str]
    """All columns, names in lower case."""


@dataclass(frozen=True)
class Table:
    """A CSV file, read; ``bad`` holds (line, reason)."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    bad: tuple[tuple[int, str], ...]

    def column(self, names: Sequence[str]) -> str | None:
        """Return the first of ``names`` that is a column."""
        return next((name for name in names if name in self.columns), None)


def read_table(path: Path) -> Table:
    """Read a CSV of coordinates; ``TrainingError`` where the file as a whole cannot be used."""
    text = _text(path)
    header_line = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=lambda one: (header_line.count(one), one == ","))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[Row] = []
    bad: list[tuple[int, str]] = []
    try:
        columns = tuple(name.strip().lower() for name in next(reader, []))
        lat, lon = _find(path, columns, LAT_NAMES), _find(path, columns, LON_NAMES)
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            try:
                rows.append(_row(reader.line_num, fields, columns, lat, lon))
            except ValueError as error:
                bad.append((reader.line_num, str(error)))
    except csv.Error as error:
        raise TrainingError(f"{path}: not a CSV table ({error}); save it as CSV") from error
    return Table(columns, tuple(rows), tuple(bad))


def number(text: str, name: str) -> float:
    """Return a decimal number; ``ValueError`` says what is wrong with it."""
    text = text.strip()
    if not text:
        raise ValueError(f"{name} is empty")
    if _DECIMAL_COMMA.fullmatch(text):
        fixed = text.replace(",", ".")
        raise ValueError(f"{name} {text!r} has a decimal comma; write {fixed}")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name} {shown(text, 40)!r} is not a decimal number")
    return float(text)


def checked(lon: float, lat: float) -> tuple[float, float]:
    """Return a place within the grid's reach; ``ValueError`` says why it is not."""
    if abs(lat) > 90 and abs(lon) <= 90:
        raise ValueError(f"lat {lat:g} is beyond 90: are lat and lon swapped?")
    if abs(lat) > MAX_LAT:
        raise ValueError(f"lat {lat:g} is beyond {MAX_LAT:g}")
    if not -180 <= lon <= 180:
        raise ValueError(f"lon {lon:g} is beyond 180")
    return lon, lat


def _row(line: int, fields: list[str], columns: tuple[str, ...], lat: str, lon: str) -> Row:
    if len(fields) > len(columns):
        raise ValueError(
            f"has {len(fields)} values for {len(columns)} columns; a decimal comma, or a "
            "delimiter without quotes?"
        )
    values = dict(zip(columns, (*fields, *[""] * len(columns)), strict=False))
    place = checked(number(values[lon], lon), number(values[lat], lat))
    return Row(line, *place, values)


def _find(path: Path, columns: tuple[str, ...], names: Sequence[str]) -> str:
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise TrainingError(
            f"{path}: no column {names[0]} (nor {', '.join(names[1:])}) among "
            f"{shown(', '.join(columns) or 'no columns')}; name it in the first line"
        )
    return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TrainingError(f"{path}: more than {MAX_BYTES / 1e6:.0f} MB; cut it into parts")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: is not UTF-8 text; save it as CSV in UTF-8") from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({shown(error)}); check the path") from error
    if "\0" in text:
        raise TrainingError(f"{path}: holds binary data; give a CSV table")
    return text.replace("\r\n", "\n").replace("\r", "\n")
