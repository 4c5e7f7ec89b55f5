"""The estimators of the audit against published examples, every possible sample, and simulation."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.results.audit.olofsson import Labelled, exact
from scanner.results.audit.sample import FLOORS, STRATA, allocate

STEHMAN = {  # Table 2 of Stehman (2014): stratum, map and reference class of 40 units
    "stratum": "A" * 10 + "B" * 10 + "C" * 10 + "D" * 10,
    "map": "A" * 7 + "BBB" + "A" + "B" * 11 + "C" * 6 + "BB" + "D" * 10,
    "reference": "A" * 5 + "CBABCA" + "B" * 5 + "AABB" + "C" * 5 + "DDBBA" + "D" * 7 + "CCB",
}
TABLE_8 = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
"""Counts by map class and reference class of Olofsson et al. (2014), section 5: deforestation,
forest gain, stable forest, stable non-forest."""
PIXELS = [200_000, 150_000, 3_200_000, 6_450_000]
HECTARES = 900_000


def test_figures_are_those_of_stehman_2014() -> None:
    stratum, mapped, truth = (np.array(list(STEHMAN[k])) for k in ("stratum", "map", "reference"))
    data = Labelled(np.searchsorted(list("ABCD"), stratum), np.array([40, 30, 20, 10]) * 1000)
    both = (mapped == "B") & (truth == "B")
    figures = [
        (data.mean(truth == "A"), 0.35, 0.082),  # pp. 4932 to 4936
        (data.mean(truth == "C"), 0.20, 0.064),
        (data.mean(mapped == truth), 0.63, 0.085),
        (data.ratio(both, mapped == "B"), 0.574, 0.125),
        (data.ratio(both, truth == "B"), 0.794, 0.117),
        (data.mean((mapped == "B") & (truth == "C")), 0.08, None),
    ]
    for figure, value, error in figures:
        assert figure.value == pytest.approx(value, abs=0.0005)
        assert error is None or figure.se == pytest.approx(error, abs=0.0005)


def table_8() -> tuple[Labelled, np.ndarray, np.ndarray]:
    mapped = np.repeat(np.arange(4), np.sum(TABLE_8, axis=1))
    truth = np.concatenate([np.repeat(np.arange(4), row) for row in TABLE_8])
    return Labelled(mapped, np.array(PIXELS)), mapped, truth


def test_areas_are_those_of_olofsson_et_al_2014() -> None:
    data, _, truth = table_8()
    printed = [(21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282)]
    for kind, (area, half) in enumerate(printed):
        figure = data.mean(truth == kind).scaled(HECTARES)
        assert figure.value == pytest.approx(area, abs=0.6)
        assert figure.se is not None
        assert figure.se * 1.96 == pytest.approx(half, abs=1.5)  # they leave out n / N, we do not


def test_accuracies_are_those_of_olofsson_et_al_2014() -> None:
    data, mapped, truth = table_8()
    users = [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
    # of the half-widths of producer's accuracy, two were printed otherwise than eq. 7 gives them
    producers = [(0.75, 0.21), (0.85, None), (0.93, 0.03), (0.96, None)]
    overall = data.mean(mapped == truth)
    assert overall.value == pytest.approx(0.95, abs=0.005)
    for kind in range(4):
        right = (mapped == kind) & (truth == kind)
        for figure, (value, half) in (
            (data.ratio(right, mapped == kind), users[kind]),
            (data.ratio(right, truth == kind), producers[kind]),
        ):
            assert figure.value == pytest.approx(value, abs=0.005)
            assert figure.se is not None
            assert half is None or figure.se * 1.96 == pytest.approx(half, abs=0.006)


def test_every_possible_sample_together_gives_the_truth_and_its_variance() -> None:
    strata = [np.array([1, 1, 0, 1]), np.array([0, 0, 1, 0, 0])]
    sizes = np.array([4, 5])
    truth = np.concatenate(strata).mean()
    values, variances = [], []
    for first, second in product(combinations(range(4), 2), combinations(range(5), 3)):
        y = np.concatenate([strata[0][list(first)], strata[1][list(second)]]).astype(bool)
        figure = Labelled(np.array([0, 0, 1, 1, 1]), sizes).mean(y)
        values.append(figure.value)
        assert figure.se is not None
        variances.append(figure.se**2)
    assert np.mean(values) == pytest.approx(truth)
    assert np.mean(variances) == pytest.approx(np.var(values))


Counts = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400)).filter(
    lambda c: c[0] + c[1] > 0
)


@given(st.lists(Counts, min_size=1, max_size=4))
def test_figures_stay_within_what_is_possible(counts: list[tuple[int, int, int]]) -> None:
    y = np.concatenate([np.arange(a + b) < a for a, b, _ in counts])
    stratum = np.repeat(np.arange(len(counts)), [a + b for a, b, _ in counts])
    sizes = np.array([a + b + rest for a, b, rest in counts])
    data = Labelled(stratum, sizes)
    figure = data.mean(y)
    assert figure.value is not None
    assert figure.cautious is not None
    low, high = figure.cautious
    least = sum(a for a, _, _ in counts) / sizes.sum()
    most = 1 - sum(b for _, b, _ in counts) / sizes.sum()
    assert 0 <= low <= figure.value + 1e-12
    assert figure.value - 1e-12 <= high <= 1
    assert least - 1e-9 <= figure.value <= most + 1e-9
    if (sizes == data.counts).all():  # all was looked at: nothing is left to chance
        assert figure.se == 0
        assert low == pytest.approx(high)
    first = np.arange(len(counts)) == 0
    part = data.ratio(y & (stratum == 0), stratum == 0, first, first)
    assert part.value == pytest.approx(y[stratum == 0].mean())
    assert part.cautious == pytest.approx(
        exact(counts[0][0], counts[0][0] + counts[0][1], int(sizes[0]))
    )


def test_one_unit_of_a_stratum_gives_no_standard_error() -> None:
    figure = Labelled(np.array([0, 0, 1]), np.array([10, 10])).mean(np.array([True, False, False]))
    assert figure.value == 0.25
    assert figure.se is None
    assert figure.interval is None
    assert figure.cautious is not None


def test_a_share_of_nothing_is_unknown() -> None:
    nothing = np.zeros(4, bool)
    assert Labelled(np.array([0, 0, 1, 1]), np.array([9, 9])).ratio(nothing, nothing).value is None


def test_a_stratum_without_a_label_is_refused() -> None:
    with pytest.raises(ValueError, match="each stratum"):
        Labelled(np.array([0, 0]), np.array([9, 9]))


def coverage(
    shares: list[float], sizes: list[int], counts: list[int], missed: bool = False
) -> tuple[float, float]:
    """Return how often the two intervals hold the truth, over 1000 samples.

    The first stratum is the map's mining; ``missed`` asks for producer's accuracy, not for area.
    """
    rng = np.random.default_rng(7)
    mines = [round(share * size) for share, size in zip(shares, sizes, strict=True)]
    truth = mines[0] / sum(mines) if missed else sum(mines) / sum(sizes)
    stratum = np.repeat(np.arange(len(sizes)), counts)
    first = np.arange(len(sizes)) == 0
    held = np.zeros(2)
    for _ in range(1000):
        hits = [
            rng.hypergeometric(mine, size - mine, n)
            for mine, size, n in zip(mines, sizes, counts, strict=True)
        ]
        y = np.concatenate([np.arange(n) < hit for hit, n in zip(hits, counts, strict=True)])
        data = Labelled(stratum, np.array(sizes))
        figure = data.ratio(y & (stratum == 0), y, first, ~first) if missed else data.mean(y)
        for which, limits in enumerate((figure.interval, figure.cautious)):
            assert limits is not None
            held[which] += limits[0] <= truth <= limits[1]
    return float(held[0] / 1000), float(held[1] / 1000)


def test_both_intervals_hold_the_truth_95_times_in_100() -> None:
    normal, cautious = coverage([0.8, 0.2, 0.05], [300, 2_000, 20_000], [60, 80, 200])
    assert 0.92 <= normal <= 0.975
    assert 0.95 <= cautious <= 0.99


@pytest.mark.parametrize("missed", [False, True])
@pytest.mark.parametrize("clean", [0.0, 0.002, 0.01])
def test_where_mines_are_few_only_the_cautious_interval_holds(clean: float, missed: bool) -> None:
    normal, cautious = coverage([0.9, 0.1, clean], [500, 2_000, 100_000], [50, 25, 75], missed)
    assert cautious >= 0.95
    assert normal < 0.93  # what the notes of an estimate warn of


@given(
    st.tuples(st.integers(0, 300), st.integers(0, 3_000), st.integers(0, 200_000)).filter(any),
    st.integers(10, 2_000),
)
def test_sample_is_shared_out_whole_and_no_stratum_is_starved(
    cells: tuple[int, int, int], size: int
) -> None:
    sizes = dict(zip(STRATA, cells, strict=True))
    given_ = allocate(sizes, size)
    assert sum(given_.values()) == min(size, sum(cells))
    for name, count in sizes.items():
        assert 0 <= given_[name] <= count
        assert given_[name] >= min(count, 2)
        if size >= 150:
            assert given_[name] >= min(count, FLOORS[name])


def test_rare_strata_get_their_floor_and_the_rest_goes_by_area() -> None:
    sizes = {"mining": 21, "not_mining": 132, "not_suspicious": 1075}
    assert allocate(sizes, 150) == {"mining": 21, "not_mining": 25, "not_suspicious": 104}
    sizes = {"mining": 1_000, "not_mining": 3_000, "not_suspicious": 6_000}
    assert allocate(sizes, 1_000) == {"mining": 100, "not_mining": 300, "not_suspicious": 600}
