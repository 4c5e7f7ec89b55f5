"""``ledger.parquet``: a row a site, with its cells and what each comparison told of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from shapely.geometry.base import BaseGeometry

from scanner.errors import ConfigError
from scanner.results.outputs import write_geoparquet

FORMAT: Final = 1
GRID: Final = "utm-480m-1"
"""Names the absolute grid of ``area.zones``: cells of 480 m, rows counted from the equator."""

STEP: Final = pa.struct(
    [
        ("old_run", pa.string()),
        ("new_run", pa.string()),
        ("settings", pa.string()),
        ("until", pa.date32()),
        ("change", pa.string()),
        ("area_ha", pa.float64()),
        ("growth_ha", pa.float64()),
        ("mined", pa.list_(pa.string())),
    ]
)
"""What one comparison told of a site; ``mined`` are its cells that were mined as last seen then."""

LEDGER_SCHEMA: Final = pa.schema(
    [
        ("site_id", pa.string()),
        ("status", pa.string()),
        ("first_seen_after", pa.date32()),
        ("first_seen_by", pa.date32()),
        ("last_seen", pa.date32()),
        ("area_ha", pa.float64()),
        ("cells", pa.list_(pa.string())),
        ("merged_into", pa.string()),
        ("split_from", pa.string()),
        ("history", pa.list_(STEP)),
        ("format", pa.int32()),
        ("grid", pa.string()),
    ]
)
"""Columns of ledger.parquet besides ``geometry`` (the last outline with a mine)."""


@dataclass(frozen=True)
class Pair:
    """Two runs that are compared, as the ledger remembers them."""

    old_run: str
    new_run: str
    settings: str
    """What decides statuses: two comparisons of the same runs may differ in it."""
    until: dt.date
    """Last day NEW looked at."""

    def told(self, step: dict[str, Any]) -> bool:
        """Tell whether a step of a site's history is this pair's."""
        return (step["old_run"], step["new_run"]) == (self.old_run, self.new_run)


@dataclass
class Site:
    """A row of the ledger."""

    site_id: str
    status: str = "new"
    """Its last change, or ``merged``."""
    first_seen_after: dt.date | None = None
    first_seen_by: dt.date | None = None
    last_seen: dt.date | None = None
    area_ha: float = 0.0
    """Of its detections, as last seen whole."""
    cells: list[str] = field(default_factory=list)
    """Every cell that was mined at some time."""
    merged_into: str | None = None
    split_from: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    geometry: BaseGeometry | None = None

    def told(self, pair: Pair) -> bool:
        """Tell whether its history holds a pair of runs."""
        return any(pair.told(step) for step in self.history)

    def mined_before(self, pair: Pair) -> list[str]:
        """Return the cells that were mined as last seen before a pair of runs."""
        told = next((n for n, step in enumerate(self.history) if pair.told(step)), None)
        steps = self.history[:told]
        return list(steps[-1]["mined"]) if steps else []

    def add(self, pair: Pair, change: str, mined: list[str], growth_ha: float | None) -> None:
        """Add a step to its history."""
        self.status = change
        self.history.append(
            asdict(pair)
            | {"change": change, "area_ha": self.area_ha, "growth_ha": growth_ha, "mined": mined}
        )


_FIELDS: Final = tuple(name for name in Site.__dataclass_fields__ if name != "geometry")


def read_sites(path: Path) -> list[Site]:
    """Read the rows of ``ledger.parquet``.

    Raises ``ConfigError`` where it is none, or of another format or grid.
    """
    try:
        table = pq.read_table(path)
        if {"format", "grid"} <= set(table.column_names):
            _check_format(path, table)
        rows = table.select(LEDGER_SCHEMA.names).cast(LEDGER_SCHEMA).select(_FIELDS).to_pylist()
        shapes = gpd.read_parquet(path).geometry
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        told = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{path}: is no ledger of mining-report compare ({told}); give another --ledger"
        ) from error
    return [Site(**row, geometry=shape) for row, shape in zip(rows, shapes, strict=True)]


def write_sites(path: Path, sites: Sequence[Site]) -> None:
    """Write ``ledger.parquet``, whole or not at all."""
    names = (*_FIELDS, "geometry")
    rows = [
        {name: getattr(site, name) for name in names} | {"format": FORMAT, "grid": GRID}
        for site in sites
    ]
    frame = pd.DataFrame(rows, columns=[*LEDGER_SCHEMA.names, "geometry"])
    table = gpd.GeoDataFrame(frame, geometry="geometry", crs="EPSG:4326")
    write_geoparquet(path, table, LEDGER_SCHEMA)


def _check_format(path: Path, table: pa.Table) -> None:
    for name, ours in (("format", FORMAT), ("grid", GRID)):
        others = {str(value)[:80] for value in table[name].to_pylist() if value != ours}
        if others:
            raise ConfigError(
                f"{path}: is a ledger of {name} {min(others)}, this version goes on with {name} "
                f"{ours}; begin a new one in another --out"
            )
