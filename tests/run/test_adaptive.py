"""``--workers auto``: a cluster that starts small, grows with the tiles that wait, and shrinks."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from scanner.config import RunConfig, ScanConfig
from scanner.errors import ConfigError
from scanner.run import cluster, reads
from scanner.run.cluster import WORKER_BYTES, local_workers, open_client
from scanner.run.pipeline import scan

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")


@pytest.mark.parametrize(
    ("run", "most"),
    [
        (RunConfig(workers="auto"), 2),
        (RunConfig(workers="auto", max_workers=1), 1),
        (RunConfig(workers="auto", max_workers=8), 2),
        (RunConfig(max_workers=1), 1),
        (RunConfig(workers=3), 3),
        (RunConfig(workers=3, max_workers=2), 2),
    ],
)
def test_how_many_workers_there_may_be(run, most, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert local_workers(run, available=100 * WORKER_BYTES) == (most, None)
    assert local_workers(run, available=1)[0] == 1


def test_only_a_number_or_auto_is_a_number_of_workers():
    for wrong in ("many", "3", 0, 1025, 2.5):
        with pytest.raises(ConfigError, match=r"run\.workers"):
            ScanConfig().with_values(workers=wrong)


def bound(dask_worker):
    """Return how many reads of one host are allowed, by what a worker knows."""
    (gate,) = reads._here.values()
    return gate._at_once


def test_workers_come_with_the_tiles_and_go_after_and_rows_are_the_same(
    calm, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "fitting_workers", lambda *_: (2, None))
    monkeypatch.setitem(cluster.ADAPTING, "wait_count", 2)
    seen = {}

    @contextmanager
    def looked_at(run, refs):
        with open_client(run, refs) as client:
            scheduler = client.cluster.scheduler
            seen["first"] = len(client.nthreads())
            assert set(client.run(bound).values()) == {None}, "two threads cannot be 64 reads"
            # two tiles keep one worker's two threads busy and no more: others wait as tiles would
            waiting = client.map(time.sleep, [10] * 6, pure=False)
            yield client
            client.gather(waiting)
            del waiting
            while len(client.nthreads()) > 1:  # the work is done: pytest's clock ends a wait
                time.sleep(0.1)
            threads = [count for _, count in scheduler.total_nthreads_history]
            seen["most"] = max(threads) / cluster.THREADS
            seen["blamed"] = sum(one.suspicious for one in scheduler.task_prefixes.values())

    monkeypatch.setattr("scanner.run.pipeline.open_client", looked_at)
    config = calm.with_values(workers="auto", out=tmp_path / "run")
    reports = list(scan(config))
    assert all(reports)
    assert [report.attempts for report in reports] == [1, 1]
    assert seen == {"first": 1, "most": 2, "blamed": 0}
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (calm.run.out / name).read_bytes()


def test_a_worker_that_is_retired_in_the_middle_of_a_task_blames_nobody():
    """Not even where a single death would end a tile. (Two threads, one read: so it is bounded.)"""
    with open_client(RunConfig(workers=2, reads_per_host=1)) as client:
        assert set(client.run(bound).values()) == {1}
        scheduler = client.cluster.scheduler
        scheduler.allowed_failures = 0
        future = client.submit(time.sleep, 2)
        while not (busy := [one for one, keys in client.processing().items() if keys]):
            time.sleep(0.05)
        client.retire_workers(busy)
        assert future.result() is None
        assert sum(one.suspicious for one in scheduler.task_prefixes.values()) == 0
