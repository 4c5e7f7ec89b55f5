"""Batches filled from threads, as on a GPU: everyone gets their own result, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from numpy.typing import NDArray

from scanner.models.batching import Batcher

WAIT_S = 0.2
"""Long enough for threads that start together to meet in one batch, on a busy machine too."""


class Owner:
    """Doubles what it is given; remembers how full its batches were; -1 is a fault of an item."""

    def __init__(self) -> None:
        self.batches: list[NDArray[np.float32]] = []

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(batch.copy())
        if (batch < 0).any():
            raise FloatingPointError("below zero")
        return 2 * batch.reshape(len(batch), -1).sum(1)


def item(value: float, size: int = 3) -> NDArray[np.float32]:
    return np.full((2, size), value, np.float32)


def test_threads_share_batches_and_get_their_own() -> None:
    owner, met = Owner(), Barrier(4)
    batcher = Batcher(owner, 4, WAIT_S)

    def read(number: int) -> float:
        met.wait()
        return float(batcher.results([item(number)])[0])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(1, 5))) == [12 * number for number in range(1, 5)]
    assert len(owner.batches) < 4
    assert {len(batch) for batch in owner.batches} == {4}


def test_padding_never_reaches_a_result() -> None:
    owner = Owner()
    found = Batcher(owner, 4, 0.0).results([item(number) for number in range(1, 7)])
    assert [float(one) for one in found] == [12 * number for number in range(1, 7)]
    assert all(batch.shape == (4, 2, 3) for batch in owner.batches)
    assert sum(int((batch > 0).any((1, 2)).sum()) for batch in owner.batches) == 6


def test_items_of_other_shapes_go_in_batches_of_their_own() -> None:
    found = Batcher(Owner(), 4, WAIT_S).results([item(1), item(1, 5), item(2)])
    assert [float(one) for one in found] == [12, 20, 24]


def test_a_faulty_item_fails_alone() -> None:
    batcher, met = Batcher(Owner(), 3, WAIT_S), Barrier(3)

    def read(value: float) -> float:
        met.wait()
        return float(batcher.results([item(value)])[0])

    with ThreadPoolExecutor(3) as pool:
        one, bad, other = (pool.submit(read, value) for value in (1, -1, 2))
        assert (one.result(), other.result()) == (12, 24)
        with pytest.raises(FloatingPointError):
            bad.result()
    assert float(batcher.results([item(3)])[0]) == 36  # and its owner goes on


def test_nothing_is_asked_for_nothing() -> None:
    owner = Owner()
    assert Batcher(owner, 4).results([]) == []
    assert not owner.batches
