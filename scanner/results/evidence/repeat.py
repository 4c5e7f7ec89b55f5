"""How another person makes it again: settings without paths of this machine, and command lines."""

from __future__ import annotations

import shlex
from pathlib import Path

from scanner.config import ReportConfig, ScanConfig
from scanner.imagery.hrefs import KNOWN_HOSTS, is_remote
from scanner.results.evidence.case import Case
from scanner.results.evidence.models import KINDS
from scanner.results.evidence.words import Words
from scanner.results.finished import FinishedRun

SETTINGS = "repeat.toml"
SCENES = "SCENES/items.json"
EARLIER = "before"
"""Folder of what belongs to the earlier run."""
_DOWNLOADED = (*KNOWN_HOSTS, "demo")


def settings(run: FinishedRun) -> ScanConfig:
    """Return all that decides the run's numbers; area, files and models are named on the way."""
    told = run.summary.get("config", {}).get("report", {})
    config = run.config
    folders = {kind: kind.upper() for kind in KINDS if _is_folder(getattr(config.pixels, kind))}
    catalog = SCENES if _is_file(config.search.catalog) else config.search.catalog
    defaults = ReportConfig()
    return config.with_values(
        aoi=None,
        center=None,
        catalog=catalog,
        threshold=run.threshold,
        prior=told.get("prior"),
        min_clear=told.get("min_clear", config.report.min_clear),
        also=(),
        overlay=defaults.overlay,
        baseline=defaults.baseline,
        lang=defaults.lang,
        **folders,
    )


def steps(case: Case, words: Words) -> list[tuple[str, str]]:
    """Return (text, command line) of each step; either may be empty."""
    version = str(case.run.summary.get("versions", {}).get("mining-scan", "?"))
    again, stands = _again(case.run, "run-again", "")
    text = words("repeat.again", version=version)
    found = [(words("repeat.check"), "sha256sum -c checksums.sha256")]
    evidence = ["mining-report", "evidence", "run-again", case.detection_id]
    if case.earlier is not None:
        first, more = _again(case.earlier, "earlier-again", f"{EARLIER}/")
        stands |= more
        evidence += ["--before", "earlier-again"]
    if stands:
        text += " " + words("repeat.stands", names=", ".join(sorted(stands)))
    found.append((text, again))
    if case.earlier is not None:
        found.append(("", first))
    if words.lang != "en":
        evidence += ["--lang", words.lang]
    found.append((words("repeat.expect"), shlex.join(evidence)))
    return [*found, (words("repeat.measure"), "")]


def _again(run: FinishedRun, out: str, folder: str) -> tuple[str, set[str]]:
    """Return the command line that makes a run again, and the words in it to be filled in."""
    line = ["mining-scan", f"{folder}aoi.geojson", "--config", f"{folder}{SETTINGS}"]
    stands = set()
    if _is_file(run.config.search.catalog):
        stands.add("SCENES")
        line += ["--catalog", SCENES]
    for kind in KINDS:
        if _is_folder(getattr(run.config.pixels, kind)):
            stands.add(kind.upper())
            line += [f"--{kind}", kind.upper()]
    return shlex.join([*line, "--out", out]), stands


def _is_file(catalog: str) -> bool:
    return catalog not in _DOWNLOADED and not is_remote(catalog)


def _is_folder(model: str | None) -> bool:
    """Tell a model directory from a hub id, which means the same everywhere."""
    return model is not None and (Path(model).is_dir() or model.count("/") != 1)
