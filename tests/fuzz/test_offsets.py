"""The offset of 1000 DN: taken out once or not at all, and a mistake is noticed on the pixels.

``tests/imagery/test_reflectance.py`` has the baselines by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanner.imagery.bands import Scl
from scanner.imagery.item import Item
from scanner.imagery.reflectance import BOA_ADD_OFFSET, doubt, resolve_offset, to_reflectance

numbers = st.tuples(st.integers(0, 12), st.integers(0, 99))
flags = st.sampled_from((None, True, False, "true", 1, 0))
truths = hnp.arrays(np.uint16, (3, 2, 5, 5), elements=st.integers(0, 9000))


def item(**properties: Any) -> Item:
    return Item({"id": "x", "properties": {k: v for k, v in properties.items() if v is not None}})


@given(numbers, flags, st.dates().map(str))
def test_the_baseline_decides_but_for_the_flag(
    baseline: tuple[int, int], flag: object, date: str
) -> None:
    major, minor = baseline
    told = {"earthsearch:boa_offset_applied": flag, "datetime": f"{date}T00:00:00Z"}
    for text in (f"{major:02d}.{minor:02d}", f"{major}.{minor:02d}"):
        for key in ("s2:processing_baseline", "processing:version"):
            offset = resolve_offset(item(**{key: text}, **told))
            assert offset == (BOA_ADD_OFFSET if major >= 4 and flag is not True else 0)


@given(st.text() | st.integers() | st.floats() | st.none() | st.lists(st.integers()))
def test_a_baseline_that_is_none_is_no_error(baseline: Any) -> None:
    assert resolve_offset(item(**{"s2:processing_baseline": baseline})) in (0, BOA_ADD_OFFSET)


@given(
    truths, st.lists(st.sampled_from(("02.12", "03.01", "04.00", "05.10")), min_size=3, max_size=3)
)
def test_one_truth_at_any_baseline_is_one_reflectance(
    truth: np.ndarray, baselines: list[str]
) -> None:
    truth = np.broadcast_to(truth[:1], truth.shape)
    offsets = np.array([resolve_offset(item(**{"s2:processing_baseline": b})) for b in baselines])
    stored = np.where(truth == 0, 0, truth.astype(int) - offsets[:, None, None, None])
    got = to_reflectance(stored.astype(np.uint16), offsets)
    np.testing.assert_array_equal(np.isnan(got), truth == 0)
    np.testing.assert_allclose(np.nan_to_num(got), truth / 10_000, atol=1e-6)
    assert got.dtype == np.float32


@given(st.integers(0, 2**31), st.integers(60, 500), st.integers(0, 300), st.booleans())
def test_an_offset_out_twice_or_still_in_is_noticed(
    seed: int, darkest: int, spread: int, with_scl: bool
) -> None:
    """Over land whose blue is that of forest and bare soil, with some cloud and nodata."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(darkest, darkest + spread + 1, 4000)
    scl = rng.choice([Scl.VEGETATION, Scl.BARE_SOIL], 4000).astype(np.uint8)
    cloud = rng.random(4000) < 0.3
    truth[cloud], scl[cloud] = 6000, Scl.CLOUD_HIGH
    blank = rng.random(4000) < 0.1
    classes = scl if with_scl else None
    plain = np.where(blank, 0, truth)
    raised = np.where(blank, 0, truth + 1000)
    assert doubt(plain, classes, 0, "03.01") is None
    assert doubt(raised, classes, BOA_ADD_OFFSET, "05.10") is None
    assert "taken out already" in (doubt(plain, classes, BOA_ADD_OFFSET, "05.10") or "")
    assert "still in" in (doubt(raised, classes, 0, "03.01") or "")
