"""Ground for the soak: one cell of an area in each of many tiles, and sparse scenes over them.

Tiles lie on both sides of a zone seam, a cell of each is in the area, somewhere in the tile. Scenes
are COGs of 5 x 5 tiles, two dates, blank but for ground around those cells: forest, a bare patch in
every second cell, a cloud over some cells on one date. Same seed, same bytes.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.shutil import copy
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from scanner.area.grid import (
    CELL_PX,
    CORE_PX,
    HALO_PX,
    TILE_CELLS,
    TILE_M,
    Tile,
    Zone,
    to_geographic,
)
from scanner.area.zones import owned
from scanner.imagery.bands import Scl
from scanner.imagery.item import Item

SEAM: Final = (Zone(21, True), 41), (Zone(22, True), 8)
"""The zones west and east of 54 W at 7 S, and the last or first column of tiles there."""
ROW: Final = 38
"""The northernmost row of tiles."""
DATES: Final = ("2024-06-20T13:50:00Z", "2024-07-05T13:50:00Z")
GRANULE_TILES: Final = 5
GROUND_PX: Final = 120
"""Side of the ground around a cell."""
INSET_M: Final = 10 * HALO_PX + 100
"""From the edge of a scene's outermost tiles to its footprint's."""
BLOCK: Final = 512

_FOREST: Final = {"B02": 1250, "B03": 1450, "B04": 1300}
_BARE: Final = {"B02": 1900, "B03": 2400, "B04": 2900}
_TAGS: Final = {
    "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "DEFLATE",
    "sparse_ok": True, "nodata": 0, "count": 1,
}  # fmt: skip


def place_tiles(count: int, seed: int) -> list[Tile]:
    """Return tiles around the seam, each with the one cell of it that is in the area."""
    draw = random.Random(seed)
    wide = math.ceil(math.sqrt(count))
    found: list[Tile] = []
    for number in range(count):
        rank, side = divmod(number % wide, 2)
        zone, first = SEAM[side]
        col, row = first + (rank if side else -rank), ROW + number // wide
        cells = [(r, c) for r in range(TILE_CELLS) for c in range(TILE_CELLS)]
        draw.shuffle(cells)
        tile = Tile(zone, col, row)
        cell = next(cell for cell in cells if _inland(tile, cell))
        found.append(Tile(zone, col, row, (cell,)))
    return found


def _inland(tile: Tile, cell: tuple[int, int]) -> bool:
    """Tell whether a cell is its zone's own, and as good as its neighbours."""
    col, row = tile.cell_position(*cell)
    around = np.arange(-3, 4)
    return bool(owned(tile.zone, col + around, row + 0 * around).all())


def area_of(tiles: Iterable[Tile]) -> shapely.MultiPolygon:
    """Return an area of one small square a tile, inside its cell."""
    squares = []
    for tile in tiles:
        xmin, ymin, xmax, ymax = tile.cell_bounds(*tile.cells[0])
        box = shapely.box(xmin + 120, ymin + 120, xmax - 120, ymax - 120)
        zone = tile.epsg
        squares.append(
            shapely.transform(box, lambda c, z=zone: np.column_stack(to_geographic(z, *c.T)))
        )
    return shapely.MultiPolygon(squares)


def write_scenes(folder: Path, tiles: Iterable[Tile], seed: int, url: str) -> list[Item]:
    """Write the scenes below ``folder``; returns their items, hrefs below ``url``."""
    granules = defaultdict(list)
    for tile in tiles:
        granules[tile.zone, tile.col // GRANULE_TILES, tile.row // GRANULE_TILES].append(tile)
    items = []
    for (zone, col, row), here in granules.items():
        side = GRANULE_TILES * CORE_PX + 2 * HALO_PX
        west, _, _, north = Tile(zone, col * GRANULE_TILES, row * GRANULE_TILES).bounds
        for day, stamp in enumerate(DATES):
            name = f"{zone.code}-{col:03d}-{row:03d}-{day}"
            grounds = [_ground(tile, seed, day) for tile in here]
            for band in (*_FOREST, "SCL"):
                scale = 2 if band == "SCL" else 1
                patches = [
                    (place[0] // scale, place[1] // scale, bands[band])
                    for tile, bands in zip(here, grounds, strict=True)
                    for place in [_place(tile, west, north)]
                ]
                path = folder / name / f"{band}.tif"
                _write_cog(path, patches, zone.epsg, west, north, side // scale, 10 * scale)
            items.append(_item(name, here, west, north, side, stamp, url))
    return items


def _place(tile: Tile, west: float, north: float) -> tuple[int, int]:
    """Return row and column of a tile's ground in a granule."""
    xmin, _, _, ymax = tile.cell_bounds(*tile.cells[0])
    margin = (GROUND_PX - CELL_PX) // 2
    row, col = (north - ymax) / 10 - margin, (xmin - west) / 10 - margin
    return max(0, round(row)), max(0, round(col))


def _ground(tile: Tile, seed: int, day: int) -> dict[str, NDArray[Any]]:
    """Return the ground around a tile's cell on a date."""
    number = tile.col * 1000 + tile.row
    rng = np.random.default_rng([seed, number, day])
    bare = np.zeros((GROUND_PX, GROUND_PX), dtype=bool)
    if number % 2:
        low, high = 40 + number % 11, 60 + number % 17
        bare[low:high, low:high] = True
    bands: dict[str, NDArray[Any]] = {}
    for name, level in _FOREST.items():
        dn = rng.normal(np.where(bare, _BARE[name], level), 60)
        bands[name] = dn.clip(1, 10_000).astype(np.uint16)
    scl = np.full((GROUND_PX // 2, GROUND_PX // 2), Scl.VEGETATION, dtype=np.uint8)
    scl[bare[::2, ::2]] = Scl.BARE_SOIL
    if day == 0 and number % 5 == 0:
        scl[:, 25:] = Scl.CLOUD_HIGH
    bands["SCL"] = scl
    return bands


def _write_cog(
    path: Path,
    patches: list[tuple[int, int, NDArray[Any]]],
    epsg: int,
    west: float,
    north: float,
    side: int,
    size: float,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".scratch.tif")
    about = {
        "height": side, "width": side, "crs": f"EPSG:{epsg}", "dtype": patches[0][2].dtype,
        "transform": Affine(size, 0, west, 0, -size, north),
    }  # fmt: skip
    with rasterio.open(scratch, "w", driver="GTiff", **about, **_TAGS) as out:
        for row, col, pixels in patches:
            fits = pixels[: side - row, : side - col]
            out.write(fits, 1, window=Window(col, row, fits.shape[1], fits.shape[0]))
    copy(
        scratch, path, driver="COG", compress="DEFLATE", sparse_ok="YES", blocksize=str(BLOCK),
        overview_resampling="NEAREST",
    )  # fmt: skip
    scratch.unlink()


def _item(
    name: str, tiles: list[Tile], west: float, north: float, side: int, stamp: str, url: str
) -> Item:
    zone = tiles[0].zone
    box = transform_bounds(
        f"EPSG:{zone.epsg}", "EPSG:4326", west, north - side * 10, west + side * 10, north
    )
    # its own tiles, which no halo of another's reaches: most tiles have one item a date
    cores = np.array([tile.core_bounds for tile in tiles])
    inner = shapely.box(*cores.min(axis=0)[:2], *cores.max(axis=0)[2:]).buffer(-INSET_M)
    edges = shapely.segmentize(inner, TILE_M)
    ring = shapely.transform(edges, lambda c: np.column_stack(to_geographic(zone.epsg, *c.T)))
    assets = {}
    for band in (*_FOREST, "SCL"):
        scale = 2 if band == "SCL" else 1
        assets[band] = {
            "href": f"{url}/{name}/{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "proj:shape": [side // scale] * 2,
            "proj:transform": [10 * scale, 0, west, 0, -10 * scale, north],
        }
    return Item(
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": "sentinel-2-l2a",
            "bbox": list(box),
            "geometry": shapely.geometry.mapping(ring),
            "properties": {
                "datetime": stamp,
                "eo:cloud_cover": 5.0,
                "s2:processing_baseline": "05.10",
                "proj:code": f"EPSG:{zone.epsg}",
            },
            "links": [],
            "assets": assets,
        }
    )
