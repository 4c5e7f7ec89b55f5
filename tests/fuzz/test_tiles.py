"""Tiles: ids unique and told back, chunk windows and halos that fit, pixels and degrees both ways.

``tests/area/test_grid.py`` has the grid's own rules; here every zone, both hemispheres, far places.
"""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from scanner.area import grid
from scanner.area.grid import CELL_PX, CHUNK_PX, CORE_PX, HALO_PX, TILE_CELLS, Tile, Zone
from scanner.imagery.catalog import chunk_footprint

positions = st.tuples(st.integers(0, TILE_CELLS - 1), st.integers(0, TILE_CELLS - 1))
zones = st.builds(Zone, st.integers(1, 60), st.booleans())
tiles = st.builds(Tile, zones, st.integers(8, 40), st.integers(0, 460))


@given(tiles, tiles, positions, positions)
def test_ids_are_unique_and_tell_the_place(a: Tile, b: Tile, one: tuple, other: tuple) -> None:
    same = (a.zone, a.col, a.row) == (b.zone, b.col, b.row)
    assert (a.tile_id == b.tile_id) == same
    assert (a.cell_id(*one) == b.cell_id(*other)) == (same and one == other)
    code, col, row = a.cell_id(*one).split("_")
    zone = Zone(int(code[:2]), code[2] == "S")
    assert zone == a.zone
    assert tuple(map(int, zone.bounds(int(col), int(row)))) == a.cell_bounds(*one)
    assert (int(col) // TILE_CELLS, int(row) // TILE_CELLS) == (a.col, a.row)


@given(tiles, positions)
def test_a_cell_is_a_window_of_its_chunk(tile: Tile, at: tuple) -> None:
    r, c = at
    rows = slice(HALO_PX + r * CELL_PX, HALO_PX + (r + 1) * CELL_PX)
    cols = slice(HALO_PX + c * CELL_PX, HALO_PX + (c + 1) * CELL_PX)
    assert tuple(tile.geobox[rows, cols].boundingbox) == tile.cell_bounds(r, c)
    assert rows.stop <= HALO_PX + CORE_PX == CHUNK_PX - HALO_PX
    west, south, east, north = tile.core_bounds
    assert tile.bounds == (west - 640, south - 640, east + 640, north + 640)


@given(tiles, st.data())
def test_neighbours_share_edges_and_halos(tile: Tile, data: st.DataObject) -> None:
    east = Tile(tile.zone, tile.col + 1, tile.row)
    assert tile.core_bounds[2] == east.core_bounds[0]
    assert east.bounds[0] == tile.core_bounds[2] - HALO_PX * 10
    away = Tile(tile.zone, tile.col, tile.row + 1)  # away from the equator
    south, north = (away, tile) if tile.zone.south else (tile, away)
    assert south.core_bounds[3] == north.core_bounds[1]
    shared = tile.geobox.boundingbox & east.geobox.boundingbox
    x = data.draw(st.floats(shared.left, shared.right))
    y = data.draw(st.floats(shared.bottom, shared.top))
    lon, lat = grid.to_geographic(tile.epsg, x, y)
    here, there = (grid.geographic_to_pixel(t.geobox, lon, lat) for t in (tile, east))
    assert abs(float(here[0] - there[0])) < 1e-6  # the same row, one tile's columns further on
    assert abs(float(here[1] - there[1]) - CORE_PX) < 1e-6


@given(tiles, st.floats(0, CHUNK_PX), st.floats(0, CHUNK_PX))
def test_every_pixel_lies_in_the_footprint_that_items_are_chosen_by(
    tile: Tile, row: float, col: float
) -> None:
    lon, lat = grid.pixel_to_geographic(tile.geobox, row, col)
    back = grid.geographic_to_pixel(tile.geobox, lon, lat)
    assert np.abs(np.subtract(back, (row, col))).max() < 1e-5
    # its sides are straight between three points: at 83 N they bend by a pixel, in the halo
    metres = 111_320 * chunk_footprint(tile).distance(shapely.Point(lon, lat))
    assert metres < 15
