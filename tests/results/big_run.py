"""A finished run as large as one likes, made of one tile's pictures over and over.

    python -m tests.results.big_run FOLDER [SIDE]

makes one of SIDE x SIDE tiles (10); called again, makes its report and prints what that took.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from scanner.area.aoi import Aoi
from scanner.area.grid import CORE_PX, TILE_CELLS, Tile, Zone, tiles
from scanner.detection.rasters import EXACT, LOSSY, _encoded
from scanner.results.finished import FinishedRun, open_run
from scanner.results.maps.rasters import assemble
from scanner.results.report import write_report
from tests.results.runs import Cell, area, make_run, piece

CORNER = Tile(Zone(21, True), 20, 34)
SITES_A_TILE = 20


def make_big_run(folder: Path, side: int = 10, sites: int = SITES_A_TILE) -> FinishedRun:
    """Write a run of ``side`` x ``side`` tiles with rasters, ``sites`` sites a tile."""
    rng = np.random.default_rng(7)
    aoi = area((0, side * TILE_CELLS), (0, side * TILE_CELLS), CORNER, "Big run")
    return make_run(folder, _cells(aoi, rng, sites), aoi=aoi, rasters=_Pictures(aoi, rng))


def make_pictured_run(folder: Path) -> FinishedRun:
    """Write a run within one tile with rasters, eleven sites and some clouds."""
    rng = np.random.default_rng(3)
    aoi = area((0, 16), (0, 16), CORNER, "Pictured")
    return make_run(folder, _cells(aoi, rng, 75), aoi=aoi, rasters=_Pictures(aoi, rng))


def _cells(aoi: Aoi, rng: np.random.Generator, sites: int) -> dict[str, Cell]:
    """Return sites that touch no other, suspicious cells between them, and some clouds."""
    cells: dict[str, Cell] = {}
    apart = [(r, c) for r in range(1, TILE_CELLS, 3) for c in range(1, TILE_CELLS, 3)]
    for tile in tiles(aoi):
        chosen = rng.choice(len(apart), size=min(sites * 5, len(apart)), replace=False)
        for index, place in enumerate(chosen):
            row, col = apart[place]
            score = round(float(rng.uniform(0.5, 1) if index < sites else rng.uniform(0, 0.5)), 4)
            found = [_scar(tile, row, col, rng)] if index < sites else []
            cells[tile.cell_id(row, col)] = Cell(score, pieces=found)
        for row in range(6):
            cells.setdefault(tile.cell_id(row, 0), Cell(clear=0.1, days=()))
    return cells


def _scar(tile: Tile, row: int, col: int, rng: np.random.Generator) -> dict[str, object]:
    """Return bare ground with the ragged outline that pixels give."""
    noise = cv2.GaussianBlur(rng.standard_normal((48, 48)), (0, 0), 4)
    pixels = np.argwhere(noise > np.quantile(noise, 0.8))
    xmin, _, _, ymax = tile.cell_bounds(row, col)
    boxes = [shapely.box(xmin + 10 * x, ymax - 10 * y - 10, xmin + 10 * x + 10, ymax - 10 * y)
             for y, x in pixels.tolist()]  # fmt: skip
    ground = max(shapely.get_parts(shapely.union_all(boxes)), key=lambda part: part.area)
    return piece("barren", ground)


class _Pictures(Mapping[str, Mapping[str, bytes]]):
    """Rasters of each tile, those of the first one moved there when they are asked for."""

    def __init__(self, aoi: Aoi, rng: np.random.Generator) -> None:
        self._tiles = {tile.tile_id: tile for tile in tiles(aoi)}
        first = next(iter(self._tiles.values()))
        classes, light = _ground(rng)
        suspicious = np.isin(classes, (1, 2, 3, 4)).astype(np.uint8)
        self._place = first
        self._first = {
            "classes": _encoded(classes[None], first, **EXACT),
            "suspicious": _encoded(suspicious[None], first, **EXACT),
            "quicklook": _encoded(light[:3], first, light[3], **LOSSY),
        }

    def __getitem__(self, tile_id: str) -> Mapping[str, bytes]:
        tile = self._tiles[tile_id]
        return {name: _moved(content, self._place, tile) for name, content in self._first.items()}

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._tiles)

    def __len__(self) -> int:
        return len(self._tiles)


def _ground(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return classes and RGBA of ground as busy as any: patches of all sizes, and noise."""
    shape = (CORE_PX, CORE_PX)
    rough = sum(
        weight * _field(rng, shape, sigma) for sigma, weight in ((2, 0.5), (12, 1.0), (90, 1.5))
    )
    classes = np.digitize(rough, np.quantile(rough, (0.02, 0.04, 0.05, 0.09, 0.16, 0.9)))
    colours = np.array([[90, 60, 50, 50, 170, 40, 90], [90, 60, 50, 70, 140, 70, 110],
                        [80, 60, 50, 80, 100, 45, 60]])  # fmt: skip
    light = colours[:, classes] + 18 * rough + rng.normal(0, 4, shape)
    opaque = np.full((1, *shape), 255)
    return classes.astype(np.uint8), np.concatenate([light.clip(0, 255), opaque]).astype(np.uint8)


def _field(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> NDArray[np.float64]:
    small = tuple(max(8, int(3 * side / sigma)) for side in shape)
    field = cv2.resize(rng.standard_normal(small), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / field.std())


def _moved(content: bytes, first: Tile, tile: Tile) -> bytes:
    """Return a GeoTIFF of one tile as one of another: only its tie point is written anew."""
    old, new = (struct.pack("<2d", one.core_bounds[0], one.core_bounds[3]) for one in (first, tile))
    assert content.count(old) == 1
    return content.replace(old, new)


def _most_memory() -> float:
    """Return the most this process has held, MiB; Linux alone tells it."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Make a run, or of one that is there its rasters and report; print what that took as JSON."""
    folder, side = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10
    if not (folder / "run.json").exists():
        make_big_run(folder, side)
        return
    run = open_run(folder)
    assemble(run)
    wall, cpu = time.perf_counter(), time.process_time()
    page = write_report(run)
    told = {
        "tiles": len(run.tiles),
        "sites": len(run.sites),
        "megabytes": round(page.stat().st_size / 1e6, 2),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "memory_mib": round(_most_memory()),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
