"""Rasters that share a grid of pixels, read a window at a time.

The tiles of a UTM zone share one grid, so a window over several of them is put together exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from scanner.area.grid import CELL_PX, CORE_PX, PIXEL_M, TILE_CELLS, Tile
from scanner.detection.segment import NOT_SEGMENTED
from scanner.results.maps.grids import Bounds, Box, Grid, moved_bounds

MAX_SHRINK: Final = 32
"""A tile is shrunk to every 32nd pixel at most: the largest power of 2 in its 2016."""
OPAQUE: Final = 128
"""Opacity from which a pixel of a picture is there."""
_EQUATOR_SOUTH: Final = 10_000_000


Source = tuple[Tile, Callable[[], Path]]
"""A tile and what gives its raster, the digest checked."""


@dataclass(frozen=True)
class Piece:
    """A raster file, where its first pixel lies on its layer's grid, and its rows and columns."""

    path: Callable[[], Path]
    """Gives the file, once its digest was checked."""
    col: int
    row: int
    shape: tuple[int, int]
    tile: Tile | None = None


@dataclass(frozen=True)
class Layer:
    """Rasters on one grid, none over another: the tiles of a zone, or one file with overviews."""

    grid: Grid
    """The grid around all of them."""
    pieces: Sequence[Piece]
    planes: int
    """4 for pictures (R, G, B, opacity), 1 for classes."""
    max_shrink: int

    @cached_property
    def corners(self) -> NDArray[np.int64]:
        """Left, top, right, bottom of each piece in pixels."""
        ends = [(p.col, p.row, p.col + p.shape[1], p.row + p.shape[0]) for p in self.pieces]
        return np.array(ends, dtype=np.int64)

    @cached_property
    def _placed(self) -> dict[str, NDArray[np.float64]]:
        return {}

    def places(self, crs: str) -> NDArray[np.float64]:
        """Return left, bottom, right, top of each piece in another CRS."""
        if crs not in self._placed:
            bounds = [self.grid.part(box).bounds for box in self.corners.tolist()]
            self._placed[crs] = np.array([moved_bounds(self.grid.crs, crs, one) for one in bounds])
        return self._placed[crs]

    def window(self, grid: Grid) -> tuple[Box, int] | None:
        """Return what to read for a grid, and by what power of 2 to shrink it.

        The sides are multiples of that power, so that blocks of one picture agree. ``None`` where
        no piece lies there.
        """
        near, part = self._near(grid)
        if part is None:
            return None
        west, south, east, north = moved_bounds(grid.crs, self.grid.crs, part)
        x = (np.array([west, east]) - self.grid.left) / self.grid.dx
        y = (self.grid.top - np.array([north, south])) / self.grid.dy
        across = np.ptp(x) / max((part[2] - part[0]) / grid.dx, 1e-9)
        down = np.ptp(y) / max((part[3] - part[1]) / grid.dy, 1e-9)
        shrink = min(2 ** int(np.log2(max(across, down, 1.0)) + 1e-6), self.max_shrink)
        hull = self.corners[near]
        low = np.maximum([x[0] - 2 * shrink, y[0] - 2 * shrink], hull[:, :2].min(axis=0))
        high = np.minimum([x[1] + 2 * shrink, y[1] + 2 * shrink], hull[:, 2:].max(axis=0))
        left, top = (int(value // shrink) * shrink for value in low)
        right, bottom = (-int(-value // shrink) * shrink for value in high)
        if left >= right or top >= bottom:  # near in degrees, and yet beside it
            return None
        return (left, top, right, bottom), shrink

    def _near(self, grid: Grid) -> tuple[NDArray[np.bool_], Bounds | None]:
        """Return the pieces near a grid, and the part of its bounds they may lie in."""
        west, south, east, north = grid.bounds
        places = self.places(grid.crs)
        near = (places[:, 0] < east) & (places[:, 2] > west)
        near &= (places[:, 1] < north) & (places[:, 3] > south)
        if not near.any():
            return near, None
        low, high = places[near, :2].min(axis=0), places[near, 2:].max(axis=0)
        part = max(west, low[0]), max(south, low[1]), min(east, high[0]), min(north, high[1])
        return near, (float(part[0]), float(part[1]), float(part[2]), float(part[3]))

    def read(self, box: Box, shrink: int) -> NDArray[np.uint8]:
        """Return (plane, y, x) of a window, a picture's bands multiplied by its opacity."""
        left, top, right, bottom = box
        shape = (self.planes, (bottom - top) // shrink, (right - left) // shrink)
        found = np.full(shape, empty(self.planes), dtype=np.uint8)
        for index in self._under(box):
            piece, corner = self.pieces[index], self.corners[index]
            x0, y0 = np.maximum(corner[:2], box[:2]).tolist()
            x1, y1 = np.minimum(corner[2:], box[2:]).tolist()
            window = Window(x0 - piece.col, y0 - piece.row, x1 - x0, y1 - y0)
            with opened(piece.path()) as source:
                pixels = read_window(source, window, shrink)
            row, col = (y0 - top) // shrink, (x0 - left) // shrink
            found[:, row : row + pixels.shape[1], col : col + pixels.shape[2]] = pixels
        return found

    def _under(self, box: Box) -> list[int]:
        """Return the pieces that share pixels with a window: found all at once, there are many."""
        left, top, right, bottom = self.corners.T
        shares = (left < box[2]) & (right > box[0]) & (top < box[3]) & (bottom > box[1])
        return np.flatnonzero(shares).tolist()

    def owned(self, box: Box) -> tuple[NDArray[np.uint8], Grid]:
        """Return which cells of a window are the run's, and the grid of those cells."""
        left, top = (value // CELL_PX for value in box[:2])
        right, bottom = (-(-value // CELL_PX) for value in box[2:])
        mask = np.zeros((bottom - top, right - left), dtype=np.uint8)
        cells = (left * CELL_PX, top * CELL_PX, right * CELL_PX, bottom * CELL_PX)
        for piece in (self.pieces[index] for index in self._under(cells)):
            col, row = piece.col // CELL_PX, piece.row // CELL_PX
            x0, x1 = max(col, left), min(col + TILE_CELLS, right)
            y0, y1 = max(row, top), min(row + TILE_CELLS, bottom)
            if piece.tile is not None and x0 < x1 and y0 < y1:
                inside = piece.tile.mask[y0 - row : y1 - row, x0 - col : x1 - col]
                mask[y0 - top : y1 - top, x0 - left : x1 - left] = inside
        return mask, self.grid.part(cells, CELL_PX)


def zone_layers(sources: Sequence[Source], planes: int) -> tuple[Layer, ...]:
    """Return a layer for each UTM zone of the tiles.

    Both hemispheres of a zone share a grid, that of the southern one, whose metres run on.
    """
    return tuple(
        _zone_layer([one for one in sources if one[0].zone.number == number], planes)
        for number in sorted({tile.zone.number for tile, _ in sources})
    )


def _zone_layer(sources: Sequence[Source], planes: int) -> Layer:
    south = any(tile.zone.south for tile, _ in sources)
    corners = []
    for tile, _ in sources:
        left, _, _, top = tile.core_bounds
        corners.append((left, top + (_EQUATOR_SOUTH if south and not tile.zone.south else 0)))
    left, top = min(x for x, _ in corners), max(y for _, y in corners)
    pieces = tuple(
        Piece(path, (x - left) // PIXEL_M, (top - y) // PIXEL_M, (CORE_PX, CORE_PX), tile)
        for (tile, path), (x, y) in zip(sources, corners, strict=True)
    )
    shape = (max(p.row for p in pieces) + CORE_PX, max(p.col for p in pieces) + CORE_PX)
    epsg = (32700 if south else 32600) + sources[0][0].zone.number
    grid = Grid(f"EPSG:{epsg}", left, top, PIXEL_M, PIXEL_M, shape)
    return Layer(grid, pieces, planes, MAX_SHRINK)


def file_layer(path: Path, planes: int) -> Layer:
    """Return the layer of one raster with overviews."""
    with rasterio.open(path, driver="GTiff") as source:
        crs, affine, shape = f"EPSG:{source.crs.to_epsg()}", source.transform, source.shape
        largest = max(source.overviews(1), default=1)
    grid = Grid(crs, affine.c, affine.f, affine.a, -affine.e, shape)
    return Layer(grid, (Piece(lambda: path, 0, 0, shape),), planes, largest)


def empty(planes: int) -> int:
    """Return the value of what is not there: transparent in a picture, 255 in classes."""
    return 0 if planes == 4 else NOT_SEGMENTED


def opened(path: Path) -> Any:
    """Open a raster of a run."""
    return rasterio.open(path, driver="GTiff")


def read_window(source: Any, window: Window, shrink: int = 1) -> NDArray[np.uint8]:
    """Return (plane, y, x) of a window of an open raster, a picture's bands by its opacity."""
    own = 1 if not source.overviews(1) else shrink  # a tile has none: it is shrunk here
    shape = (-(-int(window.height) // own), -(-int(window.width) // own))
    pixels = source.read(window=window, out_shape=(source.count, *shape))
    if MaskFlags.per_dataset in source.mask_flag_enums[0]:
        opacity = source.dataset_mask(window=window, out_shape=shape)
        pixels = np.concatenate([pixels, opacity[None]])
    return _shrunk(pixels, shrink // own)


def _shrunk(pixels: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    """Return the mean of each square of a picture, or the class in its middle."""
    planes, rows, cols = pixels.shape
    if shrink > 1 and planes == 1:
        return pixels[:, shrink // 2 :: shrink, shrink // 2 :: shrink]
    pixels = _multiplied(pixels)
    if shrink == 1:
        return pixels
    squares = pixels.reshape(planes, rows // shrink, shrink, cols // shrink, shrink)
    means = squares.mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(np.rint(means).astype(np.uint8))


def _multiplied(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make what is transparent black: lossy compression may leave anything there."""
    if len(pixels) == 4 and pixels[3].min(initial=OPAQUE) < OPAQUE:
        pixels[:3] *= pixels[3] >= OPAQUE
    return pixels
