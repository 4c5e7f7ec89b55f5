"""A run from its settings to its files: prepare, scan tile by tile, merge.

    area -> items -> models -> tiles still to do -> parts -> detections, cells, coverage, run.json

Every finished tile is a part on disk, so a run that breaks goes on where it stopped, and one whose
threshold changes makes its detections again from the parts.
"""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import xarray as xr

from scanner import __version__
from scanner.area.aoi import Aoi, read_aoi, square_aoi
from scanner.area.grid import Tile, tiles
from scanner.config import ScanConfig, SearchConfig
from scanner.detection.detections import (
    CELL_SCHEMA,
    DETECTION_SCHEMA,
    MiningCells,
    cell_status,
    to_detections,
)
from scanner.errors import CatalogError, ConfigError
from scanner.files import write_json
from scanner.imagery.access import gdal_env, signed, signer_for
from scanner.imagery.catalog import ItemSet, search_items
from scanner.imagery.cube import load_cube
from scanner.models.card import ModelCard
from scanner.models.hub import segmenter_card
from scanner.models.ref import classifier_ref, segmenter_ref
from scanner.models.store import shipped
from scanner.results.coverage import (
    COVERAGE_SCHEMA,
    Coverage,
    TileReport,
    tile_cells,
    total_bounds,
)
from scanner.results.outputs import (
    GeoParquetWriter,
    Parts,
    write_geopackage,
    write_geoparquet,
)
from scanner.run.cluster import open_client
from scanner.run.folder import RunFolder, run_folder, run_identity
from scanner.run.submit import Submitter
from scanner.run.tile import Models

NAMED_VERSIONS: Final = (
    "dask", "distributed", "geopandas", "numpy", "odc-stac", "pyarrow", "rasterio", "shapely",
    "stackstac", "torch", "transformers", "xarray",
)  # fmt: skip
"""Packages whose versions a run records."""


@dataclass
class Run:
    """One run, prepared: everything checked, nothing read yet."""

    config: ScanConfig
    aoi: Aoi
    tiles: list[Tile]
    found: ItemSet
    models: Models
    folder: RunFolder
    run_id: str
    failed: dict[str, TileReport] = field(default_factory=dict)

    @property
    def parts(self) -> Parts:
        """Tile results of this run."""
        return Parts(self.folder.parts, self.run_id)

    @property
    def threshold(self) -> float:
        """Score from which a cell is mining."""
        chosen = self.config.report.threshold
        return chosen if chosen is not None else float(self.models.classifier_card.threshold or 0.5)

    def todo(self) -> list[Tile]:
        """Return the tiles without a complete part."""
        return [tile for tile in self.tiles if self.parts.report(tile.tile_id) is None]

    def scan(self, todo: list[Tile] | None = None) -> Iterator[TileReport]:
        """Scan what is left to do, save each tile, yield its report; no cluster if all is done."""
        todo = self.todo() if todo is None else todo
        if not todo:
            return
        refs = (self.models.segmenter, self.models.classifier)
        with open_client(self.config.run, refs) as client:
            submitter = Submitter(client, self.found.items, self.models, self.config)
            for done in submitter.run(todo):
                report = done.report
                if done.table is None:
                    self.failed[report.tile_id] = report
                else:
                    report = replace(report, mining=self._mining(done.table))
                    self.parts.write(report.tile_id, done.table, report.to_json())
                yield report

    def finish(self) -> dict[str, Any]:
        """Merge the parts into the files people open; returns what run.json holds."""
        coverage = Coverage()
        mining: list[MiningCells] = []
        reports: list[TileReport] = []
        path = self.folder.path
        bounds = total_bounds(self.tiles)
        with GeoParquetWriter(path / "cells.parquet", CELL_SCHEMA, bounds, ["Polygon"]) as writer:
            for tile in self.tiles:
                report, cells, found = self._merge_tile(tile)
                writer.write(cells)
                coverage.add(tile, report, cells)
                reports.append(report)
                if found is not None:
                    mining.append(found)
        detections = self._detections(mining)
        write_geoparquet(path / "detections.parquet", detections, DETECTION_SCHEMA)
        write_geoparquet(path / "coverage.parquet", coverage.table(), COVERAGE_SCHEMA)
        if "gpkg" in self.config.report.also:
            write_geopackage(path / "detections.gpkg", detections, "detections")
        summary = self._summary(reports, coverage, detections)
        write_json(path / "run.json", summary)
        return summary

    def _merge_tile(self, tile: Tile) -> tuple[TileReport, gpd.GeoDataFrame, MiningCells | None]:
        """Return a tile's report, its rows of cells.parquet, and its mining cells."""
        report = self._report(tile)
        part = self.parts.table(tile.tile_id) if report else None
        limits = {"threshold": self.threshold, "min_clear": self.config.report.min_clear}
        cells = tile_cells(tile, part, **limits)
        if part is None or not (cells.status == "mining").any():
            return report, cells, None
        ids = set(cells.cell_id[cells.status == "mining"])
        table = part.to_pandas()
        days = tuple(dt.date.fromisoformat(day) for day in report.days)
        chosen = table[table.cell_id.isin(ids)]
        return report, cells, MiningCells(tile, chosen, days, report.item_ids)

    def _report(self, tile: Tile) -> TileReport:
        saved = self.parts.report(tile.tile_id)
        if saved is not None:
            return TileReport.from_json(saved)
        missing = TileReport(tile.tile_id, "failed", "not scanned yet; run the same command again")
        return self.failed.get(tile.tile_id, missing)

    def _detections(self, mining: list[MiningCells]) -> gpd.GeoDataFrame:
        common = {
            "aoi": self.aoi.name,
            "segmenter": _model_name(self.models.segmenter_card),
            "classifier": _model_name(self.models.classifier_card),
            "run_id": self.run_id,
        }
        footprints = {item.id: item.footprint for item in self.found.items}
        return to_detections(mining, self.aoi.geometry, footprints, common)

    def _mining(self, table: Any) -> int:
        score = table["score"].to_numpy(zero_copy_only=False)
        clear = table["clear_fraction"].to_numpy()
        status = cell_status(
            score, clear, threshold=self.threshold, min_clear=self.config.report.min_clear
        )
        return int((status == "mining").sum())

    def _summary(
        self, reports: list[TileReport], coverage: Coverage, detections: gpd.GeoDataFrame
    ) -> dict[str, Any]:
        dropped = {(one.id, one.reason): None for one in self.found.dropped}
        dropped.update({pair: None for report in reports for pair in report.dropped})
        without_scl = sorted({item for report in reports for item in report.without_scl})
        config = asdict(self.config)
        config.pop("run")
        return {
            "run_id": self.run_id,
            "aoi": {
                "name": self.aoi.name,
                "digest": self.aoi.digest,
                "area_km2": self.aoi.area_km2,
            },
            "versions": {
                "mining-scan": __version__,
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in NAMED_VERSIONS},
            },
            "config": _plain({**config, "threshold": self.threshold}),
            "models": {
                "segmenter": _model_name(self.models.segmenter_card),
                "classifier": _model_name(self.models.classifier_card),
            },
            "items": len(self.found.items),
            "tiles": {
                "total": len(reports),
                "done": sum(bool(report) for report in reports),
                "failed": [{"tile_id": r.tile_id, "reason": r.reason} for r in reports if not r],
            },
            "dropped_items": [{"id": item, "reason": why} for item, why in sorted(dropped)],
            "items_without_scl": without_scl,
            "advice": self.found.advice,
            "coverage_ha": coverage.summary(),
            "detections": len(detections),
            "detected_ha": round(float(detections.area_ha.sum()), 2) if len(detections) else 0.0,
        }


def prepare(config: ScanConfig) -> Run:
    """Check area, models and folder, find the items (or take the frozen ones); read no pixel.

    Raises ``AoiError``, ``ConfigError`` or ``ModelError`` for what the user must change,
    ``CatalogError`` or ``OutputError`` for what the environment refused.
    """
    aoi = read_area(config)
    models = load_models(config)
    folder = run_folder(config, aoi)
    if config.run.fresh:
        folder.clear()
    folder.check(config, aoi)
    frozen = folder.frozen()
    if frozen is None:
        found = search_items(aoi, config.search, folder.path)
        frozen = folder.freeze(config, aoi, found)
    else:
        found = folder.restore_items()
    config = replace(config, search=frozen.search)
    digests = {"segmenter": models.segmenter.sha256, "classifier": models.classifier.sha256}
    run_id = run_identity(aoi, found, config, digests)
    return Run(config, aoi, tiles(aoi), found, models, folder, run_id)


def scan(config: ScanConfig) -> Iterator[TileReport]:
    """Run everything: yields a report a tile, and writes the run folder before it ends."""
    run = prepare(config)
    yield from run.scan()
    run.finish()


def read_area(config: ScanConfig) -> Aoi:
    """Return the AOI of the settings: a file, or a square around a point."""
    if (config.aoi is None) == (config.center is None):
        raise ConfigError("give either an AOI file or --center LAT,LON, and not both")
    if config.aoi is not None:
        return read_aoi(config.aoi)
    lat, lon = config.center or (0.0, 0.0)
    return square_aoi(lat, lon, config.radius_km)


def load_models(config: ScanConfig) -> Models:
    """Check both models and return references to them; ``ModelError`` says what to change."""
    segmenter = segmenter_ref(config.pixels.segmenter)
    classifier = classifier_ref(config.pixels.classifier)
    return Models(
        segmenter,
        classifier,
        segmenter_card(config.pixels.segmenter)[1],
        ModelCard.read(config.pixels.classifier or shipped("classifier")),
    )


def open_cube(
    aoi: Aoi,
    date: str | None = None,
    *,
    catalog: str = "planetary-computer",
    bands: tuple[str, ...] = ("B04", "B03", "B02"),
    engine: str = "stackstac",
    **search: Any,
) -> xr.DataArray:
    """Return a lazy cube of DN (time, band, y, x) over an AOI, for notebooks; no offset is applied.

    The grid is the absolute one of the UTM zone that holds most of the AOI's cells, one chunk a
    tile. Other ``SearchConfig`` settings go by name. Raises ``CatalogError`` if nothing is found.
    """
    settings = SearchConfig(catalog=catalog, date=date, **search)
    found = search_items(aoi, settings, Path("runs") / aoi.slug)
    if not found.items:
        raise CatalogError(found.advice or f"{catalog}: no items over {aoi.name}")
    area = tiles(aoi)
    zones = [tile.zone for tile in area for _ in tile.cells]
    zone = max(set(zones), key=zones.count)
    boxes = np.array([tile.core_bounds for tile in area if tile.zone == zone])
    first = next(tile for tile in area if tile.zone == zone).core_geobox
    west, south = boxes[:, :2].min(axis=0)
    east, north = boxes[:, 2:].max(axis=0)
    geobox = type(first).from_bbox(
        (float(west), float(south), float(east), float(north)), first.crs, resolution=10, tight=True
    )
    items = signed(found.items, signer_for(settings))
    return load_cube(
        items, geobox, bands, engine=engine, env=gdal_env(settings), chunk=first.shape.x
    )


def _model_name(card: Any) -> str:
    return f"{card.name}@{card.sha256[:12]}"


def _plain(value: Any) -> Any:
    """Turn settings into JSON: paths as text, tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
