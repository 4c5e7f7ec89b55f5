"""Calibration: curves that are right at a stated prevalence, thresholds, what precision becomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from scanner.errors import TrainingError
from scanner.models.calibration import MAX_KNOTS, Calibration, calibrate, odds, rescale
from training.calibrate import (
    METHODS,
    compare_methods,
    expected_calibration_error,
    fit,
    mass_bins,
    precision_at,
    prevalence_weights,
    reliability,
    thresholds,
)

N = 20_000
inside = st.floats(1e-4, 1 - 1e-4)


def truth(share, n=N, seed=0):
    """Logits x of N(+1, 1) for mines and N(-1, 1) for others: log-odds are 2 x at one half."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.int64)
    return rng.normal(np.where(labels == 1, 1, -1)).astype(np.float32), labels


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_right_at_the_prevalence_asked_for_whatever_the_set_holds(method):
    logits, labels = truth(0.4)
    curve = fit(logits, labels, 0.1, method)
    assert curve.prevalence == 0.1
    other, other_labels = truth(0.1, seed=1)  # a set that really has that share
    scores = calibrate(other, curve)
    assert scores.mean() == pytest.approx(0.1, abs=0.01)
    assert expected_calibration_error(scores, other_labels, 0.1) < 0.02
    bare = 1 / (1 + np.exp(-(2 * other.astype(float) + np.log(odds(0.1)))))
    assert log_loss(other_labels, scores) == pytest.approx(log_loss(other_labels, bare), rel=0.05)


def test_platt_and_temperature_find_the_line_that_made_the_labels():
    logits, labels = truth(0.3)
    platt = fit(logits, labels, 0.1)
    assert (platt.a, platt.b) == pytest.approx((2, np.log(odds(0.1))), abs=0.1)
    warm = fit(logits, labels, 0.1, "temperature")
    assert warm.a == pytest.approx(2, abs=0.1)
    assert warm.b == pytest.approx(np.log(odds(0.1)), abs=1e-4)
    at_home = fit(logits, labels, 0.3, "temperature", trained_share=0.3)
    assert at_home.b == 0


def test_an_isotonic_curve_keeps_the_order_and_stays_off_the_ends():
    logits, labels = truth(0.3)
    curve = fit(logits, labels, 0.1, "isotonic")
    assert 2 < len(curve.knots) <= MAX_KNOTS
    grid = np.linspace(curve.knots[0][0], curve.knots[-1][0], 500).astype(np.float32)
    scores = calibrate(grid, curve)
    assert (np.diff(scores) >= 0).all()
    assert len(np.unique(np.round(scores, 4))) > 300, "rises between its knots"
    ends = calibrate(np.array([-1e9, 1e9], np.float32), curve)
    assert 0 < ends[0] < ends[1] < 1
    again = fit(logits, labels, 0.1, "isotonic")
    assert again == curve


def test_an_isotonic_curve_of_labels_that_do_not_follow_is_flat():
    logits = np.arange(6, dtype=np.float32)
    curve = fit(logits, np.array([1, 1, 1, 0, 0, 0]), 0.2, "isotonic")
    assert len(curve.knots) == 1
    np.testing.assert_allclose(calibrate(logits, curve), 0.2, atol=1e-6)


@given(st.lists(inside, min_size=2, max_size=20), inside, inside)
def test_rescaling_shifts_log_odds_keeps_order_and_can_be_undone(values, prevalence, prior):
    scores = np.sort(np.array(values))
    moved = rescale(scores, prevalence, prior)
    assert ((moved >= 0) & (moved <= 1)).all()
    assert (np.diff(moved) >= 0).all()
    np.testing.assert_allclose(rescale(moved, prior, prevalence), scores, rtol=1e-6)
    step = np.log(odds(prior)) - np.log(odds(prevalence))
    mild = moved < 1 - 1e-9
    np.testing.assert_allclose(
        np.log(odds(moved[mild])) - np.log(odds(scores[mild])), step, atol=1e-5
    )
    assert [rescale(float(s), prevalence, prior) for s in scores] == moved.tolist()


def test_rescaling_leaves_certainty_and_what_is_unknown():
    moved = rescale(np.array([0, 1, np.nan]), 0.1, 0.001)
    np.testing.assert_array_equal(moved, [0, 1, np.nan])
    same = np.array([0.3])
    assert rescale(same, 0.1, None) is same


def test_rescaled_scores_are_right_where_mines_are_that_rare():
    logits, labels = truth(0.4)
    curve = fit(logits, labels, 0.2)
    rare, rare_labels = truth(0.02, n=60_000, seed=2)
    scores = rescale(calibrate(rare, curve).astype(np.float64), 0.2, 0.02)
    assert scores.mean() == pytest.approx(rare_labels.mean(), abs=0.003)


@pytest.mark.parametrize("seed", range(5))
def test_thresholds_are_what_they_say(seed):
    logits, labels = truth(0.3, n=500, seed=seed)
    prevalence = 0.15
    scores = calibrate(logits, fit(logits, labels, prevalence))
    found = thresholds(scores, labels, prevalence)
    rounded, weights = np.round(scores.astype(float), 4), prevalence_weights(labels, prevalence)
    cuts = np.unique(rounded)
    f1 = [f1_score(labels, rounded >= cut, sample_weight=weights) for cut in cuts]
    at = f1_score(labels, rounded >= found["balanced"], sample_weight=weights)
    assert at == pytest.approx(max(f1))
    recall = np.array([(rounded >= cut)[labels == 1].mean() for cut in cuts])
    assert found["high_recall"] == cuts[recall >= 0.95].max()
    alarms = np.array([(rounded >= cut)[labels == 0].mean() for cut in cuts])
    precision = precision_at(recall, alarms, prevalence)
    called = np.array([(rounded >= cut).sum() for cut in cuts])
    assert found["high_precision"] == cuts[(precision >= 0.9) & (called >= 10)].min()
    assert found["high_recall"] <= found["balanced"] <= found["high_precision"]


def test_a_precision_no_score_reaches_is_no_threshold():
    rng = np.random.default_rng(0)
    found = thresholds(rng.random(400), rng.integers(0, 2, 400), 0.01)
    assert set(found) == {"balanced", "high_recall"}


def test_calibration_error_by_hand():
    scores = np.array([0.1] * 4 + [0.8] * 4)
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    # at a half each chip weighs 1: one bin each, |0.1 - 1/4| and |0.8 - 3/4|
    assert expected_calibration_error(scores, labels, 0.5) == pytest.approx(0.1)
    found = reliability(scores, labels, 0.2)
    assert found.mass.sum() == pytest.approx(1)
    # mines weigh 0.4, others 1.6: 0.4 / 5.2 and 1.2 / 2.8
    np.testing.assert_allclose(found.mines, [0.4 / 5.2, 1.2 / 2.8])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_equal_scores_share_a_bin_and_bins_rise_with_scores(values):
    scores = np.array(values) / 7
    bins = mass_bins(scores, np.ones(len(scores)))
    assert set(bins) == set(range(bins.max() + 1))
    order = np.argsort(scores, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    for value in set(scores):
        assert len(set(bins[scores == value])) == 1


def test_precision_falls_with_prevalence():
    assert precision_at(0.8, 0.1, 0.5) == pytest.approx(0.8 / 0.9)
    assert precision_at(0.8, 0.1, 0.01) == pytest.approx(0.008 / (0.008 + 0.099))
    assert np.isnan(precision_at(0.0, 0.0, 0.01))


def test_methods_are_compared_on_sources_they_were_not_fitted_on():
    logits, labels = truth(0.4, n=2000)
    groups = np.array([f"{'mines' if y else 'others'} {i % 4}" for i, y in enumerate(labels)])
    found = compare_methods(logits, labels, groups, 0.2)
    assert set(found) == set(METHODS)
    assert max(one["calibration_error"] for one in found.values()) < 0.06
    with pytest.raises(TrainingError, match="1 groups with mines"):
        compare_methods(logits, labels, np.where(labels == 1, "m", groups), 0.2)


def test_one_kind_of_chips_calibrates_nothing():
    with pytest.raises(TrainingError, match="give chips of both kinds"):
        fit(np.zeros(3, np.float32), np.ones(3, np.int64), 0.1)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "isotonic"},
        {"knots": ((0.0, 0.1),)},
        {"method": "isotonic", "knots": ((0.0, 0.5), (1.0, 0.4))},
        {"method": "isotonic", "knots": ((0.0, 0.5), (0.0, 0.6))},
        {"method": "isotonic", "knots": ((0.0, 0.5), (1.0, 1.5))},
        {"method": "isotonic", "knots": tuple((float(i), 0.5) for i in range(MAX_KNOTS + 1))},
        {"prevalence": 0.0},
        {"method": "spline"},
    ],
)
def test_curves_that_are_none_are_refused(values):
    with pytest.raises(ValueError, match="validation error"):
        Calibration(**({"a": 1.0, "b": 0.0, "prevalence": 0.1} | values))
