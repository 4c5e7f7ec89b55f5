"""Chips on Dask: a few in flight, signed when submitted, tried again when reads fail.

The way of the scan's tiles (``scanner.run.submit``), for windows: the client builds two small
graphs a chip and hands one over after the other. A scene that cannot be read after all tries is
left out of that chip by name; where no scene can be blamed, the chip fails.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from distributed import Client, Future, KilledWorker
from rasterio.errors import RasterioError

from scanner.config import SearchConfig
from scanner.errors import ReadError
from scanner.imagery.access import (
    culprit,
    failure_text,
    gdal_env,
    signed,
    signer_for,
)
from scanner.imagery.item import Item
from scanner.imagery.screen import solar_days
from scanner.run.cluster import worker_count
from scanner.run.tile import of_days
from scanner.run.watch import Watch
from training.collect.pixels import Chip, look, read
from training.collect.places import Place
from training.collect.scenes import Scenes
from training.collect.settings import ChipConfig
from training.collect.window import Window, candidates, window_at

logger = logging.getLogger(__name__)

CHIPS_PER_WORKER: Final = 3
"""Chips in flight a worker: one being read, others waiting, their items found and signed."""

TRIES: Final = 3
"""Times a chip is tried before a scene is left out, or the chip given up."""

_RASTERIO: Final = re.compile(r"(Rasterio\w*|Warp\w+|CPLE_\w+)\(")


@dataclass
class _Job:
    """A chip on its way."""

    place: Place
    window: Window
    items: list[Item]
    days: tuple[dt.date, ...] | None = None
    """Chosen solar days; ``None`` until the SCL has been looked at."""
    tries: int = 1
    again: bool = False


@dataclass(frozen=True)
class Fetched:
    """A chip that ended: its pixels, or why there are none."""

    place: Place
    window: Window
    chip: Chip | None = None
    items: tuple[Item, ...] = field(default=())
    """Items whose pixels are in the chip."""
    reason: str = ""


class Fetcher:
    """Fetches chips on a client.

    Args:
        client: a Dask client with at least one worker.
        scenes: finds the items of each place.
        search: the catalog's settings: how its hrefs are signed and read.
        chip: how a chip is made.
    """

    def __init__(
        self, client: Client, scenes: Scenes, search: SearchConfig, chip: ChipConfig
    ) -> None:
        self._client, self._scenes, self._search, self._chip = client, scenes, search, chip
        self._signer = signer_for(search)
        self._jobs: dict[Future, _Job] = {}

    def run(self, places: Sequence[Place]) -> Iterator[Fetched]:
        """Yield each chip as it ends, in whatever order that is.

        Raises ``ClusterError`` where the scheduler is gone, or all workers for too long.
        """
        waiting = self._scenes.of(places)
        watch = Watch(self._client)
        window = CHIPS_PER_WORKER * worker_count(self._client)
        while True:
            while len(self._jobs) < window and (found := next(waiting, None)) is not None:
                job, why = self._job(*found)
                if job.items:
                    self._submit(job)
                else:
                    yield Fetched(job.place, job.window, reason=why)
            if not self._jobs:
                return
            for future in watch.next(list(self._jobs)):
                job = self._jobs.pop(future)
                done = self._advance(job, future)
                future.release()
                if done is None:
                    self._submit(job)
                else:
                    yield done

    def _job(self, place: Place, items: Sequence[Item], why: str) -> tuple[_Job, str]:
        window = window_at(place.lon, place.lat, self._chip)
        most = max(self._chip.look_at, self._chip.max_scenes)
        job = _Job(place, window, candidates(items, window, most))
        days = tuple(solar_days(job.items))
        if len(days) <= self._chip.max_scenes:
            job.days = days
        elif not self._chip.look_at:
            job.items = candidates(items, window, self._chip.max_scenes)
            job.days = tuple(solar_days(job.items))
        return job, why

    def _submit(self, job: _Job) -> None:
        """Sign, build and hand over the next graph of a chip."""
        env = gdal_env(self._search, retry=job.again)
        chip = self._chip
        if job.tries == TRIES:  # the one engine whose errors name the asset that could not be read
            chip = replace(chip, engine="stackstac")
        if job.days is None:
            graph = look(signed(job.items, self._signer), job.window, chip, env)
        else:
            graph = read(signed(self._used(job), self._signer), job.window, chip, env)
        future = self._client.compute(graph, priority=0 if job.days is None else 1)
        self._jobs[future] = job

    def _used(self, job: _Job) -> list[Item]:
        return of_days(job.items, job.days or ())

    def _advance(self, job: _Job, future: Future) -> Fetched | None:
        """Take a finished graph; return the chip's end, or ``None`` to submit its next one."""
        if future.status != "finished":
            return self._failed(job, future)
        result: Any = future.result()
        value = result[()] if hasattr(result, "dtype") else result
        if isinstance(value, Chip):
            pairs = zip(self._used(job), value.refused, strict=True)
            used = tuple(item for item, why in pairs if why is None)
            told = next((why for why in value.refused if why), "")
            return Fetched(job.place, job.window, value, used, "" if used else told)
        job.days = value
        return None if value else self._end(job, "no scene has data there")

    def _failed(self, job: _Job, future: Future) -> Fetched | None:
        error = future.exception()
        if isinstance(error, KilledWorker):
            return self._end(job, "its worker died, most likely for want of memory")
        logger.info("chip %s, try %d: %s", job.place.chip_id, job.tries, failure_text(error))
        job.again = True
        unread = isinstance(error, ReadError | RasterioError) or _is_rasterio(error)
        if unread and job.tries < TRIES:
            self._signer.forget()  # a signature that ends mid-read looks like a broken block
            job.tries += 1
            return None
        bad = culprit(error, job.items) if unread else None
        if bad is None:
            return self._end(job, failure_text(error))
        job.items = [item for item in job.items if item.id != bad.id]
        job.tries = 1
        days = tuple(solar_days(job.items))
        job.days = None if len(days) > self._chip.max_scenes else days
        if not job.items:
            return self._end(job, f"none of its scenes could be read, last {failure_text(error)}")
        return None

    def _end(self, job: _Job, reason: str) -> Fetched:
        return Fetched(job.place, job.window, reason=reason)


def _is_rasterio(error: BaseException) -> bool:
    """Tell whether an error was rasterio's: those do not survive the way back to the client.

    Dask then sends a plain ``Exception`` with its text, which is how odc-stac's failed reads come.
    """
    return type(error) is Exception and _RASTERIO.match(str(error)) is not None
