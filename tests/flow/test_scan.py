"""The scan end to end on a real LocalCluster: same rows however it is run, broken, or resumed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import geopandas as gpd
import psutil
import pyarrow.parquet as pq
import pytest

from scanner.detection.detections import CELL_SCHEMA, DETECTION_SCHEMA, STATUSES
from scanner.errors import ConfigError
from scanner.imagery.item import Item
from scanner.results.coverage import COVERAGE_SCHEMA
from scanner.run import cluster
from scanner.run.cluster import WORKER_BYTES, fitting_workers, open_client
from scanner.run.pipeline import prepare, scan
from tests.synth import write_collection

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")


def rows(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def mean_score(config):
    cells = gpd.read_parquet(config.run.out / "cells.parquet")
    return float(cells.score.median())


def test_files_have_the_promised_columns_and_sums(calm):
    out = calm.run.out
    for name, schema in zip(FILES, (DETECTION_SCHEMA, CELL_SCHEMA, COVERAGE_SCHEMA), strict=True):
        found = pq.read_schema(out / name)
        assert [found.field(n).type for n in schema.names] == [
            schema.field(n).type for n in schema.names
        ]
        done = subprocess.run(
            [Path(sys.executable).with_name("geoparquet-validator"), "check", out / name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert duckdb.sql(f"select count(*) from '{out / name}'").fetchone() is not None  # noqa: S608
    cells = gpd.read_parquet(out / "cells.parquet")
    summary = json.loads((out / "run.json").read_text())
    assert cells.cell_id.is_unique
    assert set(cells.status) <= set(STATUSES)
    assert summary["coverage_ha"]["area"] == pytest.approx(23.04 * len(cells))
    assert sum(summary["coverage_ha"]["cells"].values()) == len(cells)
    assert summary["tiles"]["done"] == summary["tiles"]["total"] == cells.tile_id.nunique() == 2
    coverage = gpd.read_parquet(out / "coverage.parquet")
    assert coverage.area_ha.sum() == pytest.approx(23.04 * len(cells))
    assert (coverage.n_items > 0).all()
    assert cells.score.notna().any(), "the tiny model should send some cells to the classifier"


def test_two_workers_give_the_same_bytes(calm, config):
    assert all(list(scan(config.with_values(scheduler=None, workers=2))))
    assert rows(config.run.out) == rows(calm.run.out)


@pytest.mark.slow
def test_eight_workers_give_the_same_bytes(calm, config):
    assert all(list(scan(config.with_values(scheduler=None, workers=8))))
    assert rows(config.run.out) == rows(calm.run.out)


def test_both_engines_give_the_same_numbers(calm, config):
    """On items of the tile's own zone; where one is warped, the engines are up to a pixel apart."""
    items = [i for i in prepare(calm).found.items if i.epsg == 32721]
    folder = Path(calm.search.catalog).parent
    own = write_collection(folder / "own-zone.json", items)
    found = []
    for engine in ("stackstac", "odc"):
        out = config.run.out.with_name(engine)
        assert all(list(scan(config.with_values(catalog=str(own), engine=engine, out=out))))
        found.append(gpd.read_parquet(out / "cells.parquet"))
    assert found[0].equals(found[1])
    assert found[0].score.notna().any()


def test_a_run_broken_off_and_resumed_equals_an_unbroken_one(calm, config):
    reports = scan(config)
    next(reports)
    reports.close()  # as Ctrl-C does: after one tile of two
    run = prepare(config)
    assert len(run.todo()) == 1
    assert not (config.run.out / "detections.parquet").exists()
    assert len(list(scan(config))) == 1
    assert rows(config.run.out) == rows(calm.run.out)


def test_a_changed_threshold_reads_nothing_and_starts_no_cluster(calm, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(calm.run.out, out)
    monkeypatch.setattr(
        "scanner.run.pipeline.open_client", lambda *_: pytest.fail("cluster started")
    )
    middle = mean_score(calm)
    config = calm.with_values(out=out, threshold=middle)
    assert list(scan(config)) == []
    cells = gpd.read_parquet(out / "cells.parquet")
    assert ((cells.score >= middle) == (cells.status == "mining")).all()
    sites = gpd.read_parquet(out / "detections.parquet")
    assert len(sites) > 0
    assert sites.n_cells.sum() == (cells.status == "mining").sum()
    assert sites.geometry.is_valid.all()
    assert (sites.area_ha <= 23.04 * sites.n_cells + 1e-6).all()
    back = calm.with_values(out=out)
    list(scan(back))
    assert rows(out) == rows(calm.run.out)


@pytest.mark.parametrize(
    "change",
    [{"max_scenes": 2}, {"suspicious_pixels": 7}, {"max_cloud": 10}, {"composite": "latest-clear"}],
)
def test_changed_pixel_settings_are_refused_and_cost_nothing(calm, change):
    before = rows(calm.run.out)
    with pytest.raises(ConfigError, match=r"--fresh"):
        prepare(calm.with_values(**change))
    assert rows(calm.run.out) == before


def test_another_area_in_the_same_folder_is_refused(calm, tmp_path):
    from tests.synth import write_aoi

    other = write_aoi(tmp_path / "other.geojson", (-54.05, -7.05, -54.03, -7.03))
    with pytest.raises(ConfigError, match=r"another area.*--fresh"):
        prepare(calm.with_values(aoi=other))


def test_fresh_starts_over_and_leaves_strangers_alone(calm, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(calm.run.out, out)
    (out / "notes.txt").write_text("mine")
    run = prepare(calm.with_values(out=out, max_scenes=2, fresh=True))
    assert len(run.todo()) == 2
    assert (out / "notes.txt").read_text() == "mine"


def test_run_id_knows_no_folder_host_or_worker_count(calm, config, tmp_path, demo_scenes):
    moved = tmp_path / "elsewhere"
    shutil.copytree(demo_scenes.parent, moved)
    again = prepare(config.with_values(catalog=str(moved / "items.json"), workers=2))
    assert again.run_id == prepare(calm).run_id


def test_frozen_items_are_unsigned_and_used_again(calm, monkeypatch):
    monkeypatch.setattr(
        "scanner.run.pipeline.search_items", lambda *_: pytest.fail("searched again")
    )
    run = prepare(calm)
    assert len(run.found.items) == 6
    assert "?" not in (calm.run.out / "items.json").read_text()


def test_no_scene_at_all_is_a_valid_empty_answer_with_advice(config, tmp_path):
    empty = write_collection(tmp_path / "none.json", [])
    config = config.with_values(catalog=str(empty))
    assert all(list(scan(config)))
    summary = json.loads((config.run.out / "run.json").read_text())
    assert summary["advice"]
    cells = gpd.read_parquet(config.run.out / "cells.parquet")
    assert set(cells.status) == {"unseen"}
    assert len(gpd.read_parquet(config.run.out / "detections.parquet")) == 0


def test_a_scene_that_cannot_be_read_is_dropped_by_name(calm, config, demo_scenes, tmp_path):
    folder = tmp_path / "scenes"
    shutil.copytree(demo_scenes.parent, folder)
    item = next(
        Item(raw) for raw in json.loads((folder / "items.json").read_text())["features"][2:]
    )
    broken = folder / item.id / "B03.tif"
    broken.write_bytes(broken.read_bytes()[:5000])
    config = config.with_values(catalog=str(folder / "items.json"))
    assert all(list(scan(config)))
    dropped = json.loads((config.run.out / "run.json").read_text())["dropped_items"]
    named = [d for d in dropped if d["id"] == item.id and "B03.tif" in d["reason"]]
    assert len(named) >= 1
    assert rows(config.run.out) != rows(calm.run.out)


def test_a_running_scheduler_gives_the_same_bytes(calm, config):
    assert config.run.scheduler.startswith("tcp://127.0.0.1:")
    assert all(list(scan(config)))
    assert rows(config.run.out) == rows(calm.run.out)


def test_every_socket_is_on_loopback(config):
    with open_client(replace(config.run, scheduler=None, workers=1)) as client:
        pids = {psutil.Process().pid, *(p.pid for p in psutil.Process().children(recursive=True))}
        assert client.nthreads()
        listening = {
            c.laddr.ip
            for pid in pids
            for c in psutil.Process(pid).net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        }
    assert listening == {"127.0.0.1"}


def test_fewer_workers_start_where_memory_is_short():
    count, line = fitting_workers(8, available=3 * WORKER_BYTES)
    assert count == 3
    assert "--workers 8" in line
    assert fitting_workers(2, available=3 * WORKER_BYTES) == (2, None)
    assert fitting_workers(4, available=1)[0] == 1


def test_no_scheduler_there_is_one_clear_line(config, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", "2s")
    with (
        pytest.raises(ConfigError, match=r"127\.0\.0\.1:9.*no scheduler answers"),
        open_client(replace(config.run, scheduler="tcp://127.0.0.1:9")),
    ):
        pass
