"""A lazy cube over an AOI, for notebooks; the scan itself loads tile by tile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanner.area.aoi import Aoi
from scanner.area.grid import tiles
from scanner.config import SearchConfig
from scanner.errors import CatalogError
from scanner.imagery.access import gdal_env, signed, signer_for
from scanner.imagery.catalog import search_items
from scanner.imagery.cube import load_cube


def open_cube(
    aoi: Aoi,
    date: str | None = None,
    *,
    catalog: str = "planetary-computer",
    bands: tuple[str, ...] = ("B04", "B03", "B02"),
    engine: str = "stackstac",
    **search: Any,
) -> xr.DataArray:
    """Return a lazy cube of DN (time, band, y, x) over an AOI, for notebooks; no offset is applied.

    The grid is the absolute one of the UTM zone that holds most of the AOI's cells, one chunk a
    tile. Other ``SearchConfig`` settings go by name. Raises ``CatalogError`` if nothing is found.
    """
    settings = SearchConfig(catalog=catalog, date=date, **search)
    area = tiles(aoi)
    found = search_items(aoi, settings, Path("runs") / aoi.slug, area)
    if not found.items:
        raise CatalogError(found.advice or f"{catalog}: no items over {aoi.name}")
    zones = [tile.zone for tile in area for _ in tile.cells]
    zone = max(set(zones), key=zones.count)
    boxes = np.array([tile.core_bounds for tile in area if tile.zone == zone])
    first = next(tile for tile in area if tile.zone == zone).core_geobox
    west, south = boxes[:, :2].min(axis=0)
    east, north = boxes[:, 2:].max(axis=0)
    geobox = type(first).from_bbox(
        (float(west), float(south), float(east), float(north)), first.crs, resolution=10, tight=True
    )
    items = signed(found.items, signer_for(settings))
    return load_cube(
        items, geobox, bands, engine=engine, env=gdal_env(settings), chunk=first.shape.x
    )
