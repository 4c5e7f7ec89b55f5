"""What a read of pixels over a network passes before it asks: nothing, unless a process sets it.

A run sets one in its workers (``run.reads``) so that all of them together stay polite to a host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import urlsplit

from scanner.imagery.hrefs import is_remote

Gate = Callable[[str], AbstractContextManager[None]]
"""Given a host (``name`` or ``name:port``), lets a read of it in, and is told when it ends."""

_gates: list[Gate] = []


def add_gate(gate: Gate) -> None:
    """Let every read of this process pass ``gate``, in place of one added before, until it goes."""
    _gates.append(gate)


def remove_gate(gate: Gate) -> None:
    """Take a gate away; the one added before it counts again."""
    _gates.remove(gate)


@contextmanager
def passing(href: str) -> Iterator[None]:
    """Read ``href`` within the block; local files pass no gate."""
    gates = list(_gates) if is_remote(href) else []
    if not gates:
        yield
        return
    with gates[-1](urlsplit(href).netloc.lower()):
        yield
