"""Overviews of a mosaic, made only where it holds pixels.

An area may be a few parks strewn over the basin. GDAL would go over every pixel of the extent
around them: measured, 10 CPU seconds for 10^9 empty pixels of a class map, here 0.7 with the copy.

A level is a sparse GeoTIFF beside the one before, with ``.ovr`` behind its name: there GDAL looks
for it, and its COG driver takes it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.windows import Window

SIDE: Final = 512
"""Pixels a side of a block; the smallest level has no more."""

Block = tuple[int, int]
"""Row and column of a block."""


def blocks_of(window: Window, shown: NDArray[np.bool_]) -> set[Block]:
    """Return the blocks with pixels that are ``shown``, (y, x), in a window that begins at one."""
    (top, _), (left, _) = window.toranges()
    return {
        ((top + row) // SIDE, (left + col) // SIDE)
        for row in range(0, shown.shape[0], SIDE)
        for col in range(0, shown.shape[1], SIDE)
        if shown[row : row + SIDE, col : col + SIDE].any()
    }


def write_overviews(
    path: Path, options: Mapping[str, Any], blocks: set[Block], how: Resampling
) -> None:
    """Write the overviews of a sparse GeoTIFF beside it, each half as large as the one before.

    Args:
        path: the file.
        options: what it was created with; each level is made like it.
        blocks: those of its blocks that may hold pixels.
        how: what becomes of four pixels; those that are not there do not count.

    Raises ``RasterioError`` where the disk refuses.
    """
    while True:
        with rasterio.open(path, driver="GTiff") as source:
            if max(source.shape) <= SIDE:
                return
            rows, cols = (-(-side // 2) for side in source.shape)
            scale = source.transform.scale(source.width / cols, source.height / rows)
            smaller = {"height": rows, "width": cols, "transform": source.transform * scale}
            path = path.with_name(f"{path.name}.ovr")
            blocks = {(row // 2, col // 2) for row, col in blocks}
            with rasterio.open(path, "w", **{**options, **smaller}) as out:
                for block in sorted(blocks):
                    _halve(source, out, block, how)


def _halve(source: Any, out: Any, block: Block, how: Resampling) -> None:
    """Write a block of a level from the four of the level before."""
    window = _window(block, SIDE, out.shape)
    above, shape = _window(block, 2 * SIDE, source.shape), (window.height, window.width)
    pixels = source.read(window=above, out_shape=(source.count, *shape), resampling=how)
    out.write(pixels, window=window)
    if MaskFlags.per_dataset in source.mask_flag_enums[0]:
        there = source.read_masks(1, window=above, out_shape=shape, resampling=Resampling.average)
        out.write_mask(there > 0, window=window)


def _window(block: Block, side: int, shape: tuple[int, int]) -> Window:
    top, left = block[0] * side, block[1] * side
    return Window(left, top, min(side, shape[1] - left), min(side, shape[0] - top))
