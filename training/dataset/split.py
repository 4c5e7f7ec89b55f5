"""Which chips train and which judge: by whole sources and by blocks of the map.

Only what has neither (no source held out, no place) is split at random, and that is said.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scanner.errors import TrainingError

LOG = logging.getLogger(__name__)
BLOCK_DEGREES: Final = 1.0
"""Side of a block, where no source is held out and none is given."""
NAMES: Final = {1: "positive", 0: "negative"}


@dataclass(frozen=True)
class SplitPlan:
    """How to split."""

    hold_out: tuple[str, ...] = ()
    """Sources that judge and never train."""
    block_degrees: float | None = None
    """Side of the blocks that the others are split by; ``None`` splits by source alone, or, where
    none is held out, by blocks of ``BLOCK_DEGREES``."""
    val_share: float = 0.15
    """Share of each class that judges, as near as whole blocks allow."""
    seed: int = 42


@dataclass(frozen=True)
class Division:
    """What came out, row by row."""

    val: NDArray[np.bool_]
    block: list[str | None]
    """Block each lies in; they are told even where whole sources decide alone."""
    degrees: float | None
    """Side of the blocks that decided."""
    at_random: int
    """Chips split at random, since they have no place."""


def divide(table: pd.DataFrame, plan: SplitPlan) -> Division:
    """Split a table with label, source, lon, lat and pixels (a digest; alike stays together).

    Raises ``TrainingError`` for a source that is not there, and if a side lacks a class.
    """
    sources = table["source"].to_numpy(str)
    if absent := sorted(set(plan.hold_out) - set(sources)):
        raise TrainingError(
            f"--hold-out {absent[0]}: no such source; they are {', '.join(sorted(set(sources)))}"
        )
    labels = table["label"].to_numpy(np.int64)
    val = np.isin(sources, plan.hold_out)
    degrees = plan.block_degrees or (None if plan.hold_out else BLOCK_DEGREES)
    block = blocks(table, degrees or BLOCK_DEGREES)
    at_random = 0
    if degrees is not None:
        free = np.flatnonzero(~val)
        placed = free[[block[row] is not None for row in free]]
        adrift = free[[block[row] is None for row in free]]
        val[_drawn([block[row] for row in placed], labels, placed, plan)] = True
        digests = table["pixels"].to_numpy(object)
        val[_drawn([digests[row] for row in adrift], labels, adrift, plan)] = True
        at_random = len(adrift)
        if at_random:
            LOG.warning(
                "%d of %d chips have no place and are split at random, so one place may be on both "
                "sides and figures will flatter; hold out whole sources instead (--hold-out)",
                at_random,
                len(table),
            )
    check_sides(labels, val)
    return Division(val, block, degrees, at_random)


def blocks(table: pd.DataFrame, degrees: float) -> list[str | None]:
    """Name the block each chip lies in by its south-west corner; ``None`` without place."""
    lon, lat = (table[name].to_numpy(np.float64) for name in ("lon", "lat"))
    corner = (np.floor(value / degrees) * degrees for value in (lat, lon))
    known = np.isfinite(lon) & np.isfinite(lat)
    pairs = zip(*corner, known, strict=True)
    return [f"{south:g},{west:g}" if placed else None for south, west, placed in pairs]


def check_sides(labels: NDArray[np.int64], val: NDArray[np.bool_]) -> None:
    """Raise ``TrainingError`` if a side lacks a class."""
    for side, rows in (("train", ~val), ("val", val)):
        for label, name in NAMES.items():
            if not (labels[rows] == label).any():
                raise TrainingError(
                    f"{side}: no {name} chip is left on this side; hold out other sources, or "
                    "give smaller blocks (--block-degrees) or more chips"
                )


def _drawn(
    groups: Sequence[Hashable],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    plan: SplitPlan,
) -> NDArray[np.int64]:
    """Choose whole groups, in random order, until their share of each class is met.

    A group is taken if that brings the counts of the two classes nearer to what is wanted.
    """
    if not len(rows):
        return rows
    codes, names = pd.factorize(np.array(groups, dtype=object), sort=True)
    counts = np.zeros((len(names), 2))
    np.add.at(counts, (codes, labels[rows]), 1)
    total = counts.sum(0)
    wanted = plan.val_share * total
    scale = np.maximum(total, 1)
    taken = np.zeros(len(names), bool)
    now = np.zeros(2)
    for group in np.random.default_rng(plan.seed).permutation(len(names)):
        then = now + counts[group]
        if (np.abs(then - wanted) / scale).sum() < (np.abs(now - wanted) / scale).sum():
            taken[group], now = True, then
    return rows[taken[codes]]
