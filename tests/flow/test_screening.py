"""Look before you read: what the SCL calls dense vegetation is not read, else all is the same."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from scanner.area.aoi import read_aoi
from scanner.area.grid import CELL_M, Tile, Zone, cell_polygons, tiles, to_geographic
from scanner.config import ScanConfig
from scanner.imagery.access import gdal_env
from scanner.imagery.catalog import ItemIndex, search_items
from scanner.imagery.demo import PLANTED
from scanner.run.pipeline import scan
from scanner.run.tile import look
from tests.models_tiny import tiny_classifier, tiny_segmenter
from tests.synth import make_item, write_collection

TILE = Tile(Zone(21, True), 30, 40)
SIDE = 2200
PATCH = slice(120, 160)
"""Rows and columns of the granule with bare ground: in the first window."""
FOREST = {"B02": 1250, "B03": 1450, "B04": 1300}


def granule(folder, name, stamp, patch):
    rng = np.random.default_rng(len(name))
    bands = {
        band: rng.normal(level, 60, (SIDE, SIDE)).clip(1, 9999).astype(np.uint16)
        for band, level in FOREST.items()
    }
    scl = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    if patch:
        for band, level in zip(bands.values(), (1900, 2400, 2900), strict=True):
            band[PATCH, PATCH] = level
        scl[PATCH.start // 2 : PATCH.stop // 2, PATCH.start // 2 : PATCH.stop // 2] = 5
    xmin, _, _, ymax = TILE.bounds
    return make_item(
        folder, name, {**bands, "SCL": scl}, epsg=TILE.epsg, west=xmin - 280, north=ymax + 280,
        datetime=stamp,
    )  # fmt: skip


@pytest.fixture(scope="module")
def park(tmp_path_factory):
    """Return what makes settings of a scan over the two northern rows of cells of a tile."""
    folder = tmp_path_factory.mktemp("park")
    xmin, _, xmax, ymax = TILE.core_bounds
    box = shapely.segmentize(shapely.box(xmin + 10, ymax - 2 * CELL_M + 10, xmax - 10, ymax), 2000)
    area = shapely.transform(box, lambda c: np.column_stack(to_geographic(TILE.epsg, *c.T)))
    feature = {"type": "Feature", "properties": {"name": "park"}}
    feature["geometry"] = shapely.geometry.mapping(area.buffer(-1e-5))
    (folder / "park.geojson").write_text(json.dumps(feature))
    models = {
        "segmenter": str(tiny_segmenter(folder / "segmenter")),
        "classifier": str(tiny_classifier(folder / "classifier")),
    }
    stamps = ("2024-06-20T13:50:00Z", "2024-07-05T13:50:00Z")
    for name, patch in (("bare", True), ("intact", False)):
        items = [granule(folder / name, f"{name}-{n}", s, patch) for n, s in enumerate(stamps)]
        write_collection(folder / name / "items.json", items)

    def settings(name, out, **values):
        return ScanConfig().with_values(
            aoi=folder / "park.geojson", out=out, rasters=False, **models,
            **{"catalog": str(folder / name / "items.json"), **values},
        )  # fmt: skip

    settings.folder = folder
    return settings


def cells(folder):
    return gpd.read_parquet(folder / "cells.parquet").set_index("cell_id").sort_index()


def test_only_the_window_with_bare_ground_is_read_and_its_rows_stay_the_same(
    park, scheduler, tmp_path
):
    for screen in ("on", "off"):
        assert all(scan(park("bare", tmp_path / screen, screen=screen, scheduler=scheduler)))
    on, off = cells(tmp_path / "on"), cells(tmp_path / "off")
    assert on.index.equals(off.index)
    read = ~on.screened
    assert read.sum() == 2 * 14, "the cells of one window"
    assert not off.screened.any()
    shown = ["status", "suspicious_fraction", "score", "clear_fraction", "clear_observations"]
    assert on.loc[read, shown].equals(off.loc[read, shown])
    assert set(on.status[~read]) == {"not_suspicious"}
    assert (on.clear_fraction[~read] == 1).all()
    assert (on.clear_observations[~read] == 2).all()
    with_screen, without = (
        json.loads((tmp_path / screen / "run.json").read_text())["work"] for screen in ("on", "off")
    )
    assert with_screen["screened_ha"] == pytest.approx(23.04 * 2 * 28)
    assert with_screen["segmented_ha"] == pytest.approx(23.04 * 2 * 14)
    assert without["segmented_ha"] == pytest.approx(23.04 * 2 * 42)
    assert 0 < with_screen["bytes_read"] < 0.6 * without["bytes_read"]


def test_of_a_tile_of_intact_forest_no_band_is_asked_for(park, scheduler, tmp_path, serve_files):
    folder = park.folder / "intact"
    host = serve_files(folder)
    raw = json.loads((folder / "items.json").read_text().replace(str(folder), host.url))
    (tmp_path / "items.json").write_text(json.dumps(raw))
    config = park(
        "intact", tmp_path / "run", catalog=str(tmp_path / "items.json"), scheduler=scheduler,
        hosts=("http://127.0.0.1",),
    )  # fmt: skip
    (report,) = scan(config)
    assert report
    assert (report.screened, report.suspicious) == (84, 0)
    assert {seen.path.rpartition("/")[2] for seen in host.seen} == {"SCL.tif"}
    found = cells(tmp_path / "run")
    assert found.screened.all()
    assert set(found.status) == {"not_suspicious"}
    assert not len(gpd.read_parquet(tmp_path / "run" / "detections.parquet"))
    host.seen.clear()
    again = list(scan(config))
    assert not again, "it was done"
    assert not host.seen


def test_ground_under_cloud_is_unseen_though_no_band_of_it_was_read(park, scheduler, tmp_path):
    folder = park.folder / "intact"
    items = json.loads((folder / "items.json").read_text())["features"]
    assert all("SCL" in one["assets"] for one in items)
    config = park("intact", tmp_path / "run", scheduler=scheduler, clear_scl=(5,))
    (report,) = scan(config)  # vegetation is not taken as clear: nothing is
    assert report.screened == 84
    assert set(cells(tmp_path / "run").status) == {"unseen"}


def test_every_mine_of_the_demo_lies_on_cells_that_ask_for_a_look(demo_scenes):
    config = ScanConfig().with_values(catalog=str(demo_scenes))
    aoi = read_aoi(Path("aois/demo.geojson"))
    found = search_items(aoi, config.search)
    index, env = ItemIndex(found.items), gdal_env(config.search)
    asked, cells = [], 0
    for tile in tiles(aoi):
        choice = look(tile, index.of_tile(tile), config.pixels, env).compute()[()]
        cells += len(tile.cells)
        asked += [
            box
            for cell, box in zip(tile.cells, cell_polygons(tile), strict=True)
            if choice.cells[cell]
        ]
    assert len(PLANTED) == 10
    for mine in PLANTED:
        shown = shapely.union_all(asked).intersection(mine.polygon)
        assert shown.area > 0.99 * mine.polygon.area, mine.name
    assert len(asked) < cells / 2
