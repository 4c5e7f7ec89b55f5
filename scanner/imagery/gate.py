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


def set_gate(gate: Gate | None) -> None:
    """Let every read of this process pass ``gate``; ``None`` takes it away."""
    _gates[:] = [] if gate is None else [gate]


@contextmanager
def passing(href: str) -> Iterator[None]:
    """Read ``href`` within the block; local files pass no gate."""
    gates = list(_gates) if is_remote(href) else []
    if not gates:
        yield
        return
    with gates[0](urlsplit(href).netloc.lower()):
        yield
