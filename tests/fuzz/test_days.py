"""Which days are read, and what is made of them, under random clouds.

``tests/imagery/test_screen.py`` and ``test_composite.py`` have the cases by hand.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanner.area.grid import CHUNK_PX, Tile, Zone
from scanner.imagery.bands import CLEAR_SCL
from scanner.imagery.composite import NO_VIEW, STEADY_BIT, compose, composite, scl_rank
from scanner.imagery.item import Item
from scanner.imagery.screen import DayChoice, choose_days, pick_days

HALF = CHUNK_PX // 2
TILE = Tile(Zone(21, True), 31, 34, tuple((r, c) for r in range(10, 20) for c in range(10, 20)))
SCL = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
coarse = hnp.arrays(np.uint8, (4, 4), elements=SCL)
ranks = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 40)),
    elements=st.sampled_from([0, 0, 1, 2, 5, NO_VIEW, NO_VIEW]),
)  # fmt: skip


def item(number: int, day: int, with_scl: bool) -> Item:
    return Item(
        {
            "id": f"i{number}",
            "geometry": shapely.geometry.mapping(TILE.footprint.buffer(0.1)),
            "properties": {"datetime": f"2024-07-{day:02d}T13:50:{number:02d}Z"},
            "assets": {"SCL": {"href": "x"}} if with_scl else {},
        }
    )


def choose(scenes: list[tuple[Item, np.ndarray]], most: int, latest: bool) -> DayChoice:
    known = [scl for one, scl in scenes if one.asset_key("SCL")]
    cube = (
        xr.DataArray(np.stack(known)[:, None], dims=("time", "band", "y", "x")).chunk(-1)
        if known
        else None
    )
    lazy = choose_days(
        cube, [one for one, _ in scenes], TILE,
        max_scenes=most, clear_scl=CLEAR_SCL, latest=latest,
    )  # fmt: skip
    return lazy.compute(scheduler="synchronous")[()]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 9), coarse, st.booleans()), min_size=1, max_size=6),
    st.integers(1, 6),
    st.booleans(),
    st.randoms(),
)
def test_days_do_not_depend_on_the_order_of_scenes(
    drawn: list, most: int, latest: bool, rng: object
) -> None:
    size = -(-HALF // 4)
    scenes = [
        (item(number, day, has), np.kron(scl, np.ones((size, size), np.uint8))[:HALF, :HALF])
        for number, (day, scl, has) in enumerate(drawn)
    ]
    chosen = choose(scenes, most, latest)
    assert chosen == choose(scenes, most, latest)
    assert len(chosen.days) <= most
    assert list(chosen.days) == sorted(set(chosen.days))
    assert set(chosen.days) <= {one.solar_day for one, _ in scenes}
    assert all(0 <= share <= 1 for share in chosen.clear_share)
    clear = {
        one.solar_day for one, scl in scenes
        if one.asset_key("SCL") is None or np.isin(scl, CLEAR_SCL).all()
    }  # fmt: skip
    assert not clear or set(chosen.days) & clear or max(chosen.clear_share) == 1
    rng.shuffle(scenes)  # type: ignore[attr-defined]
    again = choose(scenes, most, latest)
    assert again == chosen
    for name in ("cells", "clear_fraction", "day_bits"):
        np.testing.assert_array_equal(getattr(again, name), getattr(chosen, name))


@given(ranks, st.integers(1, 9), st.booleans())
def test_a_day_that_shows_nothing_is_not_read(seen: np.ndarray, most: int, latest: bool) -> None:
    chosen = pick_days(seen, most, latest)
    assert len(chosen) == len(set(chosen)) <= most
    assert chosen == sorted(chosen)
    assert all((seen[day] != NO_VIEW).any() for day in chosen)
    if not latest and len(chosen) < most:  # all was taken that shows anything new
        rest = [day for day in range(len(seen)) if day not in chosen]
        wanting = (seen[chosen] == 0).sum(axis=0) < 3
        assert not any((seen[day] == 0)[wanting].any() for day in rest)


@given(ranks)
def test_more_days_never_show_less(seen: np.ndarray) -> None:
    shown = [
        (seen[pick_days(seen, most)] == 0).any(axis=0).sum() for most in range(1, len(seen) + 1)
    ]
    assert shown == sorted(shown)
    assert shown[-1] == (seen == 0).any(axis=0).sum()


values = hnp.arrays(np.float32, (6, 2, 3, 3), elements=st.floats(0, 1, width=32))
views = hnp.arrays(np.uint8, (6, 3, 3), elements=st.sampled_from([0, 0, 1, 4, 5, NO_VIEW]))


@given(values, views, st.permutations(range(6)), st.booleans())
def test_the_composite_lies_within_its_clear_views(
    reflectance: np.ndarray, rank: np.ndarray, order: list[int], latest: bool
) -> None:
    picture, bits = compose(reflectance, rank, list(range(6)), latest=latest)
    clear, view = rank == 0, rank != NO_VIEW
    assert (np.isnan(picture) == ~view.any(axis=0)).all()
    low = np.where(clear[:, None], reflectance, np.inf).min(axis=0)
    high = np.where(clear[:, None], reflectance, -np.inf).max(axis=0)
    seen = np.broadcast_to(clear.any(axis=0), picture.shape)
    assert (picture[seen] >= low[seen]).all()
    assert (picture[seen] <= high[seen]).all()
    counts = np.vectorize(lambda b: (int(b) % (1 << STEADY_BIT)).bit_count())(bits)
    assert (counts == clear.sum(axis=0)).all()
    # scenes listed in another order, each with its day
    again = compose(reflectance[order], rank[order], order, latest=latest)
    np.testing.assert_array_equal(again[0], picture)
    np.testing.assert_array_equal(again[1], bits)


@settings(max_examples=30)
@given(
    hnp.arrays(np.uint16, (4, 2, 4, 4), elements=st.sampled_from([0, 1, 900, 1100, 4000, 65535])),
    hnp.arrays(np.uint8, (4, 1, 2, 2), elements=SCL),
    st.lists(st.sampled_from([0, -1000]), min_size=4, max_size=4),
)
def test_no_data_is_nan_and_all_else_is_a_number(
    dn: np.ndarray, scl: np.ndarray, offsets: list[int]
) -> None:
    days = np.array([dt.datetime(2024, 7, day) for day in (1, 2, 3, 4)], dtype="M8[s]")
    cube = xr.DataArray(
        dn, dims=("time", "band", "y", "x"),
        coords={"band": ["B02", "B03"], "solar_day": ("time", days), "y": range(4), "x": range(4)},
    ).chunk(-1)  # fmt: skip
    lazy_scl = xr.DataArray(scl, dims=("time", "band", "y", "x")).chunk(-1)
    image = composite(
        cube, lazy_scl, offsets=offsets, has_scl=[True] * 4, clear_scl=CLEAR_SCL
    ).compute()  # fmt: skip
    whole = (dn != 0).all(axis=1)
    assert (np.isnan(image[:2].values) == ~whole.any(axis=0)).all()
    assert ((image[:2].values >= 0) & (image[:2].values <= 1) | np.isnan(image[:2].values)).all()
    fine = np.kron(scl[:, 0], np.ones((2, 2), np.uint8))
    clear = (scl_rank(fine, CLEAR_SCL) == 0) & whole
    counts = np.vectorize(lambda b: (int(b) % (1 << STEADY_BIT)).bit_count())(image[2].values)
    assert (counts == clear.sum(axis=0)).all()
