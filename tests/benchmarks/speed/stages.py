"""Where the seconds of a tile go: a clock around each stage, inside the scan's real workers.

Dask loads this module in every worker (``DASK_DISTRIBUTED__WORKER__PRELOAD``) before it gets a
task. It puts clocks around the functions of ``STAGES``; time spent in a stage inside another (a
read inside a composite) counts for the inner one alone. After each outermost stage the sums are
written to ``SPEED_STAGES``/<pid>.json.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

FOLDER: Final = "SPEED_STAGES"

STAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "read": (
        "scanner.imagery.readers:StackReader.read",
        "scanner.imagery.cube:_Reader.read",
    ),
    "choose scenes, check radiometry": (
        "scanner.imagery.screen:_choose_block",
        "scanner.imagery.trust:_doubts_block",
    ),
    "composite": ("scanner.imagery.composite:_composite_block",),
    "network, scaling": ("scanner.models.card:ModelCard.inputs",),
    "network": (
        "scanner.models.segmenter:SegformerSegmenter._logits",
        "scanner.models.backends.runners:OpenVinoRunner.__call__",
        "scanner.models.backends.runners:TorchRunner.__call__",
    ),
    "segment (enlarge, largest)": ("scanner.detection.segment:class_map",),
    "cells": (
        "scanner.detection.cells:suspicious_cells",
        "scanner.detection.cells:cell_pieces",
    ),
    "classify": ("scanner.detection.classify:score_cells",),
    "rasters": ("scanner.detection.rasters:tile_rasters",),
}
"""Functions of each stage, module and name; those a version does not have are passed over."""

WHOLE: Final = ("classify",)
"""Stages whose inner ones count for them."""


class Clock:
    """Seconds of each stage, the inner ones taken out of the outer."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.first = self.last = 0.0
        self._local = threading.local()
        self._lock = threading.Lock()

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with a clock around it."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._local, "whole", False):
                return function(*args, **kwargs)
            inner: list[float] = self._local.__dict__.setdefault("inner", [])
            inner.append(0.0)
            self._local.whole = stage in WHOLE
            begun = time.time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.time() - begun
                self._local.whole = False
                own = took - inner.pop()
                if inner:
                    inner[-1] += took
                self._note(stage, own, begun, outermost=not inner)

        return timed

    def _note(self, stage: str, own: float, begun: float, outermost: bool) -> None:
        with self._lock:
            self.seconds[stage] += own
            self.calls[stage] += 1
            self.first = self.first or begun
            self.last = time.time()
            if outermost and (folder := os.environ.get(FOLDER)):
                told = {
                    "seconds": self.seconds, "calls": self.calls,
                    "first": self.first, "last": self.last,
                }  # fmt: skip
                (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(told))


def install(clock: Clock, put: Callable[[Any, str, Any], None] = setattr) -> list[str]:
    """Put the clock around every stage there is; returns the functions that were found.

    ``put`` sets an attribute of a module or class.
    """
    found = []
    for stage, names in STAGES.items():
        for name in names:
            module, _, path = name.partition(":")
            try:
                home: Any = importlib.import_module(module)
                *outer, last = path.split(".")
                for part in outer:
                    home = getattr(home, part)
                function = home.__dict__[last] if outer else getattr(home, last)
            except (ModuleNotFoundError, AttributeError, KeyError):
                continue
            timed = clock.around(stage, function)
            put(home, last, timed)
            found.append(name)
            if not outer:  # those that imported it by name
                for other in list(sys.modules.values()):
                    if getattr(other, "__name__", "").startswith("scanner."):
                        for key, value in list(vars(other).items()):
                            if value is function:
                                put(other, key, timed)
    return found


def dask_setup(_: Any) -> None:
    """Begin, as Dask calls it when a worker starts."""
    importlib.import_module("scanner.run.tile")
    install(Clock())


def told(folder: Path) -> dict[str, Any]:
    """Return the sums of all workers: seconds and calls by stage, workers, first and last time."""
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    workers = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    for one in workers:
        for stage, took in one["seconds"].items():
            seconds[stage] += took
            calls[stage] += one["calls"][stage]
    return {
        "seconds": dict(seconds),
        "calls": dict(calls),
        "workers": len(workers),
        "first": min((one["first"] for one in workers), default=0.0),
        "last": max((one["last"] for one in workers), default=0.0),
    }
