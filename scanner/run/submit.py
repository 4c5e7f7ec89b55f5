"""Bounded submission: a few tiles in flight, signed when submitted, tried again when reads fail.

The client builds both graphs of a tile and hands them over one after the other. It holds futures of
a few tiles only, so 10 tiles and 100,000 take the same memory. How many follows the workers there
are, as they come and go, and what the hosts of the pixels can bear (``run.pace``). What comes of a
tile whose graph ended is decided in ``run.verdict``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import dask.array as da
from distributed import Client

from scanner.area.grid import Tile
from scanner.config import ScanConfig
from scanner.errors import ClusterError
from scanner.imagery.access import gdal_env, signed, signer_for
from scanner.imagery.catalog import ItemIndex
from scanner.imagery.hrefs import is_remote
from scanner.imagery.item import Item
from scanner.run.cluster import hand_over, offers
from scanner.run.pace import Pace
from scanner.run.reads import TOPIC, calmer
from scanner.run.tile import GPU, Models, look, of_days, scan_tile
from scanner.run.verdict import Done, Job, Judge, ended, unseen
from scanner.run.watch import RESUME, Watch

TILES_PER_WORKER: Final = 2
"""Tiles in flight a worker thread: one computing, one waiting for it. Where workers come as they
are needed (``--workers auto``), the ones that wait are the need."""

TILES_PER_READ: Final = 8
"""Tiles in flight for each read that a host takes at once, at most: a tile in flight gets its turn
long before its time is up, and more could only wait."""

MOST_ACCUSED: Final = 3
"""Tiles in a row that kill their workers, alone too, after which the next ones are not tried."""

TILE_S: float = 2400.0
"""Seconds a tile may take, and wait for the one before it: less than a signature lasts."""

NAP_S: Final = 1.0
"""Seconds of one sleep where nothing runs and nothing may be handed over."""


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
        items = list(items)
        self._items = ItemIndex(items)
        self._models = models
        self._config = config
        self._signer = signer_for(config.search)
        self._watch = Watch(client)
        self._gpu = offers(client, GPU)
        self._pace = Pace(calmer(client))
        self._judge = Judge(config.run.tries, self._signer, self._watch, self._pace)
        self._jobs: dict[str, Job] = {}
        """Tiles in flight, by the key of their graph's future."""
        self._again: deque[Job] = deque()
        """Tiles begun, whose next graph is to be handed over."""
        self._remote = any(is_remote(h) for item in items for h in _hrefs(item))

    def run(self, tiles: Iterable[Tile]) -> Iterator[Done]:
        """Yield each tile as it ends, in whatever order that is.

        Raises ``ClusterError`` where the cluster is lost, or kills itself on tile after tile.
        """
        if self._remote:  # ends with the client
            self._client.subscribe_topic(TOPIC, lambda _: self._pace.overloaded())
        waiting = deque(tiles)
        judge = self._judge
        while waiting or self._jobs or self._again or judge.accused:
            yield from self._fill(waiting)
            if self._jobs:
                yield from self._step()
            elif held := self._pace.held():
                time.sleep(min(held, NAP_S))
            if judge.guilty >= MOST_ACCUSED and not judge.accused and waiting:
                raise ClusterError(
                    f"{judge.guilty} tiles one after the other killed the workers that ran them; "
                    f"{judge.cause()}; {RESUME}"
                )

    def _fill(self, waiting: deque[Tile]) -> Iterator[Done]:
        """Hand over what there is room for, tiles begun first; yield tiles that nothing shows."""
        accused = self._judge.accused
        while self._has_room():
            if self._again:
                self._submit(self._again.popleft())
            elif waiting and len(accused) < MOST_ACCUSED:
                tile = waiting.popleft()
                job = Job(tile, _native_first(self._items.of_tile(tile), tile))
                if job.items:
                    self._submit(job)
                else:
                    yield unseen(job)
            elif accused and not self._jobs:
                job = accused.pop(0)
                job.alone = True
                self._submit(job)
            else:
                return

    def _has_room(self) -> bool:
        """Whether one more tile may be handed over now."""
        if self._pace.held() or any(job.alone for job in self._jobs.values()):
            return False
        threads = self._watch.threads()
        full = round(TILES_PER_WORKER * threads)
        if self._remote:
            full = min(full, TILES_PER_READ * self._config.run.reads_per_host)
        return len(self._jobs) < self._pace.window(threads, full)

    def _step(self) -> Iterator[Done]:
        """Wait for something to end, yield the tiles that ended with it."""
        futures = [job.future for job in self._jobs.values() if job.future]
        ended_now = self._watch.next(futures, self._pace.held() or None)
        for future in ended_now:
            job = self._jobs.pop(future.key)
            done = self._judge.advance(job, future)
            future.release()
            if done is not None:
                yield done
            elif job not in self._judge.accused:
                self._again.append(job)
        if not ended_now:
            yield from self._overdue()

    def _submit(self, job: Job) -> None:
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
        job.since, job.waited = time.monotonic(), self._pace.waited
        self._jobs[job.future.key] = job

    def _overdue(self) -> Iterator[Done]:
        """Give up tiles that take too long; their workers are started anew, for they may hang."""
        now, waited = time.monotonic(), self._pace.waited
        late = {
            key: job
            for key, job in self._jobs.items()
            if now - job.since - (waited - job.waited) > TILE_S * TILES_PER_WORKER
        }
        if not late:
            return
        busy = self._watch.busy()
        for key, job in late.items():
            del self._jobs[key]
            if job.future is not None:
                job.future.cancel(force=True)
            minutes = (now - job.since) / 60
            yield ended(
                job,
                f"gave no answer in {minutes:.0f} minutes; its host is slow or a worker hung, run "
                "the same command again",
            )
        self._client.restart_workers(busy, raise_for_error=False)


def _native_first(items: list[Item], tile: Tile) -> list[Item]:
    """Order items so that, of one day, those in the tile's own zone win: they need no warping."""
    return sorted(items, key=lambda i: (i.solar_day, i.epsg != tile.epsg, i.datetime, i.id))


def _hrefs(item: Item) -> list[str]:
    return [str(asset["href"]) for asset in item.assets.values() if asset.get("href")]
