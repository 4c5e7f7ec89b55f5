"""What was read, clear, unseen and failed: a row a tile, sums a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa

from scanner.area.grid import Tile, cell_polygons
from scanner.detection.detections import CELL_HA, cell_status

COVERAGE_SCHEMA: Final = pa.schema(
    [
        ("tile_id", pa.string()),
        ("status", pa.string()),
        ("area_ha", pa.float64()),
        ("clear_ha", pa.float64()),
        ("unseen_ha", pa.float64()),
        ("failed_ha", pa.float64()),
        ("n_items", pa.int32()),
        ("reason", pa.string()),
    ]
)
"""Columns of coverage.parquet besides ``geometry`` (the tile's footprint)."""


@dataclass(frozen=True)
class TileReport:
    """What happened to one tile. Truth is success: ``if not report: ...``."""

    tile_id: str
    status: str
    """``done`` or ``failed``."""
    reason: str | None = None
    """Why it failed, or why nothing was seen."""
    attempts: int = 1
    days: tuple[str, ...] = ()
    """Solar days read, ISO, in order."""
    item_ids: tuple[tuple[str, ...], ...] = ()
    """Items read on each day."""
    dropped: tuple[tuple[str, str], ...] = ()
    """(item id, reason) of items left out of this tile."""
    without_scl: tuple[str, ...] = ()
    """Items that count as clear wherever they have data."""
    cells: int = 0
    screened: int = 0
    """Cells of nothing but dense vegetation by their SCL, whose bands were not read."""
    suspicious: int = 0
    mining: int = 0
    bytes_read: int = 0
    """Of SCL and bands, compressed, as far as their format tells."""
    backend: str = ""
    """What the models ran on; empty where they did not run."""

    def __bool__(self) -> bool:
        return self.status == "done"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the part's marker."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> TileReport:
        """Read what :meth:`to_json` wrote."""
        return cls(
            **{
                **raw,
                "days": tuple(raw["days"]),
                "item_ids": tuple(tuple(ids) for ids in raw["item_ids"]),
                "dropped": tuple((item, why) for item, why in raw["dropped"]),
                "without_scl": tuple(raw["without_scl"]),
            }
        )

    @property
    def n_items(self) -> int:
        """Items read for this tile."""
        return sum(len(ids) for ids in self.item_ids)


def work_done(reports: Iterable[TileReport]) -> dict[str, float]:
    """Return what a run's tiles took: hectares screened, segmented and classified, bytes read.

    Ground counts as screened where its SCL alone was read, as segmented where the bands were too.
    """
    done = [report for report in reports if report and report.days]
    screened = sum(report.screened for report in done)
    return {
        "screened_ha": round(CELL_HA * screened, 2),
        "segmented_ha": round(CELL_HA * (sum(report.cells for report in done) - screened), 2),
        "classified_ha": round(CELL_HA * sum(report.suspicious for report in done), 2),
        "bytes_read": sum(report.bytes_read for report in done),
    }


@dataclass
class Coverage:
    """Hectares of a run, summed tile by tile; each AOI cell counts once, with its full area."""

    hectares: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("area", "clear", "unseen", "failed"), 0.0)
    )
    status: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, tile: Tile, report: TileReport, cells: gpd.GeoDataFrame) -> None:
        """Count one tile from its cells (``CELL_SCHEMA``)."""
        counts = cells.status.value_counts()
        unseen, failed = (CELL_HA * int(counts.get(name, 0)) for name in ("unseen", "failed"))
        row = {
            "area": CELL_HA * len(cells),
            "clear": float(CELL_HA * cells.clear_fraction.fillna(0).sum()),
            "unseen": unseen,
            "failed": failed,
        }
        for name, value in row.items():
            self.hectares[name] += value
        for name, count in counts.items():
            self.status[str(name)] = self.status.get(str(name), 0) + int(count)
        self.rows.append(
            {
                "tile_id": tile.tile_id,
                "status": report.status,
                **{f"{name}_ha": round(value, 2) for name, value in row.items()},
                "n_items": report.n_items,
                "reason": report.reason,
                "geometry": tile.footprint,
            }
        )

    def table(self) -> gpd.GeoDataFrame:
        """Return the rows of coverage.parquet."""
        columns = [*COVERAGE_SCHEMA.names, "geometry"]
        return gpd.GeoDataFrame(pd.DataFrame(self.rows, columns=columns), crs="EPSG:4326")

    def summary(self) -> dict[str, Any]:
        """Return hectares and cells for run.json."""
        hectares = {name: round(value, 2) for name, value in self.hectares.items()}
        return {**hectares, "cells": dict(sorted(self.status.items()))}


def tile_cells(
    tile: Tile, part: pa.Table | None, *, threshold: float, min_clear: float
) -> gpd.GeoDataFrame:
    """Return the rows of cells.parquet for one tile; every cell is ``failed`` without a part."""
    ids = [tile.cell_id(row, col) for row, col in tile.cells]
    frame = pd.DataFrame({"cell_id": ids, "screened": False, "tile_id": tile.tile_id})
    if part is None:
        frame = frame.assign(
            status="failed",
            suspicious_fraction=np.nan,
            score=np.nan,
            clear_fraction=np.nan,
            clear_observations=None,
        )
    else:
        rows = part.drop_columns(["pieces"]).to_pandas().set_index("cell_id").loc[ids]
        score = rows.score.to_numpy(dtype=np.float64, na_value=np.nan)
        clear = rows.clear_fraction.to_numpy()
        frame = frame.assign(
            status=cell_status(score, clear, threshold=threshold, min_clear=min_clear),
            suspicious_fraction=rows.suspicious_fraction.to_numpy(),
            score=score,
            clear_fraction=clear,
            clear_observations=[int(bits).bit_count() for bits in rows.days],
            screened=rows.screened.to_numpy(),
        )
    return gpd.GeoDataFrame(frame, geometry=cell_polygons(tile), crs="EPSG:4326")


def total_bounds(tiles: Iterable[Tile]) -> tuple[float, float, float, float] | None:
    """Return (west, south, east, north) of the tiles' footprints, a little wider; degrees."""
    boxes = np.array([tile.footprint.bounds for tile in tiles])
    if not len(boxes):
        return None
    west, south = boxes[:, :2].min(axis=0) - 1e-4
    east, north = boxes[:, 2:].max(axis=0) + 1e-4
    return float(west), float(south), float(east), float(north)
