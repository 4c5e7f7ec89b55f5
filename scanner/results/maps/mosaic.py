"""The tiles' rasters as one picture on any grid, a block at a time.

Tiles of a zone are put together before they are resampled, so no seam shows between them. Where two
zones overlap, the zone whose cell it is wins, as in ``cells.parquet``. A picture's bands are
multiplied by its opacity while it is resampled, so that what is transparent never darkens an edge.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject

from scanner.results.maps.grids import Box, Grid
from scanner.results.maps.layers import OPAQUE, Layer, empty
from scanner.results.palette import coloured

BLOCK_PX: Final = 1024
"""Side of the blocks a picture is made in: they bound the memory."""
THREADS: Final = min(os.cpu_count() or 1, 4)
"""Threads that warp and compress; pixels and bytes do not depend on them."""
_SMALL_PX: Final = 512 * 512


def render(layers: Sequence[Layer], grid: Grid, name: str) -> NDArray[np.uint8]:
    """Return the picture (4, y, x) of a grid; only the result lies whole in memory."""
    found = np.zeros((4, *grid.shape), dtype=np.uint8)
    for rows, cols, block in grid.blocks(BLOCK_PX):
        pixels = render_block(layers, block)
        if pixels is not None:
            found[:, rows, cols] = pixels if len(pixels) == 4 else coloured(pixels[0], name)
    return found


def render_block(layers: Sequence[Layer], grid: Grid) -> NDArray[np.uint8] | None:
    """Return (plane, y, x) of a small grid as the rasters have it, ``None`` where nothing lies."""
    touching = [(layer, *where) for layer in layers if (where := layer.window(grid)) is not None]
    touching.sort(key=lambda one: one[0].grid.crs != grid.crs)
    if not touching:
        return None
    if len(touching) == 1:
        return _plain(_moved(*touching[0], grid))
    nothing, planes = empty(touching[0][0].planes), touching[0][0].planes
    found = np.full((planes, *grid.shape), nothing, dtype=np.uint8)
    settled = np.zeros(grid.shape, dtype=bool)
    for layer, box, shrink in touching:
        pixels = _moved(layer, box, shrink, grid)
        mask, cells = layer.owned(box)
        mine = _warped(mask[None], cells, grid, 0)[0].astype(bool) & (pixels[-1] != nothing)
        np.copyto(found, pixels, where=~settled & (mine | (found[-1] == nothing)))
        settled |= mine
        if settled.all():
            break
    return _plain(found)


def _moved(layer: Layer, box: Box, shrink: int, grid: Grid) -> NDArray[np.uint8]:
    """Return a window of a layer on a grid: cut where both have the same pixels, else warped."""
    pixels, source = layer.read(box, shrink), layer.grid.part(box, shrink)
    nothing = empty(layer.planes)
    offset = _offset(source, grid)
    if offset is None:
        return _warped(pixels, source, grid, nothing)
    col, row = offset
    found = np.full((layer.planes, *grid.shape), nothing, dtype=np.uint8)
    y0, y1 = max(0, row), min(grid.shape[0], row + source.shape[0])
    x0, x1 = max(0, col), min(grid.shape[1], col + source.shape[1])
    found[:, y0:y1, x0:x1] = pixels[:, y0 - row : y1 - row, x0 - col : x1 - col]
    return found


def _offset(source: Grid, grid: Grid) -> tuple[int, int] | None:
    """Return at which pixel of a grid another begins, where they are the same otherwise."""
    if source.crs != grid.crs or not np.allclose(
        (source.dx, source.dy), (grid.dx, grid.dy), rtol=1e-6, atol=0
    ):
        return None
    col, row = (source.left - grid.left) / grid.dx, (grid.top - source.top) / grid.dy
    exact = np.allclose((col, row), (round(col), round(row)), rtol=0, atol=1e-3)
    return (round(col), round(row)) if exact else None


def _warped(pixels: NDArray[np.uint8], source: Grid, grid: Grid, nothing: int) -> NDArray[np.uint8]:
    found = np.full((len(pixels), *grid.shape), nothing, dtype=np.uint8)
    reproject(
        pixels,
        found,
        src_transform=source.affine,
        src_crs=source.crs,
        dst_transform=grid.affine,
        dst_crs=grid.crs,
        src_nodata=nothing or None,
        dst_nodata=nothing or None,
        num_threads=THREADS if grid.pixels > _SMALL_PX else 1,
        resampling=Resampling.bilinear if len(pixels) == 4 else Resampling.nearest,
    )
    return found


def _plain(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Divide a picture by its opacity again, and let each pixel be there or not."""
    if len(pixels) == 1:
        return pixels
    opacity = pixels[3]
    if opacity.min(initial=255) == 255:  # most of an area is nothing but opaque
        return pixels
    pixels *= opacity >= OPAQUE
    partly = (opacity > 0) & (opacity < 255)
    if partly.any():
        light = pixels[:3, partly] * (255 / opacity[partly].astype(np.float32))
        pixels[:3, partly] = np.rint(light).clip(0, 255).astype(np.uint8)
    opacity[partly] = 255
    return pixels
