"""The shipped models on the demo's planted mines and on real scenes."""

from __future__ import annotations

import json
from functools import cache

import geopandas as gpd
import pytest
import shapely

from scanner.config import ScanConfig
from scanner.imagery.demo import PLANTED
from scanner.results.planted import planted_against_found
from scanner.run.pipeline import scan
from tests.conftest import ROOT

SCENES = ("tapajos_jardim_do_ouro", "juruti_pa", "paragominas_pa")
TAPAJOS_STREAM = (-55.777, -6.324, -55.768, -6.318)
"""Box (west, south, east, north) over the mined stream in the east of the Tapajos scene."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory, demo_scenes, scheduler):
    out = tmp_path_factory.mktemp("demo-run")
    config = ScanConfig().with_values(
        aoi=ROOT / "aois" / "demo.geojson", catalog=str(demo_scenes), out=out, scheduler=scheduler
    )
    assert all(list(scan(config)))
    return out


def test_demo_finds_the_planted_mines_of_1_ha_and_more(demo):
    sites = gpd.read_parquet(demo / "detections.parquet")
    missed = [
        mine.name
        for mine in PLANTED
        if mine.area_ha >= 1 and not sites.intersects(mine.polygon).any()
    ]
    assert missed == []


def test_demo_raises_few_false_alarms(demo):
    sites = gpd.read_parquet(demo / "detections.parquet")
    false = [
        site for site in sites.geometry if not any(site.intersects(m.polygon) for m in PLANTED)
    ]
    assert len(false) <= 3
    assert "of 10 planted mines found" in planted_against_found(demo)


def test_mines_over_seams_are_one_site_each(demo):
    sites = gpd.read_parquet(demo / "detections.parquet")
    for name in ("zone-seam-3ha", "tile-seam-5ha"):
        mine = next(m for m in PLANTED if m.name == name)
        (site,) = sites[sites.intersects(mine.polygon)].itertuples()
        assert 0.3 < site.area_ha / mine.area_ha < 2.5


@pytest.fixture(scope="module")
def real(tmp_path_factory, shared_data, scheduler):
    """``real(name)`` scans a real scene once with the shipped models and returns its folder."""

    @cache
    def scanned(name, workers=None):
        out = tmp_path_factory.mktemp(name)
        config = ScanConfig().with_values(
            aoi=shared_data / "scenes" / f"aoi_{name}.geojson",
            catalog=str(shared_data / "scenes" / "items.json"),
            out=out,
            workers=workers,
            scheduler=None if workers else scheduler,
        )
        assert all(list(scan(config)))
        return out

    return scanned


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_worker_count_changes_no_row_of_real_scenes(real, name):
    for file in ("detections.parquet", "cells.parquet"):
        assert (real(name, workers=1) / file).read_bytes() == (real(name) / file).read_bytes()


@pytest.mark.data
def test_the_mine_on_the_tapajos_is_found(real):
    sites = gpd.read_parquet(real("tapajos_jardim_do_ouro") / "detections.parquet")
    stream = shapely.box(*TAPAJOS_STREAM)
    there = sites[sites.intersects(stream)]
    assert len(there) > 0
    assert there.score.max() > 0.5


@pytest.mark.data
def test_scenes_without_scl_are_named(real):
    summary = json.loads((real("juruti_pa") / "run.json").read_text())
    assert summary["items_without_scl"] == ["S2L1C_2021MEDIAN_JURUTI"]
    assert summary["coverage_ha"]["unseen"] > 0, "a tenth of the scene is nodata"
