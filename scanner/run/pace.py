"""How fast a run asks: one overloaded answer, heard by any worker, calms all of them.

Told of a 429 or 503, every worker pauses before its next read, and no tile is handed over. Where
the host is overloaded again right after, the pause doubles and fewer tiles are in flight: half as
many each time, and then, with every tile that ends well, a little more again. A single 503 among
many answers costs one short pause and no more: halved for each, a large cluster would stand still
on a host that is well.

The host's own ``Retry-After`` cannot be had: GDAL 3.10 tells the code of an answer alone.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

FIRST_S: Final = 2.0
"""Seconds of the first pause; within them GDAL asks again twice by itself."""

MOST_S: Final = 60.0
"""Seconds of the longest pause."""

QUIET_S: Final = 10.0
"""What is heard this soon after a pause is the same overload, not the next: GDAL's own three tries
of one request take up to 9 s (``imagery.access``). After a longer pause, as long as it took."""

JITTER: Final = 0.25
"""A pause is longer or shorter by up to this share, so that two runs do not keep in step."""

ROUNDS: Final = 10
"""Rounds of tiles that end well from a standstill to full speed."""


class Pace:
    """Bounds the tiles in flight of one run, and says when none may be handed over.

    Args:
        pause: lets all workers pause for so many seconds, without waiting for them.
        clock: seconds, monotonic.
        draw: a random number within 0..1.
    """

    def __init__(
        self,
        pause: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._pause, self._clock, self._draw = pause, clock, draw
        self._lock = threading.Lock()  # events come in the client's own thread
        self._limit = math.inf
        self._threads = 1
        self._until = -math.inf
        self._last = 0.0
        self._warned = False
        self.waited = 0.0
        """Seconds of all pauses so far."""

    def overloaded(self) -> None:
        """Take note that a host answered 429 or 503; any thread may call this."""
        with self._lock:
            now = self._clock()
            if now < self._until:  # asked before the pause
                return
            again = now < self._until + max(QUIET_S, self._last)
            self._last = min(MOST_S, self._last * 2) if again else FIRST_S
            if again:
                self._limit = max(1.0, min(self._limit, self._threads) / 2)
            seconds = self._last * (1 + JITTER * (2 * self._draw() - 1))
            self._until = now + seconds
            self.waited += seconds
            if again and not self._warned:
                logger.warning("the host of the pixels is overloaded (429 or 503); asking less")
            self._warned |= again
        logger.info("overloaded: pause of %.1f s, %.1f tiles at most", seconds, self._limit)
        self._pause(seconds)

    def eased(self) -> None:
        """Take note that a tile got a step further; where that is news, let more of them run."""
        with self._lock:
            if self._limit < math.inf and self._clock() >= self._until:
                self._limit += max(1.0, self._threads / ROUNDS) / self._limit
                if self._limit >= self._threads:
                    self._limit = math.inf

    def window(self, threads: int, full: int) -> int:
        """Return how many tiles may be in flight, at least 1.

        Args:
            threads: of all workers now.
            full: tiles in flight where no host is overloaded.
        """
        with self._lock:
            self._threads = threads
            return max(1, math.floor(min(full, self._limit)))

    def held(self) -> float:
        """Return for how many seconds no tile may be handed over; 0 where one may."""
        with self._lock:
            return max(0.0, self._until - self._clock())
