"""The plan of a scan in words: a few lines, numbers rounded as estimates are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scanner.run.cluster import WORKER_BYTES
from scanner.run.costs import GPU_MPX_S, MANY, RASTER_BYTES, READ_BYTES_S
from scanner.run.outlook import UNKNOWN_CLOUD

if TYPE_CHECKING:
    from scanner.run.plan import Plan
    from scanner.run.times import Times

UNSEEN_FILE: Final = "plan_unseen.geojson"
"""Outline of the ground without a scene, in the run folder."""

CLEAR_ENOUGH: Final = 0.9
"""A tile with less expected clear cover is told as having few clear views."""

LONG_S: Final = 2 * 86_400.0
"""Computing for longer is work for a cluster."""


def tell_plan(plan: Plan) -> str:
    """Return the plan in a few lines, numbers rounded as estimates are."""
    done = len(plan.tiles) - len(plan.todo)
    cells = sum(tile.cells for tile in plan.tiles)
    lines = [
        f"plan of {plan.aoi}: {plan.area_ha:,.0f} ha, {_count(cells, 'cell')} in "
        f"{_count(len(plan.tiles), 'tile')}" + (f", {done} of them done" if done else "")
    ]
    if not plan.scenes:
        lines.append("scenes: none; a scan would read nothing and call all of the area unseen")
        return "\n".join([*lines, *([f"advice: {plan.advice}"] if plan.advice else [])])
    lines += [*_scene_lines(plan), *_cost_lines(plan)]
    return "\n".join([*lines, *(f"advice: {line}" for line in _advice(plan))])


def _scene_lines(plan: Plan) -> list[str]:
    worst = min(plan.tiles, key=lambda tile: (tile.expected_clear, tile.tile_id))
    left_out = f"; {plan.left_out} left out" if plan.left_out else ""
    gap = "no part of the area"
    if plan.unseen is not None:
        gap = f"{plan.unseen_ha:,.0f} ha, {_percent(plan.unseen_ha, plan.area_ha)} of the area, "
        gap += f"outlined in {UNSEEN_FILE}"
    return [
        f"scenes: {plan.scenes:,} on {_count(len(plan.days), 'day')}, {plan.days[0]} to "
        f"{plan.days[-1]}" + left_out,
        f"for each tile: scenes {_span([t.scenes for t in plan.tiles])}, their days "
        f"{_span([t.days for t in plan.tiles])}, days read "
        f"{_span([t.days_read for t in plan.tiles])} (until {plan.clear_views} clear views are "
        f"expected, at most {plan.max_scenes})",
        f"without any scene: {gap}",
        f"seen clear at least once, expected: {_percent(plan.expected_clear, 1)} of the area, "
        f"{_percent(worst.expected_clear, 1)} in the poorest tile ({worst.tile_id})",
        "  a guess: from the cloud cover of whole granules, as if each day's clouds were new",
    ]


def _cost_lines(plan: Plan) -> list[str]:
    todo, pace = plan.todo, plan.pace
    if not todo:
        return ["to read: nothing, all tiles are done; without --plan the results are made anew"]
    lines = _read_lines(plan)
    each = f"up to {WORKER_BYTES / 2**30:.1f} GiB a worker"
    if pace.workers is None:
        lines.append(f"memory: {each}, on the machines of --scheduler")
    else:
        lines.append(
            f"memory: {each}, {pace.workers} x that here; about 1 GiB more for this process"
        )
    if plan.rasters:
        lines.append(f"disk: about {_size(RASTER_BYTES * len(todo))} for the tiles' maps")
    return lines if pace.window_s is None else [*lines, *_time_lines(plan, pace.window_s)]


def _read_lines(plan: Plan) -> list[str]:
    todo = plan.todo
    scl, bands = sum(t.scl_bytes for t in todo), sum(t.band_bytes for t in todo)
    lines = [
        f"to read: about {_size(scl + bands)} (SCL of all scenes {_size(scl)}, bands "
        f"{' '.join(plan.bands)} of the days chosen {_size(bands)}), in about "
        f"{_two(sum(t.requests for t in todo)):,.0f} requests"
        + (", from this machine's disks" if plan.local else "")
    ]
    bounds = []
    if plan.bytes_at_most > plan.bytes_to_read:
        bounds.append(f"{_size(plan.bytes_at_most)} at most, if clouds ask for all days")
    if plan.bytes_at_least < plan.bytes_to_read:
        bounds.append(
            f"{_size(plan.bytes_at_least)} at least, the SCL alone, if all is dense forest"
        )
    return [*lines, f"  {'; '.join(bounds)}"] if bounds else lines


def _time_lines(plan: Plan, window_s: float) -> list[str]:
    pace = plan.pace
    workers = _count(pace.workers or 1, "worker")
    if pace.workers is not None and pace.at_once < pace.workers:
        workers += f" on {_count(pace.at_once, 'core')}"
    reading = (
        ""
        if plan.local
        else f", of it reading {_time(plan.bytes_to_read / READ_BYTES_S)} at "
        f"{READ_BYTES_S / 1e6:g} MB/s beside computing"
    )
    screened = "; the shorter if all is dense forest" if plan.here.least < plan.here.most else ""
    return [
        f"time: roughly {_times(plan.here)} with {workers}{reading}{screened}",
        f"  {_times(plan.on_many)} on {MANY} such cores, {_times(plan.on_gpu)} with one GPU beside "
        f"them (at {GPU_MPX_S:g} Mpx/s, assumed and not measured)",
        f"  from {_two(window_s):g} s a window of made-up pixels, timed here just now; much "
        "cleared land takes longer",
    ]


def _advice(plan: Plan) -> list[str]:
    fresh = "with --fresh, or into another --out"
    lines = [plan.pace.note] if plan.pace.note else []
    if plan.unseen is not None:
        lines.append(
            f"no scene shows {_percent(plan.unseen_ha, plan.area_ha)} of the area: widen --date, "
            f"or raise --max-cloud, {fresh}"
        )
    poor = [t for t in plan.tiles if t.days_read and t.expected_clear < CLEAR_ENOUGH]
    if poor:
        more = ", or raise --max-scenes" if any(t.days > t.days_read for t in poor) else ""
        lines.append(
            f"few clear views over {len(poor)} of {_count(len(plan.tiles), 'tile')} (less than "
            f"{100 * CLEAR_ENOUGH:.0f} % expected clear): widen --date{more}, {fresh}"
        )
    if plan.without_cloud:
        lines.append(
            f"scenes that tell no cloud cover: {plan.without_cloud:,}; "
            f"{100 * UNKNOWN_CLOUD:.0f} % was taken for each"
        )
    if plan.without_scl:
        lines.append(
            f"scenes without SCL: {plan.without_scl:,}; their clouds cannot be told, they count as "
            "clear wherever they have data"
        )
    if plan.pace.workers is not None and plan.compute_seconds > LONG_S:
        lines.append("that is long for one machine: use a Dask cluster with --scheduler")
    return lines


def _two(value: float) -> float:
    """Round to two digits, as an estimate is told."""
    return float(f"{value:.2g}")


def _size(count: float) -> str:
    unit, word = next(
        (unit, word)
        for unit, word in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (0, "B"))
        if count >= 0.995 * unit
    )
    return f"{_two(count / (unit or 1)):g} {word}"


def _time(seconds: float) -> str:
    for unit, word in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{_two(seconds / unit):g} {word}"
    return f"{_two(seconds):g} s"


def _times(times: Times) -> str:
    """Tell both bounds, once where they are the same."""
    least, most = _time(times.least), _time(times.most)
    return most if least == most else f"{least} to {most}"


def _percent(part: float, whole: float) -> str:
    """Return a share as whole percent, never 0 or 100 for what is neither."""
    share = 100 * part / whole
    if 0 < share < 1:
        return "less than 1 %"
    if 99 < share < 100:
        return "over 99 %"
    return f"{'about ' if 0 < share < 100 else ''}{share:.0f} %"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
