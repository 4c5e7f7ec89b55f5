"""The classic pictures of a run: overviews, the grid of cells, crops of the highest scores.

Made from the tiles' rasters at 4096 pixels a side at most, so memory does not follow the area; the
cells are read from their file a tile at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from scanner.area.grid import CELL_M, CELL_PX
from scanner.config import digest
from scanner.files import whole_folder
from scanner.models.card import SEGMENTER_CLASSES
from scanner.results.digests import file_digests
from scanner.results.finished import FinishedRun
from scanner.results.maps.cogs import current_cog
from scanner.results.maps.drawing import LONGEST_PX, NOTHING, Image, on_grey, save, save_with_legend
from scanner.results.maps.grids import Grid, moved_bounds, transformer
from scanner.results.maps.notes import is_noted, note
from scanner.results.maps.raster_tiles import METRES_PER_DEGREE, raster_tiles
from scanner.results.maps.rasters import cell_pictures, credit, mosaic_grid, warped
from scanner.results.outputs import sha256
from scanner.results.palette import CLASS_COLOURS, STATUS_COLOURS, SUSPICIOUS
from scanner.version import __version__

LAYOUT: Final = 1
"""Counted up where the same tables and rasters give other pictures."""
SHORTEST_PX: Final = 1024
"""A small area is enlarged until its longest side has this many pixels."""
LEGEND_PX: Final = 256
"""Of the longest side, what is kept for the legend."""
MARGIN_M: Final = 500.0
"""Shown around the area: its outermost cells."""
CROPS: Final = 500
"""Crops of the highest scores."""
CROP_SCALE: Final = 8
"""Pixels a side for each of a cell's own."""
MIN_CELL_PX: Final = 6
"""Cells smaller than this are drawn without the grid, which would hide the picture."""

_FILL: Final = 0.25
_WHITE: Final = (255, 255, 255)
_MARKED: Final = {
    "mining": "mining",
    "not_mining": "suspicious, not mining",
    "unseen": "unseen",
    "failed": "failed",
}


def write_pictures(run: FinishedRun) -> Path | None:
    """Write the folder ``pictures`` of a run; ``None``, and no folder, without any raster.

    Without a quicklook there are only class map and suspicious ground. Pictures that lie there
    unchanged, and would be drawn the same, are not drawn again.

    Raises ``RunError`` where a tile's raster was changed, ``OutputError`` where the disk refuses.
    """
    target = run.path / "pictures"
    frames = [grid for name in ("quicklook", "classes") if (grid := mosaic_grid(run, name))]
    if not frames:
        shutil.rmtree(target, ignore_errors=True)
        return None
    source = _digest(run)
    if is_noted(run, "pictures", source, _content(target)):
        return target
    with whole_folder(target) as made:
        _overviews(run, _view(run, frames[0]), made)
        if mosaic_grid(run, "quicklook") is not None:
            _crops(run, made / "classification_crops")
    note(run, "pictures", source, _content(target))
    return target


def _digest(run: FinishedRun) -> str:
    """Return the digest of all that the pictures are made of."""
    tables = [sha256(run.path / name) for name in ("aoi.geojson", "cells.parquet")]
    rasters = raster_tiles(run).digests
    shrunk_from = {name: current_cog(run, name) is not None for name in rasters}
    colours = [CLASS_COLOURS, STATUS_COLOURS, SUSPICIOUS]
    told = [LAYOUT, __version__, CROPS, credit(run), tables, rasters, shrunk_from, colours]
    return digest(told)


def _content(folder: Path) -> str:
    """Return the digest of the names and bytes of all files of a folder."""
    return digest(file_digests(folder))


def _view(run: FinishedRun, frame: Grid) -> Grid:
    """Return the grid of the overviews: the area and its outermost cells."""
    west, south, east, north = moved_bounds("EPSG:4326", frame.crs, run.aoi.geometry.bounds)
    x, y = MARGIN_M / _metres(frame), MARGIN_M / _metres(frame) * frame.dx / frame.dy
    bounds = west - x, south - y, east + x, north + y
    cols, rows = (bounds[2] - bounds[0]) / frame.dx, (bounds[3] - bounds[1]) / frame.dy
    longest = max(cols, rows)
    scale = min((LONGEST_PX - LEGEND_PX) / longest, max(1.0, SHORTEST_PX / longest))
    shape = (max(1, round(rows * scale)), max(1, round(cols * scale)))
    return Grid.over(frame.crs, bounds, shape)


def _metres(grid: Grid) -> float:
    """Return the metres of a unit of a grid, from west to east."""
    return METRES_PER_DEGREE * grid.dy / grid.dx if grid.crs == "EPSG:4326" else 1.0


def _overviews(run: FinishedRun, view: Grid, folder: Path) -> None:
    owed = (None, credit(run))
    raw = _seen(run, "quicklook", view)
    if raw is not None:
        save_with_legend(folder / "overview_raw.jpg", raw, [owed])
    classes = _seen(run, "classes", view)
    if classes is not None:
        named = [(CLASS_COLOURS[name], name) for name in SEGMENTER_CLASSES]
        path = folder / "overview_segmentation_classes.jpg"
        save_with_legend(path, classes, [*named, (NOTHING, "unknown"), owed])
    del classes
    suspicious = _seen(run, "suspicious", view)
    if suspicious is not None:
        if raw is not None:  # the ground beneath in grey, to tell where one is
            grey = cv2.cvtColor(raw, cv2.COLOR_RGB2GRAY)[..., None]
            marked = (suspicious == SUSPICIOUS).all(axis=-1, keepdims=True)
            suspicious = np.where(marked, suspicious, grey)
        path = folder / "overview_segmentation_suspicious.jpg"
        save_with_legend(path, suspicious, [(SUSPICIOUS, "suspicious ground"), owed])
    if raw is not None:
        _draw_cells(run, view, raw)
        shown = [(STATUS_COLOURS[name], label) for name, label in _MARKED.items()]
        save_with_legend(folder / "grid_analysis.jpg", raw, [*shown, owed])


def _seen(run: FinishedRun, name: str, view: Grid) -> Image | None:
    """Return a raster of the run in colours, ``None`` where no tile has it."""
    if mosaic_grid(run, name) is None:
        return None
    return on_grey(np.moveaxis(warped(run, name, view.crs, view.bounds, view.shape), 0, -1))


def _draw_cells(run: FinishedRun, view: Grid, image: Image) -> None:
    """Draw the grid and what each cell ended as, mining last and boldest."""
    cell_px = CELL_M / (view.dx * _metres(view))
    pen = max(1, round(cell_px / 20))
    filled = image.copy()
    for status, rings in _cells(run, view):
        for name in _MARKED:
            for ring in rings[status == name]:
                cv2.fillConvexPoly(filled, ring, STATUS_COLOURS[name])
    cv2.addWeighted(filled, _FILL, image, 1 - _FILL, 0, dst=image)
    del filled
    if cell_px >= MIN_CELL_PX:
        for _, rings in _cells(run, view):
            cv2.polylines(image, list(rings), True, _WHITE, 1)
    for name in reversed(_MARKED):
        bold = 2 * pen if name == "mining" else pen
        for status, rings in _cells(run, view):
            cv2.polylines(image, list(rings[status == name]), True, STATUS_COLOURS[name], bold)


def _cells(run: FinishedRun, view: Grid) -> Iterator[tuple[NDArray[np.object_], NDArray[np.int32]]]:
    """Yield status and outline in pixels, (n, 4, 2), of the cells of each tile."""
    change = transformer("EPSG:4326", view.crs)
    for batch in _batches(run, ["status", "geometry"]):
        rings = shapely.get_coordinates(shapely.from_wkb(batch["geometry"].to_numpy()))
        x, y = change.transform(*rings.T)
        px = np.column_stack([(x - view.left) / view.dx, (view.top - y) / view.dy])
        outlines = np.rint(px).astype(np.int32).reshape(len(batch), -1, 2)[:, :4]
        yield batch["status"].to_numpy(dtype=object), outlines


def _crops(run: FinishedRun, folder: Path) -> None:
    """Write the cells of the highest scores, each enlarged, named so that they sort."""
    folder.mkdir()
    best = pd.DataFrame({"cell_id": [], "score": [], "tile_id": []})
    for batch in _batches(run, ["cell_id", "score", "tile_id"]):
        scored = batch.dropna(subset=["score"])
        both = pd.concat([best, scored]) if len(best) else scored
        best = both.sort_values(["score", "cell_id"], ascending=[False, True]).head(CROPS)
    tiles = {tile.tile_id: tile for tile in run.tiles}
    size = (CELL_PX * CROP_SCALE, CELL_PX * CROP_SCALE)
    for tile_id, cells in best.groupby("tile_id"):
        scores = dict(zip(cells["cell_id"], cells["score"], strict=True))
        for cell_id, pixels in cell_pictures(run, tiles[str(tile_id)], scores):
            if pixels[..., 3].any():
                large = cv2.resize(on_grey(pixels), size, interpolation=cv2.INTER_CUBIC)
                path = folder / f"{scores[cell_id]:.4f}_{cell_id}.jpg"
                save(path, large.astype(np.uint8, copy=False))


def _batches(run: FinishedRun, columns: list[str]) -> Iterator[pd.DataFrame]:
    """Yield some columns of cells.parquet, a tile's cells at a time, geometries as WKB."""
    with pq.ParquetFile(run.path / "cells.parquet") as source:
        for group in range(source.num_row_groups):
            frame = source.read_row_group(group, columns=columns).to_pandas()
            if len(frame):
                yield frame
