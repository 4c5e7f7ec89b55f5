"""The pixels of a cell, read again as the scan composed them, from the very scenes it used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from scanner.area.grid import CELL_PX, Tile
from scanner.errors import CatalogError
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.composite import STEADY_BIT, composite
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset
from scanner.imagery.trust import has_scl, load_scl
from scanner.results.chip_files import RGB, to_dn
from scanner.results.finished import FinishedRun
from scanner.results.reread import AT_ONCE, Env, Rereader

OPTIONAL: Final = ("B08", "B11", "B12")
"""Further bands a chip may have, kept where every scene of its tile has them."""

Pixels = tuple[NDArray[np.uint16], float]
"""DN (band, y, x) of a cell, 0 nodata, and the share of it seen clear."""


class TileReader:
    """Reads cells of one tile of a run; ``CatalogError`` where its scenes may not be read."""

    def __init__(self, run: FinishedRun, tile: Tile) -> None:
        self.items = _items(run, tile)
        self._pixels = run.config.pixels
        self._reread = Rereader(run.config.search, self.items, run.config.run.tries)
        for item in self.items:
            self._reread.check(item, (*RGB, *OPTIONAL))
        lacking = {band for band in OPTIONAL for item in self.items if item.asset_key(band) is None}
        self.bands = (*RGB, *(band for band in OPTIONAL if band not in lacking))

    def over(self, cell: BaseGeometry) -> list[Item]:
        """Return the scenes that show a cell (EPSG:4326)."""
        return [item for item in self.items if shapely.intersects(item.footprint, cell)]

    def each(self, cells: Iterable[tuple[BaseGeometry, GeoBox]]) -> Iterator[Pixels | str]:
        """Yield the pixels of each cell, in order, or why they cannot be read."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(lambda cell: self._tried(*cell), cells)

    def _tried(self, cell: BaseGeometry, box: GeoBox) -> Pixels | str:
        shown = self.over(cell)
        if not shown:
            return "no scene shows it"
        return self._reread.tried(shown, lambda items, env: self._read(items, box, env))

    def _read(self, items: list[Item], box: GeoBox, env: Env) -> Pixels:
        pixels = self._pixels
        coarse = box.zoom_out(SCL_RESOLUTION // RESOLUTION)
        image = composite(
            load_cube(items, box, self.bands, engine=pixels.engine, env=env),
            load_scl(items, coarse, engine=pixels.engine, env=env),
            offsets=[resolve_offset(item) for item in items],
            has_scl=has_scl(items),
            clear_scl=pixels.clear_scl,
            method=pixels.composite,
            optional=OPTIONAL,
        )
        values = image.data.compute(scheduler="sync")
        bits = values[-1].astype(np.uint32) & np.uint32((1 << STEADY_BIT) - 1)
        return to_dn(values[:-1]), float((bits > 0).mean())


def cell_geobox(tile: Tile, row: int, col: int) -> GeoBox:
    """Return the grid of a cell's 48 x 48 pixels."""
    xmin, _, _, ymax = tile.cell_bounds(row, col)
    corner = Affine(RESOLUTION, 0, xmin, 0, -RESOLUTION, ymax)
    return GeoBox((CELL_PX, CELL_PX), corner, f"EPSG:{tile.epsg}")


def _items(run: FinishedRun, tile: Tile) -> list[Item]:
    """Return the scenes a tile was composed of, in their order."""
    report = run.report(tile.tile_id)
    known = {item.id: item for item in run.items.items}
    ids = [one for day in report.item_ids for one in day] if report else []
    if not ids or not set(ids) <= set(known):
        raise CatalogError(f"tile {tile.tile_id}: its scenes are not told; scan it again")
    return [known[one] for one in ids]
