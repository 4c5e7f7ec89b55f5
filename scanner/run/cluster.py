"""Where tasks run: worker processes on this machine, or a Dask cluster that is already there.

Everything local listens on loopback alone: Dask's default would open its dashboard to the network.
"""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, Final

import dask.array as da
import dask.config
import psutil
from dask.blockwise import optimize_blockwise
from distributed import Client, Future, LocalCluster, futures_of
from distributed.scheduler import DEFAULT_EXTENSIONS as SCHEDULER_EXTENSIONS
from distributed.versions import VersionMismatchWarning
from distributed.worker import DEFAULT_EXTENSIONS as WORKER_EXTENSIONS

from scanner.config import RunConfig
from scanner.errors import ConfigError, ScannerError
from scanner.models.ref import ModelRef
from scanner.run.secure import connection_security
from scanner.run.versions import admission
from scanner.run.worker import PrepareWorker, guard_secrets

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"

WORKER_BYTES: Final = int(2.5 * 2**30)
"""Memory one worker may need at the default settings (measured: docs/measurements.md)."""

THREADS: Final = 2
"""Threads of a local worker: one reads a tile while the other computes one (``computing``)."""

ADAPTING: Final = {"interval": "1s", "target_duration": "500ms", "wait_count": 15}
"""How ``--workers auto`` scales: a look a second; every task that waits half a second is worth a
worker, for a tile takes minutes; a worker that has had nothing to do for 15 s ends, not sooner,
since the next takes as long to start (it imports torch and loads the models)."""

HEAP: Final = {
    "MALLOC_ARENA_MAX": 1,
    "MALLOC_MMAP_THRESHOLD_": 2**30,
    "MALLOC_TRIM_THRESHOLD_": 2**30,
}
"""Environment of local workers: memory given back is kept for the next array, for glibc.

Dask has it go back to the system at once, which takes a fifth of a tile's processor time: every
array's pages are made anew (measured: docs/measurements.md)."""

CONNECT_TIMEOUT = "30s"
"""How long an answer of a scheduler or worker is waited for."""


def fitting_workers(wanted: int | None, available: int | None = None) -> tuple[int, str | None]:
    """Return how many local workers to start, and a line to print where that is fewer than wanted.

    ``available`` is free memory in bytes, measured where not given; ``wanted=None`` is one a core.
    """
    free = psutil.virtual_memory().available if available is None else available
    fit = max(1, free // WORKER_BYTES)
    count = min(wanted or os.cpu_count() or 1, fit)
    if wanted and count < wanted:
        return count, (
            f"--workers {wanted} need {wanted * WORKER_BYTES / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free; starting {count}"
        )
    return count, None


def local_workers(run: RunConfig, available: int | None = None) -> tuple[int, str | None]:
    """Return how many local workers a run has at most; the rest as :func:`fitting_workers`."""
    wanted = run.workers if isinstance(run.workers, int) else None
    if wanted and run.max_workers:
        wanted = min(wanted, run.max_workers)
    count, line = fitting_workers(wanted, available)
    return min(count, run.max_workers or count), line


@contextmanager
def open_client(run: RunConfig, models: Sequence[ModelRef] = ()) -> Iterator[Client]:
    """Yield a client of ``run.scheduler``, or of a local cluster that ends with the block.

    Each worker, also one that joins later, has the ``models`` loaded before it gets a task. Raises
    ``ModelError`` where one cannot be, ``ConfigError`` where the address is refused or no scheduler
    answers.
    """
    settings = {
        "distributed.comm.timeouts.connect": CONNECT_TIMEOUT,
        "distributed.scheduler.allowed-failures": 3,
        # a lost cluster must end the run, not hang it
        "distributed.scheduler.no-workers-timeout": "5 minutes",
        # a worker that is being started anew 15 s after it died (died again, or a slow machine)
        # would be closed for good
        "distributed.deploy.lost-worker-timeout": "365 days",
        "distributed.admin.tick.limit": "60s",
        # what Dask keeps for debugging would grow with the number of tiles
        "distributed.admin.low-level-log-length": 20,
        "distributed.diagnostics.computations.max-history": 0,  # one never ends: all task groups
        # ... and with time, up to an hour of what it sees of each second
        "distributed.worker.profile.enabled": False,
        **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in HEAP.items()},
        "distributed.admin.system-monitor.log-length": 120,
    }
    guard_secrets()
    quiet = nullcontext() if logger.isEnabledFor(logging.INFO) else _quiet()
    with quiet, dask.config.set(settings):
        if run.scheduler is None:
            count, line = local_workers(run)
            if line:
                logger.warning(line)
            # fewer threads than reads allowed need no bound
            reads = run.reads_per_host if count * THREADS > run.reads_per_host else None
            with ExitStack() as stack:
                with _interrupts_held():
                    cluster = stack.enter_context(_local_cluster(run, count))
                client = stack.enter_context(Client(cluster, set_as_default=False))
                client.register_plugin(PrepareWorker(models, run.backend, reads))
                yield client
            return
        with _connected(run) as client, _prepared(client, run, models):
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask in workers that start meanwhile, and in this process for good.

    What matters of it, the reports tell; its client has last words after it was closed.
    """
    name = "DASK_LOGGING__DISTRIBUTED"
    before = os.environ.get(name)
    os.environ[name] = "critical"
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _connected(run: RunConfig) -> Client:
    security = connection_security(run)
    try:
        with warnings.catch_warnings():  # a table of Dask's, of what we tell in a line
            warnings.simplefilter("ignore", VersionMismatchWarning)
            return Client(run.scheduler, security=security, set_as_default=False)
    except (OSError, ValueError) as error:
        why = str(error).partition(". Check your")[0]  # ... and an address of Dask's pages
        fix = "the address, and that one CA signed its certificates and yours"
        raise ConfigError(
            f"--scheduler {run.scheduler}: no scheduler answers ({why}); start one or check "
            f"{fix if security else 'the address'}"
        ) from error


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends, and for good from all processes started in it.

    A terminal sends it to the workers as well, which would die in the middle of a task, each with
    a traceback. Held from them, it comes to this process alone, which ends them in order; and no
    cluster is left half started. Where signals cannot be held (Windows), nothing is done.
    """
    hold = getattr(signal, "pthread_sigmask", None)
    if hold is None:
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started later, it would let go of SIGINT for the workers
    before = hold(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        hold(signal.SIG_SETMASK, before)


def _local_cluster(run: RunConfig, count: int) -> LocalCluster:
    first = min(run.min_workers, count) if run.workers == "auto" else count
    limit = int(psutil.virtual_memory().total * 0.9 / count)
    cluster = LocalCluster(
        n_workers=first,
        threads_per_worker=THREADS,
        processes=True,
        host=LOOPBACK,
        dashboard_address=f"{LOOPBACK}:0",
        memory_limit=limit,
        silence_logs=logging.CRITICAL,
        # workers send to the scheduler what this extension counts: out of both, or of none
        scheduler_kwargs={"extensions": _without_spans(SCHEDULER_EXTENSIONS)},
        extensions=_without_spans(WORKER_EXTENSIONS),
    )
    if first < count:
        cluster.adapt(minimum=first, maximum=count, **ADAPTING)
    return cluster


def _without_spans(extensions: Mapping[str, type]) -> dict[str, type]:
    """Leave out what keeps every task group there ever was: ten a tile, for good."""
    return {name: made for name, made in extensions.items() if name != "spans"}


@contextmanager
def _prepared(client: Client, run: RunConfig, models: Sequence[ModelRef]) -> Iterator[None]:
    """Have the workers of a running cluster ready while the block lasts, late ones too."""
    address = str(run.scheduler)
    plugin = PrepareWorker(models, run.backend, run.reads_per_host)
    plugin.name = f"{PrepareWorker.name}-{client.id}"  # several scans may share a cluster
    try:
        try:
            plugin.admission = admission(client, address)
            client.register_plugin(plugin)
        except ScannerError:
            raise
        except Exception as error:
            raise ConfigError(
                f"--scheduler {address}: its workers cannot be prepared ({error}); look into their "
                "logs"
            ) from error
        yield
    finally:  # who joins an idle cluster is not judged by a scan that is over
        if plugin.admission and client.status == "running":
            with suppress(OSError, ValueError):  # the scheduler has just gone, or is a new one
                client.unregister_worker_plugin(plugin.name)


def hand_over(client: Client, graph: da.Array, priority: int, fuse: bool = True) -> Future:
    """Return the future of a graph of one block; its result is what ``graph.compute()`` gives.

    Without ``fuse`` steps that ask for other resources than the one before stay tasks of their own.

    Not ``client.compute``: the last tasks of all its graphs are one group to the scheduler, which
    remembers every group that one ever depended on for as long as any graph is under way.
    """
    if not fuse:  # the last of Dask's fusions, of chains, would lose which step asks for what
        layers = optimize_blockwise(graph.dask, keys=graph.__dask_keys__())
        graph = da.Array(layers, graph.name, graph.chunks, meta=graph._meta)
    (future,) = futures_of(client.persist(graph, priority=priority, optimize_graph=fuse))
    return future


def offers(client: Client, resource: str) -> bool:
    """Tell whether a worker of the cluster offers a resource (``dask worker --resources``)."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return any(one["resources"].get(resource) for one in workers.values())


def worker_count(client: Client) -> int:
    """Return how many worker threads there are now, at least 1."""
    return max(1, int(sum(client.nthreads().values())))
