"""Class maps of the contenders: the mosaic that tools map, and how often classes change."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import from_bounds

from scanner.area.grid import CORE_PX, HALO_PX
from scanner.config import PixelConfig
from scanner.detection.cells import SUSPICIOUS
from scanner.detection.segment import NOT_SEGMENTED
from tests.benchmarks.common import compose_box
from tests.benchmarks.speed.park import PIXEL, ZONE
from tests.benchmarks.speed.scenes import Scenes

VISIBLE: Final = ("B02", "B03", "B04")
Bounds = tuple[float, float, float, float]


def write_mosaic(scenes: Scenes, path: Path) -> Path:
    """Write the composite of the part and a halo: GeoTIFF, three bands, float32."""
    area, park = scenes.areas["part"], scenes.park
    west, _, _, north = area.bounds(park)
    shape = (area.rows * CORE_PX + 2 * HALO_PX, area.cols * CORE_PX + 2 * HALO_PX)
    corner = Affine(PIXEL, 0, west - HALO_PX * PIXEL, 0, -PIXEL, north + HALO_PX * PIXEL)
    box = GeoBox(shape, corner, f"EPSG:{ZONE.epsg}")
    items = scenes.items(str(scenes.folder.resolve()))
    tile = park.tile(area.col, area.row)
    image, _ = compose_box(box, tile, items, VISIBLE, PixelConfig())
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=len(VISIBLE),
        dtype="float32", crs=f"EPSG:{ZONE.epsg}", transform=corner, tiled=True, blockxsize=512,
        blockysize=512, compress="DEFLATE", predictor=3,
    ) as out:  # fmt: skip
        out.write(image[: len(VISIBLE)])
    return path


def changes_in(path: Path, bounds: Bounds, stride: int) -> dict[str, float]:
    """Return ``changes`` of a class map within ``bounds``, a window every ``stride`` px.

    Of its classes, and of the side of ``SUSPICIOUS`` they are on.
    """
    with rasterio.open(path) as source:
        window = from_bounds(*bounds, source.transform).round_offsets().round_lengths()
        classes = source.read(1, window=window)
    lines = range(stride, max(classes.shape), stride)
    known = classes != NOT_SEGMENTED
    side = np.where(known, np.isin(classes, SUSPICIOUS), NOT_SEGMENTED).astype(np.uint8)
    found = changes(side, lines)
    return changes(classes, lines) | {f"{name}, suspicious": one for name, one in found.items()}


def changes(classes: NDArray[np.uint8], lines: range) -> dict[str, float]:
    """Return the share of neighbours that differ in class: ``across`` lines, and ``elsewhere``.

    ``lines`` are rows and columns at which a window begins.
    """
    differ = {True: 0, False: 0}
    pairs = {True: 0, False: 0}
    for one in (classes, classes.T):
        both = (one[1:] != NOT_SEGMENTED) & (one[:-1] != NOT_SEGMENTED)
        other = (one[1:] != one[:-1]) & both
        at_line = np.isin(np.arange(1, len(one)), lines)
        for place in (True, False):
            differ[place] += int(other[at_line == place].sum())
            pairs[place] += int(both[at_line == place].sum())
    return {
        name: differ[place] / pairs[place] if pairs[place] else float("nan")
        for name, place in (("across", True), ("elsewhere", False))
    }
