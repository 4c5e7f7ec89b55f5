"""The smallest scan that has it all: two neighbouring tiles, two dates, a site over their seam.

The scenes are 4 km a side, so a tile takes some seconds, nearly all of it for its blank pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
import tomli_w
from numpy.typing import NDArray

from scanner.area.grid import CELL_M, TILE_M, Tile, Zone, to_geographic
from scanner.config import ScanConfig
from scanner.imagery.bands import Scl
from scanner.run.pipeline import scan
from tests.benchmarks.memory import write_area
from tests.synth import make_item, write_collection

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")
WEST_TILE = Tile(Zone(21, True), 30, 40)
DATES = ("2024-06-20T13:50:00Z", "2024-07-05T13:50:00Z")
SIDE = 400
"""Pixels a side of a scene."""
FOREST = {"B02": 1250, "B03": 1450, "B04": 1300}
BARE = {"B02": 1900, "B03": 2400, "B04": 2900}


_MADE: dict[str, TwoTiles] = {}
"""By the address of their cluster, one a session."""


def rows(folder: Path) -> dict[str, bytes]:
    """Return the tables of a run folder as they are on disk."""
    return {name: (folder / name).read_bytes() for name in FILES}


def left_over(folder: Path) -> list[str]:
    """Return what is in a run folder and begins with a dot: scratch files of any kind."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*"))


@dataclass(frozen=True)
class TwoTiles:
    """Where area, scenes and settings lie, and a finished run over them (threshold 0.5)."""

    folder: Path
    config: ScanConfig
    middle: float
    """A score that some cells of the run are above and some below."""

    @property
    def out(self) -> Path:
        """The finished run."""
        assert self.config.run.out is not None
        return self.config.run.out

    @property
    def cells(self) -> gpd.GeoDataFrame:
        """Its ``cells.parquet``."""
        return gpd.read_parquet(self.out / "cells.parquet")

    @property
    def arguments(self) -> list[str]:
        """The command's arguments, but for ``--out`` and where it runs."""
        return [str(self.config.aoi), "--config", str(self.folder / "settings.toml")]


def corner(dx: float, dy: float) -> tuple[float, float]:
    """Return metres of zone 21 south, from the seam of the tiles and the middle of their row."""
    _, ymin, xmax, _ = WEST_TILE.core_bounds
    return xmax + dx, ymin + TILE_M / 2 + dy


def area(path: Path, west: float, south: float, east: float, north: float) -> Path:
    """Write a rectangle, metres from :func:`corner`, as an area."""
    box = shapely.box(*corner(west, south), *corner(east, north))
    there = shapely.transform(box, lambda c: np.column_stack(to_geographic(WEST_TILE.epsg, *c.T)))
    return write_area(path, there)


def ground(seed: int, date: int) -> dict[str, NDArray[Any]]:
    """Return a scene: forest, bare ground over the seam, a cloud on the first date."""
    rng = np.random.default_rng([seed, date])
    rows_, cols = np.indices((SIDE, SIDE))
    bare = np.hypot(rows_ - SIDE / 2, cols - SIDE / 2) < 45
    bare |= (abs(rows_ - 120) < 12) & (abs(cols - 260) < 30)
    bands: dict[str, NDArray[Any]] = {}
    for name, level in FOREST.items():
        dn = rng.normal(np.where(bare, BARE[name], level), 70)
        bands[name] = dn.clip(1, 10_000).astype(np.uint16)
    scl = np.full((SIDE // 2, SIDE // 2), Scl.VEGETATION, dtype=np.uint8)
    scl[bare[::2, ::2]] = Scl.BARE_SOIL
    if date == 0:
        scl[:60, :] = Scl.CLOUD_HIGH
    bands["SCL"] = scl
    return bands


def make_two_tiles(
    factory: pytest.TempPathFactory, models: dict[str, str], scheduler: str
) -> TwoTiles:
    """Write area and scenes, scan them unbroken; once for all modules of a session."""
    if scheduler not in _MADE:
        _MADE[scheduler] = _make(factory.mktemp("two"), models, scheduler)
    return _MADE[scheduler]


def _make(folder: Path, models: dict[str, str], scheduler: str) -> TwoTiles:
    west, north = corner(-SIDE * 5, SIDE * 5)
    items = [
        make_item(folder / "scenes", f"date-{day}", ground(7, day), west=west, north=north,
                  datetime=stamp)
        for day, stamp in enumerate(DATES)
    ]  # fmt: skip
    catalog = write_collection(folder / "scenes" / "items.json", items)
    aoi = area(folder / "two.geojson", -1.6 * CELL_M, -1.6 * CELL_M, 1.6 * CELL_M, 1.6 * CELL_M)
    settings = {
        "search": {"catalog": str(catalog)},
        "pixels": dict(models),
        "report": {"threshold": 0.5},
    }
    (folder / "settings.toml").write_text(tomli_w.dumps(settings))
    config = ScanConfig.from_toml(folder / "settings.toml").with_values(
        aoi=aoi, out=folder / "unbroken", scheduler=scheduler
    )
    assert all(list(scan(config)))
    cells = gpd.read_parquet(folder / "unbroken" / "cells.parquet")
    scores = cells.score.dropna()
    assert cells.tile_id.nunique() == 2
    assert scores.nunique() > 1, "a test without scores would see nothing"
    return TwoTiles(folder, config, float(round(scores.quantile(0.3), 4)))


def reports(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the report of each tile that is done, by its id."""
    markers = sorted((folder / "parts").glob("*.json"))
    return {path.stem: json.loads(path.read_text())["report"] for path in markers}
