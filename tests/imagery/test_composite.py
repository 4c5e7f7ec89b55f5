"""Composites: clear views win, of two the darker, never clear stays marked, days and not items
count.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanner.imagery.bands import CLEAR_SCL
from scanner.imagery.composite import (
    NO_VIEW,
    STEADY_BIT,
    _sort_days,
    compose,
    composite,
    scl_rank,
)


def values(*numbers):
    return np.array(numbers, dtype=np.float32).reshape(len(numbers), 1, 1, 1)


def ranks(*numbers):
    return np.array(numbers, dtype=np.uint8).reshape(len(numbers), 1, 1)


def test_of_two_clear_values_the_darker():
    picture, days = compose(values(0.3, 0.1), ranks(0, 0), [0, 1])
    assert picture.item() == np.float32(0.1)
    assert days.item() == 0b11


def test_median_of_three():
    assert compose(values(0.3, 0.1, 0.2), ranks(0, 0, 0), [0, 1, 2])[0].item() == np.float32(0.2)


def test_clear_beats_cloud_however_bright():
    picture, days = compose(values(0.05, 0.9, 0.8), ranks(0, 5, 5), [0, 1, 2])
    assert picture.item() == np.float32(0.05)
    assert days.item() == 0b1


def test_never_clear_takes_the_least_bad_and_stays_unclear():
    picture, days = compose(values(0.9, 0.2), ranks(5, 1), [0, 1])
    assert picture.item() == np.float32(0.2)
    assert days.item() == 0


def test_bright_ground_called_cloud_every_day_is_steady_and_clouds_are_not():
    ground = compose(values(0.31, 0.33, 0.3), ranks(4, 5, 4), [0, 1, 2])[1].item()
    assert ground == 2.0**STEADY_BIT
    cloud = compose(values(0.31, 0.6, 0.4), ranks(4, 5, 4), [0, 1, 2])[1].item()
    assert cloud == 0
    two_days = compose(values(0.31, 0.33), ranks(4, 5), [0, 1])[1].item()
    assert two_days == 0


def test_no_data_is_nan():
    picture, days = compose(values(0.0, 0.0), ranks(NO_VIEW, NO_VIEW), [0, 1])
    assert np.isnan(picture.item())
    assert days.item() == 0


def test_items_of_one_day_count_once():
    picture, days = compose(values(0.1, 0.2), ranks(0, 0), [0, 0])
    assert picture.item() == np.float32(0.1)
    assert int(days.item()).bit_count() == 1


def test_second_granule_of_a_day_fills_the_first():
    picture, days = compose(values(0.0, 0.2), ranks(NO_VIEW, 0), [0, 0])
    assert picture.item() == np.float32(0.2)
    assert days.item() == 1


def test_latest_clear_takes_the_last_clear_day():
    picture, _ = compose(values(0.1, 0.2, 0.9), ranks(0, 0, 5), [0, 1, 2], latest=True)
    assert picture.item() == np.float32(0.2)


def test_rank_of_every_scl_class():
    got = scl_rank(np.arange(12, dtype=np.uint8), CLEAR_SCL)
    assert got[0] == NO_VIEW
    assert [i for i in range(12) if got[i] == 0] == [2, 4, 5, 6, 7]
    assert got[10] < got[3] < got[8] < got[9]


@given(
    hnp.arrays(np.float32, (5, 1, 3, 3), elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.uint8, (5, 3, 3), elements=st.sampled_from([0, 1, 5, NO_VIEW])),
)
def test_the_picture_is_one_of_the_best_views(reflectance, rank):
    picture, days = compose(reflectance, rank, [0, 1, 1, 2, 3])
    best = rank.min(axis=0)
    for y, x in np.ndindex(3, 3):
        seen = reflectance[rank[:, y, x] == best[y, x], 0, y, x]
        if best[y, x] == NO_VIEW:
            assert np.isnan(picture[0, y, x])
        else:
            assert picture[0, y, x] in seen
        clear = {[0, 1, 1, 2, 3][i] for i in np.flatnonzero(rank[:, y, x] == 0)}
        assert int(days[y, x]) % (1 << STEADY_BIT) == sum(1 << day for day in clear)


def cube_of(dn, solar_days):
    _, b, h, w = dn.shape
    return xr.DataArray(
        dn,
        dims=("time", "band", "y", "x"),
        coords={
            "band": [f"B0{i + 2}" for i in range(b)],
            "solar_day": ("time", np.array(solar_days, "M8[s]")),
            "y": np.arange(h),
            "x": np.arange(w),
        },
    ).chunk(-1)


def test_lazy_composite_equals_the_plain_one_and_offsets_are_per_item():
    rng = np.random.default_rng(0)
    truth = rng.integers(200, 3000, (1, 3, 300, 300)).astype(np.uint16)
    cube = cube_of(np.concatenate([truth, truth + 1000]), ["2024-01-01", "2024-01-06"])
    image = composite(
        cube, None, offsets=[0, -1000], has_scl=[False, False], clear_scl=CLEAR_SCL
    ).compute()
    np.testing.assert_allclose(image[:3], truth[0] / 10_000, atol=1e-6)
    assert (image.sel(band="clear_days") == 0b11).all()


def test_refused_items_are_not_used():
    dn = np.full((2, 3, 4, 4), 500, dtype=np.uint16)
    dn[1] = 2500
    import dask.array as da

    refused = da.from_array(np.array(["offset twice", None], dtype=object), chunks=-1)
    image = composite(
        cube_of(dn, ["2024-01-01", "2024-01-06"]),
        None,
        offsets=[0, 0],
        has_scl=[False, False],
        clear_scl=CLEAR_SCL,
        refused=refused,
    ).compute()
    np.testing.assert_allclose(image[:3], 0.25)
    assert (image[3] == 0b10).all()


def test_scl_at_20_m_masks_its_four_pixels():
    dn = np.full((1, 1, 4, 4), 800, dtype=np.uint16)
    scl = np.array([[[[4, 9], [4, 4]]]], dtype=np.uint8)
    image = composite(
        cube_of(dn, ["2024-01-01"]),
        xr.DataArray(scl, dims=("time", "band", "y", "x")).chunk(-1),
        offsets=[0],
        has_scl=[True],
        clear_scl=CLEAR_SCL,
    ).compute()
    clear = image.sel(band="clear_days").values > 0
    assert not clear[:2, 2:].any()
    assert clear[2:].all()
    assert clear[:2, :2].all()
    assert np.isfinite(image[0]).all()


def test_an_optional_band_that_items_lack_hides_nothing():
    dn = np.full((3, 3, 4, 4), 800, dtype=np.uint16)
    dn[1, 0], dn[2, 0] = 1000, 1200
    dn[0, 2] = 0  # the last band is there on two days of three
    dn[1, 2] = 3000
    dn[2, 2] = 2000
    days = ["2024-01-01", "2024-01-06", "2024-01-11"]
    setting = {"offsets": [0] * 3, "has_scl": [False] * 3, "clear_scl": CLEAR_SCL}
    image = composite(cube_of(dn, days), None, optional={"B04"}, **setting).compute()
    np.testing.assert_allclose(image[0], 0.1)
    np.testing.assert_allclose(image[2], 0.2)
    assert (image[3] == 0b111).all()
    strict = composite(cube_of(dn, days), None, **setting).compute()
    assert (strict[3] == 0b110).all()
    nowhere = dn.copy()
    nowhere[:, 2] = 0
    image = composite(cube_of(nowhere, days), None, optional={"B04"}, **setting).compute()
    np.testing.assert_allclose(image[0], 0.1)
    assert np.isnan(image[2]).all()


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_days_are_sorted_as_numpy_sorts_them(n_days, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, (n_days, 2, 5, 7)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    expected = np.sort(values, axis=0)
    _sort_days(values)
    np.testing.assert_array_equal(values, expected)
