"""The pictures of the report's map, all on one frame, as data URIs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject

from scanner.area.grid import CELL_M, TILE_CELLS, Tile
from scanner.detection.detections import STATUSES
from scanner.results.finished import FinishedRun
from scanner.results.maps.rasters import warped
from scanner.results.palette import NOT_SUSPICIOUS, STATUS_COLOURS
from scanner.results.report.embed import picture_uri
from scanner.results.report.frame import CRS, Frame
from scanner.results.report.shapes import CellShapes

PHOTO_BYTES: Final = 4_500_000
"""Largest true-colour picture, as text in the page."""
MAP_BYTES: Final = 2_000_000
"""Largest map of classes, as text in the page."""
CELL_COLUMNS: Final = ("cell_id", "tile_id", "status", "score", "clear_fraction", "geometry")
BATCH: Final = 10_000
"""Cells held at a time."""

_NONE: Final = 255
_STRIPE_PX: Final = 8
"""Least width of a stripe and its gap."""
_STRIPES: Final = 64
"""Stripes along the longest side of a larger picture: a map on a screen shows them apart."""
_OPACITY: Final = {"not_suspicious": 110}
"""Of cells in the map of all cells, where it is not 255."""


@dataclass(frozen=True)
class CellLayer:
    """What is drawn of the cells."""

    status: str | None
    """Every cell in the colour of its status."""
    missing: str | None
    """Cells that were not seen, or failed, hatched."""
    shapes: CellShapes
    """Cells that can be clicked."""


def ground_layers(run: FinishedRun, frame: Frame) -> dict[str, str | None]:
    """Return quicklook, classes and suspicious; ``None`` where the run kept none."""
    found: dict[str, str | None] = {}
    for name, limit in (
        ("quicklook", PHOTO_BYTES),
        ("classes", MAP_BYTES),
        ("suspicious", MAP_BYTES),
    ):
        pixels = warped(run, name, CRS, frame.bounds, frame.shape)
        if name == "suspicious":  # what is not suspicious lets the ground show
            pixels[3, (pixels[:3] == np.reshape(NOT_SUSPICIOUS, (3, 1, 1))).all(axis=0)] = 0
        found[name] = picture_uri(pixels, limit, lossless=name != "quicklook")
    return found


def cell_layer(run: FinishedRun, frame: Frame, most: int) -> CellLayer:
    """Draw the cells tile by tile, so that memory follows the picture, not the area.

    At most ``most`` cells can be clicked: mining ones first, then the highest scores.
    """
    status = np.full(frame.shape, _NONE, dtype=np.uint8)
    tiles = {tile.tile_id: tile for tile in run.tiles}
    shapes = CellShapes(most)
    for batch in _batches(run):
        shapes.add(batch)
        codes = batch["status"].map(STATUSES.index)
        for tile_id, rows in codes.groupby(batch["tile_id"], sort=False):
            _paint(
                status,
                frame,
                tiles[tile_id],
                dict(zip(batch.cell_id[rows.index], rows, strict=True)),
            )
    return CellLayer(
        picture_uri(_coloured(status), MAP_BYTES, lossless=True),
        picture_uri(_hatched(status), MAP_BYTES, lossless=True),
        shapes,
    )


def _batches(run: FinishedRun) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(run.path / "cells.parquet") as file:
        for batch in file.iter_batches(BATCH, columns=list(CELL_COLUMNS)):
            yield batch.to_pandas()


def _paint(status: NDArray[np.uint8], frame: Frame, tile: Tile, codes: dict[str, int]) -> None:
    """Set the pixels whose middle lies in a cell of a tile; ``codes`` are by cell id."""
    squares = np.full((TILE_CELLS, TILE_CELLS), _NONE, dtype=np.uint8)
    for row, col in tile.cells:
        squares[row, col] = codes.get(tile.cell_id(row, col), _NONE)
    rows, cols, place = frame.window(tile.footprint.bounds)
    part = status[rows, cols]
    if not part.size:
        return
    found = np.full(part.shape, _NONE, dtype=np.uint8)
    xmin, _, _, ymax = tile.core_bounds
    reproject(
        squares,
        found,
        src_transform=Affine(CELL_M, 0, xmin, 0, -CELL_M, ymax),
        src_crs=f"EPSG:{tile.epsg}",
        src_nodata=_NONE,
        dst_transform=place,
        dst_crs=CRS,
        dst_nodata=_NONE,
        resampling=Resampling.nearest,
    )
    np.copyto(part, found, where=found != _NONE)


def _coloured(status: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGBA (4, y, x) of codes of ``STATUSES``."""
    table = np.zeros((256, 4), dtype=np.uint8)
    for code, name in enumerate(STATUSES):
        table[code] = (*STATUS_COLOURS[name], _OPACITY.get(name, 255))
    return np.moveaxis(table[status], -1, 0)


def _hatched(status: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGBA (4, y, x): stripes over unseen cells, crossed lines over failed cells."""
    coloured = _coloured(status)
    period = max(_STRIPE_PX, max(status.shape) // _STRIPES)
    y, x = np.ogrid[: status.shape[0], : status.shape[1]]
    down, up = (x + y) % period, (x - y) % period
    unseen, failed = (status == STATUSES.index(name) for name in ("unseen", "failed"))
    strong = (unseen & (2 * down < period)) | (failed & (4 * np.minimum(down, up) < period))
    coloured[3] = np.where(strong, 235, np.where(unseen | failed, 90, 0))
    return coloured
