"""Small scans over the demo's scenes with tiny models: the flow, not the recognition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from scanner.config import ScanConfig
from scanner.imagery.demo import PLANTED, make_scenes
from scanner.run.pipeline import scan
from tests.synth import write_aoi


@pytest.fixture(scope="session")
def demo_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``items.json`` of the demo's scenes."""
    return make_scenes(tmp_path_factory.mktemp("demo") / "scenes")


@pytest.fixture(scope="session")
def seam_aoi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A square of about 2.5 km over the mine that lies on the seam of two tiles."""
    mine = next(m for m in PLANTED if m.name == "tile-seam-5ha")
    lon, lat = mine.polygon.centroid.coords[0]
    bounds = (lon - 0.012, lat - 0.012, lon + 0.012, lat + 0.012)
    return write_aoi(tmp_path_factory.mktemp("aoi") / "seam.geojson", bounds, "seam")


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of a cluster that many tests share: workers take seconds to import torch."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=False,  # a level would hold for the handlers of pytest, to the end
    ) as cluster:
        yield str(cluster.scheduler_address)


@pytest.fixture(scope="session")
def calm(
    tmp_path_factory: pytest.TempPathFactory,
    seam_aoi: Path,
    demo_scenes: Path,
    tiny_models: dict[str, str],
) -> ScanConfig:
    """Settings of one unbroken run with one worker, the measure of all others."""
    out = tmp_path_factory.mktemp("calm") / "run"
    config = ScanConfig().with_values(
        aoi=seam_aoi, catalog=str(demo_scenes), out=out, workers=1, **tiny_models
    )
    assert all(list(scan(config)))
    return config


@pytest.fixture
def config(
    seam_aoi: Path,
    demo_scenes: Path,
    tiny_models: dict[str, str],
    scheduler: str,
    tmp_path: Path,
) -> ScanConfig:
    """Settings of a small scan on the shared cluster; ``config.with_values`` changes them."""
    return ScanConfig().with_values(
        aoi=seam_aoi,
        catalog=str(demo_scenes),
        out=tmp_path / "run",
        scheduler=scheduler,
        **tiny_models,
    )
