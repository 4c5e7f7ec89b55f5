"""What an evaluation leaves: metrics.json, every row, and a page to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from scanner.files import atomic_path, write_json, write_text
from training.calibrate import Floats, Labels
from training.evaluate.metrics import DIGITS, NAMES, Rules, measure

ROW: Final = (
    "sample_id", "label", "source", "lon", "lat", "region", "near_training", "probability",
    "is_mining", "correct",
)  # fmt: skip
"""Columns of a row of validation_results.json and scores.parquet."""
SHOWN: Final = {
    "chips": "chips",
    "mines": "mines",
    "recall": "recall",
    "false_alarm_rate": "false alarms",
    "precision": "precision",
    "f1": "F1",
    "f2": "F2",
    "roc_auc": "AUC",
    "average_precision": "AP",
    "calibration_error": "ECE",
}
"""Figures of the page's tables and their headings."""
STARRED: Final = "\\* has one kind of chips: AUC against all chips of the other kind in this set."


def grouped(rows: pd.DataFrame, rules: Rules) -> dict[str, Any]:
    """Return the figures of all scored rows, by source, by region, and by nearness to training.

    A source of one kind has no AUC of its own; ``roc_auc_against_all`` holds its chips against all
    chips of the other kind.
    """
    scores, labels = rows["probability"].to_numpy(float), rows["label"].to_numpy(int)
    found: dict[str, Any] = {"overall": measure(scores, labels, rules)}
    for name, column in (("by_source", "source"), ("by_region", "region")):
        found[name] = {}
        for value in sorted(rows[column].dropna().unique()):
            inside = (rows[column] == value).to_numpy()
            figures = measure(scores[inside], labels[inside], rules)
            if not figures["mines"] or not figures["others"]:
                figures["roc_auc_against_all"] = _against_all(scores, labels, inside)
            found[name][str(value)] = figures
    found["without_place"] = int(rows["region"].isna().sum())
    flags = rows["near_training"]
    if flags.notna().any():
        for name, value in (("near_training", True), ("away_from_training", False)):
            inside = (flags == value).to_numpy(bool)
            found[name] = measure(scores[inside], labels[inside], rules) if inside.any() else None
    return found


def _against_all(scores: Floats, labels: Labels, inside: NDArray[np.bool_]) -> float | None:
    """AUC of the chips of a group, all of one kind, against all chips of the other kind."""
    taken = inside | (labels != labels[inside][0])
    if len(np.unique(labels[taken])) < 2:
        return None
    return round(float(roc_auc_score(labels[taken], scores[taken])), DIGITS)


def write_rows(rows: pd.DataFrame, failed: list[dict[str, Any]], out: Path) -> None:
    """Write every row as scores.parquet and, with the failed ones apart, validation_results.json.

    Probabilities are whole numbers of 1e-4 at the card's prevalence and unrounded at another.
    """
    table = rows[list(ROW)]
    with atomic_path(out / "scores.parquet") as scratch:
        typed = table.astype({"near_training": "boolean", "label": "int8"})
        typed.to_parquet(scratch, index=False)
    plain = table.astype(object).where(table.notna(), None)
    results = [{**row, "label": int(row["label"])} for row in plain.to_dict("records")]
    write_json(out / "validation_results.json", {"results": results, "failed": failed})


def page(metrics: dict[str, Any], worst: pd.DataFrame, title: str) -> str:
    """Return report.md."""
    overall, scale = metrics["overall"], metrics["scores"]
    lines = [
        f"# {title}",
        "",
        f"A score is the probability of mining where {100 * scale['prevalence']:g} % of what is "
        f"looked at are mines (from {scale['prevalence_from']}). "
        f"From {scale['threshold']:.4g} on a chip is called a mine.",
        "",
        f"In this set {overall['mines']} of {overall['chips']} chips are mines, which is the base "
        "of precision, F1, F2, accuracy and AP below. ECE, the calibration error, weights the set "
        "to the prevalence of the scores.",
        "",
        "| figure | value | 95 % interval |",
        "|---|---|---|",
    ]
    sure = overall.get("confidence") or {}
    lines += [
        f"| {name.replace('_', ' ')} | {_text(overall[name])} | {_span(sure.get(name))} |"
        for name in NAMES
    ]
    for share, at in (overall["precision_at"] or {}).items():
        lines.append(
            f"| precision where {100 * float(share):g} % are mines | {_text(at['precision'])} | "
            f"{_span([at['low'], at['high']])} |"
        )
    cells = overall["confusion_matrix"]
    lines += [
        "",
        "| | called mine | called other |",
        "|---|---|---|",
        f"| is a mine | {cells['true_positive']} | {cells['false_negative']} |",
        f"| is none | {cells['false_positive']} | {cells['true_negative']} |",
    ]
    groups = {
        name: metrics[key]
        for name, key in (
            ("near training samples", "near_training"),
            ("away from training samples", "away_from_training"),
        )
        if metrics.get(key)
    }
    for heading, part in (
        ("Near to and away from training samples", groups),
        ("By source", metrics["by_source"]),
        ("By region (5-degree blocks)", metrics["by_region"]),
    ):
        lines += _table(heading, part) if part else []
    return "\n".join([*lines, *_worst(worst), *_left(metrics["data"])]) + "\n"


def write_page(text: str, out: Path) -> None:
    """Write report.md."""
    write_text(out / "report.md", text)


def _table(heading: str, groups: dict[str, Any]) -> list[str]:
    return [
        "",
        f"## {heading}",
        "",
        f"| | {' | '.join(SHOWN.values())} |",
        "|---" * (len(SHOWN) + 1) + "|",
        *(
            f"| {name} | {' | '.join(_cell(figures, key) for key in SHOWN)} |"
            for name, figures in groups.items()
        ),
        *(["", STARRED] if any("roc_auc_against_all" in one for one in groups.values()) else []),
    ]


def _cell(figures: dict[str, Any], key: str) -> str:
    if key == "roc_auc" and figures.get("roc_auc_against_all") is not None:
        return f"{_text(figures['roc_auc_against_all'])} *"
    return _text(figures[key])


def _worst(worst: pd.DataFrame) -> list[str]:
    if not len(worst):
        return []
    rows = [
        f"| {row.sample_id} | {row.source} | {'mine' if row.label == 1 else 'other'} | "
        f"{row.probability:.4g} |"
        for row in worst.itertuples()
    ]
    head = ["| sample | source | is | score |", "|---|---|---|---|"]
    return ["", "## Worst mistakes (worst_mistakes.png)", "", *head, *rows]


def _left(data: dict[str, Any]) -> list[str]:
    lines = []
    if data["failed"]:
        lines += ["", f"{data['failed']} rows failed; validation_results.json names them."]
    if data["other_labels"]:
        told = ", ".join(f"{name} ({count})" for name, count in data["other_labels"].items())
        lines += ["", f"Left out for their labels: {told}."]
    lines += [
        "",
        "Figures tell of new places only if the classifier was not trained on these chips, nor on "
        "their neighbours: --training flags the latter.",
    ]
    return lines


def _text(value: float | int | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, int) else f"{value:.3f}"


def _span(ends: list[float] | None) -> str:
    return "-" if not ends or None in ends else f"{ends[0]:.3f} to {ends[1]:.3f}"
