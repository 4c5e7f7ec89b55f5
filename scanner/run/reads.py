"""Reads on a worker: a bound on how many go to one host at once, and a pause when it is overloaded.

Every asset is read under a lease of a semaphore that Dask's scheduler keeps for its host: two short
calls an asset, whose bytes take a hundred times as long. A read waits for nothing while it holds
its lease, and the lease of a worker that died ends by itself, so nothing can lock up. Where the
scheduler gives no answer the read goes on without: one too many is better than a scan that stands.

GDAL tries an overloaded host again by itself and tells nobody but rasterio's log, so that is where
overload is heard; the client learns of it as an event and lets all workers pause.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from distributed import Client, Semaphore

from scanner.imagery.gate import add_gate, remove_gate

logger = logging.getLogger(__name__)

TOPIC: Final = "mining-scan-overload"
"""Dask events that tell of an overloaded host."""

TELLING: Final = ("rasterio._env", "rasterio._err")
"""Loggers that GDAL's warnings come out of, such as "HTTP error code: 503 - ... Retrying again"."""

EVENT_S: Final = 1.0
"""A worker tells of an overload once in as many seconds."""

SLICE_S: Final = 2.0
"""Seconds a lease is waited for before a look whether the worker closes."""

PATIENCE_S: float = 600.0
"""Seconds a lease is waited for at most: more are not waited where the client bounds its tiles."""

SPREAD: Final = 0.25
"""Share of a pause that is added at random, read by read, so that not all come back at once."""

_OVERLOADED: Final = re.compile(r"HTTP (?:error|response) code ?: ?(?:429|503)\b")


def tells_overload(text: str) -> bool:
    """Whether a message of GDAL's, or of a failed read, says that the host had too much to do.

    429 and 503 alone: a time-out or a 403 has other reasons.
    """
    return _OVERLOADED.search(text) is not None


class _Ear(logging.Filter):
    """Hears GDAL's warnings of an overloaded host as they are logged; lets every record pass."""

    def __init__(self, worker: Any) -> None:
        super().__init__()
        self._worker = worker
        self._last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._last >= EVENT_S and tells_overload(record.getMessage()):
            self._last = now
            self._worker.log_event(TOPIC, {"worker": self._worker.address})
        return True


class Reads:
    """The gate of one worker process.

    Args:
        worker: Dask's worker.
        at_once: reads of one host at once over all workers; ``None`` bounds nothing.
    """

    def __init__(self, worker: Any, at_once: int | None) -> None:
        self._at_once = at_once
        self._semaphores: dict[str, Semaphore] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._until, self._spread = 0.0, 0.0
        self._ear = _Ear(worker)

    def open(self) -> None:
        """Let all reads of this process pass here from now on."""
        for name in TELLING:
            logging.getLogger(name).addFilter(self._ear)
        add_gate(self.passing)

    def close(self) -> None:
        """Let go of whatever waits, and pass nothing here any more; once, after ``open``."""
        self._closing.set()
        remove_gate(self.passing)
        for name in TELLING:
            logging.getLogger(name).removeFilter(self._ear)

    def pause(self, seconds: float) -> None:
        """Let no further read begin for as long; those under way go on."""
        self._until, self._spread = time.monotonic() + seconds, seconds * SPREAD

    @contextmanager
    def passing(self, host: str) -> Iterator[None]:
        """Read from ``host`` within the block, after it may be read."""
        leased = None if self._at_once is None else self._lease(host, self._at_once)
        try:
            left = self._until - time.monotonic()
            if left > 0:
                spread = random.random() * self._spread  # noqa: S311  # nosec B311
                self._closing.wait(left + spread)
            yield
        finally:
            if leased is not None:
                _give_back(leased)

    def _lease(self, host: str, at_once: int) -> Semaphore | None:
        """Wait for a lease and return whose it is; ``None`` where none can be had."""
        until = time.monotonic() + PATIENCE_S
        try:
            with self._lock:  # made in the thread of a task, where it finds its worker
                if host not in self._semaphores:
                    self._semaphores[host] = Semaphore(at_once, f"mining-scan {host} {at_once}")
                semaphore = self._semaphores[host]
            while not self._closing.is_set() and time.monotonic() < until:
                if semaphore.acquire(timeout=SLICE_S):
                    return semaphore
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            logger.info("%s: read without a lease (%s)", host, error)
        return None


def _give_back(semaphore: Semaphore) -> None:
    try:
        semaphore.release()
    except (OSError, RuntimeError, TimeoutError) as error:  # it ends by itself, in half a minute
        logger.info("a lease could not be given back (%s)", error)


_here: dict[str, Reads] = {}
"""The gates of this process, where it is a worker, by the run they are of."""


def open_gate(worker: Any, at_once: int | None, run: str) -> None:
    """Make this worker polite for a run; of several runs, the bound of the latest counts."""
    close_gate(run)
    _here[run] = Reads(worker, at_once)
    _here[run].open()


def close_gate(run: str) -> None:
    """Let go of all reads that wait at a run's gate; to be called when it or the worker ends."""
    if run in _here:
        _here.pop(run).close()


def pause_reads(seconds: float) -> None:
    """Let no read begin on this worker for as long, whatever run it is for."""
    for reads in _here.values():
        reads.pause(seconds)


def calmer(client: Client) -> Callable[[float], None]:
    """Return a function that lets all workers of a client pause their reads; it does not wait."""

    async def tell(seconds: float) -> None:
        try:
            await client.run(pause_reads, seconds, on_error="ignore")
        except Exception as error:  # a comm that broke: who finds out what is lost is ``watch``
            logger.info("workers could not be told to pause (%s)", error)

    return lambda seconds: client.loop.add_callback(tell, seconds)
