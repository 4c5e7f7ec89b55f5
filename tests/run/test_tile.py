"""One task a tile from bands to cells; on a mixed pool the models run where a GPU is offered."""

from __future__ import annotations

import dask
import numpy as np
import pytest
from distributed import Client, Scheduler, SpecCluster, Worker, get_task_stream
from distributed.worker import DEFAULT_EXTENSIONS

from scanner.area.aoi import read_aoi
from scanner.area.grid import tiles
from scanner.config import ScanConfig, SearchConfig
from scanner.imagery.access import gdal_env
from scanner.imagery.catalog import ItemIndex, search_items
from scanner.imagery.screen import DayChoice
from scanner.run.pipeline import load_models, prepare
from scanner.run.tile import scan_tile
from tests.models_tiny import tiny_classifier, tiny_segmenter


@pytest.fixture(scope="module")
def settings(demo_scenes, seam_aoi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "aoi": seam_aoi,
        "catalog": str(demo_scenes),
        "segmenter": str(tiny_segmenter(folder / "segmenter")),
        "classifier": str(tiny_classifier(folder / "classifier")),
    }


def test_bands_become_cells_in_one_task_and_are_sent_nowhere(settings):
    config = ScanConfig().with_values(**settings)
    aoi = read_aoi(config.aoi)
    tile = tiles(aoi)[0]
    found = search_items(aoi, SearchConfig(catalog=settings["catalog"]))
    items = ItemIndex(found.items).of_tile(tile)[:2]
    shape = tile.mask.shape
    choice = DayChoice(
        tuple(sorted({item.solar_day for item in items})), (1.0, 1.0), tile.mask,
        np.zeros(shape), np.zeros(shape, np.uint32),
    )  # fmt: skip
    env = gdal_env(config.search)
    graph = scan_tile(tile, items, choice, config.pixels, load_models(config), env)
    (graph,) = dask.optimize(graph)
    keys = [str(key) for key in graph.__dask_graph__()]
    chains = [key for key in keys if "composite_block" in key]
    assert len(chains) == 1
    assert "segment_block" in chains[0]
    assert "_read_cells" in chains[0]
    large = ("_composite_block-", "_picture-", "_segment_block-")
    assert not [key for key in keys if key.startswith(tuple(f"('{name}" for name in large))]
    assert sum("fetch_raster_window" in key for key in keys) <= 4, "SCL and its blue preview alone"


def test_models_run_where_a_gpu_is_offered_and_rows_stay_the_same(
    settings, scheduler, tmp_path, monkeypatch
):
    # these workers are threads of this process, where a test before may have warped
    monkeypatch.setattr("scanner.run.worker._check_gdal", lambda: None)

    def rows(address, out):
        run = prepare(ScanConfig().with_values(**settings, scheduler=address, out=tmp_path / out))
        with run.alone():
            assert all(run.scan())
            run.finish()
        return (tmp_path / out / "cells.parquet").read_bytes()

    plain = rows(scheduler, "plain")
    here = {"host": "127.0.0.1", "nthreads": 1, "extensions": DEFAULT_EXTENSIONS}
    workers = {
        "reader": {"cls": Worker, "options": here},
        "owner": {"cls": Worker, "options": {**here, "resources": {"GPU": 1}}},
    }
    board = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        SpecCluster(workers=workers, scheduler={"cls": Scheduler, "options": board}) as cluster,
        Client(cluster, set_as_default=False) as client,
        get_task_stream(client) as stream,
    ):
        assert rows(cluster.scheduler_address, "mixed") == plain
        info = client.scheduler_info(n_workers=-1)["workers"]
        names = {address: one["name"] for address, one in info.items()}
    ran = {(names[one["worker"]], str(one["key"])) for one in stream.data}
    heavy = {name for name, key in ran if "segment_block" in key or "_read_cells" in key}
    assert heavy == {"owner"}
    assert any("composite_block" in key for _, key in ran)
