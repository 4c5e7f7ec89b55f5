"""One thread of a process computes, the others read.

A worker has two threads, so that one tile is read while another is computed. Would both compute, a
core had two models at once to run; would neither, it idled while pixels arrive.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_turn = threading.Lock()


def computing(step: Callable[P, T]) -> Callable[P, T]:
    """Make a step wait until no other one computes in this process; it must not call another."""

    @functools.wraps(step)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with _turn:
            return step(*args, **kwargs)

    return alone
