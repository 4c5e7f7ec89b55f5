"""Public tools for inference in windows, on the same weights: geoai, terratorch, torchgeo.

Each maps a mosaic of reflectance (float32, B02 B03 B04) to a GeoTIFF of classes, windows of 800 px
every 672, as the scan's: what they share with it is the work, not the way. torch has its default
threads, a batch is 4 windows. Run with the Python of ``build/rivals`` (``make bench-rivals``).

    python -m tests.benchmarks.speed.rivals TOOL --mosaic FILE --out FILE [--segmenter DIR]
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
import torch

from tests.benchmarks.speed.weights import Cover

WINDOW: Final = 800
OVERLAP: Final = 128
STRIDE: Final = WINDOW - OVERLAP
MARGIN: Final = OVERLAP // 2
BATCH: Final = 4


def geoai(mosaic: Path, out: Path, cover: Cover) -> None:
    """``predict_geotiff`` of geoai-py, blended."""
    from geoai.inference import predict_geotiff

    predict_geotiff(
        cover, str(mosaic), str(out), tile_size=WINDOW, overlap=OVERLAP, batch_size=BATCH,
        num_classes=cover.classes, output_dtype="uint8", output_nodata=255, device="cpu",
        preprocess_fn=lambda image: image, verbose=False,
        postprocess_fn=lambda scores: scores.argmax(0)[None].astype(np.uint8),
    )  # fmt: skip


def terratorch(mosaic: Path, out: Path, cover: Cover) -> None:
    """``tiled_inference`` of terratorch on the whole mosaic in memory, blended."""
    from terratorch.tasks.tiled_inference import tiled_inference

    with rasterio.open(mosaic) as source:
        image = torch.from_numpy(source.read())[None]
    with torch.inference_mode():
        scores = tiled_inference(
            cover,
            image,
            crop=WINDOW,
            stride=STRIDE,
            delta=MARGIN // 2,
            batch_size=BATCH,
            padding=False,
        )
    _write(mosaic, out, scores[0].argmax(0).to(torch.uint8).numpy())


def torchgeo(mosaic: Path, out: Path, cover: Cover) -> None:
    """torchgeo's dataset, ``GridGeoSampler`` and the loop its users write around them."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler, Units

    class Mosaic(RasterDataset):
        filename_glob = mosaic.name

    data = Mosaic(str(mosaic.parent))
    sampler = GridGeoSampler(data, size=WINDOW, stride=STRIDE, units=Units.PIXELS)
    loader = DataLoader(data, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples)
    with rasterio.open(mosaic) as source:
        shape, transform = source.shape, source.transform
    classes = np.full(shape, 255, np.uint8)
    for batch in loader:
        with torch.inference_mode():
            found = cover(batch["image"]).argmax(1).to(torch.uint8).numpy()
        for one, where in zip(found, batch["bounds"], strict=True):
            _put(classes, one, *_corner(where, transform))
    _write(mosaic, out, classes)


def _corner(bounds: Any, transform: Any) -> tuple[int, int]:
    """Return row and column of a sample's first pixel; bounds are slices of x, y and time."""
    west, north = float(bounds[0].start), float(bounds[1].stop)
    col, row = ~transform * (west, north)
    return round(row), round(col)


def _put(classes: np.ndarray, found: np.ndarray, row: int, col: int) -> None:
    """Keep the middle of a window, at the mosaic's edge all of it."""
    height, width = classes.shape
    high, wide = min(WINDOW, height - row), min(WINDOW, width - col)
    top, left = (MARGIN if at else 0 for at in (row, col))
    bottom = high if row + high >= height else high - MARGIN
    right = wide if col + wide >= width else wide - MARGIN
    classes[row + top : row + bottom, col + left : col + right] = found[top:bottom, left:right]


def _write(mosaic: Path, out: Path, classes: np.ndarray) -> None:
    with rasterio.open(mosaic) as source:
        profile = source.profile
    profile.update(count=1, dtype="uint8", nodata=255, compress="DEFLATE")
    profile.pop("predictor", None)
    with rasterio.open(out, "w", **profile) as to:
        to.write(classes, 1)


TOOLS: Final[dict[str, Callable[[Path, Path, Cover], None]]] = {
    "geoai": geoai,
    "terratorch": terratorch,
    "torchgeo": torchgeo,
}

MODULES: Final = {
    "geoai": "geoai.inference",
    "terratorch": "terratorch.tasks.tiled_inference",
    "torchgeo": "torchgeo.datasets",
}


def main() -> None:
    """Run from the command line."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("tool", choices=sorted(TOOLS))
    made.add_argument("--mosaic", type=Path, required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--segmenter")
    args = made.parse_args()
    cover = Cover(args.segmenter)
    importlib.import_module(MODULES[args.tool])  # takes some of them a quarter of a minute
    begun = time.perf_counter()
    TOOLS[args.tool](args.mosaic, args.out, cover)
    told = {"seconds": time.perf_counter() - begun}
    args.out.with_name("told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
