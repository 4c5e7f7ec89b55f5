"""Parts to the files people open: cells, sites, coverage, run.json. Reads no pixel.

Tile by tile, in the order of their ids, so the files do not depend on the order tiles were finished
in, and memory follows the mining cells, not the area.
"""

from __future__ import annotations

import datetime as dt
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import geopandas as gpd

from scanner.area.grid import Tile
from scanner.detection.detections import (
    CELL_SCHEMA,
    DETECTION_SCHEMA,
    MiningCells,
    to_detections,
)
from scanner.files import write_json
from scanner.results.coverage import (
    COVERAGE_SCHEMA,
    Coverage,
    TileReport,
    tile_cells,
    total_bounds,
    work_done,
)
from scanner.results.finished import SIGNED
from scanner.results.outputs import GeoParquetWriter, sha256, write_geoparquet
from scanner.version import __version__

if TYPE_CHECKING:
    from scanner.run.pipeline import Run

NAMED_VERSIONS: Final = (
    "dask", "distributed", "geopandas", "numpy", "odc-stac", "pyarrow", "rasterio", "shapely",
    "stackstac", "torch", "transformers", "xarray",
)  # fmt: skip
"""Packages whose versions a run records."""


def merge_parts(run: Run) -> dict[str, Any]:
    """Write detections, cells, coverage and run.json of a run; returns what run.json holds.

    Tiles without a part are failed. Files are written whole or not at all, run.json last.
    """
    coverage = Coverage()
    mining: list[MiningCells] = []
    reports: list[TileReport] = []
    path = run.folder.path
    bounds = total_bounds(run.tiles)
    with GeoParquetWriter(path / "cells.parquet", CELL_SCHEMA, bounds, ["Polygon"]) as writer:
        for tile in run.tiles:
            report, cells, found = _merge_tile(run, tile)
            writer.write(cells)
            coverage.add(tile, report, cells)
            reports.append(report)
            if found is not None:
                mining.append(found)
    detections = _detections(run, mining)
    write_geoparquet(path / "detections.parquet", detections, DETECTION_SCHEMA)
    write_geoparquet(path / "coverage.parquet", coverage.table(), COVERAGE_SCHEMA)
    summary = _summary(run, reports, coverage, detections)
    summary["files"] = {name: sha256(path / name) for name in SIGNED}
    write_json(path / "run.json", summary)
    return summary


def _merge_tile(run: Run, tile: Tile) -> tuple[TileReport, gpd.GeoDataFrame, MiningCells | None]:
    """Return a tile's report, its rows of cells.parquet, and its mining cells."""
    report = run.report(tile)
    part = run.at_prevalence(run.parts.table(tile.tile_id)) if report else None
    cells = tile_cells(tile, part, threshold=run.threshold, min_clear=run.config.report.min_clear)
    if part is None or not (cells.status == "mining").any():
        return report, cells, None
    ids = set(cells.cell_id[cells.status == "mining"])
    table = part.to_pandas()
    days = tuple(dt.date.fromisoformat(day) for day in report.days)
    chosen = table[table.cell_id.isin(ids)]
    return report, cells, MiningCells(tile, chosen, days, report.item_ids)


def _detections(run: Run, mining: list[MiningCells]) -> gpd.GeoDataFrame:
    footprints = {item.id: item.footprint for item in run.found.items}
    common = {"aoi": run.aoi.name, **_models(run), "run_id": run.run_id}
    return to_detections(mining, run.aoi.geometry, footprints, common)


def _summary(
    run: Run, reports: list[TileReport], coverage: Coverage, detections: gpd.GeoDataFrame
) -> dict[str, Any]:
    dropped = {(one.id, one.reason) for one in run.found.dropped if not one.superseded}
    dropped |= {pair for report in reports for pair in report.dropped}
    config = asdict(run.config)
    config.pop("run")
    aoi = run.aoi
    return {
        "run_id": run.run_id,
        "aoi": {"name": aoi.name, "digest": aoi.digest, "area_km2": round(aoi.area_km2, 3)},
        "versions": {
            "mining-scan": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in NAMED_VERSIONS},
        },
        "config": _plain({**config, "threshold": run.threshold}),
        "scores": {
            "prevalence": run.prevalence,
            "prevalence_from": "--prior" if run.config.report.prior else "classifier card",
            "calibrated_at": run.models.classifier_card.prevalence,
            "threshold": run.threshold,
        },
        "models": _models(run),
        "items": len(run.found.items),
        "tiles": {
            "total": len(reports),
            "done": sum(bool(report) for report in reports),
            "failed": [{"tile_id": r.tile_id, "reason": r.reason} for r in reports if not r],
        },
        "dropped_items": [{"id": item, "reason": why} for item, why in sorted(dropped)],
        "superseded_items": sorted(one.id for one in run.found.dropped if one.superseded),
        "items_without_scl": sorted({item for report in reports for item in report.without_scl}),
        "advice": run.found.advice,
        "coverage_ha": coverage.summary(),
        "work": work_done(reports),
        "backends": sorted({report.backend for report in reports if report.backend}),
        "detections": len(detections),
        "detected_ha": round(float(detections.area_ha.sum()), 2) if len(detections) else 0.0,
    }


def _models(run: Run) -> dict[str, str]:
    """Name both models with the start of their digests."""
    cards = {"segmenter": run.models.segmenter_card, "classifier": run.models.classifier_card}
    return {kind: f"{card.name}@{card.sha256[:12]}" for kind, card in cards.items()}


def _plain(value: Any) -> Any:
    """Turn settings into JSON: paths as text, tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
