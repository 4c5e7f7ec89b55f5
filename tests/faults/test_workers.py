"""Workers that die, hang, run out of memory or go away: who is blamed, and how a run ends.

The faults are put into real workers of a real cluster by a plugin, which a restarted worker gets
again; tiles run on it as they do anywhere.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from pathlib import Path

import dask.config
import geopandas as gpd
import numpy as np
import pytest
from distributed import Client, LocalCluster, WorkerPlugin

from scanner.config import RunConfig, ScanConfig
from scanner.errors import ClusterError
from scanner.run import submit, watch
from scanner.run.cluster import open_client
from scanner.run.pipeline import prepare, scan
from tests.synth import write_aoi

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")


def rows(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


class Fault(WorkerPlugin):
    """Does something to workers that come to the cells of a tile."""

    name = "fault"

    def __init__(self, kind: str, tile_ids: tuple[str, ...], once: Path | None = None) -> None:
        self.kind, self.tile_ids, self.once = kind, tile_ids, once

    def setup(self, worker):
        from scanner.run import tile as module

        self.module, self.real = module, module.cell_pieces
        module.cell_pieces = self.instead

    def teardown(self, worker):
        self.module.cell_pieces = self.real

    def instead(self, classes, stats, tile):
        if tile.tile_id in self.tile_ids and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            if self.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "hang":
                time.sleep(3600)
            eaten = []
            while self.kind == "eat":
                eaten.append(np.ones(2**24, np.uint8))
                time.sleep(0.02)
        return self.real(classes, stats, tile)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers of 4 GiB that blames a task for the second death."""
    settings = {
        "distributed.scheduler.allowed-failures": 1,
        # as in scanner.run.cluster: a worker that dies twice is started anew twice
        "distributed.deploy.lost-worker-timeout": "365 days",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="4GiB",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def inject(cluster):
    """``inject(kind, tile_ids)`` puts a fault into all workers until the test ends."""
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=300)

        def put(*args, **kwargs):
            client.register_plugin(Fault(*args, **kwargs))

        yield put
        client.unregister_worker_plugin("fault")
        client.wait_for_workers(2, timeout=300)  # a nanny told to restart while it starts, gives up


@pytest.fixture
def here(config: ScanConfig, cluster) -> ScanConfig:
    return config.with_values(scheduler=cluster.scheduler_address)


@pytest.fixture
def arguments(seam_aoi, demo_scenes, cluster, tiny_models, tmp_path):
    """The command's arguments."""
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    where = ["--scheduler", cluster.scheduler_address, "--out", tmp_path / "run"]
    return [seam_aoi, "--catalog", demo_scenes, *where, *models]


def tile_ids(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "parts").glob("*.json"))


def test_a_worker_that_is_killed_costs_nothing(calm, here, inject, tmp_path):
    inject("kill", tuple(tile_ids(calm.run.out)), once=tmp_path / "once")
    assert all(list(scan(here)))
    assert (tmp_path / "once").exists()
    assert rows(here.run.out) == rows(calm.run.out)


def test_a_tile_that_kills_its_workers_fails_and_its_neighbours_do_not(
    calm, arguments, inject, call, tmp_path
):
    """Dask blames what stood on the worker; only what kills when it runs alone is guilty."""
    bad, good = tile_ids(calm.run.out)
    inject("kill", (bad,))
    code, told, err = call(*arguments)
    assert code == 1
    assert f"tile {bad} failed: the workers that ran it died, also when it ran alone" in err
    assert "Traceback" not in err
    out = tmp_path / "run"
    (failed,) = json.loads((out / "run.json").read_text())["tiles"]["failed"]
    assert failed["tile_id"] == bad
    now, then = (
        gpd.read_parquet(o / "cells.parquet").astype({"clear_observations": float})
        for o in (out, calm.run.out)
    )
    assert set(now[now.tile_id == bad].status) == {"failed"}
    assert now[now.tile_id == good].equals(then[then.tile_id == good])
    coverage = gpd.read_parquet(out / "coverage.parquet").set_index("tile_id")
    assert coverage.failed_ha[bad] == coverage.area_ha[bad] > 0
    assert coverage.failed_ha[good] == 0
    assert "failed" in told

    inject("none", ())  # takes the place of the other: the machine is well again
    code, told, _ = call(*arguments)
    assert code == 0
    assert "resuming: 1 of 2 tiles are done" in told
    assert rows(out) == rows(calm.run.out)


@pytest.mark.slow
def test_a_tile_that_needs_too_much_memory_says_so(calm, here, inject):
    bad, good = tile_ids(calm.run.out)
    inject("eat", (bad,))
    reports = {report.tile_id: report for report in scan(here)}
    assert reports[good]
    assert not reports[bad]
    for words in (
        "ran out of memory",
        "a worker may take 4.0 GiB",
        "a tile takes about",
        "--workers",
    ):
        assert words in reports[bad].reason


def test_a_tile_that_hangs_is_given_up_and_the_others_go_on(calm, here, inject, monkeypatch):
    bad, good = tile_ids(calm.run.out)
    inject("hang", (bad,))
    monkeypatch.setattr(watch, "PULSE_S", 0.5)
    run = prepare(here)
    with run.alone():
        (first,) = run.scan([tile for tile in run.tiles if tile.tile_id == good])
        assert first
        monkeypatch.setattr(submit, "TILE_S", 5.0)
        (report,) = run.scan()
        assert report.tile_id == bad
        assert "gave no answer in" in report.reason
        summary = run.finish()
    assert [one["tile_id"] for one in summary["tiles"]["failed"]] == [bad]


@pytest.mark.slow
def test_a_worker_that_dies_again_and_again_is_always_started_anew():
    """Dask's own cluster closes for good whoever is not there 15 s after a death."""
    with open_client(RunConfig(workers=1)) as client:
        until = time.monotonic() + 17
        while time.monotonic() < until:
            for nanny in client.cluster.workers.values():
                if nanny.pid:
                    os.kill(nanny.pid, signal.SIGKILL)
            time.sleep(0.2)
        client.wait_for_workers(1, timeout=120)


@pytest.mark.slow
def test_no_tile_after_tile_is_fed_to_workers_that_die(here, inject, monkeypatch, tmp_path):
    """Where each tile kills, the run ends with what can be done about it."""
    monkeypatch.setattr(submit, "MOST_ACCUSED", 1)
    monkeypatch.setattr(submit, "TILES_PER_WORKER", 0.5)
    aoi = write_aoi(tmp_path / "wide.geojson", (-54.08, -7.001, -53.92, -7.000), "wide")
    run = prepare(here.with_values(aoi=aoi, out=tmp_path / "wide"))
    assert len(run.tiles) == 3
    inject("kill", tuple(tile.tile_id for tile in run.tiles))
    ended = []
    with (
        run.alone(),
        pytest.raises(ClusterError, match=r"killed the workers.*memory.*same command"),
    ):
        ended += run.scan()
    assert len(ended) < len(run.tiles)
    assert ClusterError.exit_code == 3


def test_workers_that_all_go_away_end_the_run_and_it_can_be_resumed(
    calm, arguments, inject, cluster, call, monkeypatch, tmp_path
):
    monkeypatch.setattr(watch, "PULSE_S", 0.2)
    monkeypatch.setattr(watch, "NO_WORKER_S", 1.0)
    marker = tmp_path / "once"
    inject("hang", tuple(tile_ids(calm.run.out)), once=marker)

    def take_away():
        while not marker.exists():
            time.sleep(0.05)
        cluster.scale(0)

    thread = threading.Thread(target=take_away)
    thread.start()
    code, _, err = call(*arguments)
    thread.join()
    assert code == 3
    assert "has had no worker for 1 s" in err
    assert "run the same command" in err
    assert not (tmp_path / "run" / "detections.parquet").exists()

    cluster.scale(2)
    cluster.wait_for_workers(2)
    assert call(*arguments)[0] == 0
    assert rows(tmp_path / "run") == rows(calm.run.out)


def test_a_scheduler_that_is_lost_ends_the_run(
    calm, seam_aoi, demo_scenes, tiny_models, tmp_path, call, monkeypatch
):
    monkeypatch.setattr(watch, "PULSE_S", 0.2)
    marker = tmp_path / "once"
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as own, Client(own, set_as_default=False) as client:  # fmt: skip
        address = own.scheduler_address
        client.register_plugin(Fault("hang", tuple(tile_ids(calm.run.out)), once=marker))

        def close():
            while not marker.exists():
                time.sleep(0.05)
            own.close()

        thread = threading.Thread(target=close)
        thread.start()
        models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
        names = ["--catalog", demo_scenes, "--scheduler", address, "--out", tmp_path / "run"]
        code, _, err = call(seam_aoi, *names, *models)
        thread.join()
    assert code == 3
    assert f"{address}: the scheduler is gone; what was done is kept" in err
    assert (tmp_path / "run" / "identity.json").exists()
