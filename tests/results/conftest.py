"""A small finished run, made once: real scenes of the demo, tiny models, two tiles."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scanner.config import ScanConfig
from scanner.imagery.demo import PLANTED
from scanner.run.merge import merge_parts
from scanner.run.pipeline import prepare
from tests.synth import write_aoi


@pytest.fixture(scope="session")
def finished_demo(
    tmp_path_factory: pytest.TempPathFactory,
    demo_scenes: Path,
    tiny_models: dict[str, str],
    scheduler: str,
) -> Path:
    """Run folder over the seam of two tiles, with rasters, nothing published; copy it to change it.

    Models are random, so statuses mean nothing; the threshold is the median score, so there are
    mining cells and others.
    """
    folder = tmp_path_factory.mktemp("finished")
    mine = next(m for m in PLANTED if m.name == "tile-seam-5ha")
    lon, lat = mine.polygon.centroid.coords[0]
    area = write_aoi(folder / "seam.geojson", (lon - 0.012, lat - 0.012, lon + 0.012, lat + 0.012))
    config = ScanConfig().with_values(
        aoi=area,
        catalog=str(shutil.copytree(demo_scenes.parent, folder / "scenes") / demo_scenes.name),
        out=folder / "run",
        scheduler=scheduler,
        **tiny_models,
    )
    run = prepare(config)
    assert all(list(run.scan()))
    scores = [
        score
        for tile in run.tiles
        for score in run.parts.table(tile.tile_id)["score"].to_pylist()
        if score is not None
    ]
    run.config = config.with_values(threshold=sorted(scores)[len(scores) // 2])
    merge_parts(run)
    return folder / "run"
