"""Soak: some 500 tiles scanned twice over one file host, calmly and on a very bad day.

The bad day: a share of all requests fails at random (429, 502, 503, 403, a connection reset, a page
to log in, a body cut in two, a short stall), a worker is killed every few dozen tiles (always the
youngest, so that one lives long enough to tell whether it grows), and the whole run, workers and
all, is killed with SIGKILL in the middle and resumed by the same command.
Faults are drawn from the seed, request by request, so two soaks meet the same ones.

Promised, and checked: no cell lost or there twice; where nothing was dropped, every row equal to
the calm run's, bit by bit; each scene that was dropped named in the tile's report and in run.json,
each failed tile in run.json and coverage; a tile that was done when the run was killed is not done
again; and client and workers grow neither in memory nor in open files nor in threads.

    python -m tests.benchmarks.soak [--tiles 520] [--seed 1] [--out FILE]

Ends with 1 where a promise is broken. Linux, since it counts open files.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import psutil
import tomli_w
from scipy.stats import theilslopes

from tests.benchmarks.common import machine, table
from tests.benchmarks.memory import write_area
from tests.benchmarks.soak_scenes import area_of, place_tiles, write_scenes
from tests.models_tiny import tiny_classifier, tiny_segmenter
from tests.processes import Started, parts_done
from tests.servers.range_server import RangeServer, Weather
from tests.synth import write_collection

SHARE: Final = 0.03
"""Of all requests go wrong on the bad day."""
MODES: Final = ("status", "status", "status", "reset", "stall", "short", "html")
STATUSES: Final = (503, 503, 503, 429, 502, 403)
STALL_S: Final = 1.0
THRESHOLD: Final = 0.14
"""Scores of the tiny models lie around it, so that there are sites."""
KILL_AFTER: Final = (20, 50)
"""A worker is killed after so many more tiles (at most a quarter of all), drawn anew each time."""
WORKERS: Final = 2
SMALL_CACHE: Final = (
    "from scanner.imagery.access import GDAL_SETTINGS; "
    "GDAL_SETTINGS['CPL_VSIL_CURL_CACHE_SIZE'] = '4000000'"
)
"""What GDAL keeps of what it read is bounded by 64 MiB in each worker, which this soak's small
scenes would take some 500 tiles to fill: it would look like a leak. 4 MB are full in the warm-up.
"""
EVERY_S: Final = 1.0
"""Seconds between two looks at the processes."""
WARM_UP: Final = 0.25
"""Share of a process's tiles after which its growth is measured: by then its caches are full."""
STRETCH: Final = 10
"""Tiles of which the look with the least counts."""
ENOUGH_TILES: Final = 100
"""Growth is told of processes that were watched over at least so many tiles."""
LIMITS: Final = {"rss": 4.0, "files": 0.5, "threads": 0.5}
"""Growth in 100 tiles: MiB, open files, threads."""
TABLES: Final = ("detections", "cells", "coverage")


@dataclass
class Process:
    """What was seen of one process: tiles done, MiB, open files and threads, look by look."""

    role: str
    looks: list[tuple[int, float, int, int]] = field(default_factory=list)

    def settled(self) -> np.ndarray:
        """Return the looks after the warm-up and before the last tile, as an array (look, 4)."""
        seen = np.array(self.looks, dtype=float).reshape(-1, 4)
        first, last = (seen[0, 0], seen[-1, 0]) if len(seen) else (0, 0)
        return seen[(seen[:, 0] >= first + WARM_UP * (last - first)) & (seen[:, 0] < last)]

    @property
    def tiles(self) -> int:
        """Tiles done by the whole run while this process was watched, after the warm-up."""
        seen = self.settled()
        return int(seen[-1, 0] - seen[0, 0]) if len(seen) else 0

    def growth(self) -> dict[str, tuple[float, float, float]]:
        """Return what memory, open files and threads grow by in 100 tiles.

        That is Theil and Sen's slope and the ends of its 95 % interval. Of every few tiles the
        least counts: a tile takes hundreds of MiB and gives them back, and what is there between
        two tiles is what stays.
        """
        seen = self.settled()
        stretch = seen[:, 0] // STRETCH
        least = np.array([seen[stretch == one].min(axis=0) for one in np.unique(stretch)])
        found = {}
        for place, name in enumerate(LIMITS, start=1):
            fit = theilslopes(least[:, place], least[:, 0])
            found[name] = tuple(
                100 * float(one) for one in (fit.slope, fit.low_slope, fit.high_slope)
            )
        return found


@dataclass
class Watcher:
    """Looks at a run's processes while it runs, and kills workers where it is told to."""

    started: Started
    folder: Path
    tiles: int
    kills: random.Random | None = None
    stop_after: int | None = None
    """Tiles after which the whole run is killed."""
    processes: dict[int, Process] = field(default_factory=dict)
    killed: list[int] = field(default_factory=list)

    def watch(self) -> bool:
        """Watch until the run ends; returns whether it was killed from here."""
        next_kill = self._draw(self.done())
        while self.started.process.poll() is None:
            done = self.done()
            self._look(done)
            if self.stop_after is not None and done >= self.stop_after:
                self._kill_all()
                return True
            if self.kills is not None and done >= next_kill:
                next_kill = self._draw(done)
                if workers := self.started.workers():
                    victim = max(workers, key=psutil.Process.create_time)
                    victim.kill()
                    self.killed.append(victim.pid)
            time.sleep(EVERY_S)
        return False

    def done(self) -> int:
        """Return how many tiles are done: a marker each."""
        return len(parts_done(self.folder))

    def _draw(self, done: int) -> int:
        if self.kills is None:
            return done
        return done + min(self.kills.randint(*KILL_AFTER), max(1, self.tiles // 4))

    def _look(self, done: int) -> None:
        workers = self.started.workers()
        for role, process in [("client", self.started.family), *(("worker", w) for w in workers)]:
            try:
                with process.oneshot():
                    look = (
                        done, process.memory_info().rss / 2**20, process.num_fds(),
                        process.num_threads(),
                    )  # fmt: skip
            except psutil.Error:
                continue
            self.processes.setdefault(process.pid, Process(role)).looks.append(look)

    def _kill_all(self) -> None:
        """Kill -9 the client; its workers end by themselves, which is waited for."""
        workers = self.started.workers()
        self.started.process.send_signal(signal.SIGKILL)
        self.started.process.wait()
        _, left = psutil.wait_procs(workers, timeout=120)
        if left:
            raise RuntimeError(f"{len(left)} workers outlive their client by two minutes")


@dataclass
class Told:
    """What came out of one scan, over however many processes."""

    folder: Path
    seconds: float = 0.0
    codes: list[int] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    killed_workers: int = 0
    killed_runs: int = 0
    whole_at_kill: int = 0
    found_at_resume: int = 0
    stderr: str = ""

    def rows(self, name: str) -> gpd.GeoDataFrame:
        """Return one of the tables."""
        return gpd.read_parquet(self.folder / f"{name}.parquet")

    def reports(self) -> dict[str, dict[str, Any]]:
        """Return the report of each tile that is done."""
        return {
            path.stem: json.loads(path.read_text())["report"] for path in parts_done(self.folder)
        }

    def summary(self) -> dict[str, Any]:
        """Return run.json."""
        return dict(json.loads((self.folder / "run.json").read_text()))


def scan(
    arguments: list[str],
    folder: Path,
    tiles: int,
    *,
    seed: int | None = None,
    stop_after: int | None = None,
) -> Told:
    """Scan to the end with real processes; with a seed workers are killed, and once everything."""
    told = Told(folder)
    begun = time.monotonic()
    kills = None if seed is None else random.Random(seed)
    while True:
        started = Started(*arguments, "--out", folder, first=SMALL_CACHE)
        output = _Output(started)
        watcher = Watcher(started, folder, tiles, kills, stop_after)
        was_killed = watcher.watch()
        out, err = output.text()
        told.processes += watcher.processes.values()
        told.killed_workers += len(watcher.killed)
        told.stderr += err
        if not was_killed:
            break
        told.killed_runs += 1
        told.whole_at_kill, stop_after = watcher.done(), None
    told.codes.append(started.process.returncode)
    resumed = re.search(r"resuming: (\d+) of", out)
    told.found_at_resume = int(resumed[1]) if resumed else 0
    told.seconds = time.monotonic() - begun
    return told


class _Output:
    """Reads what a process prints while it runs, so that it never waits for its reader."""

    def __init__(self, started: Started) -> None:
        self._text = {"stdout": "", "stderr": ""}
        self._threads = [
            threading.Thread(target=self._read, args=(name, getattr(started.process, name)))
            for name in self._text
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, stream: Any) -> None:
        with stream:
            self._text[name] = stream.read()

    def text(self) -> tuple[str, str]:
        """Return stdout and stderr, after the end."""
        for thread in self._threads:
            thread.join()
        return self._text["stdout"], self._text["stderr"]


def soak(folder: Path, tiles: int, seed: int, rasters: bool = False) -> tuple[str, list[str]]:
    """Scan calmly and on a bad day; returns the report and the promises that were broken."""
    placed = place_tiles(tiles, seed)
    area = write_area(folder / "soak.geojson", area_of(placed))
    scenes = folder / "scenes"
    server = RangeServer(scenes, stall_s=STALL_S)
    try:
        items = write_scenes(scenes, placed, seed, server.url)
        write_collection(folder / "items.json", items)
        settings = {
            "search": {"catalog": str(folder / "items.json"), "hosts": ["http://127.0.0.1"]},
            "pixels": {
                "segmenter": str(tiny_segmenter(folder / "segmenter")),
                "classifier": str(tiny_classifier(folder / "classifier")),
            },
            "report": {"threshold": THRESHOLD, "also": []},
            "run": {"workers": WORKERS, "rasters": rasters},
        }
        (folder / "soak.toml").write_text(tomli_w.dumps(settings))
        arguments = [str(area), "--config", str(folder / "soak.toml")]
        calm = scan(arguments, folder / "calm", tiles)
        requests = Counter({"calm": len(server.seen)})
        weather = Weather(SHARE, MODES, seed, statuses=STATUSES)
        server.faults.append(weather)
        bad = scan(arguments, folder / "bad", tiles, seed=seed, stop_after=tiles // 2)
        requests["bad"] = len(server.seen) - requests["calm"]
    finally:
        server.stop()
    broken = broken_promises(calm, bad, tiles)
    return report(calm, bad, weather, requests, broken), broken


def broken_promises(calm: Told, bad: Told, tiles: int) -> list[str]:
    """Return what was promised and is not so, a line each."""
    broken = []

    def promise(kept: bool, text: str) -> None:
        if not kept:
            broken.append(text)

    summary = bad.summary()
    failed = {one["tile_id"] for one in summary["tiles"]["failed"]}
    dropped = {tile: one["dropped"] for tile, one in bad.reports().items() if one["dropped"]}
    promise(calm.codes == [0], f"the calm run ended with {calm.codes}: {calm.stderr[-500:]}")
    promise(bad.codes == [1 if failed else 0], f"the bad one with {bad.codes}: {bad.stderr[-500:]}")
    promise(not any(one["dropped"] for one in calm.reports().values()), "the calm run dropped")
    promise(bad.killed_runs == 1, "the run was not killed")
    promise(
        bad.whole_at_kill <= bad.found_at_resume,
        f"{bad.whole_at_kill} tiles were done when it was killed, {bad.found_at_resume} after",
    )
    cells, after = (one.rows("cells").set_index("cell_id") for one in (calm, bad))
    promise(len(cells) == tiles and cells.index.is_unique, "cells of the calm run")
    promise(after.index.is_unique, "cells are there twice")
    promise(list(after.index) == list(cells.index), "cells are lost, or in another order")
    touched = failed | set(dropped)
    kept = ~cells.tile_id.isin(touched)
    promise(after[kept].equals(cells[kept]), "rows differ where nothing was dropped")
    named = {(one["id"], one["reason"]) for one in summary["dropped_items"]}
    told = {tuple(pair) for pairs in dropped.values() for pair in pairs}
    promise(told <= named, f"dropped and not named: {told - named}")
    lost = after[after.status == "failed"]
    promise(set(lost.tile_id) == failed, "failed cells and failed tiles differ")
    coverage = bad.rows("coverage").set_index("tile_id")
    promise(
        set(coverage.index[coverage.status == "failed"]) == failed, "failed and not in coverage"
    )
    promise(len(coverage) == tiles, "coverage has another number of tiles")
    sites, found = (one.rows("detections").set_index("detection_id") for one in (calm, bad))
    apart = np.array([not touched & set(ids) for ids in sites.tile_ids], dtype=bool)
    kept_sites = sites[apart]
    promise(len(kept_sites) > 0, "no site to compare")
    promise(
        set(kept_sites.index) <= set(found.index)
        and found.loc[kept_sites.index].equals(kept_sites),
        "sites differ where nothing was dropped",
    )
    if not touched:
        for name in TABLES:
            one, other = ((run.folder / f"{name}.parquet").read_bytes() for run in (calm, bad))
            promise(one == other, f"{name}.parquet is not the same file")
    left = [path.name for path in bad.folder.rglob(".*")]
    promise(not left, f"left behind: {left}")
    for name, limit in LIMITS.items():
        for process in _watched(calm, bad):
            grown, _, _ = process.growth()[name]
            promise(grown <= limit, f"a {process.role} grows by {grown:.2f} {name} in 100 tiles")
    return broken


def _watched(*runs: Told) -> list[Process]:
    return [one for run in runs for one in run.processes if one.tiles >= ENOUGH_TILES]


def report(
    calm: Told, bad: Told, weather: Weather, requests: Counter[str], broken: list[str]
) -> str:
    """Return the report as markdown."""
    reports = bad.reports()
    dropped = sum(bool(one["dropped"]) for one in reports.values())
    again = sum(one["attempts"] > 1 for one in reports.values())
    summary = bad.summary()
    cells, after = calm.rows("cells"), bad.rows("cells")
    both = cells.merge(after, on="cell_id", suffixes=("", "_after"))
    hits = ", ".join(f"{count} {mode}" for mode, count in sorted(weather.hits.items()))
    rows = [
        ["tiles", len(calm.reports()), len(reports)],
        ["cells, of them scored", _counted(cells), _counted(after)],
        ["sites", len(calm.rows("detections")), len(bad.rows("detections"))],
        ["requests answered", requests["calm"], requests["bad"]],
        ["of them made to fail", 0, f"{weather.hits.total()} ({hits})"],
        ["workers killed", 0, bad.killed_workers],
        ["runs killed with SIGKILL", 0, bad.killed_runs],
        ["tiles done at the kill, found at the resume", "-",
         f"{bad.whole_at_kill}, {bad.found_at_resume}"],
        ["tiles tried more than once", 0, again],
        ["tiles with a scene dropped, all named", 0, dropped],
        ["tiles failed, all named", 0, len(summary["tiles"]["failed"])],
        ["cells lost", 0, len(set(cells.cell_id) - set(after.cell_id))],
        ["cells doubled", 0, int(after.cell_id.duplicated().sum())],
        ["cells with another score or status", 0, _moved(both)],
        ["minutes", f"{calm.seconds / 60:.1f}", f"{bad.seconds / 60:.1f}"],
    ]  # fmt: skip
    parts = [
        table(["", "calm", "bad day"], rows),
        "Growth in 100 tiles after the warm-up, with its 95 % interval, of each process that lived "
        f"through {ENOUGH_TILES} tiles or more:",
        table(
            ["process", "tiles watched", "MiB, median", "MiB", "open files", "threads"],
            [
                [
                    f"{process.role}, {name}", process.tiles,
                    f"{np.median(process.settled()[:, 1]):.0f}",
                    *(
                        f"{grown:+.2f} ({low:+.2f} to {high:+.2f})"
                        for grown, low, high in process.growth().values()
                    ),
                ]
                for name, run in (("calm", calm), ("bad day", bad))
                for process in _watched(run)
            ],
        ),
        f"Limits: {', '.join(f'{limit:g} {name}' for name, limit in LIMITS.items())}.",
        "\n".join(f"**Broken:** {one}." for one in broken) or "Every promise was kept.",
    ]  # fmt: skip
    return "\n\n".join(parts)


def _counted(cells: gpd.GeoDataFrame) -> str:
    return f"{len(cells)}, {int(cells.score.notna().sum())}"


def _moved(both: gpd.GeoDataFrame) -> int:
    same = both.score.fillna(-1).eq(both.score_after.fillna(-1)) & both.status.eq(both.status_after)
    return int((~same).sum())


def main() -> int:
    """Run the benchmark; returns the exit code."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--tiles", type=int, default=520)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--out", type=Path, help="also write the report to this file")
    args = made.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text, broken = soak(Path(folder), args.tiles, args.seed)
    text = f"Soak over {args.tiles} tiles, seed {args.seed}.\n\n{text}\n\n{machine()}\n"
    print(text)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
