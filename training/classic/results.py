"""What detect found: every cell with its status, as tables, pictures and detect.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import pyarrow as pa
import shapely

from scanner.files import atomic_path, write_json
from scanner.models.card import ModelCard
from scanner.results.outputs import write_geoparquet
from training.classic.draw import draw_overview
from training.classic.overview import Overview
from training.classic.recipe import DetectConfig

SCHEMA: Final = pa.schema(
    [
        ("cell_id", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("suspicious_share", pa.float64()),
        ("clear_share", pa.float64()),
        ("lon", pa.float64()),
        ("lat", pa.float64()),
        ("reason", pa.string()),
    ]
)
"""Columns of cells.parquet and detections.parquet besides the geometry."""
MIN_CLEAR: Final = 0.5
"""A cell seen clear on a smaller share is unseen, unless it is mining."""


@dataclass
class Cell:
    """One square of the overview, and what became of it."""

    cell_id: str
    rows: slice
    cols: slice
    geometry: shapely.Polygon
    suspicious_share: float
    clear_share: float
    score: float | None = None
    reason: str | None = None

    @property
    def middle(self) -> tuple[float, float]:
        """(lon, lat)."""
        point = self.geometry.centroid
        return float(point.x), float(point.y)

    def status(self, threshold: float) -> str:
        """Return failed, mining, unseen, not_mining or not_suspicious, by this precedence."""
        if self.reason is not None:
            return "failed"
        if self.score is not None and self.score >= threshold:
            return "mining"
        if self.clear_share < MIN_CLEAR:
            return "unseen"
        return "not_suspicious" if self.score is None else "not_mining"


def write_results(
    found: Sequence[Cell],
    threshold: float,
    seen: Overview,
    wanted: DetectConfig,
    cards: tuple[ModelCard, ModelCard],
    out: Path,
) -> gpd.GeoDataFrame:
    """Write tables and pictures, detect.json last."""
    statuses = [cell.status(threshold) for cell in found]
    frame = gpd.GeoDataFrame(
        [_row(cell, status) for cell, status in zip(found, statuses, strict=True)],
        columns=SCHEMA.names,
        geometry=[cell.geometry for cell in found],
        crs="EPSG:4326",
    )
    mining = frame[frame["status"] == "mining"].reset_index(drop=True)
    write_geoparquet(out / "cells.parquet", frame, SCHEMA)
    write_geoparquet(out / "detections.parquet", mining, SCHEMA)
    with atomic_path(out / "detections.csv") as scratch:
        mining.drop(columns="geometry").to_csv(scratch, index=False)
    draw_overview(seen.reflectance[:3], found, statuses, out)
    count = {name: statuses.count(name) for name in dict.fromkeys(statuses)}
    told: dict[str, Any] = {
        "center": list(wanted.place),
        "radius_km": wanted.radius_km,
        "pixels": list(seen.geobox.shape),
        "resolution_m": round(abs(seen.geobox.resolution.x), 4),
        "crs": str(seen.geobox.crs),
        "days": list(seen.days),
        "threshold": threshold,
        "prevalence": cards[1].prevalence,
        "cells": count,
        "segmenter": cards[0].digest,
        "classifier": cards[1].digest,
    }
    write_json(out / "detect.json", told)
    return mining


def _row(cell: Cell, status: str) -> dict[str, Any]:
    lon, lat = cell.middle
    values = {name: getattr(cell, name, None) for name in SCHEMA.names if name != "status"}
    return values | {"status": status, "lon": round(lon, 6), "lat": round(lat, 6)}
