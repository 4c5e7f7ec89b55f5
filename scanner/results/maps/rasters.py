"""The rasters of a run: whole, as ``classes.tif`` and its kin, and as pictures cut from them.

In one UTM zone the pixels are the tiles' own; over several zones they are warped to degrees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from scanner.area.grid import CELL_PX, Tile
from scanner.detection.rasters import RASTERS
from scanner.results.finished import FinishedRun
from scanner.results.maps.cogs import cog_path, credit, current_cog, write_cog
from scanner.results.maps.grids import Bounds, Grid
from scanner.results.maps.layers import file_layer, opened, read_window
from scanner.results.maps.mosaic import THREADS, render
from scanner.results.maps.raster_tiles import raster_tiles
from scanner.results.side_by_side import side_by_side

__all__ = ["assemble", "cell_pictures", "credit", "mosaic_grid", "picture", "warped"]


def assemble(run: FinishedRun) -> dict[str, Path]:
    """Write the rasters of a run as COGs into its folder; returns them by the names of ``RASTERS``.

    One whose tiles have not changed is not written again; one that no tile has is taken away.

    Raises ``RunError`` where a tile's raster was changed, ``OutputError`` where the disk refuses.
    """
    with side_by_side(THREADS) as pool:
        # the quicklook takes longest, and comes first
        begun = {name: pool.submit(_mosaic, run, name) for name in reversed(RASTERS)}
    return {name: path for name in RASTERS if (path := begun[name].result()) is not None}


def _mosaic(run: FinishedRun, name: str) -> Path | None:
    target = cog_path(run, name)
    if mosaic_grid(run, name) is None:
        target.unlink(missing_ok=True)
        return None
    if current_cog(run, name) is None:
        write_cog(run, name)
    return target


def picture(
    run: FinishedRun,
    geometry: BaseGeometry,
    size_px: int,
    margin_m: float = 0.0,
    name: str = "quicklook",
) -> NDArray[np.uint8]:
    """Return the square around a geometry, (size_px, size_px, 4), transparent where nothing is.

    North is up on the grid of the geometry's UTM zone, so at 10 m a cell's pixels are its own.

    Args:
        run: the run.
        geometry: what to show, EPSG:4326.
        size_px: pixels a side.
        margin_m: metres around the geometry.
        name: one of ``RASTERS``; classes and suspicious ground are coloured by the palette.
    """
    tiles = raster_tiles(run)
    found = render(tiles.layers(name), tiles.around(geometry, size_px, margin_m), name)
    return np.ascontiguousarray(np.moveaxis(found, 0, -1))


def cell_pictures(
    run: FinishedRun, tile: Tile, cells: Collection[str]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield id and quicklook (48, 48, 4) of some of a tile's cells, as :func:`picture` gives them.

    The tile's file is opened once: a block of it holds a hundred cells, and takes long to decode.
    """
    path = run.raster(tile.tile_id, "quicklook")
    if path is None:
        return
    with opened(path) as source:
        for row, col in tile.cells:
            if (cell_id := tile.cell_id(row, col)) in cells:
                window = Window(col * CELL_PX, row * CELL_PX, CELL_PX, CELL_PX)
                yield cell_id, np.ascontiguousarray(np.moveaxis(read_window(source, window), 0, -1))


def warped(
    run: FinishedRun, name: str, crs: str, bounds: Bounds, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return a raster as a picture (4, y, x) on any grid, transparent where nothing is.

    Memory follows ``shape``. Where pixels are shrunk and :func:`assemble` ran, overviews are read.

    Args:
        run: the run.
        name: one of ``RASTERS``; classes and suspicious ground are coloured by the palette.
        crs: of the picture, as ``EPSG:n``.
        bounds: left, bottom, right, top in ``crs``.
        shape: rows and columns.
    """
    grid = Grid.over(f"EPSG:{CRS.from_user_input(crs).to_epsg()}", bounds, shape)
    layers = raster_tiles(run).layers(name)
    shrunk = any(where[1] > 1 for layer in layers if (where := layer.window(grid)) is not None)
    if shrunk and (ready := current_cog(run, name)) is not None:
        layers = (file_layer(ready, layers[0].planes),)
    return render(layers, grid, name)


def mosaic_grid(run: FinishedRun, name: str) -> Grid | None:
    """Return the grid of a raster of the run, ``None`` where no tile has it."""
    return raster_tiles(run).grid(name)
