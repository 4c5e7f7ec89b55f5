"""Memory: of a worker on one full tile, and of the client (with the scheduler) on 4 and 40 tiles.

Worker: one tile whose 1764 cells all lie in the AOI, 36 dates in the catalog, default settings,
one worker. Each date is a granule that covers core and halo (2200 px of noise over forest-like
reflectance, SCL with more or less cloud); six granules are made, the other dates are hard links to
them, so that every date is a file of its own to GDAL. The peak of the worker is the larger of what
psutil saw every 0.2 s and ``VmHWM`` of /proc (Linux), read before it ends. Limit: 2.5 GiB.

Client: 40 neighbouring tiles with one small square of AOI in each (one window a tile), three small
scenes a tile, tiny models. The process holds the client and, in Dask's LocalCluster, the
scheduler. Told is its memory after every few tiles; growth from the 4th to the 40th is what
100,000 tiles would multiply.

Each part runs in a process of its own, so that neither sees the other's memory.

    python -m tests.benchmarks.memory [--segmenter DIR] [--classifier DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import shapely
from numpy.typing import NDArray

from scanner.area.grid import CELL_M, TILE_M, Tile, Zone, to_geographic
from scanner.config import ScanConfig
from scanner.imagery.bands import Scl
from scanner.imagery.item import Item
from tests.benchmarks.common import (
    chosen_models,
    machine,
    named,
    parser,
    table,
    tell,
)
from tests.models_tiny import tiny_classifier, tiny_segmenter
from tests.synth import make_item, write_collection

LIMIT_GIB: Final = 2.5
DATES: Final = 36
MADE: Final = 6
"""Granules really made; the other dates are hard links."""

GRANULE_PX: Final = 2200
TILE: Final = Tile(Zone(21, True), 30, 40)
"""A tile far from any seam."""

MANY: Final = 40
TOLD: Final = (4, 10, 20, 30, 40)
"""Tiles after which the client's memory is told."""

EVERY_S: Final = 0.2


def noise_bands(seed: int, cloudy: float, size: int) -> dict[str, NDArray[Any]]:
    """Return B02, B03, B04 and the SCL of a granule: noise over forest, ``cloudy`` of it cloud."""
    rng = np.random.default_rng(seed)
    bands: dict[str, NDArray[Any]] = {}
    for name, level in (("B02", 1250), ("B03", 1450), ("B04", 1300)):
        dn = rng.normal(level, 60, (size, size))
        bands[name] = dn.clip(1, 60_000).astype(np.uint16)
    blocks = rng.random((size // 40 + 1, size // 40 + 1)) < cloudy
    cloud = np.kron(blocks, np.ones((20, 20), dtype=bool))[: size // 2, : size // 2]
    bands["SCL"] = np.where(cloud, Scl.CLOUD_HIGH, Scl.VEGETATION).astype(np.uint8)
    return bands


def full_tile_items(folder: Path) -> list[Item]:
    """Write 36 dates over one tile; returns their items."""
    west, _, _, north = TILE.bounds
    corner = {"epsg": TILE.epsg, "west": west - 280, "north": north + 280}
    items: list[Item] = []
    for date in range(DATES):
        stamp = f"2024-{1 + date // 6:02d}-{1 + 5 * (date % 6):02d}T13:50:00Z"
        if date < MADE:
            bands = noise_bands(date, 0.1 + 0.15 * date, GRANULE_PX)
            items.append(make_item(folder, f"date-{date:02d}", bands, datetime=stamp, **corner))
        else:
            items.append(_linked(folder, items[date % MADE], f"date-{date:02d}", stamp))
    return items


def _linked(folder: Path, item: Item, name: str, stamp: str) -> Item:
    """Return an item of another date whose files are hard links to those of ``item``."""
    raw = json.loads(json.dumps(item.raw))
    raw["id"], raw["properties"]["datetime"] = name, stamp
    (folder / name).mkdir()
    for band, asset in raw["assets"].items():
        copy = folder / name / f"{band}.tif"
        copy.hardlink_to(asset["href"])
        asset["href"] = str(copy)
    return Item(raw)


def square(tile: Tile, inset: float, side: float) -> shapely.Polygon:
    """Return a square in EPSG:4326 whose corner lies ``inset`` metres inside a tile's core."""
    x, y, _, _ = tile.core_bounds
    box = shapely.segmentize(shapely.box(0, 0, side, side), 2000)
    there = shapely.transform(box, lambda c: c + np.array([x + inset, y + inset]))
    return shapely.transform(there, lambda c: np.column_stack(to_geographic(tile.epsg, *c.T)))


def many_tiles(folder: Path, count: int = MANY) -> tuple[shapely.MultiPolygon, list[Item]]:
    """Write three small scenes in each of some tiles; returns an AOI of squares and the items."""
    squares, items = [], []
    bands = noise_bands(0, 0.2, 200)
    for number in range(count):
        tile = Tile(TILE.zone, 22 + number % 8, 40 + number // 8)
        squares.append(square(tile, 1.2 * CELL_M, 0.5 * CELL_M))
        west, south, _, _ = tile.core_bounds
        items += [
            make_item(
                folder, f"{tile.tile_id}-{day}", bands, epsg=tile.epsg, west=west,
                north=south + 2000, datetime=f"2024-07-{1 + 5 * day:02d}T13:50:00Z",
            )
            for day in range(3)
        ]  # fmt: skip
    return shapely.MultiPolygon(squares), items


def write_area(path: Path, area: shapely.Geometry) -> Path:
    """Write a geometry as a GeoJSON Feature."""
    feature = {
        "type": "Feature", "properties": {"name": path.stem},
        "geometry": shapely.geometry.mapping(area),
    }  # fmt: skip
    path.write_text(json.dumps(feature), encoding="utf-8")
    return path


class Peaks:
    """Highest memory of each child process, by what psutil and the kernel tell, in bytes."""

    def __init__(self) -> None:
        self.sampled: dict[int, int] = {}
        self.kernel: dict[int, int] = {}

    def sample(self) -> None:
        """Look once at every child."""
        for child in psutil.Process().children(recursive=True):
            try:
                rss = child.memory_info().rss
                self.sampled[child.pid] = max(rss, self.sampled.get(child.pid, 0))
                self.kernel[child.pid] = _vm_hwm(child.pid)
            except (psutil.Error, OSError):
                continue

    @property
    def worker(self) -> tuple[int, int]:
        """The largest child: its sampled peak and the kernel's (0 where it tells none)."""
        pid = max(self.sampled, key=lambda one: self.sampled[one])
        return self.sampled[pid], self.kernel.get(pid, 0)


def _vm_hwm(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(one.split()[1]) * 1024 for one in lines if one.startswith("VmHWM")), 0)


@contextmanager
def watched(peaks: Peaks) -> Iterator[None]:
    """Sample the children every 0.2 s for as long as the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_S):
            peaks.sample()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def scan_watched(config: ScanConfig) -> dict[str, Any]:
    """Run a scan in this process; returns peaks of the worker, own memory and time by tiles."""
    from scanner.run.pipeline import prepare

    run = prepare(config)
    peaks, own, at, failed = Peaks(), {}, {}, []
    started = time.monotonic()
    with watched(peaks):
        for count, report in enumerate(run.scan(), start=1):
            failed += [] if report else [report.reason]
            at[count] = time.monotonic() - started
            gc.collect()
            own[count] = psutil.Process().memory_info().rss
            peaks.sample()
    seconds = time.monotonic() - started
    run.finish()
    sampled, kernel = peaks.worker
    return {
        "worker_sampled": sampled,
        "worker_kernel": kernel,
        "own": own,
        "at": at,
        "own_finished": psutil.Process().memory_info().rss,
        "seconds": seconds,
        "failed": failed,
    }


def worker_part(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Scan one full tile."""
    items = write_collection(folder / "items.json", full_tile_items(folder))
    area = write_area(folder / "tile.geojson", square(TILE, 5, TILE_M - 10))
    return scan_watched(
        ScanConfig().with_values(
            aoi=area,
            catalog=str(items),
            out=folder / "run",
            workers=1,
            segmenter=args.segmenter,
            classifier=args.classifier,
        )
    )


def client_part(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Scan a cell or so in each of 40 tiles with tiny models."""
    area, items = many_tiles(folder)
    write_collection(folder / "items.json", items)
    return scan_watched(
        ScanConfig().with_values(
            aoi=write_area(folder / "many.geojson", area),
            catalog=str(folder / "items.json"),
            out=folder / "run",
            workers=1,
            segmenter=str(tiny_segmenter(folder / "segmenter")),
            classifier=str(tiny_classifier(folder / "classifier")),
        )
    )


PARTS: Final = {"worker": worker_part, "client": client_part}


def in_own_process(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run a part in a fresh process; returns what it measured."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", "--part", part]
    for name in ("segmenter", "classifier"):
        if getattr(args, name) is not None:
            command += [f"--{name}", getattr(args, name)]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        subprocess.run([*command, "--told", str(told)], check=True)
        return json.loads(told.read_text(encoding="utf-8"))


def gib(size: float) -> str:
    return f"{size / 2**30:.2f}"


def mib(size: float) -> str:
    return f"{size / 2**20:.1f}"


def worker_table(told: dict[str, Any]) -> str:
    """Return the table of the worker's peak."""
    peak = max(told["worker_sampled"], told["worker_kernel"])
    row = [
        f"1 full tile, {DATES} dates", gib(told["worker_sampled"]),
        gib(told["worker_kernel"]) if told["worker_kernel"] else "not told here",
        f"{LIMIT_GIB:g}", "yes" if peak < LIMIT_GIB * 2**30 else "**no**",
        f"{told['seconds']:.0f}",
    ]  # fmt: skip
    return table(["run", "sampled, GiB", "VmHWM, GiB", "limit, GiB", "kept", "seconds"], [row])


def client_table(own: dict[str, int]) -> str:
    """Return the table of the client's memory by tiles done."""
    first = own[str(TOLD[0])]
    rows: list[Sequence[object]] = [
        [count, mib(own[str(count)]), mib(own[str(count)] - first)] for count in TOLD
    ]
    return table(["tiles done", "client and scheduler, MiB", "more than after 4, MiB"], rows)


def run(args: argparse.Namespace) -> None:
    """Measure both parts and print."""
    models = chosen_models(args)
    worker = in_own_process("worker", args)
    client = in_own_process("client", args)
    failed = worker["failed"] + client["failed"]
    tell(
        args,
        "Peak memory of a worker at default settings:",
        worker_table(worker),
        f"Memory of the client's process over {MANY} tiles:",
        client_table(client["own"]),
        f"After the tables, maps and report: {mib(client['own_finished'])} MiB.",
        *([f"FAILED TILES: {failed}"] if failed else []),
        named(models) + " (the client's table: tiny models.)",
        machine(),
    )


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    options.add_argument("--told", type=Path, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.part is None:
        run(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        told = PARTS[args.part](args, Path(folder))
    args.told.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
