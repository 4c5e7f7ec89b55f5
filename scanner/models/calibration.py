"""From a network's logit to a score, and from one prevalence to another. Needs no torch.

A score is the probability of mining *where a stated share of what is looked at is mined*, the
prevalence. Elsewhere the same evidence is worth more or less: :func:`rescale` shifts log-odds.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

MAX_KNOTS: Final = 64
"""Knots of an isotonic curve a card may hold."""

Method = Literal["platt", "temperature", "isotonic"]
Scores = TypeVar("Scores", float, NDArray[np.float64])


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Calibration:
    """How a logit becomes a score, right where ``prevalence`` of the chips are mines.

    - ``platt``: score = sigmoid(a * logit + b), both fitted.
    - ``temperature``: the same with only a = 1 / temperature fitted; b is the step in log-odds from
      the share of mines the network was trained with to ``prevalence``.
    - ``isotonic``: straight lines between ``knots``, flat beyond the first and the last.
    """

    a: float
    b: float
    prevalence: Annotated[float, Field(gt=0, lt=1)]
    method: Method = "platt"
    knots: tuple[tuple[float, float], ...] = ()
    """(logit, score) of ``isotonic``: logits and scores rise, scores lie within 0..1."""

    @model_validator(mode="after")
    def _knots_rise(self) -> Calibration:
        if bool(self.knots) != (self.method == "isotonic"):
            raise ValueError("knots belong to method isotonic, and to no other")
        if len(self.knots) > MAX_KNOTS:
            raise ValueError(f"{len(self.knots)} knots, at most {MAX_KNOTS}")
        rising = all(x < u and y <= v for (x, y), (u, v) in pairwise(self.knots))
        if not rising or not all(0 <= score <= 1 for _, score in self.knots):
            raise ValueError("knots whose logits or scores do not rise within 0..1")
        return self

    def plain(self) -> dict[str, Any]:
        """Return the values for a card; no key ``knots`` where there are none (as in old cards)."""
        values = asdict(self)
        if not self.knots:
            del values["knots"]
        return values


def calibrate(logits: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float32]:
    """Turn logits into scores 0..1 at the calibration's prevalence; NaN stays NaN."""
    values = logits.astype(np.float64)
    if calibration.method == "isotonic":
        x, y = np.array(calibration.knots, np.float64).T
        return np.asarray(np.interp(values, x, y), np.float32)
    shifted = calibration.a * values + calibration.b
    return (0.5 * (1 + np.tanh(0.5 * shifted))).astype(np.float32)


def odds(probability: float) -> float:
    """Return p / (1 - p)."""
    return probability / (1 - probability)


def rescale(scores: Scores, prevalence: float, prior: float | None) -> Scores:
    """Return scores made at ``prevalence`` as they are worth at ``prior`` (``None``: unchanged).

    Their odds are multiplied, which shifts log-odds: order stays, 0 stays 0, 1 stays 1 and NaN
    stays NaN. Plain arithmetic only, so a threshold moved alone falls as it does among the scores.
    """
    if prior is None or prior == prevalence:
        return scores
    raised = scores * (odds(prior) / odds(prevalence))
    return raised / (raised + (1 - scores))
