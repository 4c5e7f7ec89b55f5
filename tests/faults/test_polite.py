"""Hosts that have too much to do: how many reads there are at once, and what calms all workers."""

from __future__ import annotations

import logging
import os
import signal
import time

import dask
import dask.config
import numpy as np
import pytest
from distributed import Client, LocalCluster
from odc.geo.geobox import GeoBox

from scanner.area.grid import TILE_M
from scanner.config import ScanConfig
from scanner.imagery import access
from scanner.imagery.cube import load_cube
from scanner.run import reads
from scanner.run.pace import Pace
from scanner.run.submit import Submitter
from tests.faults.two_tiles import WEST_TILE
from tests.synth import make_item

N_DATES = 4


@pytest.fixture(scope="module")
def crew():
    """Two workers of two threads each; a lease ends five seconds after its worker."""
    settings = {
        "distributed.scheduler.locks.lease-timeout": "5s",
        "distributed.scheduler.locks.lease-validation-interval": "500ms",
        "distributed.deploy.lost-worker-timeout": "365 days",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def tiles():
    """Tiles in a row."""
    zone, col, row = WEST_TILE.zone, WEST_TILE.col, WEST_TILE.row
    return [type(WEST_TILE)(zone, col + step, row) for step in range(6)]


@pytest.fixture(scope="module")
def blank(tiles, tmp_path_factory):
    """A folder of scenes that show nothing: a tile over them ends when its SCL has been read."""
    folder = tmp_path_factory.mktemp("blank")
    items = []
    for number, tile in enumerate(tiles):
        xmin, _, _, ymax = tile.core_bounds
        for day in range(1, N_DATES + 1):
            place = {"west": xmin + TILE_M / 2, "north": ymax - TILE_M / 2}
            scl = {"SCL": np.zeros((64, 64), np.uint8)}
            name, when = f"tile-{number}-day-{day}", f"2024-07-{day:02}T13:50:00Z"
            items.append(make_item(folder, name, scl, datetime=when, **place))
    return folder, items


@pytest.fixture
def on_host(blank, serve_files):
    """``on_host(**options)`` serves the blank scenes: (host, their items there)."""

    def serve(**options):
        folder, items = blank
        host = serve_files(folder, **options)
        there = [i.with_hrefs(lambda h: h.replace(folder.as_posix(), host.url)) for i in items]
        return host, there

    return serve


def open_gate(bound, dask_worker):
    reads.open_gate(dask_worker, bound, "a run")


def set_gates(client, bound):
    """Do what a run does to each worker, but for its models."""
    client.run(open_gate, bound)


def cubes(items):
    """Return a cube an asset, each one read."""
    env = access.gdal_env(ScanConfig().search)
    for item in items:
        west, north = item.raw["assets"]["SCL"]["proj:transform"][2::3]
        box = GeoBox.from_bbox((west, north - 640, west + 640, north), "EPSG:32721", resolution=20)
        yield load_cube([item], box, ["SCL"], env=env).data


def read_all(client, items):
    """Read every asset on the workers; return how many were read."""
    futures = client.compute(list(cubes(items)))
    return len(client.gather(futures, errors="raise"))


def test_reads_of_one_host_at_once_stay_below_the_bound(crew, on_host):
    peaks = {}
    for bound in (None, 3, 1):
        host, items = on_host(latency_s=0.2)
        if bound:
            host.overload(above=bound)
        set_gates(crew, bound)
        assert read_all(crew, items[:8]) == 8
        assert not host.statuses().count(503)
        peaks[bound] = host.most_at_once
    assert peaks[None] > 1, "four threads read at once"
    assert peaks[3] <= 3
    assert peaks[1] == 1


def test_local_files_pass_no_gate(crew, blank, on_host):
    def leases(dask_worker):
        return {host for one in reads._here.values() for host in one._semaphores}

    set_gates(crew, 1)
    _, items = blank
    assert read_all(crew, items[:4]) == 4
    assert set().union(*crew.run(leases).values()) == set()
    host, items = on_host()
    assert read_all(crew, items[:4]) == 4
    assert set().union(*crew.run(leases).values()) == {host.url.removeprefix("http://")}


def test_the_gate_of_a_run_outlives_another_run(crew, on_host):
    def another(end, dask_worker):
        if end:
            reads.close_gate("another run")
        else:
            reads.open_gate(dask_worker, 2, "another run")

    set_gates(crew, 1)
    for end, most in ((False, 2), (True, 1)):
        crew.run(another, end)
        host, items = on_host(latency_s=0.2)
        assert read_all(crew, items[:8]) == 8
        assert host.most_at_once <= most
        assert set(crew.run(lambda dask_worker: len(reads._here)).values()) == {1 if end else 2}


def holder(dask_worker):
    """Return the process id of a worker that holds a lease."""
    held = any(one._leases for here in reads._here.values() for one in here._semaphores.values())
    return os.getpid() if held else None


def test_a_worker_that_dies_with_a_lease_stops_nobody(crew, on_host):
    """One read at a time, and the worker that does it is killed: without an end of its lease
    nothing would ever be read again."""
    host, items = on_host(stall_s=120)
    stalled = host.fail("", "stall", times=1)
    set_gates(crew, 1)
    futures = crew.compute(list(cubes(items)))
    while not stalled.hits:
        time.sleep(0.05)
    (pid,) = [pid for pid in crew.run(holder).values() if pid]
    assert host.most_at_once == 1
    os.kill(pid, signal.SIGKILL)
    assert len(crew.gather(futures)) == len(items)
    crew.wait_for_workers(2, timeout=120)


def test_all_workers_pause_when_one_is_told_of_an_overload(crew, on_host, monkeypatch):
    """GDAL's own second try passes, so no read fails: what is heard is its warning in the log."""
    set_gates(crew, None)
    host, items = on_host()
    host.fail(f"{items[0].id}/", status=429, times=1)
    told = []
    crew.subscribe_topic(reads.TOPIC, told.append)
    assert read_all(crew, items) == len(items)
    crew.unsubscribe_topic(reads.TOPIC)
    assert host.statuses().count(429) == 1
    assert len(told) == 1

    reads.calmer(crew)(3600)
    while not all(crew.run(lambda dask_worker: reads._here["a run"]._until).values()):
        time.sleep(0.05)
    host, items = on_host()
    futures = crew.compute(list(cubes(items)))
    while min(crew.run(lambda dask_worker: dask_worker.state.executing_count).values()) < 2:
        time.sleep(0.05)
    assert host.seen == []
    set_gates(crew, None)  # as another run does: what waits is let go
    assert len(crew.gather(futures)) == len(items)


def scan_blank(client, tiles, items, **run):
    config = ScanConfig().with_values(catalog="http://127.0.0.1", **run)
    submitter = Submitter(client, items, None, config)
    return submitter, submitter.run(tiles)


def test_an_overloaded_host_is_asked_less_and_costs_no_scene(crew, tiles, on_host, monkeypatch):
    """503 until nobody asks for a second: without a pause all tries are used up, scene by scene."""
    monkeypatch.setitem(access.GDAL_SETTINGS, "GDAL_HTTP_MAX_RETRY", "1")
    monkeypatch.setitem(access.GDAL_SETTINGS, "GDAL_HTTP_RETRY_DELAY", "0.1")
    set_gates(crew, None)
    refused, dropped = {}, {}
    for polite in (True, False):
        host, items = on_host()
        host.overload(peace_s=1)
        with monkeypatch.context() as patch:
            if not polite:
                patch.setattr(Pace, "overloaded", lambda self: None)
            ended = list(scan_blank(crew, tiles, items)[1])
        assert len(ended) == len(tiles)
        refused[polite] = host.statuses().count(503)
        dropped[polite] = sum(len(done.report.dropped) for done in ended)
        failed = [done.report.reason for done in ended if done.table is None]
        assert not (polite and failed), failed
    assert dropped[True] == 0
    assert dropped[False] > 0
    assert 0 < refused[True] < refused[False] / 2, refused


def test_the_window_follows_the_workers(blank, tiles, monkeypatch):
    """A cluster that grows in the middle of a run is used."""
    monkeypatch.setattr("scanner.run.watch.COUNT_S", 0.0)
    _, items = blank
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        submitter, ended = scan_blank(client, tiles, items)
        next(ended)
        assert len(submitter._jobs) <= 1, "two in flight, one of them ended"
        cluster.scale(2)
        cluster.wait_for_workers(2)
        in_flight = [len(submitter._jobs) for _ in ended]
        assert len(in_flight) == len(tiles) - 1
        assert max(in_flight) == 3, "four, one of them ended"
