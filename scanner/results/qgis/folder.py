"""For QGIS: a ready project with its layers, styles beside them, and styles inside a GeoPackage."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import pandas as pd
import rasterio
from pyogrio import write_dataframe
from pyogrio.errors import DataSourceError, FeatureError

from scanner.detection.detections import STATUSES
from scanner.errors import OutputError
from scanner.files import whole_folder, write_text
from scanner.results.changes.change_table import changes_of
from scanner.results.finished import FinishedRun
from scanner.results.qgis.project import MapLayer, project, write_archive
from scanner.results.qgis.styles import STYLES, document

PROJECT: Final = "mining-scan"
"""Stem of the project's file."""
MAX_CELLS: Final = 200_000
"""Cells the project shows at most, those that matter most first: some 50 MB."""
SHOWN_CELLS: Final = STATUSES[:-1]
"""Statuses the project shows, by weight: all but ``not_suspicious``."""
UNDATED: Final = "1970-01-01T00:00:00.000Z"
"""Stands where GeoPackage wants to know when it was written."""
UNSEEN: Final = "What was not seen is not free of mines."
RASTERS: Final = {
    "suspicious": "Suspicious ground",
    "classes": "Land cover classes",
    "quicklook": "True colour",
}
"""Rasters of the run folder the project shows where they exist, the topmost first."""

_STYLE_TABLE: Final = """
CREATE TABLE IF NOT EXISTS layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
  f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
  styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT(30), ui TEXT(30),
  update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))
"""
"""As QGIS makes it."""
_STYLE: Final = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column,
  styleName, styleQML, styleSLD, useAsDefault, description, owner, update_time)
VALUES ('', '', ?, ?, ?, ?, '', 1, 'mining-scan', '', ?)
"""


def embed_styles(gpkg: Path) -> None:
    """Put styles for its layers ``detections``, ``cells``, ``coverage`` into a GeoPackage.

    QGIS then opens them styled. Times the file holds are set to one value, so that the same
    layers are the same bytes. Raises ``OutputError`` where it is no GeoPackage.
    """
    try:
        with closing(sqlite3.connect(f"{gpkg.resolve().as_uri()}?mode=rw", uri=True)) as base, base:
            layers = base.execute(
                "SELECT c.table_name, g.column_name FROM gpkg_contents c "
                "JOIN gpkg_geometry_columns g USING (table_name) "
                "WHERE c.data_type = 'features' ORDER BY c.table_name"
            ).fetchall()
            base.execute(_STYLE_TABLE)
            base.execute(
                "INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier, "
                "description, srs_id) VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0)"
            )
            for name, column in layers:
                if name in STYLES:
                    base.execute("DELETE FROM layer_styles WHERE f_table_name = ?", (name,))
                    style = document(STYLES[name]())
                    base.execute(_STYLE, (name, column, name, style, UNDATED))
            base.execute("UPDATE gpkg_contents SET last_change = ?", (UNDATED,))
    except sqlite3.Error as error:
        raise OutputError(f"{gpkg}: no GeoPackage to style ({error}); write it again") from error


def write_qgis(run: FinishedRun) -> Path:
    """Write the folder ``qgis``: a project, its layers of polygons, a style beside each layer.

    The layers are FlatGeobuf, which any QGIS reads and, unlike GeoPackage, none writes to while
    it only looks. Returns the folder; open ``mining-scan.qgz`` in it.
    """
    folder = run.path / "qgis"
    with whole_folder(folder) as scratch:
        left_out = _write_cells(run, scratch / "cells.fgb")
        _write_layer(run.sites, scratch / "detections.fgb", "MultiPolygon")
        _write_layer(run.coverage, scratch / "coverage.fgb", "Polygon")
        named = STYLES.keys() - {"quicklook"}  # which opens as it is
        changes = changes_of(run)
        if changes is not None:
            _write_layer(changes, scratch / "changes.fgb", "MultiPolygon")
        else:
            named -= {"changes"}
        for name in named:
            write_text(scratch / f"{name}.qml", document(STYLES[name]()))
        text = _project(run, left_out, compared=changes is not None)
        write_archive(scratch / f"{PROJECT}.qgz", f"{PROJECT}.qgs", text)
    return folder


def _write_cells(run: FinishedRun, path: Path) -> int:
    """Write the cells worth showing; returns how many were left out."""
    columns = ["cell_id", "status", "score", "clear_fraction", "clear_observations", "tile_id"]
    cells = gpd.read_parquet(
        run.path / "cells.parquet",
        columns=[*columns, "geometry"],
        filters=[("status", "in", SHOWN_CELLS)],
    )
    weight = cells.status.map(SHOWN_CELLS.index).to_numpy()
    kept = weight.argsort(kind="stable")[:MAX_CELLS]
    kept.sort()
    _write_layer(cells.iloc[kept], path, "Polygon")
    return len(cells) - len(kept)


def _write_layer(frame: gpd.GeoDataFrame, path: Path, kind: str) -> None:
    """Write a FlatGeobuf layer; lists and dates become text, which it can hold."""
    flat = frame.copy()
    for name in flat.columns.drop(flat.geometry.name):
        if not pd.api.types.is_numeric_dtype(flat[name]):
            flat[name] = [_text(value) for value in flat[name]]
    multi = kind.startswith("Multi")
    options = {"layer": path.stem, "geometry_type": kind, "promote_to_multi": multi}
    try:
        write_dataframe(flat, path, driver="FlatGeobuf", **options)
    except (DataSourceError, FeatureError) as error:
        raise OutputError(f"{path.name}: cannot be written ({error}); free space") from error


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return ", ".join(value) if hasattr(value, "__len__") else str(value)


def _project(run: FinishedRun, left_out: int, compared: bool) -> str:
    """Lay out the project of a run: what was found above what it was found on."""
    more = f"; {left_out:,} more than a map can hold are left out" if left_out else ""
    vectors = [
        ("changes", "Changes since the earlier run", "./changes.fgb", True, UNSEEN),
        ("detections", "Mining sites by score", "./detections.fgb", True, _scores(run)),
        ("cells", "Cells of 480 m", "./cells.fgb", True, f"All but those without suspicion{more}."),
        ("aoi", "Area of interest", "../aoi.geojson", True, ""),
        ("coverage", "Tiles: share not seen", "./coverage.fgb", False, UNSEEN),
    ]
    layers = [
        MapLayer(f"{PROJECT}-{name}", title, source, STYLES[name](), shown=shown, note=note)
        for name, title, source, shown, note in vectors
        if name != "changes" or compared
    ]
    for name, title in RASTERS.items():
        path = run.path / f"{name}.tif"
        if path.is_file():
            with rasterio.open(path, driver="GTiff") as source:
                epsg = source.crs.to_epsg()
            layers.append(
                MapLayer(
                    f"{PROJECT}-{name}",
                    title,
                    f"../{name}.tif",
                    STYLES[name](),
                    epsg,
                    raster=True,
                    shown=name == "quicklook",
                )
            )
    zones = {tile.epsg for tile in run.tiles}
    epsg = zones.pop() if len(zones) == 1 else 4326
    return project(run.aoi.name, _about(run), layers, epsg, run.aoi.geometry.bounds)


def _scores(run: FinishedRun) -> str:
    return (
        f"Score: probability of mining where {100 * run.prevalence:.3g} % of the cells looked at "
        f"are mines; sites have {run.threshold:.4g} or more. It says mining, never illegal mining."
    )


def _about(run: FinishedRun) -> str:
    """Return what the project's properties tell about the run."""
    return (
        f"{'SYNTHETIC scenes: nothing here was ever seen on the ground. ' if run.synthetic else ''}"
        f"Run {run.run_id[:12]} of mining-scan, scenes of {run.items.date}. "
        f"{_scores(run)} {UNSEEN}"
    )
