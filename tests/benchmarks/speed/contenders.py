"""Who runs on what: each contender as a command, and how what it wrote is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import geopandas as gpd
import tomli_w

from scanner.area.grid import CELL_PX
from scanner.detection.segment import STRIDE
from tests.benchmarks.common import HEAP_ENV
from tests.benchmarks.memory import write_area
from tests.benchmarks.speed import floor, plain, stages
from tests.benchmarks.speed.maps import changes_in
from tests.benchmarks.speed.park import ZONE
from tests.benchmarks.speed.scenes import Scenes
from tests.benchmarks.speed.server import Host
from tests.benchmarks.speed.watch import Used, watched
from tests.synth import write_collection

SCAN: Final = "from scanner.cli import main; main()"
WORKERS: Final = 2
RIVALS: Final = Path("build/rivals/bin/python")
"""Where ``make bench-rivals`` puts the public tools."""
TOOLS: Final = ("geoai", "terratorch", "torchgeo")
FLOOR_S: Final = 8.0

Kind = Literal["scan", "plain", "rival", "segment", "floor"]
Over = Literal["files", "http"]


@dataclass(frozen=True)
class Contender:
    """One command on one area."""

    name: str
    kind: Kind
    area: str
    options: tuple[str, ...] = ()
    over: Over = "files"
    runs: Literal[1] | None = None
    """1: once, after all rounds; ``None``: in every round."""
    profile: bool = False


@dataclass(frozen=True)
class Result:
    """What one run of a contender used and gave."""

    name: str
    area: str
    round: int
    mpx: float
    used: Used
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Megapixels of ground a second.

        Those that do a part of the work alone tell their own time or rate, so that none is charged
        for the imports of its libraries; of the others the whole command counts.
        """
        seconds = float(self.told.get("seconds", self.used.wall_s))
        return float(self.told.get("kept_mpx_per_s", self.mpx / seconds))

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self) | {"used": asdict(self.used) | {"printed": ""}}

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Result:
        """Return the result that ``plain`` gave."""
        return cls(**{**raw, "used": Used(**raw["used"])})


@lru_cache
def scan_options() -> str:
    """Return the help of mining-scan: what this version can be told."""
    command = [sys.executable, "-c", SCAN, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def can(option: str) -> bool:
    """Tell whether this version knows an option."""
    return f"{option} " in scan_options()


def lineup(quick: bool) -> list[Contender]:
    """Return all contenders, in the order of a round."""
    screens = (
        {"on": ("--screen", "on"), "off": ("--screen", "off")} if can("--screen") else {"off": ()}
    )
    first = next(iter(screens))
    found = [Contender(f"scan, screen {first}", "scan", "park", screens[first])]
    found += [Contender(f"scan, screen {s}", "scan", "part", o) for s, o in screens.items()]
    if "on" in screens and not quick:
        found.append(Contender("scan, screen off", "scan", "park", screens["off"], runs=1))
    found += [
        Contender("plain, batch 4", "plain", "part", ("--batch", "4")),
        Contender("plain, batch 1", "plain", "part", ("--batch", "1"), runs=1 if quick else None),
    ]
    found += [Contender(f"scan, screen {s}", "scan", "pair", o, "http") for s, o in screens.items()]
    found.append(Contender("plain, batch 4", "plain", "pair", ("--batch", "4"), "http"))
    if RIVALS.exists():
        found += [Contender(tool, "rival", "part") for tool in TOOLS]
    found.append(Contender("scan's segmentation alone", "segment", "part"))
    for backend in floor.available():
        often: Literal[1] | None = None if backend in (best_floor(), "scan") else 1
        found.append(
            Contender(f"{backend}, 2 x 1", "floor", "memory", (backend, "2", "1"), runs=often)
        )
        if backend == best_floor():
            found.append(Contender(f"{backend}, 1 x 2", "floor", "memory", (backend, "1", "2")))
    for name in () if quick else ("half", "quarter"):
        found.append(Contender(f"scan, screen {first}", "scan", name, screens[first], runs=1))
    if not quick:
        found.append(Contender("plain, batch 4", "plain", "quarter", ("--batch", "4"), runs=1))
    for s, o in screens.items():
        found.append(Contender(f"scan, screen {s}", "scan", "intact", o, "http", runs=1))
    found.append(Contender("plain, batch 4", "plain", "intact", ("--batch", "4"), "http", runs=1))
    for s, o in screens.items():
        found.append(Contender(f"stages, screen {s}", "scan", "part", o, runs=1, profile=True))
    return found


def best_floor() -> str:
    """Return the fastest bare network that is installed."""
    return next(name for name in ("openvino", "torch") if name in floor.available())


@dataclass
class Ring:
    """Where contenders meet: the park, the models, a folder for what they write."""

    scenes: Scenes
    folder: Path
    segmenter: str | None = None
    classifier: str | None = None
    backend: str | None = None
    host: Host | None = None
    mosaic: Path | None = None

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the park over loopback HTTP within the block."""
        with Host(self.scenes.folder) as self.host:
            yield
        self.host = None

    def has(self, contender: Contender) -> bool:
        """Tell whether there is such ground here."""
        return contender.area in {*self.scenes.areas, "memory"}

    def run(self, contender: Contender, turn: int) -> Result:
        """Run a contender once."""
        out = self.folder / contender.name.replace(" ", "-").replace(",", "")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        command, read = self._prepared(contender, out)
        env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        if contender.kind in ("segment", "floor"):  # as the scan's workers are started
            env |= HEAP_ENV
        if contender.profile:
            (out / "stages").mkdir()
            env |= {
                stages.FOLDER: str(out / "stages"),
                "DASK_DISTRIBUTED__WORKER__PRELOAD": f"['{stages.__name__}']",
            }
        if self.host is not None:
            self.host.counts()
        used = watched([str(one) for one in command], env, out / "log.txt")
        told = read(out) | self._seams(contender, out)
        if self.host is not None and contender.over == "http":
            told |= self.host.counts()
        if contender.profile:
            told |= {"stages": stages.told(out / "stages")}
        return Result(
            f"{contender.name}{', http' if contender.over == 'http' else ''}",
            contender.area, turn, self.mpx(contender), used, told,
        )  # fmt: skip

    def _seams(self, contender: Contender, out: Path) -> dict[str, Any]:
        """Return how often classes change at the lines where windows meet, for files alone."""
        path = out / ("run/classes.tif" if contender.kind == "scan" else "classes.tif")
        if contender.over == "http" or contender.area == "park" or not path.exists():
            return {}
        bounds = self.scenes.areas[contender.area].bounds(self.scenes.park)
        stride = plain.WINDOW if contender.kind == "plain" else STRIDE
        return {"changes": changes_in(path, bounds, stride)}

    def mpx(self, contender: Contender) -> float:
        """Return the ground of a contender, megapixels."""
        return self.scenes.areas[contender.area].mpx if contender.kind != "floor" else 0.0

    def _prepared(
        self, contender: Contender, out: Path
    ) -> tuple[Sequence[object], Callable[[Path], dict[str, Any]]]:
        module = [sys.executable, "-m", "tests.benchmarks.speed." + contender.kind]
        cover = self._models(("segmenter",))
        if contender.kind == "scan":
            return self._scan(contender, out), _scan_told
        if contender.kind == "plain":
            area = self.scenes.areas[contender.area]
            items = self._items(contender.over)
            bounds = area.bounds(self.scenes.park)
            return [
                *module, "--items", items, "--bounds", *bounds, "--epsg", ZONE.epsg,
                *self._models(), *contender.options, "--out", out,
            ], _own_told  # fmt: skip
        if contender.kind == "floor":
            backend, processes, threads = contender.options
            return [
                *module, backend, "--processes", processes, "--threads", threads,
                "--seconds", FLOOR_S, *cover, "--out", out / "told.json",
            ], _own_told  # fmt: skip
        if self.mosaic is None:
            raise RuntimeError("there is no mosaic yet")
        paths = ["--mosaic", self.mosaic, "--out", out / "classes.tif", *cover]
        if contender.kind == "segment":
            return [*module[:2], f"{module[2]}_only", *paths], _own_told
        tool = [RIVALS, "-m", "tests.benchmarks.speed.rivals", contender.name]
        return [*tool, *paths], _own_told

    def _scan(self, contender: Contender, out: Path) -> list[object]:
        area = self.scenes.areas[contender.area]
        outline = write_area(out / f"{contender.area}.geojson", area.outline(self.scenes.park))
        config = {
            "search": {
                "catalog": str(self._items(contender.over).resolve()),
                "hosts": ["http://127.0.0.1"],
            }
        }
        (out / "scan.toml").write_text(tomli_w.dumps(config))
        backend = ["--backend", self.backend] if self.backend and can("--backend") else []
        return [
            sys.executable, "-c", SCAN, outline, "--config", out / "scan.toml",
            "--workers", WORKERS, *self._models(), *contender.options, *backend,
            "--out", out / "run",
        ]  # fmt: skip

    def _models(self, kinds: Sequence[str] = ("segmenter", "classifier")) -> list[str]:
        named = [(kind, getattr(self, kind)) for kind in kinds]
        return [word for kind, value in named if value for word in (f"--{kind}", value)]

    def _items(self, over: Over) -> Path:
        """Write the items beside the scenes: pixels lie below the folder of their items."""
        if over == "http" and self.host is None:
            raise RuntimeError("the park is not served")
        base = self.host.url if over == "http" and self.host else str(self.scenes.folder.resolve())
        return write_collection(self.scenes.folder / f"{over}.json", self.scenes.items(base))


def _own_told(out: Path) -> dict[str, Any]:
    """Return what a contender of this package says it did."""
    return dict(json.loads((out / "told.json").read_text()))


def _scan_told(out: Path) -> dict[str, Any]:
    """Return what a scan says it did; a tile that failed or a scene left out spoils the race."""
    summary = json.loads((out / "run" / "run.json").read_text())
    if summary["tiles"]["failed"] or summary["dropped_items"]:
        wrong = summary["tiles"]["failed"] + summary["dropped_items"]
        raise RuntimeError(f"{out}: tiles failed or scenes were left out: {wrong}")
    cells = gpd.read_parquet(out / "run" / "cells.parquet", columns=None)
    screened = cells.screened.fillna(False).astype(bool)
    return {
        "cells": len(cells),
        "classified": int(cells.score.notna().sum()),
        "sites": int(summary["detections"]),
        "screened": int(screened.sum()),
        "segmented_mpx": float((~screened).sum() * CELL_PX**2 / 1e6),
        "unseen": int((cells.status == "unseen").sum()),
    }
