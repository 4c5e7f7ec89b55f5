"""Everything the page's template is given: figures as text, notices, and how to read it all.

A paragraph stands in the page only where the run gives reason for it.
"""

from __future__ import annotations

from typing import Any, Final

from scanner.models.card import SEGMENTER_CLASSES
from scanner.results.finished import FinishedRun
from scanner.results.report.embed import number, share
from scanner.results.report.figures import (
    MOST_ROWS,
    Seen,
    cards,
    scenes,
    seen,
    uncovered_tiles,
    years,
)
from scanner.results.report.tables import (
    Say,
    change_sums,
    dropped,
    goodness,
    overlay_sums,
    provenance,
    site_table,
    speaker,
)

READING: Final = (
    "site", "score", "mining", "unseen", "dates", "outline", "alike", "screened", "missed", "act",
)  # fmt: skip
"""Paragraphs on how to read the page, in their order."""
SEEN_ORDER: Final = ("mining", "not_mining", "not_suspicious", "unseen", "failed")


def page_words(run: FinishedRun, lang: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the template's values; ``data`` is what the scripts are given."""
    t, hectares, used = speaker(lang), seen(run), scenes(run)
    known, tiles = cards(run), uncovered_tiles(run)
    values = {
        "t": t,
        "num": number,
        "name": run.aoi.name,
        "area_km2": run.aoi.area_km2,
        "scenes": used,
        "years": years(run),
        "synthetic": run.synthetic,
        "threshold": f"{run.threshold:.4g}",
        "prevalence": data["prevalence"],
        "notices": notices(run, t, hectares, data),
        "figures": key_figures(run, t, hectares),
        "bar": status_bar(hectares),
        "bar_all": SEEN_ORDER,
        "classes": SEGMENTER_CLASSES,
        "has": {name: uri is not None for name, uri in data["pictures"].items()},
        "closer": data["closer"],
        "cells_left_out": _cells_left_out(t, data),
        "reading": reading(run, t),
        "overlays": overlay_sums(run, t),
        "changes": change_sums(run, t),
        "coverage_lead": t("coverage.lead" if tiles else "coverage.lead_all"),
        "tiles": tiles[:MOST_ROWS],
        "tiles_more": t("coverage.more", n=more) if (more := len(tiles) - MOST_ROWS) > 0 else "",
        "made": provenance(run, t, used),
        "dropped": dropped(run, t),
    }
    return {**values, **site_table(run, t, data), **goodness(run, t, known["classifier"])}


def notices(
    run: FinishedRun, t: Say, hectares: Seen, data: dict[str, Any]
) -> list[tuple[str, str, str]]:
    """Return what a reader must know first, as (kind, title, text)."""
    tiles = run.summary["tiles"]
    told: list[tuple[str, str, dict[str, Any]]] = []
    if run.synthetic:
        told.append(("synthetic", "synthetic", {}))
    if hectares.area and not hectares.answered:
        told.append(("missing", "nothing_seen", {}))
    elif hectares.unseen + hectares.failed:
        missing = hectares.unseen + hectares.failed
        places = {"ha": number(missing), "share": share(missing, hectares.area)}
        told.append(("missing", "missing", places))
    if tiles["failed"]:
        told.append(("failed", "failed", {"n": len(tiles["failed"]), "total": tiles["total"]}))
    if not len(run.sites) and hectares.answered:
        told.append(("plain", "no_sites", {"threshold": f"{run.threshold:.4g}"}))
    if not any(data["pictures"][name] for name in ("quicklook", "classes")):
        told.append(("plain", "no_pictures", {}))
    found = [
        (kind, t(f"notice.{key}", **places), t(f"notice.{key}_text", **places))
        for kind, key, places in told
    ]
    if run.summary.get("advice"):
        found.append(("plain", t("notice.advice"), str(run.summary["advice"])))
    return found


def reading(run: FinishedRun, t: Say) -> list[tuple[str, str]]:
    """Return how to read the page, as (title, text); of screening only where there was any."""
    screened = run.summary.get("work", {}).get("screened_ha", 0)
    told = {**_scores(run), "ha": number(screened)}
    keys = [key for key in READING if key != "screened" or screened]
    return [(t(f"read.{key}"), t(f"read.{key}_text", **told)) for key in keys]


def key_figures(run: FinishedRun, t: Say, hectares: Seen) -> list[tuple[str, str, str, str]]:
    """Return the large figures as (label, value, unit, note)."""
    found = float(run.summary["detected_ha"])
    inside = min(float(run.sites.area_in_aoi_ha.sum()), found) if len(run.sites) else 0.0
    rows: list[tuple[str, str, str, str, dict[str, str]]] = [
        ("sites", "note", number(len(run.sites)), "", {"threshold": f"{run.threshold:.4g}"}),
        ("ground", "note", number(found, 1), "ha", {"ha": number(inside, 1)}),
        ("looked", "note", number(hectares.area), "ha", {"n": str(run.summary["tiles"]["total"])}),
    ]
    for key in ("answered", "unseen", "failed"):
        ha = float(getattr(hectares, key))
        places = {"ha": number(ha), "clear": number(hectares.clear)}
        rows.append((key, "note" if ha else "none", share(ha, hectares.area), "", places))
    return [
        (t(f"figures.{key}"), value, unit, t(f"figures.{key}_{note}", **places))
        for key, note, value, unit, places in rows
    ]


def status_bar(hectares: Seen) -> list[dict[str, Any]]:
    """Return the parts of the bar, side by side from 0 to 100."""
    parts, x = [], 0.0
    for name in SEEN_ORDER:
        ha = hectares.status[name]
        if not ha:
            continue
        width = 100 * ha / hectares.area
        parts.append(
            {
                "name": name,
                "x": f"{x:.3f}",
                "width": f"{width:.3f}",
                "ha": number(ha, 0),
                "share": share(ha, hectares.area),
            }
        )
        x += width
    return parts


def _cells_left_out(t: Say, data: dict[str, Any]) -> str:
    kept, total = len(data["cells"]["id"]), data["cells_total"]
    return t("layer.cells_more", kept=number(kept), total=number(total)) if kept < total else ""


def _scores(run: FinishedRun) -> dict[str, str]:
    return {"threshold": f"{run.threshold:.4g}", "prevalence": f"{100 * run.prevalence:.3g} %"}
