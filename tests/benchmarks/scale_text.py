"""docs/scale.md from its figures: see ``tests.benchmarks.basin``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scanner.run.costs import BAND_S, PIXEL_BYTES, SCL_BYTES, SCL_S, TABLE_S
from scanner.run.outlook import ENOUGH
from scanner.run.times import Times
from tests.benchmarks.common import table

if TYPE_CHECKING:
    from tests.benchmarks.basin import Area, Basin, Inputs

CLIENT: Final = "client and scheduler, MiB"
AIM_S: Final = 120.0
"""Xingu from local pixels."""
SHARES: Final = (0.0, 0.1, 0.25, 1.0)
"""Shares of the basin's windows that need a look, side by side."""


def write(
    path: Path,
    inputs: Inputs,
    xingu: Area,
    machines: Sequence[tuple[str, Times, Times]],
    basin: Basin,
    growth: dict[str, Any],
) -> None:
    """Write the page."""
    parts = [*_head(), *_xingu(inputs, xingu, machines), *_basin(basin), *_inputs(inputs)]
    parts += _growth(growth)
    path.write_text("\n\n".join(_wrapped(part) for part in parts) + "\n", encoding="utf-8")


def _wrapped(part: str) -> str:
    """Return a paragraph in lines of 120; tables and headings as they are."""
    return part if part.startswith(("|", "#")) else textwrap.fill(part, 120, break_on_hyphens=False)


def _head() -> Iterator[str]:
    yield "# Scale: what more area costs"
    yield (
        "Written by `python -m tests.benchmarks.basin` from [scale.toml](scale.toml) "
        "(rates, prices, "
        "assumptions) and [growth.json](growth.json) (measured by `python -m "
        "tests.benchmarks.growth"
        "`). Do not change it here: change the inputs and run it again. Arithmetic is no "
        "measurement: no whole park and no basin was ever scanned for this page, and each "
        "input says "
        "whether it was measured."
    )


def _xingu(
    inputs: Inputs, area: Area, machines: Sequence[tuple[str, Times, Times]]
) -> Iterator[str]:
    tiles = area.tiles
    scl, bands, most = (
        sum(getattr(t, name) for t in tiles)
        for name in ("scl_bytes", "band_bytes", "band_bytes_most")
    )
    yield "## Xingu as a plan"
    yield (
        f"{area.pixels / 1e6:.0f} Mpx in {len(tiles)} tiles; {area.scenes} scenes of "
        f"{inputs['season_days']:.0f} days, made up: each granule on every pass, "
        f"0 to {100 * inputs['cloud']:.0f} % cloud. Of each tile "
        f"{_span([t.days for t in tiles])} days, "
        f"{_span([t.days_read for t in tiles])} of them expected to be read (until "
        f"{100 * ENOUGH:.0f} % of the places have three clear views; at most "
        f"{max(t.days_most for t in tiles)})."
    )
    rows = [
        ["SCL of all scenes alone: at least, if all is dense forest", _gb(scl)],
        ["and six bands of the days expected, every window", _gb(scl + bands)],
        ["... of as many days as are read at most", _gb(scl + most)],
        ["requests, for the second row", f"{sum(t.requests for t in tiles):,.0f}"],
    ]
    yield table(["read", "GB"], rows)
    yield table(
        ["Xingu on", "from local pixels", f"at {inputs['mb_s']:g} MB/s"],
        [[name, _times(local), _times(far)] for name, local, far in machines],
    )
    yield (
        "From, to: all of it passed over as dense forest, and every window read and "
        "segmented. What "
        "lies between is not known before the SCL is read: forest parks are near the lower end, "
        "cleared land near the upper. Reading and computing overlap, so the slower one counts."
    )
    yield _aim(machines)


def _aim(machines: Sequence[tuple[str, Times, Times]]) -> str:
    name, local = next((n, t) for n, t, _ in machines if n == "2 cores, fast")
    verdict = "kept" if local.most <= AIM_S else "**not kept**"
    least = "kept" if local.least <= AIM_S else "not kept either"
    return (
        f"The aim, Xingu in under two minutes from local pixels, is {verdict} on {name} "
        f"where every "
        f"window is segmented ({_time(local.most)}), and {least} where all is passed over "
        f"({_time(local.least)}): the SCL of all dates takes {SCL_S:g} s a date and tile."
    )


def _basin(basin: Basin) -> Iterator[str]:
    inputs, each = basin.inputs, basin.each
    yield "## The Amazon basin"
    yield (
        f"{inputs['basin_km2'] / 1e6:g} M km2 in {basin.tiles:,} tiles, {basin.scenes:,} "
        f"scenes of the "
        f"same season; each tile taken for the mean of 150 full tiles across a UTM zone: "
        f"{each.scenes:.0f} scenes of {each.days:.0f} days, {each.days_read:.1f} of them read, "
        f"{each.scl_bytes / 1e6:.0f} MB of SCL, {each.band_bytes / 1e6:.0f} MB of bands, "
        f"{each.requests:,.0f} requests, 9 windows, {each.rest_s:.1f} s beside the models."
    )
    rows: list[list[object]] = [["TB read", *(f"{basin.bytes(s) / 1e12:.1f}" for s in SHARES)]]
    for name, window in (("torch", "window_s"), ("the fast backend", "window_fast_s")):
        rows.append(
            [f"core hours with {name}", *(f"{basin.core_hours(s, window):,.0f}" for s in SHARES)]
        )
    rows.append(["core hours beside a GPU", *(f"{basin.core_hours(s, None):,.0f}" for s in SHARES)])
    rows.append(["GPU hours", *(f"{basin.gpu_hours(s):,.1f}" for s in SHARES)])
    rows.append(["cost on cores, fast", *(f"{_cost(basin, s, gpu=False):,.1f}" for s in SHARES)])
    rows.append(["cost with GPUs", *(f"{_cost(basin, s, gpu=True):,.1f}" for s in SHARES)])
    hours = [basin.bytes(s) / 1e9 / 3600 for s in SHARES]
    rows.append(["hours of reading at 1 GB/s", *(f"{h:.1f}" for h in hours)])
    yield table(["windows that need a look", *(f"{100 * s:.0f} %" for s in SHARES)], rows)
    yield (
        f"Requests, for all windows: {basin.requests() / 1e6:.0f} million. Cost is in "
        f"whatever currency "
        "the assumed prices are. A search refuses more than 50,000 items, so a basin is "
        "scanned in "
        "parts (a few months each, or a region each)."
    )


def _cost(basin: Basin, share: float, *, gpu: bool) -> float:
    inputs = basin.inputs
    cores = basin.core_hours(share, None if gpu else "window_fast_s") * inputs["core_hour_price"]
    return (
        cores
        + (basin.gpu_hours(share) * inputs["gpu_hour_price"] if gpu else 0.0)
        + basin.bytes(share) / 1e9 * inputs["gb_price"]
    )


def _inputs(inputs: Inputs) -> Iterator[str]:
    yield "## Inputs"
    rows = [[one["told"], f"{one['value']:,g}", one["from"]] for one in inputs.raw.values()]
    code = "constant of `run/costs.py`, which tells how far it is measured"
    rows += [
        ["bytes a pixel of a band", PIXEL_BYTES, code],
        ["bytes a pixel of the SCL", SCL_BYTES, code],
        ["seconds of a core for the SCL of a date of a tile", SCL_S, code],
        ["seconds of a core for a band of a day of a tile", BAND_S, code],
        ["seconds of a core for the rest of a tile", TABLE_S, code],
    ]
    yield table(["input", "value", "from"], rows)


def _growth(growth: dict[str, Any]) -> Iterator[str]:
    yield "## Growth, measured"
    scans = _named(growth, "scan")
    if scans:
        yield "Real scans: tiny models, three small scenes and one window a tile, one worker."
        yield table(
            [
                "tiles",
                "seconds",
                "a tile after the first",
                "client and scheduler, MiB",
                "worker, MiB",
            ],
            [_scan_row(one) for one in scans],
        )
    for one in _named(growth, "dry"):
        yield (
            f"Dry run of {one['looks'][-1]['tiles']:,.0f} tiles with {one['items']:,} "
            f"items: the real "
            "submitter, graphs that cost nothing, a full tile's table sent for each."
            + (" Scheduler and workers apart." if one["apart"] else "")
        )
        yield table(
            [
                "tiles done",
                "client and scheduler, MiB",
                "tiles a second since",
                "tasks, groups held",
            ],
            list(_dry_rows(one["looks"])),
        )
    finishes = _named(growth, "finish")
    if finishes:
        yield "Before and after the scan, processor time in ms a tile (36 cells, one a mine)."
        steps = list(finishes[0]["steps"])
        rows = [
            [step, *(f"{1000 * one['steps'][step] / one['tiles']:.2f}" for one in finishes)]
            for step in steps
        ]
        rows.append(["memory at the end, MiB", *(f"{one['mib']:.0f}" for one in finishes)])
        yield table(["step", *(f"{one['tiles']:,} tiles" for one in finishes)], rows)
    yield str(growth.get("notes", "")) or "No notes."
    yield str(growth["machine"])


def _named(growth: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = [value for name, value in growth.items() if name.startswith(f"{kind}-")]
    return sorted(found, key=lambda one: one["tiles"])


def _scan_row(one: dict[str, Any]) -> list[object]:
    at = {int(count): seconds for count, seconds in one["at"].items()}
    last = max(at)
    each = f"{(at[last] - at[1]) / (last - 1):.2f}" if last > 1 else ""
    own = one["own"][str(last)] / 2**20
    worker = max(one["worker_sampled"], one["worker_kernel"]) / 2**20
    return [last, f"{one['seconds']:.1f}", each, f"{own:.0f}", f"{worker:.0f}"]


def _dry_rows(looks: list[dict[str, float]]) -> Iterator[list[object]]:
    before = {"tiles": 0.0, "s": 0.0}
    for look in looks:
        rate = (look["tiles"] - before["tiles"]) / max(look["s"] - before["s"], 1e-9)
        held = f"{look['tasks']:.0f}, {look['groups']:.0f}"
        yield [f"{look['tiles']:,.0f}", f"{look['client_mib']:.1f}", f"{rate:.1f}", held]
        before = look


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f}"


def _times(times: Times) -> str:
    least, most = _time(times.least), _time(times.most)
    return most if least == most else f"{least} to {most}"


def _time(seconds: float) -> str:
    for unit, word in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{float(f'{seconds / unit:.2g}'):g} {word}"
    return f"{float(f'{seconds:.2g}'):g} s"


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
