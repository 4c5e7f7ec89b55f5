"""What ``mining-scan`` prints of a run: at its start, for ``--plan``, and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scanner.ending import say

if TYPE_CHECKING:
    from scanner.run.pipeline import Run


def tell_start(run: Run) -> None:
    """Print what is about to be scanned."""
    from scanner.imagery.screen import solar_days

    days = solar_days(run.found.items)
    span = f"{days[0]} to {days[-1]}" if days else "no dates"
    say(
        f"{run.aoi.name}: {run.aoi.area_km2:,.0f} km2, {len(run.tiles)} tiles, "
        f"{len(run.found.items)} scenes, {span}, into {run.folder.path}"
    )
    if run.found.advice:
        say(run.found.advice, err=True)


def tell_plan(run: Run) -> None:
    """Plan a run, print the plan and save it."""
    from scanner.run import plan as planning

    made = planning.plan(run)
    say(planning.tell_plan(made))
    path = planning.write_plan(made, run.folder.path)
    say(f"plan in {path}; the same command without --plan scans")


def tell_end(run: Run, summary: dict[str, Any]) -> None:
    """Print what was found and what was seen; ``summary`` is what run.json holds."""
    hectares = summary["coverage_ha"]
    area = hectares["area"] or 1.0
    say(
        f"{summary['detections']} sites, {summary['detected_ha']:,.1f} ha, "
        f"at a score of {run.threshold:g} or more, relative to a prevalence of "
        f"{100 * run.prevalence:g} % among the cells looked at\n"
        f"coverage: {hectares['area']:,.0f} ha; "
        + ", ".join(
            f"{words} {100 * hectares[name] / area:.1f} %"
            for name, words in (("clear", "seen clear"), ("unseen", "unseen"), ("failed", "failed"))
        )
    )
    work = summary["work"]
    say(
        f"screened by SCL alone: {work['screened_ha']:,.0f} ha; segmented: "
        f"{work['segmented_ha']:,.0f} ha; classified: {work['classified_ha']:,.0f} ha; "
        f"read: {work['bytes_read'] / 1e6:,.1f} MB"
    )
    if not hectares["clear"] and not hectares["failed"]:
        say("nothing was seen: cloud or no data in every scene; widen --date", err=True)
    if dropped := summary["dropped_items"]:
        say(f"scenes left out: {len(dropped)}, the first since {dropped[0]['reason']}")
    if without := summary["items_without_scl"]:
        say(f"scenes without SCL, taken as clear wherever they have data: {len(without)}")
    if run.config.search.catalog == "demo":
        _tell_demo(run)
    say(
        f"results in {run.folder.path}: open report.html; detections.parquet, cells.parquet, "
        "coverage.parquet and the rest are beside it"
    )


def _tell_demo(run: Run) -> None:
    """Print planted mines against found ones; the demo's scenes are synthetic."""
    from scanner.results.planted import planted_against_found

    say(planted_against_found(run.folder.path))
