"""Sites for other programs: GeoPackage for QGIS, KML for Google Earth, GPX for a GPS, CSV.

All formats list the sites as the report does, best first, under the same short names, so that a
ranger's waypoint, a pin on the globe and a row of a spreadsheet can be told to be one site.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from scanner.errors import OutputError, shown
from scanner.files import atomic_path, write_text
from scanner.results.csv_files import write_csv
from scanner.results.finished import FinishedRun
from scanner.results.formats.kml import kml_text
from scanner.results.formats.overlays import overlays_of
from scanner.results.listing import ranked
from scanner.results.qgis.folder import embed_styles

COLUMNS: Final = (
    "name", "lat", "lon", "score", "area_ha", "area_in_aoi_ha", "first_observed", "last_observed",
    "clear_observations", "overlays", "presumed_illegal", "outline", "n_cells", "barren_ha",
    "water_ha", "detection_id", "item_ids", "tile_ids", "aoi", "segmenter", "classifier", "run_id",
)  # fmt: skip
"""Columns of ``detections.csv``, in order: what people ask for first comes first."""

SEPARATOR: Final = " | "
"""Between the members of a list; spreadsheets in half the world cut lines at semicolons."""

MAX_TEXT: Final = 2000
"""Longest text of a field; a site seen in many scenes has a long list of them."""


def write_formats(run: FinishedRun, also: Sequence[str]) -> list[Path]:
    """Write ``detections.<format>`` for each of ``gpkg``, ``kml``, ``gpx``, ``csv`` asked for.

    Overlays are named where ``overlays.parquet`` stands. A run without sites gives valid files.

    Raises ``OutputError`` where the disk refuses.
    """
    sites = listed_sites(run)
    paths = []
    for name in dict.fromkeys(also):
        path = run.path / f"detections.{name}"
        try:
            _WRITERS[name](run, sites, path)
        except (DataSourceError, DataLayerError, FeatureError, sqlite3.Error) as error:
            raise OutputError(f"{path}: cannot be written ({error}); free space") from error
        paths.append(path)
    return paths


def listed_sites(run: FinishedRun) -> gpd.GeoDataFrame:
    """Return the sites by score, area and id, with short names and a point inside each.

    Lists and dates have become text. Besides the columns of ``detections.parquet``: ``name``,
    ``lat``, ``lon``, ``overlays`` and ``presumed_illegal``, the last two empty without overlays.
    """
    sites = ranked(run)
    points = shapely.point_on_surface(sites.geometry.to_numpy())
    sites["name"] = site_names(run.aoi.slug, len(sites))
    sites["lat"] = shapely.get_y(points).round(6)
    sites["lon"] = ((shapely.get_x(points) + 180) % 360 - 180).round(6)
    inside, presumed = _overlays(run)
    sites["overlays"] = [inside.get(key, []) for key in sites.detection_id]
    sites["presumed_illegal"] = [presumed.get(key, []) for key in sites.detection_id]
    for name in sites.columns.drop("geometry"):
        if not pd.api.types.is_numeric_dtype(sites[name]):
            sites[name] = pd.Series([_text(value) for value in sites[name]], dtype=object)
    return sites[[*COLUMNS, "geometry"]]


def site_names(slug: str, count: int) -> list[str]:
    """Return names of at most 10 characters, such as ``XING001``: some GPS receivers cut longer."""
    stem = re.sub(r"[^A-Za-z]", "", slug)[:4].upper() or "SITE"
    digits = max(3, len(str(count)))
    return [f"{stem}{number:0{digits}d}" for number in range(1, count + 1)]


def _overlays(run: FinishedRun) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return, by site, the features of overlays it lies in, and what they state of it."""
    inside: dict[str, list[str]] = {}
    presumed: dict[str, list[str]] = {}
    table = overlays_of(run)
    if table is not None:
        rows = table.dropna(subset="feature")
        rows = rows.sort_values(["overlay", "area_ha", "feature"], ascending=[True, False, True])
        for row in rows.to_dict("records"):
            share = f"{100 * row['share']:.0f}" if row["share"] >= 0.01 else "under 1"
            place = f"{row['overlay']}: {row['feature']} ({share} %)"
            inside.setdefault(row["detection_id"], []).append(place)
            if row["presumed_illegal"] is not None:
                told = f"{row['overlay']}: {row['presumed_illegal']}"
                presumed.setdefault(row["detection_id"], []).append(told)
    return inside, {key: list(dict.fromkeys(told)) for key, told in presumed.items()}


def _text(value: Any) -> str | None:
    """Return dates and lists as one printable line of text."""
    if isinstance(value, list | np.ndarray):
        value = SEPARATOR.join(str(one) for one in value) or None
    return None if value is None or value is pd.NaT else shown(value, MAX_TEXT)


def _write_gpkg(run: FinishedRun, sites: gpd.GeoDataFrame, path: Path) -> None:
    """Write the sites, and the tiles with what was not seen there, with styles for QGIS."""
    layers = {"detections": sites, "coverage": run.coverage}
    with atomic_path(path) as scratch:
        for name, frame in layers.items():
            pyogrio.write_dataframe(
                frame,
                scratch,
                layer=name,
                driver="GPKG",
                geometry_type="MultiPolygon",
                promote_to_multi=True,
            )
        embed_styles(scratch)


def _write_kml(run: FinishedRun, sites: gpd.GeoDataFrame, path: Path) -> None:
    """Write the sites for Google Earth."""
    write_text(path, kml_text(run.aoi.name, _about(run), sites))


def _write_gpx(run: FinishedRun, sites: gpd.GeoDataFrame, path: Path) -> None:
    """Write a waypoint inside each site, for handheld GPS; old ones show ``cmt``, new ``desc``."""
    told = [waypoint_text(site) for site in sites.itertuples()]
    waypoints = gpd.GeoDataFrame(
        {"name": sites.name, "cmt": told, "desc": told, "sym": "Flag, Red", "type": "mining site"},
        geometry=gpd.points_from_xy(sites.lon, sites.lat),
        crs="EPSG:4326",
    )
    with atomic_path(path) as scratch:
        pyogrio.write_dataframe(
            waypoints.astype(dict.fromkeys(("name", "sym", "type"), object)),
            scratch,
            layer="waypoints",
            driver="GPX",
            geometry_type="Point",
            CREATOR="mining-scan",
            METADATA_NAME=shown(run.aoi.name),
            METADATA_DESCRIPTION=_about(run),
        )


def waypoint_text(site: Any) -> str:
    """Return what a GPS shows of a site, the figures first: small screens cut the rest."""
    words = [f"score {site.score:.2f}", f"{site.area_ha:.1f} ha"]
    if site.first_observed:
        words.append(f"seen {site.first_observed} to {site.last_observed}")
    words.append(site.detection_id)
    if site.overlays:
        words.append(site.overlays)
    if site.presumed_illegal:
        words.append(f"presumed illegal: {site.presumed_illegal}")
    return ", ".join(words)


def _write_csv(run: FinishedRun, sites: gpd.GeoDataFrame, path: Path) -> None:
    """Write a table for spreadsheets; texts they would take for formulas begin with ``'``."""
    write_csv(path, COLUMNS, sites[list(COLUMNS)].itertuples(index=False))


def _about(run: FinishedRun) -> str:
    """Return what must be said wherever sites are shown."""
    made_up = "The scenes are synthetic. " if run.synthetic else ""
    return (
        f"{made_up}Sites that look like mining in Sentinel-2 images, found by mining-scan, with a "
        f"score of {run.threshold:g} or more, where {100 * run.prevalence:g} % of the cells looked "
        "at closely are taken to be mines. A site says mining, never illegal. Where there is no "
        "site, the ground may not have been seen."
    )


_WRITERS: Final[dict[str, Callable[[FinishedRun, gpd.GeoDataFrame, Path], None]]] = {
    "gpkg": _write_gpkg,
    "kml": _write_kml,
    "gpx": _write_gpx,
    "csv": _write_csv,
}
