"""The report's tables and lists: sites, what lies in overlays, how good the models are, origin."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from scanner.imagery.hrefs import strip_secrets
from scanner.models.card import ModelCard
from scanner.results.finished import FinishedRun
from scanner.results.report.embed import number
from scanner.results.report.figures import MOST_ROWS, measured
from scanner.results.report.sites import MOST_SITES, change_rows, overlay_rows
from scanner.results.texts import texts

Say = Callable[..., str]
MOST_DAYS: Final = 31
"""Days listed one by one."""
CHANGE_ORDER: Final = ("new", "growing", "stable", "shrinking", "gone", "unseen")


def speaker(lang: str) -> Say:
    """Return ``t(key, **places)``: a text of the report, its places filled."""
    table = texts(lang)

    def t(key: str, **places: Any) -> str:
        return table[f"report.{key}"].format_map(places)

    return t


def site_table(run: FinishedRun, t: Say, data: dict[str, Any]) -> dict[str, Any]:
    """Return rows, columns and caption of the table of sites."""
    sites = data["sites"]
    with_changes = any(site["change"] for site in sites)
    with_overlays = any(site["overlays"] for site in sites)
    columns = [
        ("rank", "ascending"),
        ("id", "ascending"),
        ("score", "descending"),
        ("ha", "descending"),
        ("last", "descending"),
        *([("change", "ascending")] if with_changes else []),
        *([("inside", "ascending")] if with_overlays else []),
    ]
    hidden = len(run.sites) - len(sites)
    return {
        "rows": [
            {
                "rank": site["rank"],
                "short": site["id"].removeprefix("site_"),
                "score": f"{site['score']:.2f}",
                "bar": round(20 * site["score"]),
                "ha": number(site["ha"], 1),
                "last": site["last"] or "\u2013",
                "change": (site["change"] or {}).get("label", ""),
                "inside": ", ".join(one["feature"] for one in site["overlays"]),
            }
            for site in sites
        ],
        "columns": [(key, t(f"list.{key}"), first) for key, first in columns],
        "with_changes": with_changes,
        "with_overlays": with_overlays,
        "list_caption": t("list.more", n=MOST_SITES, hidden=hidden) if hidden else t("list.all"),
    }


def goodness(run: FinishedRun, t: Say, card: ModelCard | None) -> dict[str, Any]:
    """Return what is known of how good the classifier is, from its card."""
    rows = measured(card)
    if card is None or not rows:
        return {
            "good_lead": t("good.lead_none"),
            "measured": [],
            "limits": card.limits if card else (),
            "good_key": "",
            "good_rare": "",
        }
    first = rows[0]
    key = {name: f"{100 * first[name][0]:.0f} %" for name in ("recall", "false_alarm_rate")}
    key |= {name: number(first[name]) for name in ("mines", "others")}
    rare = first["rare"]
    return {
        "good_lead": t("good.lead", name=card.name, threshold=f"{card.threshold:.4g}"),
        "good_key": t("good.key", **key),
        "good_rare": "" if rare is None else t("good.rare", n=f"{100 * rare:.0f}"),
        "measured": [
            {
                "set": row["set"],
                "auc": _interval(row["roc_auc"], 1, 2),
                "recall": _interval(row["recall"], 100, 0) + " %",
                "alarms": _interval(row["false_alarm_rate"], 100, 0) + " %",
                "chips": f"{number(row['mines'])} / {number(row['others'])}",
            }
            for row in rows
        ],
        "limits": card.limits,
    }


def overlay_sums(run: FinishedRun, t: Say) -> list[dict[str, Any]]:
    """Return the hectares of sites in each feature of the user's overlays, and in none."""
    sums: dict[tuple[str, bool, str], dict[str, Any]] = {}
    for row in overlay_rows(run):
        key = row["overlay"], row["feature"] is None, row["feature"] or t("overlays.none")
        told = sums.setdefault(key, {"sites": set(), "ha": 0.0, "presumed": set()})
        told["sites"].add(row["site"])
        told["ha"] += row["ha"]
        told["presumed"] |= {row["presumed"]} - {None}
    return [
        {
            "overlay": overlay,
            "feature": feature,
            "sites": len(told["sites"]),
            "ha": number(told["ha"], 1),
            "presumed": ", ".join(sorted(told["presumed"])),
        }
        for (overlay, _, feature), told in sorted(sums.items())
    ]


def change_sums(run: FinishedRun, t: Say) -> list[dict[str, Any]]:
    """Return how many sites are new, growing and so on, and their hectares before and now."""
    rows = change_rows(run)
    found = []
    for kind in CHANGE_ORDER:
        some = [row for row in rows if row["kind"] == kind]
        if some:
            sums = {name: [row[name] for row in some] for name in ("old_ha", "new_ha", "growth_ha")}
            told = {
                name: number(sum(v for v in values if v is not None), 1)
                if any(v is not None for v in values)
                else number(None)
                for name, values in sums.items()
            }
            found.append({"kind": t(f"change.{kind}"), "sites": len(some), **told})
    return found


def provenance(run: FinishedRun, t: Say, used: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Return what another person needs to know to repeat the run."""
    summary, config = run.summary, run.summary["config"]
    search, pixels, report = (config.get(name) or {} for name in ("search", "pixels", "report"))
    kept = summary["tiles"]
    days = used["days"]
    rows = {
        "run_id": run.run_id,
        "date": run.items.date,
        "catalog": _place(search.get("catalog")),
        "days": ", ".join(days)
        if len(days) <= MOST_DAYS
        else t("head.days", first=days[0], last=days[-1], n=len(days)),
        "settings": t(
            "made.settings_text",
            composite=pixels.get("composite"),
            scenes=pixels.get("max_scenes"),
            cloud=search.get("max_cloud"),
            clear=report.get("min_clear"),
        ),
        "scores": t(
            "made.scores_text",
            threshold=f"{run.threshold:.4g}",
            prevalence=f"{100 * run.prevalence:.3g} %",
            source=summary["scores"].get("prevalence_from", ""),
        ),
        "segmenter": summary["models"]["segmenter"],
        "classifier": summary["models"]["classifier"],
        "tiles": t("made.tiles_text", done=kept["done"], total=kept["total"]),
        **_work(run, t),
        "versions": ", ".join(f"{name} {one}" for name, one in summary["versions"].items()),
        "area": t("made.area_text", digest=summary["aoi"]["digest"]),
    }
    return [(t(f"made.{key}"), str(value)) for key, value in rows.items()]


def _work(run: FinishedRun, t: Say) -> dict[str, str]:
    """Return what the scan took; runs of earlier versions do not tell."""
    work = run.summary.get("work")
    if work is None:
        return {}
    places = {name: number(work[f"{name}_ha"]) for name in ("screened", "segmented", "classified")}
    return {"work": t("made.work_text", mb=number(work["bytes_read"] / 1e6, 1), **places)}


def dropped(run: FinishedRun, t: Say) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what was left out, as (title, rows of id and reason)."""
    groups = {
        "failed_tiles": [(one["tile_id"], one["reason"]) for one in run.summary["tiles"]["failed"]],
        "dropped_items": [(one["id"], one["reason"]) for one in run.summary["dropped_items"]],
        "superseded": [(item, "") for item in run.summary.get("superseded_items", [])],
        "without_scl": [(item, "") for item in run.summary.get("items_without_scl", [])],
    }
    return [
        (t(f"made.{key}", n=len(rows)), [(a, b or "") for a, b in rows[:MOST_ROWS]])
        for key, rows in groups.items()
        if rows
    ]


def _interval(values: tuple[float, float, float], scale: float, digits: int) -> str:
    middle, low, high = (f"{scale * value:.{digits}f}" for value in values)
    return f"{middle} ({low}\u2013{high})"


def _place(catalog: Any) -> str:
    """Name a catalog without folders of the machine that ran it."""
    text = str(catalog)
    return strip_secrets(text) if "://" in text else Path(text).name
