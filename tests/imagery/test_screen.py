"""Which days are read: the clearest of this tile alone, and none of it left out."""

from __future__ import annotations

import datetime as dt

import numpy as np
import shapely
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scanner.area.grid import CHUNK_PX, TILE_CELLS, Tile, Zone
from scanner.imagery.bands import CLEAR_SCL
from scanner.imagery.composite import NO_VIEW
from scanner.imagery.item import Item
from scanner.imagery.screen import (
    CELL_SCL,
    HALO_SCL,
    choose_days,
    pick_days,
    solar_days,
    worth_a_look,
)

TILE = Tile(Zone(21, True), 31, 34)
HALF = CHUNK_PX // 2


def item(day, scl=True, footprint=None):
    shape = footprint or TILE.footprint.buffer(0.1)
    return Item(
        {
            "id": f"i{day}",
            "geometry": shapely.geometry.mapping(shape),
            "properties": {"datetime": f"2024-07-{day:02d}T13:50:00Z"},
            "assets": {"SCL": {"href": "x"}} if scl else {},
        }
    )


def choose(scls, items, **options):
    cube = (
        xr.DataArray(np.stack(scls)[:, None], dims=("time", "band", "y", "x")).chunk(-1)
        if scls
        else None
    )
    settings = {"max_scenes": 2, "clear_scl": CLEAR_SCL, **options}
    return choose_days(cube, items, TILE, **settings).compute(scheduler="synchronous")[()]


def scl(value, left=None):
    out = np.full((HALF, HALF), value, np.uint8)
    if left is not None:
        out[:, : HALF // 2] = left
    return out


def test_clearest_days_win():
    got = choose([scl(9), scl(4), scl(4, left=9)], [item(1), item(6), item(11)])
    assert [day.day for day in got.days] == [6, 11]
    assert got.clear_share[0] == 1
    assert 0.45 < got.clear_share[1] < 0.55


def test_a_strip_only_one_orbit_sees_is_not_left_out():
    ranks = np.full((4, 100), NO_VIEW, np.uint8)
    ranks[:3, :90] = 0  # three days of the wide orbit
    ranks[3, 90:] = 0  # one of the narrow one
    assert 3 in pick_days(ranks, 3)


def test_a_tile_always_under_cloud_is_still_looked_at():
    got = choose([scl(9), scl(8)], [item(1), item(6)])
    assert len(got.days) == 2
    assert got.clear_share == (0, 0)


def test_days_without_data_are_not_read():
    assert choose([scl(0)], [item(1)]).days == ()


def test_items_without_scl_count_as_clear_inside_their_footprint():
    west, south, east, north = TILE.footprint.bounds
    left = shapely.box(west - 1, south - 1, (west + east) / 2, north + 1)
    got = choose([scl(9)], [item(1), item(6, scl=False, footprint=left)])
    assert [day.day for day in got.days] == [1, 6]
    assert 0.45 < got.clear_share[1] < 0.55


def test_only_aoi_cells_count():
    corner = Tile(TILE.zone, TILE.col, TILE.row, ((0, 0),))
    cloudy_elsewhere = scl(9)
    cloudy_elsewhere[: HALF // 4, : HALF // 4] = 4
    cube = xr.DataArray(
        np.stack([cloudy_elsewhere, scl(4, left=9)])[:, None], dims=("time", "band", "y", "x")
    ).chunk(-1)
    got = choose_days(cube, [item(1), item(6)], corner, max_scenes=1, clear_scl=CLEAR_SCL).compute(
        scheduler="synchronous"
    )[()]
    assert [day.day for day in got.days] == [1]


def test_latest_prefers_the_last_days_that_show_something():
    ranks = np.zeros((4, 100), np.uint8)
    ranks[3] = 5
    assert pick_days(ranks, 2, latest=True) == [1, 2]


def test_solar_days_are_distinct_and_sorted():
    assert solar_days([item(6), item(1), item(6)]) == [dt.date(2024, 7, 1), dt.date(2024, 7, 6)]


def test_no_more_days_than_give_every_pixel_its_clear_views():
    ranks = np.zeros((6, 100), np.uint8)
    assert pick_days(ranks, 6) == [3, 4, 5]
    assert pick_days(ranks, 6, clear_views=1) == [5]
    ranks[5, :50] = 5  # the last day shows half of it: one more is needed
    assert len(pick_days(ranks, 6)) == 3
    ranks[3:, 0] = 5
    ranks[:3, 1] = 5
    assert len(pick_days(ranks, 6)) == 5  # one pixel of a hundred is not nothing
    assert len(pick_days(ranks, 2)) == 2


def test_a_day_that_others_made_needless_is_given_up():
    ranks = np.full((3, 100), 5, np.uint8)
    ranks[0, 20:80] = 0  # the largest gain at first
    ranks[1, :50] = 0
    ranks[2, 50:] = 0
    assert pick_days(ranks, 3, clear_views=1) == [1, 2]


@given(
    arrays(np.uint8, (5, 40), elements=st.sampled_from([0, 0, 1, 5, NO_VIEW])),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_days_give_every_pixel_what_all_of_them_could(ranks, max_scenes, wanted):
    chosen = pick_days(ranks, max_scenes, clear_views=wanted)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= max_scenes
    if max_scenes == 5:  # 40 pixels: each counts
        clear = ranks == 0
        possible = np.minimum(clear.sum(axis=0), wanted)
        assert (np.minimum(clear[chosen].sum(axis=0), wanted) == possible).all()
        assert ((ranks[chosen] != NO_VIEW).any(axis=0) == (ranks != NO_VIEW).any(axis=0)).all()


def forest(days=4):
    return np.full((days, HALF, HALF), 4, np.uint8)


def at(row, col, rows=1, cols=1):
    """Return pixels of the chunk at 20 m from the cell (row, col) on."""
    top, left = HALO_SCL + row * CELL_SCL, HALO_SCL + col * CELL_SCL
    return slice(top, top + rows), slice(left, left + cols)


def looks(scl, days=None, **options):
    """Return the cells worth a look, each view of another day unless said."""
    days = days or [dt.date(2024, 7, 1 + number) for number in range(len(scl))]
    return worth_a_look(scl, days, CLEAR_SCL, **options)


def test_dense_vegetation_needs_no_look():
    assert not looks(forest()).any()


def test_half_a_hectare_of_anything_else_is_looked_at_with_its_surroundings():
    for value in (2, 5, 6, 7):
        scl = forest()
        scl[:, *at(20, 20, 3, 4)] = value  # 12 pixels: 0.48 ha, in a corner of its cell
        cells = looks(scl)
        assert cells[19:21, 19:21].all()  # it may go on beyond the corner
        assert cells.sum() == 4


def test_ground_laid_bare_on_the_last_quarter_of_the_dates_is_looked_at():
    scl = forest(8)
    scl[6:, *at(10, 10, 4, 4)] = 5
    assert looks(scl)[10, 10]


def test_bright_ground_called_cloud_on_every_date_is_looked_at():
    scl = forest()
    scl[:, *at(10, 10, 4, 4)] = 9
    assert looks(scl)[10, 10]
    scl[0, *at(10, 10, 4, 4)] = 4  # cloud that went away
    assert not looks(scl).any()


def test_of_a_few_views_one_is_no_reason_unless_it_is_the_only_one_or_the_latest_counts():
    scl = forest(2)
    scl[1, *at(10, 10, 4, 4)] = 5
    assert not looks(scl).any()
    assert looks(scl, views=1)[10, 10]
    assert looks(scl[1:])[10, 10]
    scl[0, *at(10, 10, 4, 4)] = 9
    assert looks(scl)[10, 10]


def test_cloud_on_two_dates_is_no_reason():
    scl = forest(2)
    scl[:, *at(10, 10, 4, 4)] = 9
    assert not looks(scl).any()


def test_one_wrong_view_in_many_or_a_few_pixels_are_no_reason():
    scl = forest(8)
    scl[3, *at(10, 10, 20, 20)] = 7  # the edge of a cloud
    scl[:, *at(30, 30, 2, 2)] = 5
    assert not looks(scl).any()


def test_ground_without_data_is_no_reason_to_look():
    assert not looks(np.zeros((2, HALF, HALF), np.uint8)).any()


def test_a_fifth_of_a_hectare_is_enough_unless_it_is_only_dark_as_shaded_forest_is():
    for value, wanted in ((5, True), (6, True), (7, True), (2, False)):
        scl = forest()
        scl[:, *at(20, 20, 2, 4)] = value  # 0.32 ha
        assert looks(scl)[20, 20] == wanted, value
    scl[0, *at(20, 20, 2, 4)] = 5  # one bare view among dark ones may be a mistake ...
    assert not looks(scl).any()
    scl[1, *at(20, 20, 2, 4)] = 5  # ... two are none
    assert looks(scl)[20, 20]


def test_a_pond_and_the_bare_ground_beside_it_count_together():
    for bare, wanted in ((3, True), (2, False)):  # 3 of 5 and 5 of 12 make one, 2 and 6 do not
        scl = forest()
        scl[:, *at(20, 20, 2, 4)] = 2
        scl[:, *at(20, 20, 1, bare)] = 5
        assert looks(scl)[20, 20] == wanted


def test_the_rim_of_a_cloud_seen_once_is_no_reason_below_half_a_hectare():
    scl = forest(2)
    scl[0, *at(10, 10, 20, 20)] = 9
    for side, wanted in ((3, False), (4, True)):
        scl[1, *at(10, 10, side, side)] = 7
        assert looks(scl)[10, 10] == wanted
    scl[1, *at(10, 10, 4, 4)] = 4
    scl[1, *at(10, 10, 3, 3)] = 5
    assert looks(scl)[10, 10]


def test_errors_strewn_over_forest_are_no_reason():
    scl = forest()
    scl[:, ::5, ::5] = 7  # 4 % of it, on the same places on every date
    assert not looks(scl).any()


def test_where_granules_of_a_day_overlap_they_are_one_view():
    scl = forest(4)
    days = [dt.date(2024, 7, 1 + number // 2) for number in range(4)]
    scl[:2, *at(10, 10, 2, 4)] = 5  # both granules of one of two days
    assert not looks(scl, days).any()
    assert looks(scl)[10, 10], "as days of their own they would be two views"
    scl[3, *at(10, 10, 2, 4)] = 5  # the other day's first granule is clear, and forest
    assert not looks(scl, days).any()
    scl[2, *at(10, 10, 2, 4)] = 9
    assert looks(scl, days)[10, 10]


def test_what_is_known_of_a_cell_without_reading_it():
    half = forest(2)
    half[0, :, HALO_SCL + CELL_SCL // 2 :] = 9  # day 1: the west half of the first column alone
    half[1] = 9
    half[1, *at(5, 5, CELL_SCL, CELL_SCL)] = 4
    got = choose(list(half), [item(1), item(6)], max_scenes=6)
    assert [day.day for day in got.days] == [1, 6]
    assert got.clear_fraction[0, 0] == 0.5
    assert got.day_bits[0, 0] == 1  # half of it is enough
    assert got.day_bits[0, 1] == 0
    assert (got.clear_fraction[5, 5], got.day_bits[5, 5]) == (1, 2)


def test_without_screening_or_scl_every_cell_of_the_area_needs_a_look():
    corner = Tile(TILE.zone, TILE.col, TILE.row, ((0, 0), (7, 9)))
    cube = xr.DataArray(forest(1)[:, None], dims=("time", "band", "y", "x")).chunk(-1)

    def cells(items, **options):
        lazy = choose_days(cube, items, corner, max_scenes=6, clear_scl=CLEAR_SCL, **options)
        return lazy.compute(scheduler="synchronous")[()].cells

    assert not cells([item(1)]).any()
    np.testing.assert_array_equal(cells([item(1)], screen=False), corner.mask)
    np.testing.assert_array_equal(cells([item(1), item(6, scl=False)]), corner.mask)
    assert cells([item(1)]).shape == (TILE_CELLS, TILE_CELLS)


def test_without_any_scl_nothing_is_known_of_cells_and_all_of_them_are_looked_at():
    got = choose([], [item(1, scl=False)])
    np.testing.assert_array_equal(got.cells, TILE.mask)
    assert not got.clear_fraction.any()
    assert not got.day_bits.any()
