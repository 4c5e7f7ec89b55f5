"""The pixels of a cell, read again as the scan composed them, from the very scenes it used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from shapely.geometry.base import BaseGeometry

from scanner.area.grid import CELL_PX, Tile
from scanner.errors import CatalogError, ReadError
from scanner.imagery.access import (
    Allowed,
    allowed_for,
    check_href,
    failure_text,
    gdal_env,
    guard_logs,
    signed,
    signer_for,
)
from scanner.imagery.bands import NODATA, QUANTIFICATION, RESOLUTION, SCL_RESOLUTION
from scanner.imagery.composite import STEADY_BIT, composite
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset
from scanner.imagery.trust import has_scl, load_scl
from scanner.results.evidence.reader import local_root
from scanner.results.finished import FinishedRun

RGB: Final = ("B02", "B03", "B04")
OPTIONAL: Final = ("B08", "B11", "B12")
"""Further bands a chip may have, kept where every scene of its tile has them."""

AT_ONCE: Final = 8
"""Cells read at once: most of the time goes in waiting for a host."""

_UNREAD: Final = (ReadError, RasterioError, OSError, RuntimeError)

Pixels = tuple[NDArray[np.uint16], float]
"""DN (band, y, x) of a cell, 0 nodata, and the share of it seen clear."""


class TileReader:
    """Reads cells of one tile of a run; ``CatalogError`` where its scenes may not be read."""

    def __init__(self, run: FinishedRun, tile: Tile) -> None:
        guard_logs()
        self.items = _items(run, tile)
        lacking = {band for band in OPTIONAL for item in self.items if item.asset_key(band) is None}
        self.bands = (*RGB, *(band for band in OPTIONAL if band not in lacking))
        self._config = run.config
        self._signer, self._signing = signer_for(run.config.search), Lock()

    def over(self, cell: BaseGeometry) -> list[Item]:
        """Return the scenes that show a cell (EPSG:4326)."""
        return [item for item in self.items if shapely.intersects(item.footprint, cell)]

    def each(self, cells: Iterable[tuple[BaseGeometry, GeoBox]]) -> Iterator[Pixels | str]:
        """Yield the pixels of each cell, in order, or why they cannot be read."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(lambda cell: self._tried(*cell), cells)

    def _tried(self, cell: BaseGeometry, box: GeoBox) -> Pixels | str:
        shown, why = self.over(cell), "no scene shows it"
        if not shown:
            return why
        for attempt in range(self._config.run.tries):
            try:
                with self._signing:
                    items = signed(shown, self._signer)
                return self._read(items, box, retry=attempt > 0)
            except CatalogError as error:  # no token to be had
                return str(error)
            except _UNREAD as error:
                why = failure_text(error)
                with self._signing:  # a signature that ends mid-read looks like a broken block
                    self._signer.forget()
        return why

    def _read(self, items: list[Item], box: GeoBox, retry: bool) -> Pixels:
        pixels = self._config.pixels
        env = gdal_env(self._config.search, retry=retry)
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


def to_dn(reflectance: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return reflectance 0..1 as DN 1..10000; NaN becomes 0, nodata."""
    dn = np.clip(np.round(np.nan_to_num(reflectance) * QUANTIFICATION), 1, QUANTIFICATION)
    return np.where(np.isnan(reflectance), NODATA, dn).astype(np.uint16)


def _items(run: FinishedRun, tile: Tile) -> list[Item]:
    """Return the scenes a tile was composed of, in their order."""
    report = run.report(tile.tile_id)
    known = {item.id: item for item in run.items.items}
    ids = [one for day in report.item_ids for one in day] if report else []
    if not ids or not set(ids) <= set(known):
        raise CatalogError(f"tile {tile.tile_id}: its scenes are not told; scan it again")
    items = [known[one] for one in ids]
    # files were held against the folder of their catalog when they were found
    allowed = Allowed(allowed_for(run.config.search).hosts, local_root(items))
    for item in items:
        for band in (*RGB, *OPTIONAL, "SCL"):
            if (href := item.href(band)) is not None:
                check_href(item.id, href, allowed)
    return items
