"""What a worker must be before it gets a tile: safe, with its threads set and its models loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, Final

import cv2
from distributed import WorkerPlugin

from scanner.computing import compute_side_by_side
from scanner.imagery.access import check_hardened, guard_logs
from scanner.models.backends.choose import Wanted, kind, use
from scanner.models.ref import ModelRef
from scanner.run.reads import close_gate, open_gate
from scanner.run.versions import Admission

TORCH_THREADS: Final = 1
"""Threads a worker gives the models (Dask's nanny sets OMP_NUM_THREADS=1; this says it on purpose).

Fixed, since a sum taken by more threads rounds differently and worker count must not change a row.
"""

OUTSPOKEN: Final = ("rasterio._base", "stackstac.timer")
"""Loggers that print, for each file they open and at their finest level alone, its signed address.
What others log of an address is stripped (``access.guard_logs``)."""


@cache
def _check_gdal() -> None:
    """Check once a process, before the first read: warping itself brings the VRT driver back."""
    check_hardened()


def guard_secrets() -> None:
    """Keep signatures out of the logs of this process, whatever level somebody set."""
    guard_logs()
    for name in OUTSPOKEN:
        logging.getLogger(name).setLevel(logging.INFO)


class PrepareWorker(WorkerPlugin):  # type: ignore[misc]
    """Makes a worker fit for scanning, wherever it runs: checked GDAL, backend, threads, models.

    ``reads_per_host`` bounds how many assets all workers together read from one host at once;
    ``admission`` refuses workers whose packages would change rows.
    """

    name = "mining-scan"

    def __init__(
        self,
        models: Sequence[ModelRef],
        backend: Wanted = "auto",
        reads_per_host: int | None = None,
    ) -> None:
        self._models, self._backend, self._reads = tuple(models), backend, reads_per_host
        self.admission: Admission | None = None
        """What a worker of a cluster that is not ours is compared with."""

    def setup(self, worker: Any) -> None:
        """Run on each worker as it starts or joins."""
        with self.admission.check(worker) if self.admission else nullcontext():
            _check_gdal()
            guard_secrets()
            use(self._backend, TORCH_THREADS)
            cv2.setNumThreads(1)
            if kind() == "cuda":
                compute_side_by_side()
            for ref in self._models:  # one that cannot be loaded ends the run before it reads
                ref.load()
        open_gate(worker, self._reads, self.name)

    def teardown(self, worker: Any) -> None:
        """Run on each worker as it ends, or as the run does."""
        close_gate(self.name)
