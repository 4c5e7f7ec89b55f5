"""Area-adjusted accuracy and area from a stratified random sample, with intervals.

The estimators are those of Olofsson et al. (2014), "Good practices for estimating area and
assessing accuracy of land change", Remote Sens. Environ. 148, in the general form of Stehman
(2014), "Estimating area and map accuracy for stratified random sampling when the strata are
different from the map classes", Int. J. Remote Sens. 35: strata may be finer than the map's
classes, or drawn from an earlier threshold, and a stratum may be labelled whole, so the finite
population is counted in (Olofsson et al. leave that out: their strata are huge).

| here | Stehman 2014 | Olofsson et al. 2014, where strata are map classes |
|---|---|---|
| ``mean`` of y: right, mine, or a field of the matrix | eqs 2, 12, 14, 16 | eqs 1, 4, 8, 9 |
| its standard error | eqs 25, 26 | eqs 5, 10 |
| ``ratio`` of y to x: user's and producer's accuracy | eq. 27 | eqs 2, 3 |
| its standard error | eq. 28 | eqs 6, 7 |

These standard errors are zero where every labelled cell of a stratum is alike: no mine among 100
clean cells does not prove that there is none. So each figure has a second, cautious interval too:
exact (Clopper-Pearson) limits in each stratum, at the effective sample size as Korn and Graubard
(1998, Surv. Methodol. 24) take them, put together by the method of variance estimates recovery
(Zou, Huang and Zhang 2009, "A note on confidence interval estimation for a linear function of
binomial proportions", Comput. Stat. Data Anal. 53).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

Z: Final = 1.96
"""Standard errors either side of a 95 % interval, as Olofsson et al. take it."""

TAIL: Final = 0.025
"""Chance left out on either side of an exact interval."""

Mask = NDArray[np.bool_]
Limits = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """An estimate with its uncertainty; ``None`` stands for what the sample cannot tell."""

    value: float | None
    se: float | None = None
    """Standard error."""
    interval: Limits | None = None
    """95 %, ``value`` +- 1.96 ``se``, cut at what is possible."""
    cautious: Limits | None = None
    """95 %, from exact limits: holds where mines are few, or labels of a stratum all alike."""

    def scaled(self, factor: float) -> Figure:
        """Return the figure in another unit."""
        if self.value is None:
            return self
        both = [
            None if pair is None else (pair[0] * factor, pair[1] * factor)
            for pair in (self.interval, self.cautious)
        ]
        se = None if self.se is None else self.se * factor
        return Figure(self.value * factor, se, *both)

    def to_json(self, digits: int = 6) -> dict[str, Any]:
        """Return plain data, rounded."""

        def pair(limits: Limits | None) -> list[float] | None:
            return None if limits is None else [round(one, digits) for one in limits]

        return {
            "value": None if self.value is None else round(self.value, digits),
            "standard_error": None if self.se is None else round(self.se, digits),
            "interval_95": pair(self.interval),
            "cautious_interval_95": pair(self.cautious),
        }


@dataclass(frozen=True)
class Labelled:
    """Labelled units of a stratified random sample.

    ``stratum`` holds for each unit the index of its stratum in ``sizes``, the units of each
    stratum in the population. Every stratum that is not empty needs a labelled unit.
    """

    stratum: NDArray[np.intp]
    sizes: NDArray[np.int64]

    def __post_init__(self) -> None:
        if ((self.counts == 0) & (self.sizes > 0)).any() or (self.counts > self.sizes).any():
            raise ValueError("each stratum needs a labelled unit, and no more than it has units")

    @property
    def counts(self) -> NDArray[np.int64]:
        """Labelled units of each stratum."""
        return np.bincount(self.stratum, minlength=len(self.sizes)).astype(np.int64)

    def mean(self, y: Mask) -> Figure:
        """Return the share of the population that is ``y``."""
        value = float(self._total(y) / self.sizes.sum())
        variance = self._variance(y.astype(float))
        se = None if variance is None else math.sqrt(variance) / float(self.sizes.sum())
        return Figure(value, se, _normal(value, se), self._limits(y))

    def ratio(
        self, y: Mask, x: Mask, strata: Mask | None = None, others: Mask | None = None
    ) -> Figure:
        """Return the share of the population's ``x`` that is ``y``; ``y`` lies within ``x``.

        ``strata`` and ``others`` tell which strata can hold ``y``, and ``x`` that is not ``y``,
        where that is known: a stratum that cannot widens no interval. ``None`` is every stratum.
        """
        below = self._total(x)
        if below == 0:
            return Figure(None)
        value = float(self._total(y) / below)
        # eq. 28: s2_y + R2 s2_x - 2 R s_xy is the variance of y - R x
        variance = self._variance(y - value * x)
        se = None if variance is None else math.sqrt(variance) / below
        least, most = self._limits(y, strata)
        few, many = self._limits(x & ~y, others)
        cautious = (_share(least, many), _share(most, few))
        return Figure(value, se, _normal(value, se), cautious)

    def _total(self, y: Mask) -> float:
        counts = np.maximum(self.counts, 1)
        return float((self.sizes * np.bincount(self.stratum, y, len(self.sizes)) / counts).sum())

    def _variance(self, values: NDArray[np.float64]) -> float | None:
        """Return the variance of a total, ``None`` where a stratum has one labelled unit alone."""
        n, whole = self.counts, self.sizes
        if ((n < 2) & (n < whole)).any():
            return None
        mean = np.bincount(self.stratum, values, len(whole)) / np.maximum(n, 1)
        square = np.bincount(self.stratum, (values - mean[self.stratum]) ** 2, len(whole))
        spread = square / np.maximum(n - 1, 1)
        return float((whole * (whole - n) * spread / np.maximum(n, 1)).sum())

    def _limits(self, y: Mask, strata: Mask | None = None) -> Limits:
        """Return the cautious limits of the share of the population that is ``y``."""
        open_ = self.sizes > 0 if strata is None else (self.sizes > 0) & strata
        hits = np.bincount(self.stratum, y, len(self.sizes))
        weight = self.sizes / self.sizes.sum()
        below, above, value = 0.0, 0.0, 0.0
        for h in np.flatnonzero(open_):
            share = hits[h] / self.counts[h]
            low, high = exact(int(hits[h]), int(self.counts[h]), int(self.sizes[h]))
            value += weight[h] * share
            below += (weight[h] * (share - low)) ** 2
            above += (weight[h] * (high - share)) ** 2
        return max(0.0, float(value - math.sqrt(below))), min(1.0, float(value + math.sqrt(above)))


def exact(hits: int, n: int, whole: int) -> Limits:
    """Return 95 % limits of a share of ``whole`` units, of which ``n`` were looked at."""
    share = hits / n
    if n == whole:
        return share, share
    worth = n * (whole - 1) / (whole - n)  # units of an endless population that tell as much
    yes, no = share * worth, (1 - share) * worth
    low = float(betaincinv(yes, no + 1, TAIL)) if hits else 0.0
    high = float(betaincinv(yes + 1, no, 1 - TAIL)) if hits < n else 1.0
    # what was looked at is known: no fewer hits than those, no more than leave room for the rest
    return min(share, max(low, hits / whole)), max(share, min(high, 1 - (n - hits) / whole))


def _normal(value: float, se: float | None) -> Limits | None:
    if se is None:
        return None
    return max(0.0, value - Z * se), min(1.0, value + Z * se)


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else 0.0
