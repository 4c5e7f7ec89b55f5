"""Finished runs of a known truth, made for a test: rasters by rule, no model and no scene."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from scanner.area.aoi import read_aoi
from scanner.area.grid import CHUNK_PX, HALO_PX, Tile, tiles
from scanner.config import ScanConfig
from scanner.detection.detections import CELL_SCHEMA
from scanner.detection.rasters import WHITE, tile_rasters
from scanner.detection.segment import APRON
from scanner.imagery.item import Item
from scanner.imagery.snapshot import ItemSet, write_items
from scanner.results.coverage import TileReport, tile_cells
from scanner.results.finished import FinishedRun
from scanner.results.outputs import PART_SCHEMA, Parts, write_geoparquet
from tests.synth import write_aoi

WATER, BARREN, FOREST = 3, 4, 5
RUN_ID = "0123456789abcdef"
VISIBLE = ("B04", "B03", "B02")

Rule = Callable[[Tile], NDArray[np.uint8]]
"""A tile to its class map, (2144, 2144)."""


def board(tile: Tile) -> NDArray[np.uint8]:
    """Return squares of barren ground and forest, 40 px a side, another board for each tile."""
    rows, cols = np.indices((CHUNK_PX, CHUNK_PX)) // 40
    return np.where((rows + cols + tile.col) % 2 == 1, BARREN, FOREST).astype(np.uint8)


def by_zone(tile: Tile) -> NDArray[np.uint8]:
    """Return nothing but water in zones of even number, nothing but barren ground in others."""
    kind = BARREN if tile.zone.number % 2 else WATER
    return np.full((CHUNK_PX, CHUNK_PX), kind, dtype=np.uint8)


def rule_rasters(
    tile: Tile, rule: Rule = board, bands: tuple[str, ...] = VISIBLE
) -> dict[str, bytes]:
    """Return a tile's rasters: barren ground is suspicious and bright, all else dark green."""
    classes = rule(tile)
    image = np.zeros((len(bands) + 1, CHUNK_PX, CHUNK_PX), dtype=np.float32)
    for plane, band in enumerate(bands):
        dark = 0.05 if band == "B03" else 0.02
        image[plane] = np.where(classes == BARREN, 0.8 * WHITE, dark)
    image[-1] = 1
    cut = slice(HALO_PX - APRON, APRON - HALO_PX)
    core = slice(HALO_PX, -HALO_PX)
    return tile_rasters(image, classes[cut, cut], classes[core, core] == BARREN, tile, bands)


def rule_run(
    folder: Path,
    bounds: tuple[float, float, float, float],
    *,
    rule: Rule | None = board,
    bands: tuple[str, ...] = VISIBLE,
    without: Collection[str] = (),
    properties: dict[str, Any] | None = None,
) -> FinishedRun:
    """Make a finished run over (west, south, east, north); no rasters where ``rule`` is None.

    Tiles ``without`` failed. Every third cell has no score, the others 0.1, 0.2, 0.4 .. by turns:
    mining from 0.7. Every seventh is unseen, if it is not mining.
    """
    folder.mkdir(parents=True)
    aoi = read_aoi(write_aoi(folder / "aoi.geojson", bounds))
    about = {"datetime": "2024-07-01T13:50:00Z", **(properties or {})}
    (folder / "config.toml").write_text(ScanConfig().to_toml())
    write_items(folder / "items.json", ItemSet((Item({"id": "S2_A", "properties": about}),)))
    parts, cells = Parts(folder / "parts", RUN_ID), []
    for tile in tiles(aoi):
        table = None
        if tile.tile_id not in without:
            table = rule_table(tile)
            report = TileReport(tile.tile_id, "done", days=("2024-07-01",), item_ids=(("S2_A",),))
            made = None if rule is None else rule_rasters(tile, rule, bands)
            parts.write(tile.tile_id, table, report.to_json(), made)
        cells.append(tile_cells(tile, table, threshold=0.7, min_clear=0.5))
    frame = gpd.GeoDataFrame(pd.concat(cells, ignore_index=True), crs="EPSG:4326")
    write_geoparquet(folder / "cells.parquet", frame, CELL_SCHEMA)
    return FinishedRun(
        folder,
        {
            "run_id": RUN_ID,
            "scores": {"threshold": 0.7, "prevalence": 0.1},
            "tiles": {"failed": [{"tile_id": one, "reason": "a test"} for one in without]},
        },
    )


def rule_table(tile: Tile) -> pa.Table:
    """Return the part of a tile."""
    rows, cols = np.array(tile.cells).T
    turns = np.arange(len(rows))
    return pa.table(
        {
            "cell_id": [tile.cell_id(r, c) for r, c in tile.cells],
            "row": rows,
            "col": cols,
            "clear_fraction": np.where(turns % 7 == 0, 0.1, 1.0),
            "suspicious_fraction": np.where(turns % 3 == 0, 0.0, 0.5),
            "score": [None if turn % 3 == 0 else turn % 10 / 10 for turn in turns.tolist()],
            "days": np.ones(len(rows), dtype=np.uint32),
            "screened": np.zeros(len(rows), dtype=bool),
            "pieces": [[] for _ in rows],
        }
    ).cast(PART_SCHEMA)
