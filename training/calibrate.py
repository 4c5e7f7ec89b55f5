"""From the logits of held-out chips to calibrated scores, and to the thresholds a card states.

Labelled chips hold far more mines than the ground does, so every fit weights them to a stated
prevalence; a score is right there and nowhere else (``scanner.models.calibration.rescale``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.metrics import log_loss, precision_recall_curve  # type: ignore[import-untyped]
from sklearn.model_selection import StratifiedGroupKFold  # type: ignore[import-untyped]

from scanner.errors import TrainingError
from scanner.models.calibration import MAX_KNOTS, Calibration, Method, calibrate, odds

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

METHODS: Final[tuple[Method, ...]] = get_args(Method)
BINS: Final = 10
"""Bins of equal mass in which scores are held against what came true."""
DECIMALS: Final = 4
"""Scores are rounded to these before any threshold, as a scan does."""
LEAST_CALLED: Final = 10
"""Chips a high-precision threshold must call; of fewer, a high precision is chance."""
HIGH_RECALL: Final = 0.95
HIGH_PRECISION: Final = 0.9


def prevalence_weights(labels: Labels, prevalence: float) -> NDArray[np.float64]:
    """Return weights of mean 1 under which ``prevalence`` of the chips are mines.

    Raises ``TrainingError`` unless there are both mines and others.
    """
    share = float(np.mean(labels == 1)) if len(labels) else 0.0
    if not 0 < share < 1:
        raise TrainingError(
            f"calibration: {len(labels)} chips, {share:.0%} of them mines; give chips of both kinds"
        )
    return np.where(labels == 1, prevalence / share, (1 - prevalence) / (1 - share))


def fit(
    logits: Floats,
    labels: Labels,
    prevalence: float,
    method: Method = "platt",
    trained_share: float = 0.5,
) -> Calibration:
    """Fit how logits of held-out chips become scores at ``prevalence``.

    Args:
        logits: of the network, uncalibrated, (n,).
        labels: 1 mine, 0 not, (n,).
        prevalence: share of mines the scores shall be right at.
        method: see ``Calibration``.
        trained_share: share of mines among the chips the network was trained with, for
            ``temperature``, which takes the step from there to ``prevalence`` as known.
    """
    weights = prevalence_weights(labels, prevalence)
    values = logits.astype(np.float64)
    if method == "isotonic":
        return Calibration(1.0, 0.0, prevalence, "isotonic", _knots(values, labels, weights))
    if method == "temperature":
        step = float(np.log(odds(prevalence) / odds(trained_share)))
        signs = np.where(labels == 1, -1.0, 1.0)

        def loss(log_a: float) -> float:
            return float(weights @ np.logaddexp(0, signs * (np.exp(log_a) * values + step)))

        best = minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded")
        return Calibration(
            round(float(np.exp(best.x)), 5), round(step, 5), prevalence, "temperature"
        )
    line = LogisticRegression(C=1e6).fit(values.reshape(-1, 1), labels, sample_weight=weights)
    slope, base = float(line.coef_[0, 0]), float(line.intercept_[0])
    return Calibration(round(slope, 5), round(base, 5), prevalence)


def _knots(
    logits: NDArray[np.float64], labels: Labels, weights: NDArray[np.float64]
) -> tuple[tuple[float, float], ...]:
    """Return the knots of a centred isotonic curve, at most ``MAX_KNOTS``.

    Each flat step of the plain curve becomes one knot in its middle, so that scores rise between
    them and keep the order of the logits. The ends stay off 0 and 1, which no odds can move.
    """
    steps = IsotonicRegression().fit_transform(logits, labels, sample_weight=weights)
    values, step = np.unique(np.round(steps, 12), return_inverse=True)
    mass = np.bincount(step, weights)
    middles = np.bincount(step, weights * logits) / mass
    least = 1 / (len(labels) + 2)
    kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_KNOTS)).round())
    x = np.round(middles[kept.astype(int)], 5)
    y = np.round(np.clip(values[kept.astype(int)], least, 1 - least), 6)
    rising = np.concatenate([[True], np.diff(x) > 0])
    return tuple(zip(x[rising].tolist(), y[rising].tolist(), strict=True))


def thresholds(scores: Floats, labels: Labels, prevalence: float) -> dict[str, float]:
    """Return the scores from which to call a mine, for three uses, at ``prevalence``.

    - ``balanced``: the highest F1.
    - ``high_recall``: the highest score that still finds ``HIGH_RECALL`` of the mines.
    - ``high_precision``: the lowest score from which ``HIGH_PRECISION`` of the called are mines;
      absent where no score of ``LEAST_CALLED`` chips or more reaches that.
    """
    weights = prevalence_weights(labels, prevalence)
    rounded = np.round(scores.astype(np.float64), DECIMALS)
    precision, recall, cuts = precision_recall_curve(labels, rounded, sample_weight=weights)
    precision, recall = precision[:-1], recall[:-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    called = len(rounded) - np.searchsorted(np.sort(rounded), cuts)
    found = {
        "balanced": cuts[int(np.argmax(f1))],
        "high_recall": cuts[np.flatnonzero(recall >= HIGH_RECALL - 1e-12)[-1]],
    }
    sure = np.flatnonzero((precision >= HIGH_PRECISION) & (called >= LEAST_CALLED))
    if len(sure):
        found["high_precision"] = cuts[sure[0]]
    return {name: round(float(cut), DECIMALS) for name, cut in found.items()}


@dataclass(frozen=True)
class Reliability:
    """Scores against what came true, a row a bin of equal mass, lowest scores first."""

    mass: NDArray[np.float64]
    """Share of the weight; sums to 1."""
    score: NDArray[np.float64]
    """Mean score."""
    mines: NDArray[np.float64]
    """Share of mines."""

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of score and share of mines."""
        return float(self.mass @ np.abs(self.score - self.mines))


def reliability(scores: Floats, labels: Labels, prevalence: float, bins: int = BINS) -> Reliability:
    """Hold scores against what came true, with the chips weighted to ``prevalence``."""
    weights = prevalence_weights(labels, prevalence)
    bin_of = mass_bins(scores, weights, bins)
    mass = np.bincount(bin_of, weights)
    return Reliability(
        mass / mass.sum(),
        np.bincount(bin_of, weights * scores) / mass,
        np.bincount(bin_of, weights * (labels == 1)) / mass,
    )


def mass_bins(scores: Floats, weights: Floats, bins: int = BINS) -> NDArray[np.intp]:
    """Return the bin of each score: bins of about equal weight, equal scores in one, none empty."""
    _, level = np.unique(scores, return_inverse=True)
    mass = np.bincount(level, weights)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    _, bin_of = np.unique(np.minimum((middle * bins).astype(int), bins - 1), return_inverse=True)
    return np.asarray(bin_of[level], np.intp)


def expected_calibration_error(
    scores: Floats, labels: Labels, prevalence: float, bins: int = BINS
) -> float:
    """Return the mean distance between score and share of mines over bins of equal mass."""
    return reliability(scores, labels, prevalence, bins).error


def precision_at(recall: Floats, false_alarm_rate: Floats, prevalence: float) -> Floats:
    """Return the precision where ``prevalence`` of what is looked at are mines; 0/0 is NaN."""
    right = prevalence * np.asarray(recall, np.float64)
    called = right + (1 - prevalence) * np.asarray(false_alarm_rate, np.float64)
    return np.divide(right, called, out=np.full_like(called, np.nan), where=called > 0)


def compare_methods(
    logits: Floats,
    labels: Labels,
    groups: NDArray[Any],
    prevalence: float,
    folds: int = 5,
) -> dict[str, dict[str, float]]:
    """Return calibration error and log loss of each method on groups it was not fitted on.

    ``groups`` are sources or places, kept whole; both figures are weighted to ``prevalence``.
    """
    weights = prevalence_weights(labels, prevalence)
    kinds = [len(np.unique(groups[labels == label])) for label in (0, 1)]
    if min(kinds) < 2:
        raise TrainingError(
            f"calibration: {kinds[1]} groups with mines, {kinds[0]} with others; give two of each"
        )
    split = StratifiedGroupKFold(min(folds, *kinds))
    found: dict[str, dict[str, float]] = {}
    for method in METHODS:
        scores = np.full(len(logits), np.nan)
        for train, test in split.split(logits, labels, groups):
            curve = fit(logits[train], labels[train], prevalence, method)
            scores[test] = calibrate(logits[test], curve)
        found[method] = {
            "calibration_error": round(expected_calibration_error(scores, labels, prevalence), 4),
            "log_loss": round(float(log_loss(labels, scores, sample_weight=weights)), 4),
        }
    return found
