"""Pictures of an evaluation: precision over recall, ROC, reliability, the worst mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.metrics import (  # type: ignore[import-untyped]
    precision_recall_curve,
    roc_curve,
)

from scanner.files import atomic_path
from training.calibrate import Floats, Labels, prevalence_weights, reliability
from training.evaluate.metrics import Rules
from training.evaluate.samples import Samples
from training.pictures import to_picture

WORST: Final = 32
"""Mistakes on the contact sheet: half false alarms, half misses, as far as there are."""
SIDE: Final = 144
"""Pixels of a picture on the sheet; chips of 48 are shown three times as large."""
ACROSS: Final = 8
CAPTION: Final = 26
INK, PAPER, ALARM, MISS = "#222222", "#ffffff", "#b03a2e", "#1f618d"


def draw_curves(scores: Floats, labels: Labels, rules: Rules, out: Path) -> list[Path]:
    """Draw pr_curve.png, roc.png and reliability.png; only what two kinds of chips allow."""
    if len(np.unique(labels)) < 2:
        return []
    called = scores >= rules.threshold
    at = {
        "recall": float(called[labels == 1].mean()),
        "alarms": float(called[labels == 0].mean()),
    }
    return [
        _precision_recall(scores, labels, rules, at, out / "pr_curve.png"),
        _roc(scores, labels, rules, at, out / "roc.png"),
        _reliability(scores, labels, rules, out / "reliability.png"),
    ]


def _precision_recall(
    scores: Floats, labels: Labels, rules: Rules, at: dict[str, float], path: Path
) -> Path:
    figure, axes = _axes("recall", "precision")
    shares = {float(np.mean(labels)): "this set", rules.prevalence: "the scores' prevalence"}
    shares |= {0.01: "", 0.001: ""}
    for share, name in shares.items():
        weights = prevalence_weights(labels, share)
        precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=weights)
        told = f"{100 * share:.3g} % mines" + (f" ({name})" if name else "")
        axes.step(recall, precision, where="post", label=told)
        right = share * at["recall"]
        wrong = (1 - share) * at["alarms"]
        if right + wrong:
            axes.plot(at["recall"], right / (right + wrong), "o", color=axes.lines[-1].get_color())
    title = f"dots: threshold {rules.threshold:.3g}"
    figure.legend(title=title, frameon=False, loc="outside lower center", ncols=2)
    return _save(figure, path)


def _roc(scores: Floats, labels: Labels, rules: Rules, at: dict[str, float], path: Path) -> Path:
    figure, axes = _axes("false alarm rate", "recall")
    rate, recall, _ = roc_curve(labels, scores)
    axes.plot(rate, recall, color=MISS)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", lw=1)
    axes.plot(at["alarms"], at["recall"], "o", color=INK, label=f"threshold {rules.threshold:.3g}")
    axes.legend(frameon=False, loc="lower right")
    return _save(figure, path)


def _reliability(scores: Floats, labels: Labels, rules: Rules, path: Path) -> Path:
    figure, axes = _axes("mean score of the bin", "share of mines in the bin")
    found = reliability(scores, labels, rules.prevalence)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", lw=1)
    axes.plot(found.score, found.mines, "o-", color=MISS)
    axes.set_title(
        f"weighted to {100 * rules.prevalence:g} % mines; calibration error {found.error:.3f}",
        fontsize=9,
    )
    return _save(figure, path)


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(color="#eeeeee")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as scratch:
        figure.savefig(scratch, format="png")
    return path


def worst_mistakes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the surest false alarms, then the surest misses, ``WORST`` rows at most."""
    wrong = rows[~rows["correct"]]
    alarms = wrong[wrong["label"] == 0].sort_values("probability", ascending=False, kind="stable")
    misses = wrong[wrong["label"] == 1].sort_values("probability", kind="stable")
    half = WORST // 2
    more = max(half, WORST - min(len(alarms), half))
    return pd.concat([alarms.head(max(half, WORST - len(misses))), misses.head(more)])


def draw_sheet(worst: pd.DataFrame, samples: Samples, path: Path) -> Path:
    """Draw the pictures of mistakes with score and name; red are false alarms, blue are misses.

    ``worst`` keeps, as its index, the rows of ``samples``.
    """
    down = max(1, -(-len(worst) // ACROSS))
    sheet = Image.new("RGB", (ACROSS * SIDE, down * (SIDE + CAPTION)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, row in enumerate(worst.itertuples()):
        left, top = place % ACROSS * SIDE, place // ACROSS * (SIDE + CAPTION)
        colour = MISS if row.label == 1 else ALARM
        picture = _brightened(to_picture(samples.read(int(str(row.Index)))[:3]))
        thumb = Image.fromarray(picture).resize((SIDE - 4, SIDE - 4), Image.Resampling.NEAREST)
        pen.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=colour)
        sheet.paste(thumb, (left + 2, top + 2))
        kind = "missed" if row.label == 1 else "false alarm"
        pen.text((left + 2, top + SIDE), f"{float(row.probability):.4g} {kind}", fill=colour)  # type: ignore[arg-type]
        pen.text((left + 2, top + SIDE + 12), str(row.sample_id)[-22:], fill=INK)
    with atomic_path(path) as scratch:
        sheet.save(scratch, "PNG")
    return path


def _brightened(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch a picture for the eye, all bands alike so that colours stay."""
    low, high = np.percentile(picture, (1, 99))
    stretched = (picture.astype(np.float32) - low) / max(float(high - low), 20.0) * 255
    return np.asarray(np.clip(stretched, 0, 255), np.uint8)
