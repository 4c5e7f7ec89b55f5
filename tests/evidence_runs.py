"""Runs whose scenes are files of known pixels: five days over one site, a mine on the last two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from scanner.detection.detections import DETECTION_SCHEMA
from scanner.imagery.item import Item
from scanner.imagery.snapshot import ItemSet, write_items
from scanner.results.finished import FinishedRun, open_run
from scanner.results.outputs import sha256, write_geoparquet
from tests.results.runs import TILE, Cell, cell
from tests.synth import make_item

FOREST = {"B02": 1200, "B03": 1400, "B04": 1250, "B08": 4000, "B11": 2500}
MINED = {"B02": 2000, "B03": 2500, "B04": 3000, "B08": 3400, "B11": 4600}
NDVI = {"forest": 0.275 / 0.325, "mined": 0.04 / 0.44}
BSI = {"forest": (0.175 - 0.32) / 0.495, "mined": (0.56 - 0.34) / 0.9}
DAYS = ("2024-06-01", "2024-06-11", "2024-06-21", "2024-07-01", "2024-07-11")
CLOUDY, FIRST_MINED = 2, 3
SITE = {cell(5, 5): Cell(0.9, barren_ha=8)}


def scene(
    folder: Path,
    day: str,
    *,
    mined: bool = False,
    cloudy: bool = False,
    bands: Sequence[str] = tuple(FOREST),
    scl: bool = True,
    **properties: Any,
) -> Item:
    """A scene of 4.8 km at the corner of ``TILE``: forest, and a mine where the site is."""
    ground = np.zeros((480, 480), dtype=bool)
    if mined:
        ground[5 * 48 : 6 * 48, 5 * 48 : 6 * 48] = True
    pixels = {b: np.where(ground, MINED[b], FOREST[b]).astype(np.uint16) for b in bands}
    if scl:
        pixels["SCL"] = np.full((240, 240), 9 if cloudy else 4, dtype=np.uint8)
    west, _, _, north = TILE.core_bounds
    return make_item(
        folder, f"item-{day}", pixels, west=west, north=north,
        datetime=f"{day}T14:00:00Z", **properties,
    )  # fmt: skip


def with_items(run: FinishedRun, items: list[Item], used: list[str] | None = None) -> FinishedRun:
    """Give a run other scenes, as if it had been made of them."""
    write_items(run.path / "items.json", ItemSet(tuple(items), (), "2024-06-01/2024-07-11"))
    table = gpd.read_parquet(run.path / "detections.parquet").drop(columns="bbox", errors="ignore")
    names = [item.id for item in items] if used is None else used
    table["item_ids"] = [names] * len(table)
    write_geoparquet(run.path / "detections.parquet", table, DETECTION_SCHEMA)
    return signed_again(run.path)


def signed_again(folder: Path) -> FinishedRun:
    """Open a run whose files were changed, their digests made anew."""
    summary = json.loads((folder / "run.json").read_text())
    summary["files"] = {name: sha256(folder / name) for name in summary["files"]}
    (folder / "run.json").write_text(json.dumps(summary))
    return open_run(folder)
