"""The absolute grid: ids that never move, cells that cover the AOI, seams without gaps."""

from __future__ import annotations

import importlib
import pickle
from unittest import mock

import numpy as np
import pytest
import shapely
from dask.tokenize import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.area import grid, zones
from scanner.area.aoi import Aoi, square_aoi
from scanner.area.grid import Tile, Zone, cell_polygons, tiles

delayed = importlib.import_module("dask.delayed")  # dask.delayed itself is a function
calm = settings(max_examples=25, derandomize=True, deadline=None)
SEAMS = (-60.0, -54.0, -48.0)


@st.composite
def aois(draw: st.DrawFn) -> Aoi:
    """Star-shaped outlines, many of them on a seam, on the equator, or on both."""
    lon = draw(st.sampled_from(SEAMS) | st.floats(-75, -45)) + draw(st.floats(-0.02, 0.02))
    lat = draw(st.sampled_from([0.0, -7.0, 4.0]) | st.floats(-18, 8)) + draw(st.floats(-0.02, 0.02))
    radii = np.array(draw(st.lists(st.floats(0.004, 0.09), min_size=3, max_size=9)))
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    ring = np.column_stack([lon + radii * np.cos(angles), lat + radii * np.sin(angles)])
    return Aoi("star", shapely.Polygon(ring))


def ids(found: list[Tile]) -> list[str]:
    return [tile.cell_id(r, c) for tile in found for r, c in tile.cells]


def bounds(found: list[Tile]) -> dict[str, tuple[int, ...]]:
    return {tile.cell_id(r, c): tile.cell_bounds(r, c) for tile in found for r, c in tile.cells}


def grid_around(zone: Zone, aoi: Aoi) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of every cell of a zone around an AOI."""
    west, south, east, north = aoi.geometry.bounds
    x, y = grid.from_geographic(zone.epsg, [west, east, west, east], [south, south, north, north])
    cols, rows = zone.locate(x, y)
    c = np.arange(cols.min() - 2, cols.max() + 3)
    r = np.arange(max(rows.min() - 2, 0), max(rows.max() + 3, 0))
    return tuple(np.array(np.meshgrid(c, r)).reshape(2, -1))


def zones_around(aoi: Aoi) -> set[Zone]:
    west, south, east, north = aoi.geometry.buffer(0.02).bounds
    numbers = {int((lon + 180) // 6) + 1 for lon in (west, east)}
    return {Zone(n, s) for n in numbers for s in (True, False) if (south < 0 if s else north > 0)}


@calm
@given(aois())
def test_tiles_hold_each_cell_of_the_aoi_once(aoi: Aoi) -> None:
    found = tiles(aoi)
    names = ids(found)
    assert len(names) == len(set(names))
    assert [t.tile_id for t in found] == sorted({t.tile_id for t in found})
    assert all(t.cells == tuple(sorted(t.cells)) for t in found)

    wanted: set[str] = set()
    for zone in zones_around(aoi):  # the slow and plain way, in degrees
        cols, rows = grid_around(zone, aoi)
        if not cols.size:
            continue
        squares = shapely.polygons(zones.corners(zone, cols, rows))
        m2 = shapely.area(shapely.intersection(squares, aoi.geometry)) * 111_000**2
        keep = zones.owned(zone, cols, rows) & (m2 > 20)  # straight in degrees is not in metres
        wanted |= {
            f"{zone.code}_{c:05d}_{r:05d}" for c, r in zip(cols[keep], rows[keep], strict=True)
        }
    assert wanted <= set(names)
    polygons = np.concatenate([cell_polygons(t) for t in found])
    extra = [n for n, p in zip(names, polygons, strict=True) if p.distance(aoi.geometry) > 1e-7]
    assert not extra


@calm
@given(aois())
def test_cells_cover_the_aoi(aoi: Aoi) -> None:
    covered = shapely.union_all([p for t in tiles(aoi) for p in cell_polygons(t)])
    missing = shapely.difference(aoi.geometry, covered).area
    assert missing <= 1e-6 * aoi.geometry.area + 1e-12


@calm
@given(aois(), st.floats(-0.01, 0.01), st.floats(-0.01, 0.01))
def test_moving_or_growing_the_aoi_moves_no_cell(aoi: Aoi, east: float, north: float) -> None:
    here = bounds(tiles(aoi))
    moved = Aoi("moved", shapely.affinity.translate(aoi.geometry, east, north))
    grown = bounds(tiles(Aoi("grown", aoi.geometry.union(moved.geometry))))
    there = bounds(tiles(moved))
    assert here.items() <= grown.items()
    assert there.items() <= grown.items()
    assert grown.keys() == here.keys() | there.keys()


@calm
@given(
    st.sampled_from((*SEAMS, 180.0, 12.0)),
    st.sampled_from((0.0, -3.0, -7.0, 4.0, 60.0, -83.5)),
    st.integers(0, 10_000),
)
def test_every_point_lies_in_a_cell(seam: float, lat: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lons = seam + rng.uniform(-0.012, 0.012, 400) / np.cos(np.radians(lat))
    lats = lat + rng.uniform(-0.05, 0.05, 400)
    west = round((seam + 180) / 6)
    covers = np.zeros(400, dtype=int)
    for number in (west, west % 60 + 1):
        for south in (True, False):
            zone = Zone(number, south)
            inside = (lats < 0) == south
            cols, rows = zone.locate(*grid.from_geographic(zone.epsg, lons, lats))
            exists = zones.owned(zone, cols, np.maximum(rows, 0))
            covers += exists & inside
    assert covers.min() >= 1
    assert covers.max() <= 2


def seam_cells(zone: Zone, seam: float, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, rows and polygons (metres of zone 21) of the cells along 100 km of a seam."""
    rows = np.arange(first, first + 208)
    lat = grid.to_geographic(zone.epsg, np.full(208, 500_000), zone.bounds(0, rows)[1])[1]
    middle = grid.from_geographic(zone.epsg, np.full(208, seam), lat)[0] // grid.CELL_M
    cols = (middle[:, None] + np.arange(-6, 7)).astype(int).ravel()
    rows = np.repeat(rows, 13)
    keep = zones.owned(zone, cols, rows)
    rings = zones.corners(zone, cols[keep], rows[keep])
    metres = grid.from_geographic(32721, rings[..., 0], rings[..., 1])
    return cols[keep], rows[keep], shapely.polygons(np.stack(metres, axis=-1))


@pytest.mark.parametrize("lat", [-1.0, -7.0, -14.0])
def test_the_seam_has_no_hole_and_no_needless_cell(lat: float) -> None:
    west, east, seam = Zone(21, True), Zone(22, True), -54.0
    first = int(west.locate(*grid.from_geographic(west.epsg, seam, lat))[1])
    cols, rows, ours = seam_cells(west, seam, first)
    _, _, theirs = seam_cells(east, seam, first)
    both = shapely.union_all(np.concatenate([ours, theirs]))
    inner = shapely.box(*both.bounds).buffer(-3_000, join_style="mitre")
    inner = shapely.box(both.bounds[0], inner.bounds[1], both.bounds[2], inner.bounds[3])
    holes = [shapely.Polygon(ring) for part in shapely.get_parts(both) for ring in part.interiors]
    assert sum(hole.area for hole in holes) < 1e-6  # square metres

    shared = shapely.union_all(ours) & shapely.union_all(theirs) & inner
    kilometres = (inner.bounds[3] - inner.bounds[1]) / 1000
    assert shared.area / 1e4 / kilometres < 32  # hectares; 48 if each zone kept all it touches

    centre = zones.corners(west, cols, rows)[:, :4, 0].mean(axis=1)
    fills = np.flatnonzero((centre > seam) & shapely.within(ours, inner))
    assert fills.size
    tree = shapely.STRtree(np.concatenate([ours, theirs]))
    alone = []
    for fill in fills:
        others = [tree.geometries[i] for i in tree.query(ours[fill]) if i != fill]
        alone.append(ours[fill].difference(shapely.union_all(others)).area)
    needless = np.array(alone) < 1e-6
    assert needless.mean() <= 0.05  # those that miss a gap by less than a hand


def test_the_equator_parts_the_hemispheres_exactly() -> None:
    found = tiles(square_aoi(0.0, -57.0, 5))
    assert {t.zone.code for t in found} == {"21N", "21S"}
    polygons = [p for t in found for p in cell_polygons(t)]
    whole = shapely.union_all(polygons)
    assert sum(p.area for p in polygons) == pytest.approx(whole.area, rel=1e-9)
    assert all(p.bounds[1] > -1e-9 or p.bounds[3] < 1e-9 for p in polygons)
    north, south = (Tile(Zone(21, s), 16, 0) for s in (False, True))
    assert north.core_bounds[1] == 0
    assert south.core_bounds[3] == 10_000_000


def test_both_sides_of_the_180th_meridian() -> None:
    for box in (shapely.box(179.99, -16.05, 180, -16), shapely.box(-180, -16.05, -179.99, -16)):
        aoi = Aoi("edge", box)
        covered = shapely.union_all([p for t in tiles(aoi) for p in cell_polygons(t)])
        turned = [shapely.affinity.translate(covered, turn) for turn in (-360, 0, 360)]
        assert box.difference(shapely.union_all(turned)).area < 1e-12


def test_ids_never_change() -> None:
    [tile] = tiles(Aoi("point-like", shapely.box(-58.4501, -7.1701, -58.45, -7.17)))
    assert tile.tile_id == "21S_0016_0039"
    assert ids([tile]) == ["21S_00708_01651"]
    assert tile.core_bounds == (322_560, 9_193_600, 342_720, 9_213_760)
    assert tile.bounds == (321_920, 9_192_960, 343_360, 9_214_400)
    [tile] = tiles(Aoi("point-like", shapely.box(-62.0001, 2.5, -62, 2.5001)))
    assert tile.tile_id.startswith("20N_")
    assert Tile(Zone(1, False), 8, 3).tile_id == "01N_0008_0003"


@pytest.mark.parametrize("south", [True, False])
def test_a_tile_hangs_together(south: bool) -> None:
    tile = Tile(Zone(21, south), 16, 39, ((0, 0), (41, 41)))
    box, core = tile.geobox, tile.core_geobox
    assert box.shape == (grid.CHUNK_PX, grid.CHUNK_PX) == (2144, 2144)
    assert core.shape == (grid.CORE_PX, grid.CORE_PX) == (2016, 2016)
    assert box.crs.epsg == tile.epsg == (32721 if south else 32621)
    assert tuple(box.boundingbox) == tile.bounds
    assert tuple(core.boundingbox) == tile.core_bounds
    assert box[64:-64, 64:-64] == core
    assert all(v % 20 == 0 for v in tile.bounds)  # edges of Sentinel-2's 10 m and 20 m pixels

    first, last = tile.cell_bounds(0, 0), tile.cell_bounds(41, 41)
    assert (first[0], first[3]) == (tile.core_bounds[0], tile.core_bounds[3])  # north-west
    assert (last[2], last[1]) == (tile.core_bounds[2], tile.core_bounds[1])  # south-east
    col, row = (int(v) for v in tile.cell_id(0, 0).split("_")[1:])
    assert (col, row) == (672, 1638 if south else 1679)

    assert tile.mask.sum() == 2
    assert tile.mask[0, 0]
    assert tile.mask[41, 41]
    north_west, south_east = cell_polygons(tile)
    assert north_west.centroid.y > south_east.centroid.y
    assert all(shapely.is_ccw(p.exterior) for p in (north_west, south_east, tile.footprint))
    assert tile.footprint.covers(shapely.centroid(south_east))
    assert len(cell_polygons(Tile(tile.zone, 16, 39, ()))) == 0


def test_tiles_travel_small() -> None:
    found = tiles(square_aoi(-7.0, -54.0, 25))
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301
    assert max(len(pickle.dumps(tile)) for tile in found) < 500
    assert len({hash(tile) for tile in found}) == len(found)


@calm
@given(
    st.integers(1, 60),
    st.booleans(),
    st.integers(9, 40),
    st.integers(0, 400),
    st.lists(st.tuples(st.floats(0, 2144), st.floats(0, 2144)), min_size=1, max_size=20),
)
def test_pixels_to_degrees_and_back(
    number: int, south: bool, col: int, row: int, at: list[tuple[float, float]]
) -> None:
    geobox = Tile(Zone(number, south), col, row).geobox
    rows, cols = np.transpose(at)
    back = grid.geographic_to_pixel(geobox, *grid.pixel_to_geographic(geobox, rows, cols))
    assert np.abs(np.subtract(back, (rows, cols))).max() < 1e-6


def test_pixel_coordinates_start_at_the_corner() -> None:
    tile = Tile(Zone(21, True), 16, 39)
    lon, lat = grid.pixel_to_geographic(tile.geobox, 0, 0)
    x, y = grid.from_geographic(tile.epsg, lon, lat)
    assert (float(x), float(y)) == pytest.approx((tile.bounds[0], tile.bounds[3]), abs=1e-6)


def test_only_utm_zones_are_taken() -> None:
    for epsg in (4326, 3857, 32661, 32600):
        with pytest.raises(ValueError, match="no UTM zone"):
            grid.to_geographic(epsg, 0, 0)


def test_long_straight_edges_bend_in_metres() -> None:
    """The edges of a wide box follow their parallels, not the chords between its corners."""
    aoi = Aoi("wide", shapely.box(-59.9, -14.2, -54.1, -14.0))
    polygons = np.concatenate([cell_polygons(t) for t in tiles(aoi)])
    assert shapely.contains_xy(polygons, -57.0, -14.0001).any()
    assert shapely.distance(polygons, aoi.geometry).max() < 1e-6


def test_a_large_area_stays_cheap() -> None:
    aoi = Aoi("large", shapely.box(-70, -10, -60, 0))
    found = tiles(aoi)
    assert abs(len(found) - aoi.area_km2 / 20.16**2) < 0.06 * len(found)
    full = [tile.cells for tile in found if len(tile.cells) == 42 * 42]
    assert len({id(cells) for cells in full}) == 1  # shared, not copied


def test_dask_takes_a_tile_as_it_is() -> None:
    """It names it by what it is, the same after a journey, and does not go through its cells."""
    part = shapely.box(-55.6, -6.6, -55.5, -6.5)
    cells = [*tiles(Aoi("part", part)), Tile(Zone(21, True), 30, 40)]
    for tile in cells:
        assert tokenize(tile) == tokenize(pickle.loads(pickle.dumps(tile)))  # noqa: S301
        real = delayed.unpack_collections
        with mock.patch.object(delayed, "unpack_collections", wraps=real) as look:
            taken, graphs = look(tile)
        assert taken is tile
        assert not graphs
        assert look.call_count < 50
    assert len({tokenize(tile) for tile in cells}) == len(cells)
    other = Tile(cells[0].zone, cells[0].col, cells[0].row, cells[0].cells[1:])
    assert tokenize(other) != tokenize(cells[0])
