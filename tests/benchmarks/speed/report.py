"""The tables of a run: what each contender used, ratios with spread, seams, memory, stages."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tests.benchmarks.common import percent, table
from tests.benchmarks.speed.contenders import TOOLS, WORKERS, Result
from tests.benchmarks.speed.scenes import Scenes
from tests.benchmarks.speed.server import LATENCY_S

Key = tuple[str, str]
"""Name and area of a contender."""


class Results:
    """All runs, by contender."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._all: dict[Key, list[Result]] = {}
        for one in results:
            self._all.setdefault((one.name, one.area), []).append(one)

    def __iter__(self) -> Any:
        return iter(self._all.items())

    def of(self, name: str, area: str) -> list[Result]:
        """Return the runs of a contender, none where it did not run."""
        return self._all.get((name, area), [])

    def ratio(self, one: Key, other: Key, of: Callable[[Result], float]) -> list[float]:
        """Return the ratio of two contenders, round by round; of medians where none is shared."""
        first, second = ({r.round: of(r) for r in self.of(*key)} for key in (one, other))
        shared = sorted(first.keys() & second.keys())
        if shared:
            return [first[turn] / second[turn] for turn in shared]
        if first and second:
            return [statistics.median(first.values()) / statistics.median(second.values())]
        return []


def rate(result: Result) -> float:
    """Return megapixels of ground a second."""
    return result.rate


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Return the median and, of more than one value, the least and the most."""
    if not values:
        return "-"
    middle = form.format(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


AREAS: Final = {
    "park": "the park", "half": "half of it", "quarter": "a quarter", "part": "the part",
    "pair": "the pair", "intact": "intact forest", "memory": "in memory",
}  # fmt: skip


def used_table(results: Results) -> str:
    """Return what each contender used."""
    rows = []
    for (name, area), runs in results:
        if name.startswith("stages"):
            continue

        def told(
            key: str, form: str = "{:,.0f}", unit: float = 1, runs: list[Result] = runs
        ) -> str:
            values = [float(one.told[key]) / unit for one in runs if key in one.told]
            return form.format(statistics.median(values)) if values else "-"

        used = [one.used for one in runs]
        alone = area != "memory"
        rows.append(
            [
                name, AREAS[area], f"{runs[0].mpx:.1f}" if alone else "-", len(runs),
                spread([one.rate for one in runs]),
                f"{statistics.median(u.wall_s for u in used):.1f}" if alone else "-",
                f"{statistics.median(u.cpu_s for u in used):.0f}" if alone else "-",
                f"{statistics.median(u.peak_mib for u in used):,.0f}",
                f"{statistics.median(u.tree_mib for u in used):,.0f}",
                f"{statistics.median(u.read_mb for u in used):,.0f}" if alone else "-",
                told("requests"), told("bytes", unit=1e6),
                told("segmented_mpx", "{:.1f}"), told("classified"),
            ]
        )  # fmt: skip
    head = [
        "contender", "on", "Mpx", "runs", "Mpx/s", "s", "CPU s", "MiB, largest process",
        "MiB, all", "MB read", "requests", "MB over HTTP", "Mpx segmented", "cells classified",
    ]  # fmt: skip
    return table(head, rows)


def ratio_table(results: Results, floor: str) -> str:
    """Return the ratios the project aims at."""
    on, off, plain, single = (
        "scan, screen on",
        "scan, screen off",
        "plain, batch 4",
        "plain, batch 1",
    )
    wanted: list[tuple[str, Key, Key, str]] = [
        ("whole park against plain on its part", (on, "park"), (plain, "part"), ">= 5"),
        ("a quarter of the park, both", (on, "quarter"), (plain, "quarter"), ">= 5"),
        ("the same tiles", (on, "part"), (plain, "part"), ""),
        ("whole park, no screening", (off, "park"), (plain, "part"), ">= 2"),
        ("the same tiles, no screening", (off, "part"), (plain, "part"), ""),
        ("the same tiles, batch 1", (on, "part"), (single, "part"), ""),
        ("the same tiles, no screening, batch 1", (off, "part"), (single, "part"), ""),
        ("over HTTP, the same tiles", (f"{on}, http", "pair"), (f"{plain}, http", "pair"), ""),
        ("over HTTP, no screening", (f"{off}, http", "pair"), (f"{plain}, http", "pair"), ""),
        ("whole park, no screening, of the floor", (off, "park"), (floor, "memory"), ">= 0.8"),
        ("the part, no screening, of the floor", (off, "part"), (floor, "memory"), ""),
        ("segmentation alone, of the floor", ("scan's segmentation alone", "part"),
         (floor, "memory"), ""),
    ]  # fmt: skip
    for tool in TOOLS:
        wanted += [
            (f"segmentation alone against {tool}", ("scan's segmentation alone", "part"),
             (tool, "part"), ">= 3"),
            (f"all of the scan, whole park, against {tool}", (on, "park"), (tool, "part"), ""),
            (f"all of the scan without screening against {tool}", (off, "park"), (tool, "part"),
             ""),
        ]  # fmt: skip
    rows = [
        [what, f"{one[0]}, {AREAS[one[1]]}", f"{other[0]}, {AREAS[other[1]]}", spread(found), aim]
        for what, one, other, aim in wanted
        if (found := results.ratio(one, other, rate))
    ]
    rows += [
        [what, f"{one}, intact forest", f"{plain}, http, intact forest", spread(found), aim]
        for what, one, aim in (
            ("bytes read", f"{on}, http", "<= 0.25"), ("bytes read", f"{off}, http", ""),
        )
        if (found := results.ratio(
            (one, "intact"), (f"{plain}, http", "intact"), lambda r: r.told["bytes"]
        ))
    ]  # fmt: skip
    return table(["Mpx/s", "of", "by", "ratio", "aim"], rows)


def seam_table(results: Results) -> str:
    """Return how often classes change at the lines where windows meet."""
    rows = []
    for (name, area), runs in results:
        if "changes" in runs[0].told and not name.startswith("stages"):
            found = runs[0].told["changes"]
            rows.append([name, AREAS[area], *_at_lines(found), *_at_lines(found, ", suspicious")])
    head = ["map of", "on"]
    for what in ("class", "suspicious or not"):
        head += [f"{what}: across a line", "elsewhere", "ratio"]
    return table(head, rows)


def _at_lines(found: Mapping[str, float], of: str = "") -> list[str]:
    across, elsewhere = (
        found.get(f"{place}{of}", float("nan")) for place in ("across", "elsewhere")
    )
    ratio = f"{across / elsewhere:.2f}" if elsewhere else "-"
    return [percent(across, 3), percent(elsewhere, 3), ratio]


def memory_table(results: Results) -> str:
    """Return the scan's memory on areas of growing size."""
    rows = [
        [AREAS[area], f"{runs[0].mpx:.0f}",
         f"{statistics.median(one.used.peak_mib for one in runs):,.0f}",
         f"{statistics.median(one.used.tree_mib for one in runs):,.0f}"]
        for area in ("quarter", "half", "park")
        if (runs := results.of("scan, screen on", area) or results.of("scan, screen off", area))
    ]  # fmt: skip
    return table(["area", "Mpx", "MiB, largest process", "MiB, all"], rows)


def stage_table(results: Results) -> str:
    """Return the seconds of workers in each stage."""
    found = {
        name.partition(", ")[2]: runs[0] for (name, _), runs in results if name.startswith("stages")
    }
    if not found:
        return ""
    stages = list(dict.fromkeys(s for one in found.values() for s in one.told["stages"]["seconds"]))
    rows: list[list[object]] = []
    spans = {name: _spans(one) for name, one in found.items()}
    for stage in stages:
        took = [one.told["stages"]["seconds"].get(stage, 0.0) for one in found.values()]
        rows.append([stage, *_both(took, spans)])
    busy = [sum(one.told["stages"]["seconds"].values()) for one in found.values()]
    workers = [WORKERS * span for span, _ in spans.values()]
    rows.append(["none of these (waiting, Dask, saving)", *_both(
        [max(0.0, w - b) for w, b in zip(workers, busy, strict=True)], spans)])  # fmt: skip
    rows.append(["*all workers, first to last tile*", *_both(workers, spans)])
    rows.append(
        ["*start and end of the command*", *_both([rest for _, rest in spans.values()], {})]
    )
    head = ["seconds of workers", *(word for name in found for word in (name, "%"))]
    return table(head, rows)


def limits_text(results: Results) -> str:
    """Return what takes most of the workers' time, from the runs with clocks."""
    lines = []
    for (name, _), runs in results:
        if not name.startswith("stages"):
            continue
        told = runs[0].told["stages"]
        total = WORKERS * _spans(runs[0])[0]
        most = sorted(told["seconds"].items(), key=lambda one: -one[1])[:3]
        shares = ", ".join(f"{stage} {percent(took / total, 0)} %" for stage, took in most)
        idle = percent(max(0.0, 1 - sum(told["seconds"].values()) / total), 0)
        lines.append(
            f"- {name.partition(', ')[2]}: {shares} of the workers' time; in no stage {idle} %."
        )
    return "\n".join(lines)


def _both(took: Sequence[float], spans: dict[str, tuple[float, float]]) -> list[object]:
    totals = [WORKERS * span for span, _ in spans.values()] or [0.0] * len(took)
    return [
        word
        for one, total in zip(took, totals, strict=True)
        for word in (f"{one:.1f}", percent(one / total, 0) if total else "")
    ]


def _spans(one: Result) -> tuple[float, float]:
    """Return seconds from the first tile to the last, and those before and after."""
    span = one.told["stages"]["last"] - one.told["stages"]["first"]
    return span, one.used.wall_s - span


def layout_text(scenes: Scenes) -> str:
    """Return what the park is."""
    told, areas = scenes.told, scenes.areas
    pieces = "; ".join(
        f"{AREAS[name]}, {area.cols} x {area.rows} tiles, {area.mpx:.1f} Mpx, "
        f"{percent(told['disturbed'][name])} % disturbed, "
        f"{percent(told['windows'][name], 0)} % of windows with more than forest"
        for name, area in areas.items()
    )
    cloud = ", ".join(
        f"{percent(share, 0)} % on {day}" for day, share in told["called cloud"].items()
    )
    return (
        f"Work: a generated park in zone 21S, {told['scars']} scars along streams, settlement "
        f"fronts at the south border, {percent(told['river'])} % river, two dates, cloud and "
        f"shadow by the SCL {cloud}; {told['bytes'] / 1e9:.1f} GB of COGs. Pieces: {pieces}. "
        f"HTTP: a file host on loopback, {1000 * LATENCY_S:.0f} ms before each answer."
    )
