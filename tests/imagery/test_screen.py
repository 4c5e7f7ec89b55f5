"""Which days are read: the clearest of this tile alone, and none of it left out."""

from __future__ import annotations

import datetime as dt

import numpy as np
import shapely
import xarray as xr

from scanner.area.grid import CHUNK_PX, Tile, Zone
from scanner.imagery.bands import CLEAR_SCL
from scanner.imagery.composite import NO_VIEW
from scanner.imagery.item import Item
from scanner.imagery.screen import choose_days, pick_days, solar_days

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
