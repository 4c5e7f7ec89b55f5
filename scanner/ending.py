"""How a command ends before its time: Ctrl-C, Ctrl-C again, SIGTERM, a reader that hung up.

The first Ctrl-C (or SIGTERM, which batch systems send) unwinds: workers are ended in order, what
was done stays. A second one, or a minute of unwinding, ends everything at once. Nothing is lost
either way, for every file is written whole or not at all.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

INTERRUPTED: Final = 130
"""Exit code of a run that was interrupted and can be resumed."""

PATIENCE_S: float = 60.0
"""Seconds that ending in order may take."""


@contextmanager
def interruptible(told: str) -> Iterator[None]:
    """Turn SIGTERM into Ctrl-C inside the block, and end at once when it is pressed again.

    Args:
        told: the line that an end at once leaves on stderr; an end in order is told by the caller,
            who gets ``KeyboardInterrupt``.
    """
    if threading.current_thread() is not threading.main_thread():  # only there, Python allows it
        yield
        return
    pressed = False

    def at_once() -> None:
        with suppress(OSError):
            os.write(2, f"\n{told}\n".encode())
        _end_children()
        os._exit(INTERRUPTED)

    def on_interrupt(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            at_once()
        pressed = True
        timer = threading.Timer(PATIENCE_S, at_once)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    # SIGINT may be held back for a moment (while workers start), and SIGTERM must be held with it
    handlers = {
        signal.SIGINT: on_interrupt,
        signal.SIGTERM: lambda *_: signal.raise_signal(signal.SIGINT),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        if not pressed:  # otherwise the interpreter's own end is still to come, and may hang too
            for number, handler in before.items():
                signal.signal(number, handler)


def _end_children() -> None:
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()


class Unbroken:
    """An output that goes on, unheard, after its reader has hung up (``2>&1 | head``)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, or nothing any more."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._unheard()
            return len(text)

    def flush(self) -> None:
        """Write what waits, or nothing any more."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._unheard()

    def _unheard(self) -> None:
        """Send the rest nowhere: the interpreter, too, writes to this stream at its end."""
        with suppress(OSError, ValueError):  # a stream without a file behind it
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str, *, err: bool = False) -> None:
    """Print a line; where nobody reads any more, go on without."""
    stream = Unbroken(sys.stderr if err else sys.stdout)
    stream.write(f"{text}\n")
    stream.flush()
