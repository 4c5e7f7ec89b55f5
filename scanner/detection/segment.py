"""SegFormer per chunk through ``map_blocks``, the halo cut off.

Windows lie on a lattice fixed to the tile: 800 px (25 x 32, what SegFormer's strides want) every
672 px tile the core of 2016 px exactly 3 x 3, each seen with a margin of 64 px. A window that holds
no cell to look at is skipped, never moved, so a pixel's class depends on nothing but the tile; and
where it is skipped its pixels need not be read (:func:`areas_of`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from scanner.area.grid import CELL_PX, CORE_PX, HALO_PX
from scanner.imagery.readers import Area
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

SIDE: Final = CORE_PX // STRIDE
"""Windows along a tile's side."""

WINDOW_CELLS: Final = STRIDE // CELL_PX
"""Cells along the kept part of a window."""


def windows_of(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which windows (3, 3) hold any of ``cells`` (42, 42)."""
    blocks = cells.reshape(SIDE, WINDOW_CELLS, SIDE, WINDOW_CELLS)
    return np.asarray(blocks.any(axis=(1, 3)))


def cells_of(windows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which cells (42, 42) the kept parts of ``windows`` (3, 3) hold."""
    return np.kron(windows, np.ones((WINDOW_CELLS, WINDOW_CELLS), dtype=bool))


def areas_of(windows: NDArray[np.bool_], joined: bool = True) -> tuple[Area, ...]:
    """Return the parts of a chunk (2144 px a side) that ``windows`` (3, 3) see, none twice.

    They are the pieces that the edges of all windows cut the chunk into. ``joined`` makes one of
    those that lie side by side: fewer and larger reads. Not joined, a piece is the same one
    whatever windows are wanted, which a warped read needs to give the same pixels.
    """
    starts = [side * STRIDE for side in range(SIDE)]
    edges = sorted({*starts, *(start + WINDOW for start in starts)})
    inside = np.array(
        [[start <= edge < start + WINDOW for start in starts] for edge in edges[:-1]], dtype=int
    )
    seen = inside @ windows.astype(int) @ inside.T > 0
    areas: dict[tuple[int, int], Area] = {}
    found: list[Area] = []
    for row, (top, bottom) in enumerate(pairwise(edges)):
        runs = _runs(seen[row], edges) if joined else _pieces(seen[row], edges)
        above, areas = areas, {}
        for left, right in runs:
            start = above.pop((left, right), None) if joined else None
            areas[left, right] = (top if start is None else start[0], left, bottom, right)
        found += above.values()
    return tuple(sorted([*found, *areas.values()]))


def _pieces(seen: NDArray[np.bool_], edges: list[int]) -> list[tuple[int, int]]:
    return [ends for ends, one in zip(pairwise(edges), seen, strict=True) if one]


def _runs(seen: NDArray[np.bool_], edges: list[int]) -> list[tuple[int, int]]:
    turns = np.flatnonzero(np.diff(seen.astype(int), prepend=0, append=0))
    return [(edges[first], edges[last]) for first, last in turns.reshape(-1, 2).tolist()]


@dataclass(frozen=True)
class Segmented:
    """A picture and its class map: what is made of both is one chain, which Dask fuses.

    As two arrays they would be held, and could be sent to another worker.
    """

    image: NDArray[np.float32]
    """The composite, (band + 1, 2144, 2144)."""
    classes: NDArray[np.uint8]
    """Classes of the core plus ``APRON`` px a side."""


def segment(
    image: xr.DataArray, windows: NDArray[np.bool_], ref: ModelRef, bands: tuple[str, ...]
) -> da.Array:
    """Return, lazily, a 0-d object array holding the :class:`Segmented` of a chunk.

    Args:
        image: a composite of one chunk.
        windows: (3, 3), which are run.
        ref: the model, loaded once a worker process; only the reference travels with the graph.
        bands: the ones the model wants, in its order.
    """
    names = image.band.values.tolist()
    index = [names.index(band) for band in bands]
    return image.data.map_blocks(
        _segment_block,
        windows=windows,
        ref=ref,
        # a slice copies nothing
        index=slice(len(index)) if index == [*range(len(index))] else index,
        drop_axis=[0, 1, 2],
        dtype=object,
        meta=np.empty((), dtype=object),
    )


def _segment_block(
    image: NDArray[np.float32],
    *,
    windows: NDArray[np.bool_],
    ref: ModelRef,
    index: list[int] | slice,
) -> NDArray[np.object_]:
    out = np.empty((), dtype=object)
    out[()] = Segmented(image, class_map(image[index], windows, ref.load()))
    return out


def class_map(
    reflectance: NDArray[np.float32], windows: NDArray[np.bool_], segmenter: Segmenter
) -> NDArray[np.uint8]:
    """Run the windows of one chunk; returns classes of the core plus ``APRON`` px a side.

    Args:
        reflectance: (band, 2144, 2144), 0..1, NaN nodata.
        windows: (3, 3), which to run (:func:`windows_of`).
        segmenter: anything with ``class_map`` and ``at_once``.
    """
    size = CORE_PX + 2 * APRON
    out = np.full((size, size), NOT_SEGMENTED, dtype=np.uint8)
    apron: list[tuple[slice, slice, NDArray[np.uint8]]] = []
    corners = [(i * STRIDE, j * STRIDE) for i, j in np.argwhere(windows).tolist()]
    for (top, left), classes in _class_maps(reflectance, corners, segmenter):
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


def _class_maps(
    reflectance: NDArray[np.float32], corners: Sequence[tuple[int, int]], segmenter: Segmenter
) -> Iterator[tuple[tuple[int, int], NDArray[np.uint8]]]:
    """Yield the class map (800, 800) of each window with data, by its top left corner.

    On a GPU many go together; one by one they take least memory.
    """

    def window(corner: tuple[int, int]) -> NDArray[np.float32]:
        top, left = corner
        return reflectance[:, top : top + WINDOW, left : left + WINDOW]

    seen = [corner for corner in corners if not np.isnan(window(corner)[0]).all()]
    step = segmenter.at_once
    for start in range(0, len(seen), step):
        some = seen[start : start + step]
        yield from zip(some, segmenter.class_map(np.stack([*map(window, some)])), strict=True)
