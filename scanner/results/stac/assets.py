"""The files of a run as STAC assets: what each is, its columns, pixels, size and digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pystac
import rasterio

from scanner.detection.segment import NOT_SEGMENTED
from scanner.models.card import SEGMENTER_CLASSES
from scanner.results.finished import FinishedRun
from scanner.results.outputs import sha256
from scanner.results.palette import CLASS_COLOURS, NOT_SUSPICIOUS, SUSPICIOUS, Rgb, as_hex

SHA256: Final = "1220"
"""Start of a multihash: sha2-256, 32 bytes."""
PARQUET: Final = "application/vnd.apache.parquet"
KML: Final = "application/vnd.google-earth.kml+xml"


@dataclass(frozen=True)
class File:
    """A file a run folder may hold."""

    key: str
    path: str
    title: str
    media: str
    role: str = "data"
    model: str | None = None
    """The model whose output it is."""


ABOUT: Final = (
    File("aoi", "aoi.geojson", "Area of interest, exact", "application/geo+json", "metadata"),
    File("run", "run.json", "Summary of the run", "application/json", "metadata"),
    File("config", "config.toml", "Settings of the run", "application/toml", "metadata"),
    File("items", "items.json", "Scenes found", "application/geo+json", "source"),
)
"""Files of the run as a whole."""

PRODUCED: Final = (
    File("detections", "detections.parquet", "Mining sites", PARQUET, model="classifier"),
    File("cells", "cells.parquet", "Every cell of 480 m", PARQUET, model="classifier"),
    File("coverage", "coverage.parquet", "What was seen, tile by tile", PARQUET),
    File("overlays", "overlays.parquet", "Mining sites by territory", PARQUET),
    File("changes", "changes/changes.parquet", "Changes since an earlier run", PARQUET),
    File("ledger", "changes/ledger.parquet", "Sites since the first run", PARQUET),
    File("detections-gpkg", "detections.gpkg", "Mining sites", "application/geopackage+sqlite3"),
    File("detections-kml", "detections.kml", "Mining sites", KML),
    File("detections-gpx", "detections.gpx", "Mining sites", "application/gpx+xml"),
    File("detections-csv", "detections.csv", "Mining sites", "text/csv"),
    File("classes", "classes.tif", "Land cover classes", pystac.MediaType.COG, model="segmenter"),
    File("suspicious", "suspicious.tif", "Suspicious ground", pystac.MediaType.COG,
         model="segmenter"),
    File("quicklook", "quicklook.tif", "True colour", pystac.MediaType.COG, "visual"),
    File("overview", "pictures/overview_raw.jpg", "True colour, small", "image/jpeg", "overview"),
    File("report", "report.html", "Report, a page to read", "text/html", "metadata"),
    File("qgis", "qgis/mining-scan.qgz", "Project for QGIS", "application/zip", "metadata"),
)  # fmt: skip
"""What a run made, in the order it is listed."""

COLUMNS: Final = {
    "detection_id": "Site; from its smallest cell id",
    "outline": "What it was outlined from: barren, suspicious or cells",
    "score": "Calibrated probability of mining; of a site, its highest cell's",
    "n_cells": "Mining cells",
    "area_ha": "Hectares of the outline, or of the tile's cells in the area",
    "area_in_aoi_ha": "Hectares of the outline inside the area",
    "barren_ha": "Hectares of bare ground",
    "water_ha": "Hectares of water",
    "first_observed": "Earliest clear date used there, not when mining began",
    "last_observed": "Latest clear date used there",
    "clear_observations": "Dates on which it was seen clear",
    "item_ids": "Scenes used there",
    "aoi": "Name of the area",
    "tile_ids": "Tiles it lies in",
    "segmenter": "Segmentation model and the start of its sha256",
    "classifier": "Classification model and the start of its sha256",
    "run_id": "Digest of area, scenes, models and settings",
    "cell_id": "Cell of the absolute grid",
    "status": "Of a cell: failed, mining, unseen, not_mining or not_suspicious; of a tile: done "
    "or failed",
    "screened": "Left out by its scene classification",
    "suspicious_fraction": "Share of its clear pixels that are suspicious",
    "clear_fraction": "Share of it that was seen clear",
    "tile_id": "Tile of the absolute grid",
    "clear_ha": "Hectares seen clear",
    "unseen_ha": "Hectares not seen: clouds or no data",
    "failed_ha": "Hectares not read",
    "n_items": "Scenes read",
    "reason": "Why it failed or was not seen",
    "geometry": "EPSG:4326, WKB",
}
"""What columns mean."""


def about(run: FinishedRun) -> Iterator[tuple[str, pystac.Asset]]:
    """Yield the assets of the run as a whole."""
    return ((file.key, _asset(run, file)) for file in ABOUT)


def produced(
    run: FinishedRun, models: Mapping[str, str] | None = None
) -> Iterator[tuple[str, pystac.Asset]]:
    """Yield the assets of what the run made, as far as it lies there.

    Args:
        run: the run.
        models: where the item of a model stands, by kind, for those that have one.
    """
    for file in PRODUCED:
        if not (run.path / file.path).is_file():
            continue
        asset = _asset(run, file)
        fields = asset.extra_fields
        if file.media == PARQUET:
            fields |= _table(run.path / file.path)
        if file.media == pystac.MediaType.COG:
            fields |= _raster(run.path / file.path, file.key)
        if file.model is not None and file.model in (models or {}):
            told = {"format": "stac-mlm", "expression": (models or {})[file.model]}
            fields |= {"processing:expression": told}
        yield file.key, asset


def file_fields(path: Path) -> dict[str, Any]:
    """Return size and digest of a file as the file extension names them."""
    return {"file:size": path.stat().st_size, "file:checksum": SHA256 + sha256(path)}


def _asset(run: FinishedRun, file: File) -> pystac.Asset:
    fields = file_fields(run.path / file.path)
    return pystac.Asset(f"../{file.path}", file.title, None, str(file.media), [file.role], fields)


def _table(path: Path) -> dict[str, Any]:
    schema = pq.read_schema(path)
    columns = [
        {"name": field.name, "type": str(field.type)}
        | ({"description": COLUMNS[field.name]} if field.name in COLUMNS else {})
        for field in schema
        if field.name != "bbox"  # GeoParquet's covering of the geometry
    ]
    rows = pq.read_metadata(path).num_rows
    told: dict[str, Any] = {"table:columns": columns, "table:row_count": rows}
    if "geometry" in schema.names:
        told["table:primary_geometry"] = "geometry"
    return told


def _raster(path: Path, key: str) -> dict[str, Any]:
    with rasterio.open(path, driver="GTiff") as source:
        told: dict[str, Any] = {
            "proj:code": f"EPSG:{source.crs.to_epsg()}",
            "proj:shape": [source.height, source.width],
            "proj:bbox": list(source.bounds),
            "proj:transform": list(source.transform)[:6],
            "data_type": "uint8",
        }
    if key == "quicklook":
        return told | {"bands": [{"name": name} for name in ("B04", "B03", "B02", "opacity")]}
    if key == "classes":
        named = [(name, CLASS_COLOURS[name]) for name in SEGMENTER_CLASSES]
    else:
        named = [("not_suspicious", NOT_SUSPICIOUS), ("suspicious", SUSPICIOUS)]
    classes = [_class(value, name, colour) for value, (name, colour) in enumerate(named)]
    classes.append({"value": NOT_SEGMENTED, "name": "unknown", "nodata": True})
    return told | {"nodata": NOT_SEGMENTED, "classification:classes": classes}


def _class(value: int, name: str, colour: Rgb) -> dict[str, Any]:
    return {"value": value, "name": name, "color_hint": as_hex(colour)[1:]}
