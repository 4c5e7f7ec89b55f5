"""The plain way: one process, windows of 512 px, SegFormer in torch eager, cells one by one.

What one writes first, and correct: every window of the area is read with rasterio from all dates
(all six bands and the SCL, files kept open), turned to reflectance, cloud and shadow left out by
the SCL, the dates averaged (where no date is clear, all of them). SegFormer of transformers sees
512 x 512 px without overlap, in batches; logits are enlarged, the largest taken. Pixels of three
rows of windows (1536 = 32 cells) are kept so that cells of 48 px can be cut from them: those with
more than 2 % or at least 20 px of building, road, water or bare ground go to the classifier, one
chip a call. Out come a GeoTIFF of classes and a parquet of scores. torch has its default threads.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window, from_bounds

from tests.benchmarks.speed.weights import Chips, Cover

BANDS: Final = ("B02", "B03", "B04", "B08", "B11", "B12")
WINDOW: Final = 512
BAND_ROWS: Final = 3 * WINDOW
CELL: Final = 48
PIXEL: Final = 10
OFFSET: Final = -1000
CLOUDY: Final = (0, 1, 3, 8, 9, 10, 11)
"""SCL classes that are no clear view of the ground."""
SUSPICIOUS: Final = (1, 2, 3, 4)
"""Building, road, water, barren."""
MOST_SHARE: Final = 0.02
MOST_PX: Final = 20

Bounds = tuple[float, float, float, float]
Floats = NDArray[np.float32]


class Dates:
    """The scenes of each date, all files open."""

    def __init__(self, items: list[dict[str, Any]], stack: ExitStack) -> None:
        self._dates: dict[str, list[dict[str, Any]]] = {}
        for item in items:
            day = item["properties"]["datetime"][:10]
            files = {
                band: stack.enter_context(rasterio.open(asset["href"]))
                for band, asset in item["assets"].items()
                if band in (*BANDS, "SCL")
            }
            self._dates.setdefault(day, []).append(files)

    def composite(self, bounds: Bounds, size: tuple[int, int]) -> Floats:
        """Return reflectance (band, rows, cols) of ``bounds``, the mean of the clear dates."""
        days, clear = [], []
        for scenes in self._dates.values():
            dn = np.stack([self._read(scenes, band, bounds, size) for band in BANDS])
            scl = self._read(scenes, "SCL", bounds, size)
            seen = dn[0] > 0
            reflectance = np.clip((dn.astype(np.float32) + OFFSET) / 10_000, 0, 1)
            reflectance[:, ~seen] = np.nan
            days.append(reflectance)
            clear.append(seen & ~np.isin(scl, CLOUDY))
        never = ~np.any(clear, axis=0)
        total = np.zeros_like(days[0])
        count = np.zeros(size, np.float32)
        for reflectance, good in zip(days, clear, strict=True):
            used = (good | never) & ~np.isnan(reflectance[0])
            total += np.where(used, reflectance, 0)
            count += used
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(count > 0, total / count, np.nan), np.float32)

    @staticmethod
    def _read(
        scenes: list[dict[str, Any]], band: str, bounds: Bounds, size: tuple[int, int]
    ) -> NDArray[Any]:
        """Read a band of a date, from the first scene that has all of it, else from all."""
        out: NDArray[Any] | None = None
        for files in scenes:
            window = from_bounds(*bounds, files[band].transform)
            window = window.round_offsets().round_lengths()
            inside = Window(0, 0, files[band].width, files[band].height)
            if not rasterio.windows.intersect(window, inside):
                continue
            whole = window == window.intersection(inside)
            found = files[band].read(1, window=window, out_shape=size, boundless=not whole)
            out = found if out is None else np.where(out == 0, found, out)
            if whole:
                break
        return np.zeros(size, np.uint16) if out is None else out


def scan(args: argparse.Namespace, dates: Dates) -> None:
    """Do it all."""
    cover, chips = Cover(args.segmenter), Chips(args.classifier)
    west, south, east, north = args.bounds
    height, width = int((north - south) / PIXEL), int((east - west) / PIXEL)
    rows: list[tuple[int, int, float, float]] = []
    with rasterio.open(
        args.out / "classes.tif", "w", driver="GTiff", height=height, width=width, count=1,
        dtype="uint8", crs=f"EPSG:{args.epsg}", tiled=True, blockxsize=512, blockysize=512,
        transform=Affine(PIXEL, 0, west, 0, -PIXEL, north), nodata=255, compress="DEFLATE",
    ) as out:  # fmt: skip
        for top in range(0, height, BAND_ROWS):
            high = min(BAND_ROWS, height - top)
            image = np.empty((len(BANDS), high, width), np.float32)
            classes = np.empty((high, width), np.uint8)
            windows = [
                (y, x, min(WINDOW, high - y), min(WINDOW, width - x))
                for y in range(0, high, WINDOW)
                for x in range(0, width, WINDOW)
            ]
            for start in range(0, len(windows), args.batch):
                group = windows[start : start + args.batch]
                for y, x, h, w in group:
                    left, upper = west + PIXEL * x, north - PIXEL * (top + y)
                    bounds = (left, upper - PIXEL * h, left + PIXEL * w, upper)
                    image[:, y : y + h, x : x + w] = dates.composite(bounds, (h, w))
                _classify_ground(cover, image, classes, group)
            out.write(classes, 1, window=Window(0, top, width, high))
            rows += _score_cells(chips, image, classes, top)
    cells = pd.DataFrame(rows, columns=["row", "col", "suspicious_fraction", "score"])
    cells.to_parquet(args.out / "cells.parquet")
    told = {"cells": len(cells), "classified": int(cells.score.notna().sum())}
    (args.out / "told.json").write_text(json.dumps(told))


def _classify_ground(
    cover: Cover, image: Floats, classes: NDArray[np.uint8], group: list[tuple[int, int, int, int]]
) -> None:
    """Fill in the classes of a batch of windows; those at the edge are padded."""
    batch = np.zeros((len(group), 3, WINDOW, WINDOW), np.float32)
    for number, (y, x, h, w) in enumerate(group):
        batch[number, :, :h, :w] = image[:3, y : y + h, x : x + w]
    with torch.inference_mode():
        found = cover(torch.from_numpy(batch)).argmax(1).to(torch.uint8).numpy()
    for number, (y, x, h, w) in enumerate(group):
        classes[y : y + h, x : x + w] = found[number, :h, :w]


def _score_cells(
    chips: Chips, image: Floats, classes: NDArray[np.uint8], top: int
) -> list[tuple[int, int, float, float]]:
    """Return row, column, suspicious share and score (NaN: not classified) of the cells."""
    rows = []
    wanted = [BANDS.index(band) for band in chips.bands]
    for y in range(0, classes.shape[0], CELL):
        for x in range(0, classes.shape[1], CELL):
            hits = int(np.isin(classes[y : y + CELL, x : x + CELL], SUSPICIOUS).sum())
            score = float("nan")
            if hits >= MOST_PX or hits > MOST_SHARE * CELL * CELL:
                score = chips.score(image[wanted, y : y + CELL, x : x + CELL])
            rows.append(((top + y) // CELL, x // CELL, hits / CELL**2, score))
    return rows


def main() -> None:
    """Run from the command line."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--items", type=Path, required=True)
    made.add_argument("--bounds", type=float, nargs=4, required=True, help="west south east north")
    made.add_argument("--epsg", type=int, required=True)
    made.add_argument("--segmenter")
    made.add_argument("--classifier")
    made.add_argument("--batch", type=int, default=4)
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    items = json.loads(args.items.read_text())["features"]
    quick = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": "3"}
    with rasterio.Env(**quick), ExitStack() as stack:
        scan(args, Dates(items, stack))


if __name__ == "__main__":
    main()
