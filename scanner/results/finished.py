"""A run that ended, as everything made of it finds it: tables, area, items, parts, digests.

``run.json`` holds the sha256 of the files the others rest on; a folder that lacks one, or whose
files were changed since, is refused by name.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import pyarrow as pa

from scanner.area.aoi import Aoi, read_aoi
from scanner.area.grid import Tile, tiles
from scanner.config import ScanConfig
from scanner.detection.detections import day_dates
from scanner.errors import AoiError, ConfigError, RunError
from scanner.imagery.snapshot import ItemSet, read_items
from scanner.results.coverage import TileReport
from scanner.results.outputs import Parts, sha256

SIGNED: Final = (
    "aoi.geojson",
    "config.toml",
    "items.json",
    "cells.parquet",
    "coverage.parquet",
    "detections.parquet",
)
"""Files whose digests ``run.json`` holds."""


@dataclass(frozen=True)
class FinishedRun:
    """One finished run; open it with :func:`open_run`."""

    path: Path
    summary: dict[str, Any]
    """What ``run.json`` holds."""

    @property
    def run_id(self) -> str:
        """Digest of area, items, models and pixel settings."""
        return str(self.summary["run_id"])

    @property
    def threshold(self) -> float:
        """Score from which a cell is mining."""
        return float(self.summary["scores"]["threshold"])

    @property
    def prevalence(self) -> float:
        """Share of mines among the classified cells that scores are relative to."""
        return float(self.summary["scores"]["prevalence"])

    @property
    def parts(self) -> Parts:
        """Tile results."""
        return Parts(self.path / "parts", self.run_id)

    @property
    def synthetic(self) -> bool:
        """Whether any scene was drawn by a program, as the demo's are, and seen by no satellite."""
        drawn = any(item.properties.get("synthetic") is True for item in self.items.items)
        return drawn or self.config.search.catalog == "demo"

    @cached_property
    def config(self) -> ScanConfig:
        """Settings frozen at the first call; those of the report may have changed since."""
        return ScanConfig.from_toml(self.path / "config.toml")

    @cached_property
    def aoi(self) -> Aoi:
        """The area."""
        return read_aoi(self.path / "aoi.geojson")

    @cached_property
    def tiles(self) -> list[Tile]:
        """All tiles of the area, in the order of ``coverage.parquet``."""
        return tiles(self.aoi)

    @cached_property
    def items(self) -> ItemSet:
        """The frozen items, hrefs unsigned."""
        return read_items(self.path / "items.json")

    @cached_property
    def sites(self) -> gpd.GeoDataFrame:
        """``detections.parquet``: ``DETECTION_SCHEMA`` and geometry."""
        return gpd.read_parquet(self.path / "detections.parquet")

    @cached_property
    def coverage(self) -> gpd.GeoDataFrame:
        """``coverage.parquet``: ``COVERAGE_SCHEMA`` and geometry."""
        return gpd.read_parquet(self.path / "coverage.parquet")

    @cached_property
    def cells(self) -> gpd.GeoDataFrame:
        """``cells.parquet``: ``CELL_SCHEMA`` and geometry, every cell of the area."""
        return gpd.read_parquet(self.path / "cells.parquet")

    def report(self, tile_id: str) -> TileReport | None:
        """Return what happened to a tile, ``None`` where it failed."""
        saved = self.parts.report(tile_id)
        return None if saved is None else TileReport.from_json(saved)

    def part(self, tile_id: str) -> pa.Table | None:
        """Return a tile's table (``PART_SCHEMA``, scores without ``--prior``), ``None`` if failed.

        Raises ``RunError`` where run.json calls the tile done and its part is gone or changed.
        """
        if self.parts.report(tile_id) is not None:
            return self.parts.table(tile_id)
        if any(one["tile_id"] == tile_id for one in self.summary["tiles"]["failed"]):
            return None
        raise RunError(
            f"{self.path}/parts/{tile_id}: is gone or was changed since the run ended; "
            "run the scan again, it redoes that tile"
        )

    def raster(self, tile_id: str, name: str) -> Path | None:
        """Return a raster of a tile (``detection.rasters.RASTERS``), ``None`` where none was kept.

        Raises ``RunError`` where the file is not the one that was written.
        """
        if self.parts.report(tile_id) is None:
            return None
        wanted = self.parts.rasters(tile_id).get(name)
        if wanted is None:
            return None
        path = self.parts.raster_path(tile_id, name)
        if sha256(path) != wanted:
            raise RunError(
                f"{path}: was changed since the run ended; delete it and run the scan again"
            )
        return path

    def clear_dates(self, tile_id: str) -> dict[str, list[dt.date]]:
        """Return cell id -> solar days on which a tile's cell was seen clear, in order."""
        report, part = self.report(tile_id), self.part(tile_id)
        if report is None or part is None:
            return {}
        days = [dt.date.fromisoformat(day) for day in report.days]
        ids, bits = part["cell_id"].to_pylist(), part["days"].to_pylist()
        return {cell: day_dates(int(seen), days) for cell, seen in zip(ids, bits, strict=True)}


def open_run(path: Path) -> FinishedRun:
    """Open the folder of a finished run.

    Raises:
        RunError: It is no run of ours, it is unfinished, or a file was changed since; names it.
    """
    try:
        summary = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: holds no run.json, so no finished run; give a run folder of mining-scan"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}/run.json: cannot be read ({error}); run the scan again") from error
    files = summary.get("files") if isinstance(summary, dict) else None
    if not isinstance(files, dict) or not {"run_id", "scores", "tiles"} <= set(summary):
        raise RunError(f"{path}/run.json: is not one of mining-scan's; run the scan again")
    for name in SIGNED:
        target = path / name
        if not target.is_file():
            raise RunError(f"{target}: is missing; run the scan again, it makes it from the parts")
        if sha256(target) != files.get(name):
            raise RunError(
                f"{target}: was changed since the run ended; run the scan again to make it anew"
            )
    run = FinishedRun(path, summary)
    try:
        run.config, run.aoi  # noqa: B018 - read here, so that what is wrong is told here
    except (AoiError, ConfigError) as error:
        raise RunError(f"{path}: {error}") from error
    return run
