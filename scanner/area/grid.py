"""Tiles: squares of 42 x 42 cells on the absolute grid, the unit of work, retry and report.

Ids come from the place alone (zone, column and row), so two runs, with whatever AOI, date or
version, can be compared cell by cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from scanner.area.aoi import Aoi, only_area
from scanner.area.coordinates import (
    from_geographic,
    geographic_to_pixel,
    pixel_to_geographic,
    to_geographic,
)
from scanner.area.zones import CELL_M, HALF_ZONE, REACH_M, Zone, corners, owned

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = [
    "CELL_M",
    "CELL_PX",
    "CHUNK_PX",
    "CORE_PX",
    "HALO_PX",
    "TILE_CELLS",
    "TILE_M",
    "Tile",
    "Zone",
    "cell_polygons",
    "from_geographic",
    "geographic_to_pixel",
    "pixel_to_geographic",
    "tiles",
    "to_geographic",
]

Bounds = tuple[int, int, int, int]

PIXEL_M: Final = 10
"""Metres a pixel."""
CELL_PX: Final = 48
"""Pixels a cell."""
TILE_CELLS: Final = 42
"""Cells a tile, on each side."""
HALO_PX: Final = 64
"""Pixels read around the core, so that what is seen at its edge has its surroundings."""
CORE_PX: Final = TILE_CELLS * CELL_PX
"""Pixels of a tile's own cells: 2016."""
CHUNK_PX: Final = CORE_PX + 2 * HALO_PX
"""Pixels read for a tile: 2144."""
TILE_M: Final = TILE_CELLS * CELL_M
"""Metres of a tile's core: 20160."""

SHARED_M2: Final = 1e-6
"""A cell and an AOI that share no more than this many square metres only touch."""

_EDGE_DEG: Final = 0.01
"""Longest edge of the AOI when projected: what is straight in degrees is bent in metres."""


class _Cells(tuple[tuple[int, int], ...]):
    """The cells of a tile, of a type of their own for Dask's sake.

    Dask looks into every tuple within a tuple that a graph is given, for graphs in it: some 50 ms
    for a tile's 1764, in each of its graphs. What is no plain tuple it takes as it is.
    """

    __slots__ = ()


_ALL_CELLS: Final = _Cells((r, c) for r in range(TILE_CELLS) for c in range(TILE_CELLS))


@dataclass(frozen=True)
class Tile:
    """A square of 42 x 42 cells of the absolute grid, and which of them are the AOI's.

    ``col`` and ``row`` count tiles in the zone's grid, rows from the equator in both hemispheres.
    ``cells`` are (row, col) within the tile, sorted, row 0 the northernmost as in an array.
    """

    zone: Zone
    col: int
    row: int
    cells: tuple[tuple[int, int], ...] = field(default=_ALL_CELLS, repr=False)

    @property
    def tile_id(self) -> str:
        """Zone, column and row, such as ``21S_0016_0039``."""
        return f"{self.zone.code}_{self.col:04d}_{self.row:04d}"

    @property
    def epsg(self) -> int:
        """EPSG code of the tile's CRS."""
        return self.zone.epsg

    @property
    def core_bounds(self) -> Bounds:
        """Core as (xmin, ymin, xmax, ymax), metres."""
        xmin, ymin, xmax, ymax = self.zone.bounds(self.col, self.row, TILE_M)
        return xmin, ymin, xmax, ymax

    @property
    def bounds(self) -> Bounds:
        """Core and halo as (xmin, ymin, xmax, ymax), metres."""
        xmin, ymin, xmax, ymax = self.core_bounds
        halo = HALO_PX * PIXEL_M
        return xmin - halo, ymin - halo, xmax + halo, ymax + halo

    @property
    def core_geobox(self) -> GeoBox:
        """Grid of the core: 2016 x 2016 pixels of 10 m, north up."""
        return _geobox(self.epsg, self.core_bounds)

    @property
    def geobox(self) -> GeoBox:
        """Grid of core and halo: 2144 x 2144 pixels of 10 m, north up."""
        return _geobox(self.epsg, self.bounds)

    @property
    def footprint(self) -> shapely.Polygon:
        """Core as a polygon in EPSG:4326, with points along its sides (they bend by metres)."""
        core = shapely.segmentize(shapely.box(*self.core_bounds), TILE_M / 4)
        return shapely.transform(core, lambda c: np.column_stack(to_geographic(self.epsg, *c.T)))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Shape (42, 42), True in the AOI's cells; row 0 is the northernmost."""
        mask = np.zeros((TILE_CELLS, TILE_CELLS), dtype=bool)
        if self.cells:
            mask[tuple(np.transpose(self.cells))] = True
        return mask

    def cell_position(self, r: Any, c: Any) -> tuple[Any, Any]:
        """Return column and row in the zone's grid of the cell at (r, c); numbers or arrays."""
        down = r if self.zone.south else TILE_CELLS - 1 - r
        return self.col * TILE_CELLS + c, self.row * TILE_CELLS + down

    def cell_id(self, r: int, c: int) -> str:
        """Return the id of the cell at (r, c) in this tile, such as ``21S_00712_01653``."""
        col, row = self.cell_position(r, c)
        return f"{self.zone.code}_{col:05d}_{row:05d}"

    def cell_bounds(self, r: int, c: int) -> Bounds:
        """Return (xmin, ymin, xmax, ymax) in metres of the cell at (r, c) in this tile."""
        xmin, ymin, xmax, ymax = self.zone.bounds(*self.cell_position(r, c))
        return xmin, ymin, xmax, ymax

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a bit per cell: a few hundred bytes instead of thousands of numbers."""
        return _unpacked, (self.zone, self.col, self.row, self._bits)

    def __dask_tokenize__(self) -> tuple[str, str, bytes]:
        """Name the tile for Dask, which would go through its cells one by one."""
        return "Tile", self.tile_id, self._bits

    @property
    def _bits(self) -> bytes:
        return np.packbits(self.mask).tobytes()


def tiles(aoi: Aoi) -> list[Tile]:
    """Return the tiles that have a cell in the AOI, sorted by id, each with those cells.

    A cell is the AOI's if it exists (``zones.owned``) and shares area with the AOI. The AOI is
    taken to each zone it lies in, then cut into rows of tiles, and only tiles that it does not
    cover wholly are looked at cell by cell.
    """
    found = []
    for zone, area in _areas(aoi):
        for part, cols, row, inside in _tile_rows(zone, area):
            seam = _near_seam(zone, cols, row)
            for col, whole, at_seam in zip(cols.tolist(), inside, seam, strict=True):
                mask = np.ones((TILE_CELLS, TILE_CELLS), dtype=bool)
                tile = Tile(zone, col, row)
                if not whole:
                    mask &= _shares_area(tile, part)
                if at_seam:
                    mask &= owned(zone, *_positions(tile)).reshape(mask.shape)
                if mask.any():
                    found.append(Tile(zone, col, row, _cells(mask)))
    return sorted(found, key=lambda tile: tile.tile_id)


def cell_polygons(tile: Tile) -> NDArray[np.object_]:
    """Return the outlines of a tile's cells in their order, EPSG:4326, counter-clockwise.

    Neighbours share their corners exactly.
    """
    if not tile.cells:
        return np.empty(0, dtype=object)
    r, c = np.transpose(tile.cells)
    return np.asarray(shapely.polygons(corners(tile.zone, *tile.cell_position(r, c))))


def _areas(aoi: Aoi) -> Iterator[tuple[Zone, BaseGeometry]]:
    """Yield each zone the AOI lies in, or within reach of, and the AOI there in its metres."""
    west, south, east, north = aoi.geometry.bounds
    widest = max(abs(south), abs(north))
    reach = math.degrees(REACH_M / 6_350_000) / math.cos(math.radians(widest))
    for number in range(1, 61):
        zone_west, zone_east = 6 * number - 186 - reach, 6 * number - 180 + reach
        for turn in (-360, 0, 360):  # the zones at the 180th meridian reach past it
            if west + turn > zone_east or east + turn < zone_west:
                continue
            for zone, low, high in ((Zone(number, False), 0, 90), (Zone(number, True), -90, 0)):
                window = shapely.box(zone_west - turn, low, zone_east - turn, high)
                area = _project(only_area(shapely.intersection(aoi.geometry, window)), zone)
                if not area.is_empty:
                    yield zone, area


def _project(geometry: BaseGeometry, zone: Zone) -> BaseGeometry:
    """Take the polygons of a geometry in EPSG:4326 to a zone's metres, valid."""
    dense = shapely.segmentize(geometry, _EDGE_DEG)
    area = shapely.transform(dense, lambda c: np.column_stack(from_geographic(zone.epsg, *c.T)))
    return area if shapely.is_valid(area) else only_area(shapely.make_valid(area))


def _tile_rows(
    zone: Zone, area: BaseGeometry
) -> Iterator[tuple[BaseGeometry, NDArray[np.int64], int, NDArray[np.bool_]]]:
    """Yield for each row of tiles: the area in it, columns, row, and which tiles it covers."""
    xmin, ymin, xmax, ymax = area.bounds
    (first, last), ends = zone.locate(np.array([xmin, xmax]), np.array([ymin, ymax]), TILE_M)
    left, _, right, _ = zone.bounds(np.array([first, last]), 0, TILE_M)
    for row in range(max(0, int(ends.min())), int(ends.max()) + 1):
        _, low, _, high = zone.bounds(0, row, TILE_M)
        part = only_area(shapely.intersection(area, shapely.box(left[0], low, right[1], high)))
        if part.is_empty:
            continue
        (first_here, last_here), _ = zone.locate(np.array(part.bounds[::2]), low, TILE_M)
        cols = np.arange(first_here, last_here + 1)
        boxes = shapely.box(*zone.bounds(cols, row, TILE_M))
        shapely.prepare(part)
        meets = shapely.intersects(part, boxes)
        yield part, cols[meets], row, shapely.covers(part, boxes[meets])


def _shares_area(tile: Tile, area: BaseGeometry) -> NDArray[np.bool_]:
    """Return the mask (42, 42) of the cells that share more than a touch with an area in metres."""
    here = only_area(shapely.intersection(area, shapely.box(*tile.core_bounds)))
    cols, rows = _positions(tile)
    boxes = shapely.box(*tile.zone.bounds(cols, rows))
    shapely.prepare(here)
    shares = shapely.intersects(here, boxes)
    edge = shares & ~shapely.contains_properly(here, boxes)
    shares[edge] = shapely.area(shapely.intersection(here, boxes[edge])) > SHARED_M2
    return np.asarray(shares).reshape(TILE_CELLS, TILE_CELLS)


def _near_seam(zone: Zone, cols: NDArray[np.int64], row: int) -> NDArray[np.bool_]:
    """Tell which tiles come so close to a seam that not all their cells need exist."""
    lon = corners(zone, cols, row, TILE_M)[..., 0]
    return np.asarray((np.abs(lon - zone.meridian) > HALF_ZONE - 0.02).any(axis=1))


def _positions(tile: Tile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return columns and rows in the zone's grid of all 1764 cells, row by row from the north."""
    r, c = np.divmod(np.arange(TILE_CELLS**2), TILE_CELLS)
    cols, rows = tile.cell_position(r, c)
    return cols, rows


def _cells(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Return the cells of a mask, made of shared pairs so that many tiles stay small in memory."""
    if mask.all():
        return _ALL_CELLS
    return _Cells(_ALL_CELLS[i] for i in np.flatnonzero(mask))


def _unpacked(zone: Zone, col: int, row: int, bits: bytes) -> Tile:
    packed = np.frombuffer(bits, dtype=np.uint8)
    return Tile(zone, col, row, _cells(np.unpackbits(packed, count=TILE_CELLS**2).astype(bool)))


def _geobox(epsg: int, bounds: Bounds) -> GeoBox:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    xmin, ymin, xmax, ymax = bounds
    shape = ((ymax - ymin) // PIXEL_M, (xmax - xmin) // PIXEL_M)
    return GeoBox(shape, Affine(PIXEL_M, 0, xmin, 0, -PIXEL_M, ymax), f"EPSG:{epsg}")
