"""What to do with a tile whose graph has ended: its next graph, another try, or its end.

A scene that cannot be read after all tries is dropped from that tile by name; where no scene can be
blamed, the tile is failed.

Dask blames every tile that was on a worker when it died, so a tile it accuses is settled by running
it alone: what kills its worker then has failed, what does not was innocent.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from distributed import Future, KilledWorker
from distributed.scheduler import NoValidWorkerError
from rasterio.errors import RasterioError

from scanner.area.grid import Tile
from scanner.errors import ClusterError, ReadError
from scanner.imagery.access import Signer, culprit, failure_text
from scanner.imagery.hrefs import is_remote
from scanner.imagery.item import Item
from scanner.imagery.screen import DayChoice
from scanner.results.coverage import TileReport
from scanner.run.pace import Pace
from scanner.run.part import screened_part, unseen_part
from scanner.run.reads import tells_overload
from scanner.run.tile import TileResult, of_days
from scanner.run.watch import RESUME, Watch

logger = logging.getLogger(__name__)

NO_SCENE: Final = "no usable scene over this tile"


@dataclass(eq=False)
class Job:
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
    waited: float = 0.0
    """Seconds that reads had paused until then (``Pace.waited``)."""

    @property
    def days(self) -> tuple[dt.date, ...]:
        """Solar days that are read, none before they are known."""
        return self.choice.days if self.choice else ()


@dataclass(frozen=True)
class Done:
    """A tile that ended: its part's table (``None`` where it failed) and its report."""

    tile: Tile
    table: pa.Table | None
    report: TileReport
    rasters: Mapping[str, bytes] = field(default_factory=dict)


class Judge:
    """Decides what comes of tiles, and remembers those that killed their workers.

    Args:
        tries: how often a tile is tried before something is dropped.
        signer: forgets its tokens when a read fails.
        watch: tells why workers died.
        pace: is told of tiles that went well, and of hosts that are overloaded.
    """

    def __init__(self, tries: int, signer: Signer, watch: Watch, pace: Pace) -> None:
        self._tries, self._signer, self._watch, self._pace = tries, signer, watch, pace
        self.accused: list[Job] = []
        """Tiles that are to run alone."""
        self.guilty = 0
        """Tiles in a row that killed their workers, alone too."""

    def advance(self, job: Job, future: Future) -> Done | None:
        """Take a finished graph; return the tile's end, or ``None`` where it goes on.

        It goes on with its next graph, unless it is among :attr:`accused` now.
        """
        if future.status != "finished":
            return self._failed(job, future)
        self._pace.eased()
        result: Any = future.result()
        value = result[()] if hasattr(result, "dtype") else result
        if isinstance(value, TileResult):
            self.guilty = 0
            return _finished(job, value)
        job.choice = value
        if not job.days:
            return unseen(job)
        if not value.cells.any():
            return _finished(job, TileResult(screened_part(job.tile, value), ()))
        return None

    def _failed(self, job: Job, future: Future) -> Done | None:
        error: BaseException = future.exception()
        logger.info("tile %s, try %d: %s", job.tile.tile_id, job.tries, failure_text(error))
        job.attempts += 1
        if isinstance(error, NoValidWorkerError):
            raise ClusterError(f"{self._watch.address}: has no worker left; {RESUME}")
        if isinstance(error, KilledWorker):
            return self._killed(job)
        unread = isinstance(error, ReadError | RasterioError)
        if is_remote(getattr(error, "href", None) or "") and tells_overload(str(error)):
            self._pace.overloaded()
        if unread and job.tries < self._tries:
            self._signer.forget()  # a signature that ends mid-read looks like a broken block
            job.tries += 1
            return None
        bad = culprit(error, job.items) if unread else None
        if bad is None:
            return ended(job, failure_text(error))
        job.items = [item for item in job.items if item.id != bad.id]
        job.dropped.append((bad.id, failure_text(error)))
        job.choice, job.tries = None, 1
        if not job.items:  # not the same as no scene: it may well be read another time
            return ended(job, f"none of its scenes could be read, last {failure_text(error)}")
        return None

    def _killed(self, job: Job) -> Done | None:
        """Put a tile whose workers died aside, to run alone; end it if it did."""
        if not job.alone:
            self.accused.append(job)
            return None
        self.guilty += 1
        return ended(job, f"the workers that ran it died, also when it ran alone; {self.cause()}")

    def cause(self) -> str:
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


def _finished(job: Job, result: TileResult) -> Done:
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


def unseen(job: Job) -> Done:
    """Return the end of a tile that no scene shows."""
    return Done(job.tile, unseen_part(job.tile), _report(job, "done", NO_SCENE))


def ended(job: Job, reason: str) -> Done:
    """Return the end of a tile that failed, and why."""
    return Done(job.tile, None, _report(job, "failed", reason))


def _report(job: Job, status: str, reason: str) -> TileReport:
    """Return the report of a tile of which nothing was read."""
    return TileReport(
        tile_id=job.tile.tile_id,
        status=status,
        reason=reason,
        attempts=job.attempts,
        dropped=tuple(job.dropped),
        cells=len(job.tile.cells),
    )
