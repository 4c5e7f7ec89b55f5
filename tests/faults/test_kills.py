"""SIGKILL: whenever it comes, the same command again gives the files of an unbroken run.

A process of its own runs the command, with one function turned into a trap: it kills its process
when it is called, or when it has done half of its work. What a trap leaves behind is looked at too:
nobody may read a half-made result as a result.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import geopandas as gpd
import psutil
import pytest

from scanner.errors import RunError
from scanner.results.finished import open_run
from tests.benchmarks.soak import soak
from tests.faults.two_tiles import FILES, TwoTiles, left_over, make_two_tiles, rows
from tests.processes import Started

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

TRAPPED = """
import importlib, os, signal, sys

place, of, nth, moment = (sys.argv.pop(1) for _ in range(4))
module, _, path = place.partition(":")
*owners, name = path.split(".")
owner = importlib.import_module(module)
for one in owners:
    owner = getattr(owner, one)
real, calls = getattr(owner, name), 0

def trap(*args, **kwargs):
    global calls
    if of and not any(str(arg).endswith(of) for arg in args):
        return real(*args, **kwargs)
    calls += 1
    if calls != int(nth):
        return real(*args, **kwargs)
    if moment == "half":
        real(args[0], args[1][: len(args[1]) // 2], **kwargs)
    elif moment == "cut":
        real(*args, **kwargs)
        path = next(str(arg) for arg in args if str(arg).endswith(of))
        os.truncate(path, os.path.getsize(path) // 2)
    elif moment == "after":
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, trap)
from scanner.cli import main
main()
"""


@dataclass(frozen=True)
class Trap:
    """The ``nth`` call of ``place`` (with an argument that ends in ``of``) kills its process.

    ``moment`` is before the call, after it, ``half`` of the bytes given written, or ``cut``: the
    file it made cut in two.
    """

    place: str
    of: str = ""
    nth: int = 1
    moment: str = "before"

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run the command into the trap."""
        told = [self.place, self.of, str(self.nth), self.moment]
        return subprocess.run(
            [sys.executable, "-c", TRAPPED, *told, *(str(one) for one in arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=540,
        )


SCANNING = {
    "before the search": Trap("scanner.run.pipeline:search_items"),
    "area frozen, items not": Trap("scanner.run.folder:write_items"),
    "half of items.json": Trap("pathlib:Path.write_text", ".items.json", moment="half"),
    "items frozen, identity not": Trap("scanner.run.identity:Identity.write"),
    "settings not frozen yet": Trap("scanner.run.folder:write_text"),
    "just frozen": Trap("scanner.run.folder:write_text", moment="after"),
    "tiles computing": Trap("distributed:Client.persist", nth=3, moment="after"),
    "a tile computed, not saved": Trap("scanner.results.outputs:Parts.write"),
    "half of a raster": Trap("pathlib:Path.write_bytes", ".tif", moment="half"),
    "rasters saved, half of a part": Trap("pyarrow.parquet:write_table", ".parquet", moment="cut"),
    "a part without its marker": Trap("scanner.results.outputs:write_json"),
    "half of a marker": Trap("pathlib:Path.write_text", "_0040.json", moment="half"),
    "one tile of two done": Trap("scanner.results.outputs:Parts.write", nth=2),
    "all tiles done, nothing merged": Trap("scanner.run.pipeline:merge_parts"),
}
"""Until the parts are there."""

MIXED = {
    "cells merged, detections not": Trap("scanner.run.merge:write_geoparquet", nth=1),
    "detections merged, coverage not": Trap("scanner.run.merge:write_geoparquet", nth=2),
    "tables merged, run.json not": Trap("scanner.run.merge:write_json"),
}
"""New tables beside old ones: no tool may open the folder."""

PUBLISHING = {
    "half of cells.parquet": Trap("pyarrow.parquet:ParquetWriter.close", nth=3),
    **MIXED,
    "merged, nothing published": Trap("scanner.results.publish:_clear"),
    "a COG half made": Trap("scanner.results.maps.cogs:copy", "made.tif", moment="cut"),
    "COGs made, not noted": Trap("scanner.results.maps.cogs:note"),
    "pictures away, new ones not there": Trap("pathlib:Path.rename", "/pictures"),
    "half of a GeoPackage": Trap("scanner.results.formats.exports:embed_styles"),
    "QGIS folder away, new one not there": Trap("pathlib:Path.rename", "/qgis"),
    "half of the report": Trap("pathlib:Path.write_text", ".report.html", moment="half"),
    "half of a STAC item": Trap("pathlib:Path.write_text", ".result.json", moment="half"),
    "STAC away, new one not there": Trap("pathlib:Path.rename", "/stac"),
}
"""From the parts to the last file, with an older result in the folder."""

TELLING = {
    "half of items.json",
    "settings not frozen yet",
    "tiles computing",
    "half of a raster",
    "rasters saved, half of a part",
    "a part without its marker",
    "half of cells.parquet",
    "cells merged, detections not",
    "tables merged, run.json not",
    "a COG half made",
    "half of a GeoPackage",
    "QGIS folder away, new one not there",
    "half of the report",
}
"""Points met by every run of the tests; the slow ones meet them all, each alone."""


@pytest.fixture(scope="module")
def two_tiles(scheduler, tiny_models, tmp_path_factory):
    """An unbroken run over two tiles."""
    return make_two_tiles(tmp_path_factory, tiny_models, scheduler)


@pytest.fixture(scope="module")
def moved(two_tiles: TwoTiles, tmp_path_factory):
    """The unbroken run, finished once more with another threshold."""
    from scanner.run.pipeline import scan

    out = tmp_path_factory.mktemp("moved") / "run"
    shutil.copytree(two_tiles.out, out)
    assert list(scan(two_tiles.config.with_values(out=out, threshold=two_tiles.middle))) == []
    sites = gpd.read_parquet(out / "detections.parquet")
    assert len(sites) > 0, "two results that look alike would show nothing"
    assert any(len(ids) == 2 for ids in sites.tile_ids), "a site over the seam"
    return out


def killed(trap: Trap, name: str, *arguments: object) -> None:
    """Run the command into a trap, and make sure that it was one."""
    done = trap.run(*arguments)
    assert done.returncode == -signal.SIGKILL, f"{name}: not met; {done.stdout}{done.stderr}"


def files(folder):
    """Return the bytes of all files of a run folder, but for the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.lock"
    }


# Each point, one after the other, in one folder


def test_a_scan_killed_at_each_point_in_turn_loses_nothing(two_tiles, tmp_path, call):
    """Six kills of one run, and at last an unbroken call."""
    out = tmp_path / "run"
    command = [*two_tiles.arguments, "--out", out, "--scheduler", two_tiles.config.run.scheduler]
    for name in [name for name in SCANNING if name in TELLING]:
        killed(SCANNING[name], name, *command)
        assert not any((out / file).exists() for file in FILES), f"{name}: a result of nothing"
    code, _, err = call(*command)
    assert code == 0, err
    assert files(out) == files(two_tiles.out)
    assert left_over(out) == []


def test_finishing_killed_at_each_point_in_turn_loses_nothing(two_tiles, moved, tmp_path, call):
    """Another threshold over a finished run, killed at each point from its parts to its files."""
    out = tmp_path / "run"
    shutil.copytree(two_tiles.out, out)
    command = [*two_tiles.arguments, "--out", out, "--threshold", two_tiles.middle]
    (out / "mosaics.json").unlink()  # so that mosaics are made again
    for name in [name for name in PUBLISHING if name in TELLING]:
        killed(PUBLISHING[name], name, *command)
        if name in MIXED:
            with pytest.raises(RunError, match=r"parquet: was changed since the run ended"):
                open_run(out)
    code, _, err = call(*command)
    assert (code, err) == (0, "")
    assert files(out) == files(moved)
    assert left_over(out) == []


# Each point alone: what heals one may not hide another


@pytest.mark.slow
@pytest.mark.parametrize("name", SCANNING)
def test_a_scan_killed_once_loses_nothing(name, two_tiles, tmp_path, call):
    out = tmp_path / "run"
    command = [*two_tiles.arguments, "--out", out, "--scheduler", two_tiles.config.run.scheduler]
    killed(SCANNING[name], name, *command)
    code, _, err = call(*command)
    assert code == 0, err
    assert files(out) == files(two_tiles.out)
    assert left_over(out) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHING)
def test_finishing_killed_once_loses_nothing(name, two_tiles, moved, tmp_path, call):
    out = tmp_path / "run"
    shutil.copytree(two_tiles.out, out)
    command = [*two_tiles.arguments, "--out", out, "--threshold", two_tiles.middle]
    (out / "mosaics.json").unlink()
    killed(PUBLISHING[name], name, *command)
    assert call(*command)[0] == 0
    assert files(out) == files(moved)
    assert left_over(out) == []


def test_starting_over_killed_is_started_over_again(two_tiles, tmp_path, call):
    """``--fresh`` killed in the middle, then the command without it: nothing old is mixed in."""
    out = tmp_path / "run"
    shutil.copytree(two_tiles.out, out)
    command = [*two_tiles.arguments, "--out", out, "--scheduler", two_tiles.config.run.scheduler]
    killed(Trap("shutil:rmtree", "/parts"), "parts not away yet", *command, "--fresh")
    assert call(*command)[0] == 0, "a new run over the parts that are left, which are its own"
    assert files(out) == files(two_tiles.out)


# Any moment


def kill_tree(started: Started, how: str) -> None:
    """Kill -9 the command, by itself or with all its processes, and wait until none is left."""
    family = [started.family, *started.family.children(recursive=True)]
    for process in family if how == "tree" else family[:1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    started.process.communicate(timeout=300)
    _, left = psutil.wait_procs(family[1:], timeout=300)
    assert not left, "workers outlive their client"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kills_at_random_moments_lose_nothing(two_tiles, tmp_path):
    """At least 25 kills of client and workers, at moments drawn from seeds; rows lost: 0.

    Every round kills the same command again and again until it comes to its end.
    """
    begun = time.monotonic()
    command = [*two_tiles.arguments, "--workers", "1", "--out"]
    unbroken = Started(*command, tmp_path / "whole").process
    told = unbroken.communicate(timeout=1200)
    assert unbroken.returncode == 0, told
    whole = time.monotonic() - begun
    assert rows(tmp_path / "whole") == rows(two_tiles.out)
    kills = 0
    for seed in itertools.count():
        draw = random.Random(seed)
        out = tmp_path / f"round-{seed}"
        while True:
            started = Started(*command, out)
            try:
                told = started.process.communicate(timeout=draw.uniform(0.05, 1.0) * whole)
            except subprocess.TimeoutExpired:
                kill_tree(started, draw.choice(["tree", "client"]))
                kills += 1
                continue
            assert started.process.returncode == 0, told
            break
        assert rows(out) == rows(two_tiles.out), f"round {seed}"
        assert left_over(out) == [], f"round {seed}"
        if kills >= 25:
            break
    print(f"{kills} kills in {seed + 1} rounds, rows lost: 0")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_small_soak_keeps_every_promise(tmp_path):
    """Twenty tiles on both sides of a zone seam, with rasters; ``make soak`` takes 520."""
    text, broken = soak(tmp_path, 20, seed=3, rasters=True)
    assert broken == [], text
