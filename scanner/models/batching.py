"""Batches filled from several threads: many readers, one owner of a GPU.

Threads of a worker hand in one window each, whatever tile it is of; the owner's thread takes what
has come, up to a full batch or until a few milliseconds have passed, and gives everyone their own
result. On a CPU this is not used: windows go one by one, and no result depends on its company.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock, Thread

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
_Job = tuple[NDArray[np.float32], "Future[Array]"]


class Batcher:
    """Runs items of one shape together.

    Args:
        run: takes a batch (``most``, ...), filled up with zeros, and gives a result for each.
        most: items a batch.
        wait_s: seconds the first item of a batch waits for others.
    """

    def __init__(
        self, run: Callable[[NDArray[np.float32]], Array], most: int, wait_s: float = 0.002
    ) -> None:
        self._run = run
        self._most = most
        self._wait_s = wait_s
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._start = Lock()
        self._owner: Thread | None = None

    def results(self, items: Sequence[NDArray[np.float32]]) -> list[Array]:
        """Hand in items and wait for the result of each, in their order.

        Raises what ``run`` raises for one of them; items that shared its batch are run without it.
        """
        with self._start:
            if self._owner is None:
                self._owner = Thread(target=self._own, name="batches", daemon=True)
                self._owner.start()
        futures: list[Future[Array]] = [Future() for _ in items]
        for job in zip(items, futures, strict=True):
            self._jobs.put(job)
        return [future.result() for future in futures]

    def _own(self) -> None:
        while True:
            jobs = self._gathered()
            for shape in dict.fromkeys(item.shape for item, _ in jobs):
                self._settle([job for job in jobs if job[0].shape == shape])

    def _gathered(self) -> list[_Job]:
        """Wait for an item, and a little for others."""
        jobs = [self._jobs.get()]
        until = time.monotonic() + self._wait_s
        while len(jobs) < self._most:
            try:
                jobs.append(self._jobs.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return jobs

    def _settle(self, jobs: list[_Job]) -> None:
        batch = np.zeros((self._most, *jobs[0][0].shape), np.float32)
        for place, (item, _) in enumerate(jobs):
            batch[place] = item
        try:
            found = self._run(batch)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0][1].set_exception(error)
                return
            for job in jobs:  # to find out whose fault it is
                self._settle([job])
            return
        for place, (_, future) in enumerate(jobs):
            future.set_result(found[place])
