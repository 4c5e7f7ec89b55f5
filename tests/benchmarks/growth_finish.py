"""What comes before and after the scan, against the number of tiles: area, parts, tables, pages.

A run of many tiles is made without a scene or a model: each tile holds 36 cells of the area, one of
them a mine. Timed are the tiles of the area, the look for what is still to do, the merge of the
parts, everything that is made of it, and finding the items of each tile. What grows faster than the
tiles takes longer for each.

    python -m tests.benchmarks.growth_finish --tiles 1000 [--told FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import shapely

from scanner.area.aoi import Aoi
from scanner.area.grid import CELL_M, Tile, tiles
from scanner.config import ReportConfig
from scanner.imagery.catalog import ItemIndex
from scanner.results.finished import FinishedRun
from scanner.results.publish import publish
from scanner.run.folder import RunFolder
from scanner.run.identity import Identity
from scanner.run.merge import merge_parts
from scanner.run.pipeline import Run
from tests.benchmarks.growth_dry import made_items, made_tiles
from tests.benchmarks.memory import square
from tests.results.runs import Cell, _models, make_run

SIDE: Final = 6
"""Cells of the area on each side of a tile's square."""


def strewn(ground: list[Tile]) -> Aoi:
    """Return an area of one square of 6 x 6 cells in each tile."""
    inset = 10 * CELL_M + 1
    return Aoi(
        "strewn", shapely.MultiPolygon([square(t, inset, SIDE * CELL_M - 2) for t in ground])
    )


def measure(count: int, folder: Path) -> dict[str, Any]:
    """Return seconds and MiB of each step."""
    ground = made_tiles(count)
    aoi = strewn(ground)
    middle = [(t, *t.cells[0]) for t in tiles(aoi)]
    mines = {t.tile_id: t.cell_id(row, col) for t, row, col in middle}
    made = make_run(folder, {cell: Cell(0.9, barren_ha=2) for cell in mines.values()}, aoi=aoi)
    home, settings = RunFolder(folder), made.config
    told: dict[str, Any] = {"tiles": count, "steps": {}}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        started = time.process_time()
        yield
        told["steps"][step] = time.process_time() - started
        told["mib"] = psutil.Process().memory_info().rss / 2**20

    with timed("tiles of the area"):
        found = tiles(aoi)
    items = made_items(ground)
    told["items"] = len(items)
    for item in items:
        _ = item.footprint  # checked by the search, long before
    with timed("items of each tile"):
        index = ItemIndex(items)
        assert all(index.of_tile(tile) for tile in found)
    identity = Identity.read(home.identity)
    run = Run(settings, aoi, found, made.items, _models("m", 0.5), home, identity)
    with timed("what is to do"):
        assert not run.todo()
    with timed("merge"):
        summary = merge_parts(run)
    assert summary["detections"] == len(found), summary["detections"]
    with timed("all that is made of it"):
        publish(FinishedRun(folder, summary), ReportConfig())
    return told


def main() -> None:
    """Run from the command line; prints JSON, or writes it where asked."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--tiles", type=int, default=1_000)
    options.add_argument("--told", type=Path, help="write what was measured to this file")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = json.dumps(measure(args.tiles, Path(folder) / "run"), indent=1)
    if args.told is None:
        print(told)
    else:
        args.told.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
