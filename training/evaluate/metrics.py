"""Figures of scored chips, with bootstrap intervals.

Every figure is worked out from two histograms over the distinct scores, one of mines and one of
others. A resample is another pair of histograms, so a thousand of them go through the same few
cumulative sums at once: 10,000 chips take seconds.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap

from training.calibrate import Floats, Labels, mass_bins, precision_at, prevalence_weights

PREVALENCES: Final = (0.01, 0.001)
"""Shares of mines at which precision is told besides that of the set."""
LEVEL: Final = 0.95
"""Of the confidence intervals."""
DIGITS: Final = 4
BLOCK: Final = 4_000_000
"""Histogram values held at once while resampling."""
PAIRED: Final = ("precision", "f1", "f2", "roc_auc", "average_precision", "calibration_error")
"""Figures that say nothing where there are only mines, or only others."""
NAMES: Final = ("accuracy", "precision", "recall", "false_alarm_rate", *PAIRED[1:])


@dataclass(frozen=True)
class Rules:
    """How scores are judged."""

    threshold: float
    """Score from which a chip is called a mine."""
    prevalence: float
    """Share of mines the scores are relative to; the calibration error is weighted to it."""
    resamples: int = 1000
    """Of the bootstrap; 0 leaves intervals out."""
    seed: int = 0


def measure(scores: Floats, labels: Labels, rules: Rules) -> dict[str, Any]:
    """Return the figures of one group of chips, ready for JSON: ``None`` where one is undefined.

    Resamples are drawn among the mines and among the others apart, so that their numbers stay.

    Args:
        scores: 0..1, (n,).
        labels: 1 mine, 0 not, (n,).
        rules: threshold, prevalence, and how often to draw.
    """
    mines, others = int(np.sum(labels == 1)), int(np.sum(labels == 0))
    called = scores >= rules.threshold
    table = {
        "true_positive": int(np.sum(called & (labels == 1))),
        "false_positive": int(np.sum(called & (labels == 0))),
        "false_negative": int(np.sum(~called & (labels == 1))),
        "true_negative": int(np.sum(~called & (labels == 0))),
    }
    curves = _Curves.of(scores, labels, rules)
    ranks = [curves.ranks[labels == label] for label in (1, 0)]
    point = curves.figures(*(np.bincount(rank, minlength=curves.size)[None] for rank in ranks))
    values = {name: _number(value[0]) for name, value in point.items()}
    found: dict[str, Any] = {
        "chips": mines + others,
        "mines": mines,
        "others": others,
        "confusion_matrix": table,
        **{name: values[name] for name in NAMES},
        "precision_at": _rarer(table),
    }
    if rules.resamples:
        found["confidence"] = _intervals(curves, ranks, rules)
    return found


@dataclass(frozen=True)
class _Curves:
    """Distinct scores of a group, and what does not change from resample to resample."""

    levels: NDArray[np.float64]
    ranks: NDArray[np.intp]
    """Of each chip's score among ``levels``."""
    bins: NDArray[np.float64] | None
    """One-hot bin of each level, (level, bin); ``None`` where there is one kind of chip only."""
    rules: Rules

    @classmethod
    def of(cls, scores: Floats, labels: Labels, rules: Rules) -> _Curves:
        levels, ranks = np.unique(scores.astype(np.float64), return_inverse=True)
        bins = None
        if len(np.unique(labels)) == 2:
            bin_of = mass_bins(scores, prevalence_weights(labels, rules.prevalence))
            bins = np.zeros((len(levels), int(bin_of.max()) + 1))
            bins[ranks, bin_of] = 1
        return cls(levels, ranks, bins, rules)

    @property
    def size(self) -> int:
        return len(self.levels)

    def figures(self, mines: NDArray[Any], others: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return each figure, (n,), from histograms over the levels, (n, level); undefined: NaN."""
        first = int(np.searchsorted(self.levels, self.rules.threshold))
        hits, alarms = (side[:, first:].sum(1).astype(np.float64) for side in (mines, others))
        positives, negatives = mines.sum(1), others.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "accuracy": (hits + negatives - alarms) / (positives + negatives),
                "recall": hits / positives,
                "false_alarm_rate": alarms / negatives,
                "precision": hits / (hits + alarms),
                "f1": 2 * hits / (hits + alarms + positives),
                "f2": 5 * hits / (hits + alarms + 4 * positives),
            }
            found |= self._ranked(mines, others)
        if self.bins is None:
            found |= {name: np.full(len(hits), np.nan) for name in PAIRED}
        return found

    def _ranked(self, mines: NDArray[Any], others: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        if self.bins is None:
            return {}
        positives, negatives = mines.sum(1), others.sum(1)
        caught = np.cumsum(mines[:, ::-1], 1)
        called = caught + np.cumsum(others[:, ::-1], 1)
        below = negatives[:, None] - (called - caught)  # others with a lower score
        auc = (mines[:, ::-1] * (below + others[:, ::-1] / 2)).sum(1) / (positives * negatives)
        precision = caught / np.maximum(called, 1)
        prevalence = self.rules.prevalence
        right = mines * (prevalence / positives)[:, None]
        mass = right + others * ((1 - prevalence) / negatives)[:, None]
        gap = np.abs((mass * self.levels) @ self.bins - right @ self.bins)
        return {
            "roc_auc": auc,
            "average_precision": (mines[:, ::-1] * precision).sum(1) / positives,
            "calibration_error": gap.sum(1),
        }


def _intervals(
    curves: _Curves, ranks: list[NDArray[np.intp]], rules: Rules
) -> dict[str, list[float] | None]:
    """Return [low, high] of each figure: stratified bootstrap, percentiles.

    ``None`` where a figure is undefined in one resample of twenty or more, or a kind has one chip.
    """
    drawn = [rank for rank in ranks if len(rank)]
    if not drawn or min(len(rank) for rank in drawn) < 2:
        return dict.fromkeys(NAMES)
    none = np.zeros((1, curves.size), np.int64)

    def statistic(*picks: NDArray[np.intp], axis: int = -1) -> NDArray[np.float64]:
        drawn = iter(_histograms(np.atleast_2d(pick), curves.size) for pick in picks)
        mines, others = (next(drawn) if len(rank) else none for rank in ranks)
        found = curves.figures(*np.broadcast_arrays(mines, others))
        return np.stack([found[name] for name in NAMES])

    with warnings.catch_warnings():  # figures undefined in a resample are looked after below
        warnings.simplefilter("ignore", DegenerateDataWarning)
        draws = bootstrap(
            drawn,
            statistic,
            n_resamples=rules.resamples,
            batch=max(1, BLOCK // max(curves.size, *(len(rank) for rank in drawn))),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(rules.seed),
        ).bootstrap_distribution
    tail = (1 - LEVEL) / 2
    found: dict[str, list[float] | None] = {}
    for name, values in zip(NAMES, draws, strict=True):
        defined = values[np.isfinite(values)]
        sure = len(defined) > 0.95 * len(values)
        ends = np.quantile(defined, [tail, 1 - tail]) if sure else None
        found[name] = None if ends is None else np.round(ends, DIGITS).tolist()
    return found


def _histograms(picks: NDArray[np.intp], size: int) -> NDArray[np.int64]:
    """Count the levels in each row, (row, level)."""
    rows = len(picks)
    offset = np.arange(rows)[:, None] * size
    return np.bincount((picks + offset).ravel(), minlength=rows * size).reshape(rows, size)


def _rarer(table: dict[str, int]) -> dict[str, dict[str, float | None]] | None:
    """Return precision where mines are rarer, with an interval that bears no false alarm seen.

    Its ends join the ends of the Wilson intervals of recall and false alarm rate.
    """
    mines = table["true_positive"] + table["false_negative"]
    others = table["false_positive"] + table["true_negative"]
    if not mines or not others:
        return None
    found = binomtest(table["true_positive"], mines).proportion_ci(LEVEL, "wilson")
    alarm = binomtest(table["false_positive"], others).proportion_ci(LEVEL, "wilson")
    recall = np.array([table["true_positive"] / mines, found.low, found.high])
    rate = np.array([table["false_positive"] / others, alarm.high, alarm.low])
    out = {}
    for prevalence in PREVALENCES:
        value, low, high = (_number(v) for v in precision_at(recall, rate, prevalence))
        out[f"{prevalence:g}"] = {"precision": value, "low": low, "high": high}
    return out


def _number(value: float) -> float | None:
    """Round for JSON; ``None`` for NaN."""
    return round(float(value), DIGITS) if np.isfinite(value) else None
