"""One thread of a process computes, the others read.

A worker has two threads, so that one tile is read while another is computed. Would both compute, a
core had two tiles' work at once; would neither, it idled while pixels arrive. Where a GPU does the
heavy part, threads of its worker compute side by side, to keep it fed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_turn: AbstractContextManager[Any] = threading.RLock()


def turn() -> AbstractContextManager[Any]:
    """Return what to hold while computing; to hold it twice is to hold it once."""
    return _turn


def compute_side_by_side() -> None:
    """Let the threads of this process compute at once; called once, before they do."""
    global _turn
    _turn = nullcontext()


def computing(step: Callable[P, T]) -> Callable[P, T]:
    """Make a step of a tile wait for its turn."""

    @functools.wraps(step)
    def in_turn(*args: P.args, **kwargs: P.kwargs) -> T:
        with turn():
            return step(*args, **kwargs)

    return in_turn
