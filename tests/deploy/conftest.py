"""Clusters of processes, and an area of many small tiles to scan on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli_w

from scanner.config import ScanConfig
from scanner.run.pipeline import scan
from tests.benchmarks.memory import write_area
from tests.benchmarks.soak_scenes import area_of, place_tiles, write_scenes
from tests.deploy.machines import Loopback, Machines, Namespaces
from tests.synth import write_collection


@dataclass(frozen=True)
class Area:
    """An area of many tiles, scenes over it, settings, and a finished run on this machine alone."""

    arguments: list[str]
    out: Path


TILES = 8


@pytest.fixture(scope="session")
def area(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, str]) -> Area:
    """Scenes over ``TILES`` tiles, scanned with one local worker."""
    folder = tmp_path_factory.mktemp("area")
    placed = place_tiles(TILES, seed=11)
    scenes = folder / "scenes"
    items = write_scenes(scenes, placed, 11, str(scenes))
    settings = {
        "search": {"catalog": str(write_collection(scenes / "items.json", items))},
        "pixels": dict(tiny_models),
        "report": {"threshold": 0.5},
    }
    (folder / "settings.toml").write_text(tomli_w.dumps(settings))
    aoi = write_area(folder / "many.geojson", area_of(placed))
    config = ScanConfig.from_toml(folder / "settings.toml").with_values(
        aoi=aoi, out=folder / "laptop", workers=1
    )
    assert all(list(scan(config)))
    return Area([str(aoi), "--config", str(folder / "settings.toml")], folder / "laptop")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A cluster of processes on loopback, with a running scheduler."""
    cluster = Machines(tmp_path_factory.mktemp("cluster"), Loopback())
    try:
        cluster.start_scheduler()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def namespaced(tmp_path: Path) -> Iterator[tuple[Machines, Namespaces]]:
    """A cluster in network namespaces, nothing started; skipped where none can be made."""
    network = Namespaces()
    cluster = Machines(tmp_path / "cluster", network)
    try:
        yield cluster, network
    finally:
        cluster.close()
        network.close()
