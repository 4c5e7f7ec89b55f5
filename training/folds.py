"""Folds that hold out whole campaigns and whole regions at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.chips import Chips
from training.places import near, regions


def deal(groups: NDArray[Any], kinds: NDArray[Any], folds: int) -> NDArray[np.int64]:
    """Give whole groups to folds, (n,), so that each fold gets about as many of every kind.

    The largest group goes first, each to the fold that has least of what it brings.
    """
    names, group = np.unique(groups, return_inverse=True)
    known, kind = np.unique(kinds, return_inverse=True)
    counts = np.zeros((len(names), len(known)))
    np.add.at(counts, (group, kind), 1)
    share = counts / counts.sum(0)
    load = np.zeros((folds, len(known)))
    fold_of = np.zeros(len(names), np.int64)
    for name in np.argsort(-share.sum(1), kind="stable"):
        fold = int(np.argmin((load @ (share[name] > 0)) + (load * share[name]).sum(1)))
        fold_of[name] = fold
        load[fold] += share[name]
    return fold_of[group]


def fold_of(chips: Chips, folds: int) -> NDArray[np.int64]:
    """Return the fold each chip is held out in, (n,).

    Campaigns stay whole; what is called mine-pairs is dealt by 5-degree blocks instead.
    """
    pairs = chips.surface
    found = np.empty(len(chips), np.int64)
    found[~pairs] = deal(chips.sources[~pairs], chips.labels[~pairs], folds)
    if pairs.any():
        blocks = regions(chips.places[pairs]).astype(str)
        found[pairs] = deal(blocks, chips.labels[pairs], folds)
    return found


def trained_on(chips: Chips, held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows a model may learn from when those of ``held`` are to judge it.

    They have a label and lie a kilometre or more from every held-out chip, as far as is known.
    """
    rows = np.flatnonzero(~held & (chips.labels >= 0))
    places = chips.places[held]
    places = places[np.isfinite(places).all(1)]
    if not len(places):
        return rows
    beside = near(chips.places[rows], places)
    return rows[np.equal(beside, None) | np.equal(beside, False)]
