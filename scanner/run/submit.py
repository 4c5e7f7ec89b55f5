"""Bounded submission: a few tiles in flight, signed when submitted, tried again when reads fail.

The client builds both graphs of a tile and hands them over one after the other. It holds futures of
a few tiles only, so 10 tiles and 100,000 take the same memory. A scene that cannot be read after
all tries is dropped from that tile by name; where no scene can be blamed, the tile is failed.

Dask blames every tile that was on a worker when it died, so a tile it accuses is settled by running
it alone: what kills its worker then has failed, what does not was innocent.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import dask.array as da
import numpy as np
import pyarrow as pa
from distributed import Client, Future, KilledWorker
from distributed.scheduler import NoValidWorkerError
from rasterio.errors import RasterioError

from scanner.area.grid import Tile
from scanner.config import ScanConfig
from scanner.errors import ClusterError, ReadError
from scanner.imagery.access import (
    culprit,
    failure_text,
    gdal_env,
    signed,
    signer_for,
)
from scanner.imagery.catalog import ItemIndex
from scanner.imagery.item import Item
from scanner.imagery.screen import DayChoice
from scanner.results.coverage import TileReport
from scanner.run.cluster import hand_over, offers, worker_count
from scanner.run.part import screened_part, unseen_part
from scanner.run.tile import GPU, Models, TileResult, look, of_days, scan_tile
from scanner.run.watch import RESUME, Watch

logger = logging.getLogger(__name__)

TILES_PER_WORKER: Final = 2
"""Tiles in flight a worker: one computing, one waiting for it."""

MOST_ACCUSED: Final = 3
"""Tiles in a row that kill their workers, alone too, after which the next ones are not tried."""

TILE_S: float = 2400.0
"""Seconds a tile may take, and wait for the one before it: less than a signature lasts."""

NO_SCENE: Final = "no usable scene over this tile"


@dataclass(eq=False)
class _Job:
    """A tile on its way."""

    tile: Tile
    items: list[Item]
    choice: DayChoice | None = None
    """Its days, and which cells need a look; ``None`` until the SCL has been looked at."""
    tries: int = 1
    attempts: int = 1
    dropped: list[tuple[str, str]] = field(default_factory=list)
    alone: bool = False
    """Runs while nothing else does, since workers that ran it died."""
    future: Future | None = None
    since: float = 0.0
    """When its graph was handed over, seconds of ``time.monotonic``."""

    @property
    def days(self) -> tuple[dt.date, ...]:
        """Solar days that are read, or none yet."""
        return self.choice.days if self.choice else ()


@dataclass(frozen=True)
class Done:
    """A tile that ended: its part's table (``None`` where it failed) and its report."""

    tile: Tile
    table: pa.Table | None
    report: TileReport
    rasters: Mapping[str, bytes] = field(default_factory=dict)


class Submitter:
    """Runs tiles on a client.

    Args:
        client: a Dask client with at least one worker.
        items: all items of the run, unsigned.
        models: the pair of models.
        config: settings; ``run.tries`` bounds how often a tile is tried before something is
        dropped.
    """

    def __init__(
        self, client: Client, items: Iterable[Item], models: Models, config: ScanConfig
    ) -> None:
        self._client = client
        self._items = ItemIndex(items)
        self._models = models
        self._config = config
        self._signer = signer_for(config.search)
        self._watch = Watch(client)
        self._gpu = offers(client, GPU)
        self._jobs: dict[str, _Job] = {}
        self._accused: list[_Job] = []
        self._guilty = 0
        """Tiles in a row that killed their workers, alone too."""

    def run(self, tiles: Iterable[Tile]) -> Iterator[Done]:
        """Yield each tile as it ends, in whatever order that is.

        Raises ``ClusterError`` where the cluster is lost, or kills itself on tile after tile.
        """
        waiting = deque(tiles)
        window = TILES_PER_WORKER * worker_count(self._client)
        while waiting or self._jobs or self._accused:
            while waiting and len(self._jobs) < window and len(self._accused) < MOST_ACCUSED:
                tile = waiting.popleft()
                job = _Job(tile, _native_first(self._items.of_tile(tile), tile))
                if job.items:
                    self._submit(job)
                else:
                    yield self._unseen(job)
            if not self._jobs and self._accused:
                job = self._accused.pop(0)
                job.alone = True
                self._submit(job)
            if self._jobs:
                yield from self._step()
            if self._guilty >= MOST_ACCUSED and not self._accused and waiting:
                raise ClusterError(
                    f"{self._guilty} tiles one after the other killed the workers that ran them; "
                    f"{self._cause()}; {RESUME}"
                )

    def _step(self) -> Iterator[Done]:
        """Wait for something to end, yield the tiles that ended with it."""
        ended = self._watch.next([job.future for job in self._jobs.values() if job.future])
        for future in ended:
            job = self._jobs.pop(future.key)
            done = self._advance(job, future)
            future.release()
            if done is not None:
                yield done
            elif job not in self._accused:
                self._submit(job)
        if not ended:
            yield from self._overdue()

    def _submit(self, job: _Job) -> None:
        """Sign, build and hand over the next graph of a tile."""
        env = gdal_env(self._config.search, retry=job.attempts > 1)
        pixels = self._config.pixels
        graph: da.Array
        if job.choice is None:
            graph = look(job.tile, signed(job.items, self._signer), pixels, env)
        else:
            items = signed(of_days(job.items, job.days), self._signer)
            rasters = self._config.run.rasters
            models, gpu = self._models, self._gpu
            graph = scan_tile(job.tile, items, job.choice, pixels, models, env, rasters, gpu)
        priority = 0 if job.choice is None else 1
        job.future = hand_over(self._client, graph, priority, fuse=not self._gpu)
        job.since = time.monotonic()
        self._jobs[job.future.key] = job

    def _overdue(self) -> Iterator[Done]:
        """Give up tiles that take too long; their workers are started anew, for they may hang."""
        now = time.monotonic()
        late = {
            key: job
            for key, job in self._jobs.items()
            if now - job.since > TILE_S * TILES_PER_WORKER
        }
        if not late:
            return
        busy = self._watch.busy()
        for key, job in late.items():
            del self._jobs[key]
            if job.future is not None:
                job.future.cancel(force=True)
            minutes = (now - job.since) / 60
            yield self._end(
                job,
                f"gave no answer in {minutes:.0f} minutes; its host is slow or a worker hung, run "
                "the same command again",
            )
        self._client.restart_workers(busy, raise_for_error=False)

    def _advance(self, job: _Job, future: Future) -> Done | None:
        """Take a finished graph; return the tile's end, or ``None`` to submit its next one."""
        if future.status != "finished":
            return self._failed(job, future)
        result: Any = future.result()
        value = result[()] if hasattr(result, "dtype") else result
        if isinstance(value, TileResult):
            self._guilty = 0
            return self._finished(job, value)
        job.choice = value
        if not job.days:
            return self._unseen(job)
        if not value.cells.any():
            return self._finished(job, TileResult(screened_part(job.tile, value), ()))
        return None

    def _failed(self, job: _Job, future: Future) -> Done | None:
        error: BaseException = future.exception()
        logger.info("tile %s, try %d: %s", job.tile.tile_id, job.tries, failure_text(error))
        job.attempts += 1
        if isinstance(error, NoValidWorkerError):
            raise ClusterError(f"{self._client.scheduler.address}: has no worker left; {RESUME}")
        if isinstance(error, KilledWorker):
            return self._killed(job)
        unread = isinstance(error, ReadError | RasterioError)
        if unread and job.tries < self._config.run.tries:
            self._signer.forget()  # a signature that ends mid-read looks like a broken block
            job.tries += 1
            return None
        bad = culprit(error, job.items) if unread else None
        if bad is None:
            return self._end(job, failure_text(error))
        job.items = [item for item in job.items if item.id != bad.id]
        job.dropped.append((bad.id, failure_text(error)))
        job.choice, job.tries = None, 1
        if not job.items:  # not the same as no scene: it may well be read another time
            return self._end(job, f"none of its scenes could be read, last {failure_text(error)}")
        return None

    def _killed(self, job: _Job) -> Done | None:
        """Put a tile whose workers died aside, to run alone; end it if it did."""
        if not job.alone:
            self._accused.append(job)
            return None
        self._guilty += 1
        return self._end(
            job, f"the workers that ran it died, also when it ran alone; {self._cause()}"
        )

    def _cause(self) -> str:
        """Return why workers died, as far as it is known, and what helps."""
        if self._watch.deaths_by_memory():
            return (
                f"they ran out of memory: {self._watch.memory()}; use fewer --workers, or fewer "
                "--max-scenes"
            )
        return (
            f"most likely for want of memory: {self._watch.memory()}; use fewer --workers, or look "
            "into the system's log"
        )

    def _finished(self, job: _Job, result: TileResult) -> Done:
        items = of_days(job.items, job.days)
        refused = {item for item, _ in result.refused}
        used = [item for item in items if item.id not in refused]
        report = TileReport(
            tile_id=job.tile.tile_id,
            status="done",
            attempts=job.attempts,
            days=tuple(day.isoformat() for day in job.days),
            item_ids=tuple(
                tuple(item.id for item in used if item.solar_day == day) for day in job.days
            ),
            dropped=(*job.dropped, *result.refused),
            without_scl=tuple(item.id for item in used if item.asset_key("SCL") is None),
            cells=result.table.num_rows,
            screened=int(np.count_nonzero(result.table["screened"])),
            suspicious=result.table.num_rows - result.table["score"].null_count,
            backend=result.backend,
            bytes_read=result.bytes_read + (job.choice.bytes_read if job.choice else 0),
        )
        return Done(job.tile, result.table, report, result.rasters)

    def _unseen(self, job: _Job) -> Done:
        report = TileReport(
            tile_id=job.tile.tile_id,
            status="done",
            reason=NO_SCENE,
            attempts=job.attempts,
            dropped=tuple(job.dropped),
            cells=len(job.tile.cells),
        )
        return Done(job.tile, unseen_part(job.tile), report)

    def _end(self, job: _Job, reason: str) -> Done:
        report = TileReport(
            tile_id=job.tile.tile_id,
            status="failed",
            reason=reason,
            attempts=job.attempts,
            dropped=tuple(job.dropped),
            cells=len(job.tile.cells),
        )
        return Done(job.tile, None, report)


def _native_first(items: list[Item], tile: Tile) -> list[Item]:
    """Order items so that, of one day, those in the tile's own zone win: they need no warping."""
    return sorted(items, key=lambda i: (i.solar_day, i.epsg != tile.epsg, i.datetime, i.id))
