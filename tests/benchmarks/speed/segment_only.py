"""The scan's segmentation alone over the rivals' mosaic: its tiles, its windows, two processes.

Reads each tile (core and halo) of the mosaic, runs the scan's ``class_map`` with one thread a
process, and writes a GeoTIFF of classes. No dates, no cells: what the tools of ``rivals`` do.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from scanner.area.grid import CHUNK_PX, CORE_PX, HALO_PX, TILE_CELLS
from scanner.detection import segment
from scanner.detection.segment import APRON, class_map

windows_of: Any = getattr(segment, "windows_of", np.asarray)
"""What ``class_map`` takes: windows, or in versions that do not screen, cells."""


def _start(segmenter: str | None) -> None:
    global _model
    from scanner.models.segmenter import load_segmenter, set_threads

    set_threads(1)
    _model = load_segmenter(segmenter)


def _ready(seconds: float) -> None:
    """Take a while, so that each process gets one of these after its start."""
    time.sleep(seconds)


def _tile(mosaic: Path, row: int, col: int) -> NDArray[np.uint8]:
    window = Window(col * CORE_PX, row * CORE_PX, CHUNK_PX, CHUNK_PX)
    with rasterio.open(mosaic) as source:
        image = source.read(window=window)
    whole = np.ones((TILE_CELLS, TILE_CELLS), dtype=bool)
    found: Any = class_map(image, windows_of(whole), _model)
    return np.asarray(found[APRON:-APRON, APRON:-APRON])


def main() -> None:
    """Run from the command line."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--mosaic", type=Path, required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--segmenter")
    args = made.parse_args()
    with rasterio.open(args.mosaic) as source:
        profile = source.profile
        rows, cols = ((side - 2 * HALO_PX) // CORE_PX for side in source.shape)
    profile.update(count=1, dtype="uint8", nodata=255, compress="DEFLATE")
    profile.pop("predictor", None)
    places = [(row, col) for row in range(rows) for col in range(cols)]
    with (
        ProcessPoolExecutor(
            2, mp_context=get_context("spawn"), initializer=_start, initargs=(args.segmenter,)
        ) as pool,
        rasterio.open(args.out, "w", **profile) as out,
    ):
        list(pool.map(_ready, [1.0, 1.0]))
        begun = time.perf_counter()
        jobs = [pool.submit(_tile, args.mosaic, row, col) for row, col in places]
        for (row, col), job in zip(places, jobs, strict=True):
            window = Window(HALO_PX + col * CORE_PX, HALO_PX + row * CORE_PX, CORE_PX, CORE_PX)
            out.write(job.result(), 1, window=window)
    told = {"seconds": time.perf_counter() - begun}
    args.out.with_name("told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
