"""Styles: percentiles land where they should, and nothing is taken from a chunk unasked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scanner.errors import ModelError
from scanner.models.style import WHITE, apply_style, check_style, simulate_landsat


def statistics(low: float, high: float) -> dict[str, float]:
    return {f"{letter}_{end}": v for letter in "rgb" for end, v in (("p2", low), ("p98", high))}


def noise(shape: tuple[int, ...], low: float, high: float, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32) * WHITE


def percentiles(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.nanpercentile(pixels[:, :3] / WHITE, (2, 98), axis=(0, 2, 3))


ends = st.tuples(st.floats(0.02, 0.45), st.floats(0.55, 0.95))


@given(ends, ends, st.integers(0, 1000))
def test_matching_maps_percentiles_on_percentiles(
    source: tuple[float, float], target: tuple[float, float], seed: int
) -> None:
    pixels = noise((2, 3, 20, 20), *source, seed)
    low, high = percentiles(pixels)
    measured = {
        f"{letter}_{end}": float(values[band])
        for band, letter in enumerate("bgr")
        for end, values in (("p2", low), ("p98", high))
    }
    style = {"method": "match", "source": measured, "target": statistics(*target)}
    matched = percentiles(apply_style(pixels, style))
    assert matched == pytest.approx(np.repeat([target], 3, axis=0).T, abs=1e-4)


def test_matching_leaves_other_bands_nodata_and_flat_bands() -> None:
    pixels = noise((1, 6, 12, 12), 0.2, 0.6)
    pixels[0, :, :3] = np.nan
    pixels[0, 1, 5] = np.nan  # one band alone
    style: dict[str, Any] = {
        "method": "match",
        "source": statistics(0.2, 0.6) | {"g_p98": 0.2},
        "target": statistics(0.1, 0.9),
    }
    out = apply_style(pixels, style)
    assert (np.isnan(out) == np.isnan(pixels)).all()
    np.testing.assert_array_equal(out[:, [1, 3, 4, 5]], pixels[:, [1, 3, 4, 5]])
    assert (np.abs(out[:, [0, 2]] - pixels[:, [0, 2]])[..., 6:, :] > 1e-4).mean() > 0.9
    assert out.dtype == np.float32


def test_each_band_has_its_own_statistics() -> None:
    pixels = np.full((1, 3, 4, 4), 0.5 * WHITE, np.float32)
    style = {
        "method": "stretch",
        "source": statistics(0, 1) | {"b_p2": 0.5, "b_p98": 0.6, "r_p2": 0.4, "r_p98": 0.5},
    }
    out = apply_style(pixels, style) / WHITE
    assert out[0, :, 0, 0] == pytest.approx([0, 0.5, 1], abs=1e-6)
    swapped = apply_style(pixels, style | {"bands": ["B04", "B03", "B02"]}) / WHITE
    assert swapped[0, :, 0, 0] == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_black_pixels_stay_black() -> None:
    pixels = noise((1, 3, 8, 8), 0.3, 0.6)
    pixels[0, :, 0] = 0
    style = {"method": "stretch", "source": statistics(-0.5, 0.6)}
    assert (apply_style(pixels, style)[0, :, 0] == 0).all()


@pytest.mark.parametrize("method", ["match", "stretch"])
def test_a_chip_does_not_depend_on_its_batch_or_its_surroundings(method: str) -> None:
    pixels = noise((3, 3, 16, 16), 0.1, 0.7)
    style: dict[str, Any] = {"method": method, "source": statistics(0.2, 0.5)}
    if method == "match":
        style["target"] = statistics(0.3, 0.6)
    whole = apply_style(pixels, style)
    np.testing.assert_array_equal(
        apply_style(pixels[1:2, :, 4:9, 4:9], style), whole[1:2, :, 4:9, 4:9]
    )


def test_chips_may_bring_their_own_statistics() -> None:
    pixels = np.concatenate([noise((1, 3, 30, 30), 0.1, 0.3), noise((1, 3, 30, 30), 0.4, 0.9)])
    pixels = np.concatenate([pixels, np.full((1, 3, 30, 30), np.nan, np.float32)])
    out = apply_style(pixels, {"method": "stretch", "source": "chip"})
    for chip in out[:2]:
        values = chip / WHITE
        assert (np.percentile(values, 1), np.percentile(values, 99)) == pytest.approx((0, 1))
    assert np.isnan(out[2]).all()


@pytest.mark.parametrize("size", [48, 93, 512])
def test_landsat_loses_detail_and_keeps_the_mean(size: int) -> None:
    pixels = noise((1, 4, size, size), 0.1, 0.9)
    pixels[0, 3] = np.nan
    pixels[0, :, :4, :4] = np.nan
    out = apply_style(pixels, {"method": "landsat"})
    assert (np.isnan(out) == np.isnan(pixels)).all()
    assert np.nanmean(out[0, :3]) == pytest.approx(np.nanmean(pixels[0, :3]), rel=0.02)
    assert np.nanstd(out[0, :3]) < 0.5 * np.nanstd(pixels[0, :3])
    assert np.nanmin(out) >= np.nanmin(pixels)


def test_landsat_of_512_is_93_pixels() -> None:
    """What 93 pixels cannot hold is gone: lines two pixels apart become even."""
    lines = np.zeros((1, 1, 512, 512), np.float32)
    lines[..., ::2] = 0.2
    assert np.ptp(simulate_landsat(lines)[..., 20:-20]) < 0.01
    even = np.full((1, 3, 64, 64), 0.1, np.float32)
    assert simulate_landsat(even) == pytest.approx(even)


@pytest.mark.parametrize(
    ("style", "told"),
    [
        ({"method": "vintage"}, "known are match, stretch, landsat"),
        ({}, "method None"),
        ({"method": "landsat", "pixels": 93}, "'pixels' is no entry"),
        ({"method": "match", "source": "chip"}, "target is None"),
        ({"method": "stretch", "source": {"r_p2": 0.1}}, "p98 = None"),
        ({"method": "stretch", "source": statistics(0, float("nan"))}, "a number is needed"),
        ({"method": "stretch", "source": "chip", "white": 0}, "white is 0"),
        ({"method": "stretch", "source": "chip", "bands": ["B02"]}, "must be there"),
    ],
)
def test_what_cannot_be_applied_is_refused(style: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        apply_style(np.zeros((1, 3, 4, 4), np.float32), style)


def test_shapes_are_checked() -> None:
    check_style(style := {"method": "stretch", "source": "chip"})
    with pytest.raises(ModelError, match="3 bands or more"):
        apply_style(np.zeros((1, 2, 4, 4), np.float32), style)
