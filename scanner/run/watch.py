"""Waiting for what a cluster is computing, without waiting for ever.

Dask waits as long as it takes: for a scheduler that is gone, for workers that will not come back,
for a task that hangs. Here a wait ends with the next result, or with what keeps it from coming.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any, Final

from distributed import Client, Future, wait

from scanner.errors import ClusterError
from scanner.run.cluster import WORKER_BYTES, worker_count

PULSE_S: float = 2.0
"""Seconds between two looks at the cluster while nothing comes: for workers that joined, too."""

COUNT_S: Final = 0.5
"""Seconds that a count of the workers is good for."""

NO_WORKER_S: float = 300.0
"""Seconds without a single worker after which a run ends."""

RESUME: Final = "what was done is kept; start it again and run the same command"


class Watch:
    """Waits for futures of one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.address = str(client.scheduler.address)
        self._empty_since: float | None = None
        self._threads, self._counted = 1, float("-inf")

    def threads(self) -> int:
        """Return how many worker threads there are now, at least 1.

        Raises ``ClusterError`` where the scheduler is gone.
        """
        now = time.monotonic()
        if now - self._counted > COUNT_S:
            try:
                self._threads, self._counted = worker_count(self._client), now
            except Exception as error:  # as in :meth:`_look`
                raise self._lost() from error
        return self._threads

    def next(self, futures: Sequence[Future], within: float | None = None) -> list[Future]:
        """Return futures that ended, at least one, or none after a pulse (or ``within`` seconds).

        Raises ``ClusterError`` where the scheduler is gone, or all workers for too long.
        """
        patience = PULSE_S if within is None else min(PULSE_S, within)
        try:
            with self._client.as_current():  # it is nobody's default client
                ended = wait(list(futures), timeout=patience, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            self._look()
            return []
        except CancelledError as error:
            raise self._lost() from error
        self._empty_since = None
        # what was finished and lost with its worker is computed again, and comes later
        return [one for one in futures if one in ended and one.status in ("finished", "error")]

    def busy(self) -> list[str]:
        """Return the addresses of the workers that have something to do."""
        return [str(worker) for worker, keys in self._client.processing().items() if keys]

    def deaths_by_memory(self) -> int:
        """Return how many workers were ended so far since they took more memory than they may."""
        return len(self._client.get_events("worker-restart-memory"))

    def memory(self) -> str:
        """Return, for a message, what a worker may take and what a tile takes."""
        workers: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        limits = [int(one["memory_limit"]) for one in workers.values() if one.get("memory_limit")]
        told = f"a worker may take {min(limits) / 2**30:.1f} GiB, " if limits else ""
        return f"{told}a tile takes about {WORKER_BYTES / 2**30:.1f} GiB"

    def _look(self) -> None:
        """Raise where nothing can come any more."""
        try:
            workers = self._client.nthreads()
        except Exception as error:  # a comm that broke: OSError, CommClosedError, TimeoutError ...
            raise self._lost() from error
        if self._client.status != "running":
            raise self._lost()
        if workers:
            self._empty_since = None
            return
        self._empty_since = self._empty_since or time.monotonic()
        if time.monotonic() - self._empty_since > NO_WORKER_S:
            raise ClusterError(
                f"{self.address}: has had no worker for {NO_WORKER_S:.0f} s; {RESUME}"
            )

    def _lost(self) -> ClusterError:
        return ClusterError(f"{self.address}: the scheduler is gone; {RESUME}")
