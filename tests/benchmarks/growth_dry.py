"""A dry run of the scheduler: the real Submitter over tiles whose graphs cost nothing.

Tiles fill zones 18 to 25 of a made-up continent, items are squares of a degree with two dates each.
The Submitter finds the items of each tile, signs them, hands over its two graphs one after the
other, takes a table of a full tile (1764 rows, sent by the worker) and forgets it. Only what the
graphs would do is left out: the functions that make them are replaced in this process.

The client's process holds the scheduler too where Dask's LocalCluster is used, as in every run
without ``--scheduler``. With ``--apart`` scheduler and workers are processes of their own, started
by Dask's own commands as on a cluster, and the scheduler's memory is told beside the client's.

    python -m tests.benchmarks.growth_dry --tiles 10000 [--workers 2] [--apart] [--told FILE]
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest import mock

import dask.array as da
import numpy as np
import psutil
import pyarrow as pa
import shapely
from dask._task_spec import Task
from distributed import Client

from scanner.area.grid import TILE_CELLS, Tile, Zone, to_geographic
from scanner.config import RunConfig, ScanConfig
from scanner.imagery.item import Item
from scanner.imagery.screen import DayChoice
from scanner.run import submit
from scanner.run.cluster import open_client
from scanner.run.part import unseen_part
from scanner.run.pipeline import load_models
from scanner.run.tile import TileResult
from tests.models_tiny import tiny_classifier, tiny_segmenter

ZONES: Final = range(18, 26)
COLS: Final = range(9, 39)
"""Columns of tiles in the middle of a zone."""
DAYS: Final = (dt.date(2024, 7, 1), dt.date(2024, 7, 6))
LOOKS: Final = (100, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Tiles after which memory is told."""


def made_tiles(count: int) -> list[Tile]:
    """Return so many full tiles, in the order of their ids as a run has them."""
    rows = -(-count // (len(ZONES) * len(COLS)))
    every = [
        Tile(Zone(z, True), col, row + 1) for z in ZONES for col in COLS for row in range(rows)
    ]
    return every[:count]


def made_items(ground: list[Tile]) -> list[Item]:
    """Return two dates of each square degree that a tile touches; their pixels do not exist."""
    x, y = np.array([tile.core_bounds[:2] for tile in ground], dtype=float).T
    zones = np.array([tile.epsg for tile in ground])
    squares: set[tuple[int, int]] = set()
    for epsg in np.unique(zones):
        here = zones == epsg
        for dx in (0, 20_160):
            for dy in (0, 20_160):
                lon, lat = to_geographic(int(epsg), x[here] + dx, y[here] + dy)
                squares |= set(
                    zip(np.floor(lon).astype(int), np.floor(lat).astype(int), strict=True)
                )
    return [_item(lon, lat, day) for lon, lat in sorted(squares) for day in DAYS]


def _item(lon: int, lat: int, day: dt.date) -> Item:
    outline = shapely.box(lon, lat, lon + 1, lat + 1)
    bands = ("B02", "B03", "B04", "B08", "B11", "B12", "SCL")
    name = f"S2_{lon}_{lat}_{day:%Y%m%d}"
    return Item(
        {
            "type": "Feature",
            "id": name,
            "geometry": shapely.geometry.mapping(outline),
            "properties": {
                "datetime": f"{day}T13:50:00Z",
                "eo:cloud_cover": 10.0,
                "proj:epsg": 32700 + (lon + 186) // 6,
            },
            "assets": {b: {"href": f"http://127.0.0.1:9/{name}/{b}.tif"} for b in bands},
            "links": [],
        }
    )


# What workers run in place of the two graphs


def _answered(tile_id: str, answer: Any) -> Any:
    del tile_id
    out = np.empty((), dtype=object)
    out[()] = answer if answer is not None else TileResult(_rows(), ())
    return out


@cache
def _rows() -> pa.Table:
    """Return the table of a full tile, made once a worker; it travels each time."""
    return unseen_part(Tile(Zone(21, True), 30, 40))


def _graph(step: str, tile: Tile, answer: Any) -> da.Array:
    """Return a graph of one task, as a tile's two come to be when Dask has fused them."""
    key = (f"{step}-{tile.tile_id}-{next(_COUNT)}",)
    task = Task(key, _answered, tile.tile_id, answer)
    return da.Array({key: task}, key[0], (), meta=np.empty((), dtype=object))


_COUNT: Final = itertools.count()


def _look(tile: Tile, *_: Any, **__: Any) -> da.Array:
    clear = np.ones((TILE_CELLS, TILE_CELLS))
    days = np.full((TILE_CELLS, TILE_CELLS), 3, dtype=np.uint32)
    return _graph("look", tile, DayChoice(DAYS, (1.0, 1.0), tile.mask, clear, days))


def _scan_tile(tile: Tile, *_: Any, **__: Any) -> da.Array:
    return _graph("scan", tile, None)


@contextmanager
def free_graphs() -> Iterator[None]:
    """Let the Submitter of this process make graphs that cost nothing, inside the block."""
    with (
        mock.patch.object(submit, "look", _look),
        mock.patch.object(submit, "scan_tile", _scan_tile),
    ):
        yield


@contextmanager
def cluster_apart(workers: int) -> Iterator[tuple[str, int]]:
    """Start a scheduler and workers by Dask's commands; yields the address and scheduler's pid."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "scheduler.json"
        common = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
        scheduler = subprocess.Popen(
            [*common, "--port", "0", "--scheduler-file", str(told), "--no-dashboard"],
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_end, scheduler)
        while not told.exists():
            time.sleep(0.1)
        address = json.loads(told.read_text(encoding="utf-8"))["address"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address]
        for _ in range(workers):
            process = subprocess.Popen(
                [*worker, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1",
                 "--local-directory", folder],
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(_end, process)
        yield address, scheduler.pid


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=30)


def dry_run(count: int, workers: int, apart: bool, stop_s: float) -> dict[str, Any]:
    """Run so many tiles, or as many as ``stop_s`` seconds allow; returns memory and rates."""
    ground = made_tiles(count)
    items = made_items(ground)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = ScanConfig().with_values(
            segmenter=str(tiny_segmenter(folder / "segmenter")),
            classifier=str(tiny_classifier(folder / "classifier")),
            hosts=["http://127.0.0.1"],
            catalog="items.json",
        )
        models = load_models(config)
        run, pid = RunConfig(workers=workers), None
        if apart:
            address, pid = stack.enter_context(cluster_apart(workers))
            run = RunConfig(scheduler=address)
        client = stack.enter_context(open_client(run))
        client.wait_for_workers(workers)
        stack.enter_context(free_graphs())
        submitter = submit.Submitter(client, items, models, config)
        return {"items": len(items)} | _watched(submitter, client, ground, pid, stop_s)


def _watched(
    submitter: submit.Submitter, client: Client, ground: list[Tile], pid: int | None, stop_s: float
) -> dict[str, Any]:
    looks: list[dict[str, float]] = []
    started, cpu = time.monotonic(), psutil.Process().cpu_times()
    count = 0
    for count, done in enumerate(submitter.run(ground), start=1):
        assert done.table is not None, done.report
        over = time.monotonic() - started > stop_s
        if count in LOOKS or count == len(ground) or over:
            looks.append({"tiles": count, "s": time.monotonic() - started, **_memory(client, pid)})
            print(looks[-1], file=sys.stderr, flush=True)
        if over:
            break
    used = psutil.Process().cpu_times()
    return {
        "looks": looks,
        "tiles": count,
        "cpu_s": used.user + used.system - cpu.user - cpu.system,
        "apart": pid is not None,
    }


def _memory(client: Client, pid: int | None) -> dict[str, float]:
    """Return MiB of this process and of the scheduler's, and what the scheduler remembers."""
    gc.collect()
    told = {"client_mib": psutil.Process().memory_info().rss / 2**20}
    if pid is not None:
        told["scheduler_mib"] = psutil.Process(pid).memory_info().rss / 2**20
    return told | client.run_on_scheduler(_remembered)


def _remembered(dask_scheduler: Any) -> dict[str, float]:
    return {
        "tasks": len(dask_scheduler.tasks),
        "groups": len(dask_scheduler.task_groups),
        "prefixes": len(dask_scheduler.task_prefixes),
    }


def main() -> None:
    """Run from the command line; prints JSON, or writes it where asked."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--tiles", type=int, default=1_000)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--apart", action="store_true", help="scheduler and workers by themselves")
    options.add_argument("--stop", type=float, default=900.0, help="seconds after which it stops")
    options.add_argument("--told", type=Path, help="write what was measured to this file")
    args = options.parse_args()
    told = json.dumps(dry_run(args.tiles, args.workers, args.apart, args.stop), indent=1)
    if args.told is None:
        print(told)
    else:
        args.told.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    # by its own name: of ``__main__``, Dask would send each function's code along with each tile
    from tests.benchmarks import growth_dry

    growth_dry.main()
