"""SegFormer per chunk through ``map_blocks``, the halo cut off.

Windows lie on a lattice fixed to the tile: 800 px (25 x 32, what SegFormer's strides want) every
672 px tile the core of 2016 px exactly 3 x 3, each seen with a margin of 64 px. A window that holds
no cell of the AOI is skipped, never moved, so a pixel's class depends on nothing but the tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from scanner.area.grid import CELL_PX, CORE_PX, HALO_PX, Tile
from scanner.models.ref import ModelRef

if TYPE_CHECKING:  # torch loads where a model does, on the workers
    from scanner.models.segmenter import Segmenter

WINDOW: Final = 800
"""Pixels a side one forward pass sees."""

MARGIN: Final = HALO_PX
"""Pixels of a window that only give context."""

STRIDE: Final = WINDOW - 2 * MARGIN
"""Pixels of a window whose classes are kept; three of them are the core."""

APRON: Final = 16
"""Pixels kept around the core, so that smoothing and ponds do not stop short at a tile's edge."""

NOT_SEGMENTED: Final = 255
"""Class of pixels no window was run for."""


def segment(image: xr.DataArray, tile: Tile, ref: ModelRef, bands: tuple[str, ...]) -> xr.DataArray:
    """Return the lazy class map (y, x), uint8, of the core plus ``APRON`` px on each side.

    ``image`` is a composite of one chunk; ``bands`` are the ones the model wants, in its order. The
    model is loaded once a worker process, from ``ref``; only the reference travels with the graph.
    """
    size = CORE_PX + 2 * APRON
    inner = slice(HALO_PX - APRON, HALO_PX + CORE_PX + APRON)
    data = image.data.map_blocks(
        _segment_block,
        tile=tile,
        ref=ref,
        index=[image.band.values.tolist().index(band) for band in bands],
        drop_axis=[0],
        chunks=((size,), (size,)),
        dtype=np.uint8,
        meta=np.empty((0, 0), dtype=np.uint8),
    )
    coords = {"y": image.y[inner], "x": image.x[inner]}
    return xr.DataArray(data, dims=("y", "x"), coords=coords, name="class")


def _segment_block(
    image: NDArray[np.float32], *, tile: Tile, ref: ModelRef, index: list[int]
) -> NDArray[np.uint8]:
    return class_map(image[index], tile.mask, ref.load())


def class_map(
    reflectance: NDArray[np.float32], mask: NDArray[np.bool_], segmenter: Segmenter
) -> NDArray[np.uint8]:
    """Run the windows of one chunk; returns classes of the core plus ``APRON`` px a side.

    Args:
        reflectance: (band, 2144, 2144), 0..1, NaN nodata.
        mask: (42, 42), the AOI's cells.
        segmenter: anything with ``class_map``.
    """
    size = CORE_PX + 2 * APRON
    out = np.full((size, size), NOT_SEGMENTED, dtype=np.uint8)
    cells = STRIDE // CELL_PX
    apron: list[tuple[slice, slice, NDArray[np.uint8]]] = []
    for i in range(CORE_PX // STRIDE):
        for j in range(CORE_PX // STRIDE):
            if not mask[i * cells : (i + 1) * cells, j * cells : (j + 1) * cells].any():
                continue
            top, left = i * STRIDE, j * STRIDE
            window = reflectance[:, top : top + WINDOW, left : left + WINDOW]
            if np.isnan(window[0]).all():
                continue
            classes = segmenter.class_map(window[None])[0]
            keep = slice(MARGIN, MARGIN + STRIDE)
            out[APRON + top : APRON + top + STRIDE, APRON + left : APRON + left + STRIDE] = classes[
                keep, keep
            ]
            wide = slice(MARGIN - APRON, MARGIN + STRIDE + APRON)
            rows, cols = (
                slice(top, top + STRIDE + 2 * APRON),
                slice(left, left + STRIDE + 2 * APRON),
            )
            apron.append((rows, cols, classes[wide, wide]))
    for rows, cols, classes in apron:  # only where no window has its own say
        np.copyto(out[rows, cols], classes, where=out[rows, cols] == NOT_SEGMENTED)
    return out
