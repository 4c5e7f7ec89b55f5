"""Small scans over the demo's scenes with tiny models: the flow, not the recognition."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanner.config import ScanConfig
from scanner.imagery.demo import PLANTED, make_scenes
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


@pytest.fixture
def config(seam_aoi: Path, demo_scenes: Path, tiny_models: dict[str, str], tmp_path: Path):
    """Settings of a small scan; ``config.with_values`` changes them."""
    return ScanConfig().with_values(
        aoi=seam_aoi, catalog=str(demo_scenes), out=tmp_path / "run", workers=1, **tiny_models
    )
