"""Which two runs may be compared: the same question, asked of an earlier and a later time."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Any, Final

from scanner.errors import ConfigError, RunError
from scanner.results.finished import FinishedRun

FREE: Final = ("segmenter", "classifier", "max_scenes", "engine")
"""Pixel settings that may differ. Models are told apart by their digests, not by where they lie;
more dates or the other engine show the same ground, within the tolerance of any two composites."""

OPTIONS: Final = {
    "composite": "--composite",
    "suspicious_share": "--suspicious-share",
    "suspicious_pixels": "--suspicious-pixels",
}
"""Settings that have an option; the others are set in a config file."""

Span = tuple[dt.date, dt.date]


def check_comparable(old: FinishedRun, new: FinishedRun) -> None:
    """Refuse two runs whose difference would not be one of the ground.

    Raises:
        ConfigError: They are one run, of different models or settings, in the wrong order, or
            medians over windows that overlap; says what to give instead.
        RunError: A run.json lacks what is compared.
    """
    if old.run_id == new.run_id:
        raise ConfigError(
            f"{old.path} and {new.path}: are the same run (same scenes, models and settings); "
            "give two runs of different dates"
        )
    _check_models(old, new)
    _check_pixels(old, new)
    _check_scores(old, new)
    _check_windows(old, new)


def window(run: FinishedRun) -> Span | None:
    """Return the first and the last day that were searched, ``None`` for a run without scenes."""
    first, _, last = run.items.date.partition("/")
    try:
        return dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    except ValueError:
        return None


def report_settings(run: FinishedRun) -> dict[str, float]:
    """Return what decided the statuses of a run's cells, by option."""
    return {
        "--prior": run.prevalence,
        "--threshold": run.threshold,
        "--min-clear": float(_told(run, "config", "report", "min_clear")),
    }


def _check_models(old: FinishedRun, new: FinishedRun) -> None:
    for kind in ("segmenter", "classifier"):
        was, now = (str(_told(run, "models", kind)) for run in (old, new))
        if was != now:
            raise ConfigError(
                f"{new.path}: was scanned with {kind} {now}, {old.path} with {was}; scan one of "
                f"them again into another --out, with the --{kind} of the other"
            )


def _check_pixels(old: FinishedRun, new: FinishedRun) -> None:
    was, now = asdict(old.config.pixels), asdict(new.config.pixels)
    for name in was:
        if name not in FREE and was[name] != now[name]:
            option = OPTIONS.get(name, f"pixels.{name} (--config)")
            raise ConfigError(
                f"{new.path}: was scanned with {option} {_text(now[name])}, {old.path} with "
                f"{_text(was[name])}; scan one of them again with the setting of the other"
            )
    was_by, now_by = (run.summary.get("algorithm") for run in (old, new))
    if was_by != now_by:
        raise ConfigError(
            f"{old.path}: was scanned by algorithm {was_by}, {new.path} by {now_by} of "
            "mining-scan; scan the older one again with --fresh"
        )


def _check_scores(old: FinishedRun, new: FinishedRun) -> None:
    was, now = report_settings(old), report_settings(new)
    for option in was:
        if was[option] != now[option]:
            raise ConfigError(
                f"{new.path}: was made at {option} {now[option]:g}, {old.path} at "
                f"{was[option]:g}; call mining-scan for one of them again with the {option} of "
                "the other, it reads no pixel"
            )


def _check_windows(old: FinishedRun, new: FinishedRun) -> None:
    was, now = window(old), window(new)
    if was is None or now is None:  # no scene: nothing was seen, so nothing can be mistaken
        return
    told = f"{old.path} looks at {was[0]}/{was[1]}, {new.path} at {now[0]}/{now[1]}"
    if now[1] < was[1]:
        raise ConfigError(f"{told}: OLD ends after NEW; swap them")
    if now[1] == was[1]:
        raise ConfigError(f"{told}: both end on one day; give a NEW that looks at later dates")
    if new.config.pixels.composite != "latest-clear" and now[0] <= was[1]:
        raise ConfigError(
            f"{told}: medians of windows that overlap share dates; give --date windows that do "
            "not overlap, or scan both with --composite latest-clear"
        )


def _told(run: FinishedRun, *keys: str) -> Any:
    """Return a value of run.json; ``RunError`` where it is not told."""
    value: Any = run.summary
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        raise RunError(
            f"{run.path}/run.json: does not tell its {'.'.join(keys)}; call mining-scan for it "
            "again, it makes it from the parts"
        )
    return value


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
