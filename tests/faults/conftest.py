"""A scan of a few cells over three small scenes on a host that can fail, and what came of it.

Every test has a host of its own, on a port of its own: GDAL remembers in a process that an address
failed, and the workers that tests share live on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from scanner.area.grid import from_geographic
from scanner.config import ScanConfig
from scanner.imagery.demo import PLANTED
from scanner.imagery.item import Item
from scanner.run.pipeline import scan
from tests.servers.range_server import RangeServer
from tests.synth import make_item, write_aoi, write_collection

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")
BANDS = ("B02", "B03", "B04", "SCL")
SIDE = 480
"""Pixels a side that are cut out of the demo's scenes."""


@dataclass(frozen=True)
class Small:
    """Three scenes of 4.8 km a side around a planted mine, and an area inside of one tile."""

    folder: Path
    items: tuple[Item, ...]
    aoi: Path
    pixels: dict[str, dict[str, np.ndarray]]
    """DN by item id and band."""
    corner: tuple[float, float]
    """(west, north), metres of zone 21 south."""

    def on(self, server: RangeServer) -> list[Item]:
        """Return the items with their pixels on a host that serves :attr:`folder`."""
        home = self.folder.as_posix()
        return [
            item.with_hrefs(lambda href: href.replace(home, server.url, 1)) for item in self.items
        ]


@pytest.fixture(scope="session")
def small(demo_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Cut-outs of the demo's three days of zone 21."""
    folder = tmp_path_factory.mktemp("small")
    mine = next(mine for mine in PLANTED if mine.name == "valley-15ha")
    lon, lat = mine.polygon.centroid.coords[0]
    aoi = write_aoi(
        folder / "aoi.geojson", (lon - 0.006, lat - 0.006, lon + 0.006, lat + 0.006), "small"
    )
    x, y = (float(v) for v in from_geographic(32721, lon, lat))
    west, north = round(x, -2) - SIDE * 5, round(y, -2) + SIDE * 5
    items, pixels = [], {}
    for raw in json.loads(demo_scenes.read_text())["features"]:
        whole = Item(raw).with_hrefs(lambda href: str(demo_scenes.parent / href))
        if whole.epsg != 32721 or whole.baseline != "05.10":  # listed twice
            continue
        bands = {band: cut(Path(whole.href(band)), west, north) for band in BANDS}
        when = whole.datetime.isoformat()
        kept = {k: v for k, v in whole.properties.items() if k in ("s2:mgrs_tile", "platform")}
        place: dict[str, Any] = {"west": west, "north": north, "datetime": when}
        items.append(make_item(folder, whole.id, bands, **place, **kept))
        pixels[whole.id] = bands
    assert len(items) == 3
    return Small(folder, tuple(items), aoi, pixels, (west, north))


def cut(path: Path, west: float, north: float) -> np.ndarray:
    """Return the pixels of ``SIDE`` by ``SIDE`` (of 10 m) from a corner on."""
    with rasterio.open(path, driver="GTiff") as src:
        row, col = src.index(west + 1, north - 1)
        side = round(SIDE * 10 / src.res[0])
        pixels = src.read(1, window=Window(col, row, side, side))
    assert pixels.shape == (side, side)
    return pixels


@dataclass(frozen=True)
class Outcome:
    """What a scan left and told."""

    code: int
    out: str
    err: str
    folder: Path

    def rows(self) -> dict[str, bytes]:
        """Return the tables as they are on disk."""
        return {name: (self.folder / name).read_bytes() for name in FILES}

    @property
    def run(self) -> dict[str, Any]:
        """``run.json``."""
        return dict(json.loads((self.folder / "run.json").read_text()))

    @property
    def cells(self) -> gpd.GeoDataFrame:
        """``cells.parquet``."""
        return gpd.read_parquet(self.folder / "cells.parquet")

    @property
    def coverage(self) -> gpd.GeoDataFrame:
        """``coverage.parquet``."""
        return gpd.read_parquet(self.folder / "coverage.parquet")

    @property
    def report(self) -> dict[str, Any]:
        """The report of the one tile that was done."""
        (marker,) = (self.folder / "parts").glob("*.json")
        return dict(json.loads(marker.read_text())["report"])

    @property
    def reasons(self) -> dict[str, str]:
        """Why each scene was left out, by its id."""
        return {one["id"]: one["reason"] for one in self.run["dropped_items"]}

    @property
    def told(self) -> str:
        """All that was printed and written, as text."""
        files = [p for p in self.folder.rglob("*") if p.is_file()]
        return self.out + self.err + "".join(p.read_bytes().decode("latin-1") for p in files)


Scan = Callable[..., Outcome]


@pytest.fixture
def scan_items(small: Small, scheduler: str, tiny_models: dict[str, str], call, tmp_path) -> Scan:
    """``scan_items(items, "--strict", tries=1)`` runs the command over a list of items."""

    def run(items: list[Item], *args: str, **values: Any) -> Outcome:
        catalog = write_collection(tmp_path / "items.json", items)
        chosen = {"aoi": small.aoi, "catalog": str(catalog), "out": tmp_path / "run"} | values
        config = settings(scheduler, tiny_models).with_values(**chosen)
        path = tmp_path / "there.toml"
        path.write_text(config.to_toml(), encoding="utf-8")
        code, out, err = call("--config", path, *args)
        return Outcome(code, out, err, config.run.out)

    return run


def settings(scheduler: str, models: dict[str, str]) -> ScanConfig:
    """Return what all these scans have in common."""
    return ScanConfig().with_values(
        scheduler=scheduler, hosts=["http://127.0.0.1"], also=(), rasters=False, **models
    )


@pytest.fixture(scope="session")
def scan_quietly(
    small: Small,
    scheduler: str,
    tiny_models: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[list[Item]], Outcome]:
    """``scan_quietly(items)`` scans items from disk, where nothing fails: the measure of others."""

    def run(items: list[Item]) -> Outcome:
        out = tmp_path_factory.mktemp("quiet") / "run"
        catalog = small.folder / f"{out.parent.name}.json"
        write_collection(catalog, items)
        config = settings(scheduler, tiny_models).with_values(
            aoi=small.aoi, catalog=str(catalog), out=out
        )
        assert all(list(scan(config)))
        return Outcome(0, "", "", out)

    return run


@pytest.fixture(scope="session")
def calm_small(small: Small, scan_quietly: Callable[[list[Item]], Outcome]) -> Outcome:
    """The scan of all small scenes where nothing fails."""
    calm = scan_quietly(list(small.items))
    assert calm.cells.score.notna().any(), "a fault would change nothing in a scan without scores"
    assert set(calm.cells.status) & {"mining", "not_mining"}
    assert calm.run["coverage_ha"]["unseen"] == 0
    return calm


@pytest.fixture(scope="session")
def calm_without_first(
    small: Small, scan_quietly: Callable[[list[Item]], Outcome], calm_small: Outcome
) -> Outcome:
    """The scan of the small scenes as if the first had never been listed."""
    calm = scan_quietly(list(small.items[1:]))
    assert not calm.cells.equals(calm_small.cells), "its loss would not be noticed"
    assert calm.run["coverage_ha"]["unseen"] == 0
    return calm
