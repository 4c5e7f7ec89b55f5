"""One evaluation from samples to files: score, judge, write.

samples -> scores -> rows -> figures -> metrics.json, validation_results.json, plots, report.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from scanner.errors import TrainingError
from scanner.files import write_json
from scanner.models.card import ModelCard
from scanner.models.classifier import Classifier
from training.evaluate.metrics import LEVEL, Rules
from training.evaluate.plots import draw_curves, draw_sheet, worst_mistakes
from training.evaluate.predict import Scored, score
from training.evaluate.report import grouped, page, write_page, write_rows
from training.evaluate.samples import Samples
from training.places import NEAR_M, near, regions


@dataclass(frozen=True)
class Options:
    """How an evaluation is done."""

    out: Path
    threshold: float | str | None = None
    """A score, the name of a threshold of the card, or ``None`` for its default one."""
    prior: float | None = None
    """Share of mines to rescale scores to; ``None`` stays at the card's prevalence."""
    resamples: int = 1000
    seed: int = 0
    training: NDArray[np.float64] | None = None
    """(lon, lat) of training samples, for the flag ``near_training``."""


def evaluate(
    samples: Samples, classifier: Classifier, options: Options, data: dict[str, Any]
) -> dict[str, Any]:
    """Score labelled samples, write all files into ``options.out``; returns metrics.json.

    ``data`` says where the samples come from. Raises ``TrainingError`` if no image can be used.
    """
    card = classifier.card
    rules = Rules(
        card.cut(options.threshold, options.prior),
        options.prior or card.prevalence,
        options.resamples,
        options.seed,
    )
    scored = scored_with_bar(samples, classifier, options.prior)
    rows = _rows(samples, scored, rules, options.training)
    failed = [*samples.failed, *_unusable(samples, scored)]
    if rows.empty:
        first = failed[0]["reason"]
        raise TrainingError(f"not one of {len(failed)} images can be used; the first: {first}")
    metrics = {
        "classifier": {"name": card.name, "digest": card.digest, "sha256": card.sha256},
        "data": {
            **data,
            "rows": len(samples.table) + len(samples.failed),
            "scored": len(rows),
            "failed": len(failed),
            "cropped": scored.cropped,
            "other_labels": samples.left_out,
        },
        "scores": _scale(card, rules, options),
        "intervals": {
            "level": LEVEL,
            "method": "percentile bootstrap, mines and others drawn apart",
            "resamples": rules.resamples,
            "seed": rules.seed,
        },
        **grouped(rows, rules),
    }
    _write(metrics, rows, failed, samples, rules, options.out)
    return metrics


def scored_with_bar(samples: Samples, classifier: Classifier, prior: float | None) -> Scored:
    """Score samples behind a progress bar, which a pipe does not see."""
    with tqdm(total=len(samples.table), unit="chip", disable=None, file=sys.stderr) as bar:
        return score(samples, classifier, prior, bar.update)


def _rows(
    samples: Samples, scored: Scored, rules: Rules, training: NDArray[np.float64] | None
) -> pd.DataFrame:
    """Return the scored rows, index as in ``samples``, with what is known of each."""
    rows = samples.table.copy()
    places = rows[["lon", "lat"]].to_numpy(np.float64)
    rows["region"] = regions(places)
    rows["near_training"] = None if training is None else near(places, training)
    rows["probability"] = scored.scores
    rows["is_mining"] = scored.scores >= rules.threshold
    rows["correct"] = rows["is_mining"] == (rows["label"] == 1)
    return rows[np.isfinite(scored.scores)]


def _unusable(samples: Samples, scored: Scored) -> list[dict[str, Any]]:
    return [
        {
            "sample_id": str(samples.table["sample_id"][row]),
            "label": int(samples.table["label"][row]),
            "reason": reason,
        }
        for row, reason in scored.reasons.items()
    ]


def _scale(card: ModelCard, rules: Rules, options: Options) -> dict[str, Any]:
    chosen = options.threshold
    name = chosen if isinstance(chosen, str) else "card's default" if chosen is None else "given"
    return {
        "prevalence": rules.prevalence,
        "prevalence_from": "--prior" if options.prior else "classifier card",
        "calibrated_at": card.prevalence,
        "threshold": rules.threshold,
        "threshold_name": name,
        "near_training_m": None if options.training is None else NEAR_M,
    }


def _write(
    metrics: dict[str, Any],
    rows: pd.DataFrame,
    failed: list[dict[str, Any]],
    samples: Samples,
    rules: Rules,
    out: Path,
) -> None:
    """Write all files, metrics.json last."""
    write_rows(rows, failed, out)
    scores, labels = rows["probability"].to_numpy(float), rows["label"].to_numpy(int)
    draw_curves(scores, labels, rules, out)
    worst = worst_mistakes(rows)
    if len(worst):
        draw_sheet(worst, samples, out / "worst_mistakes.png")
    write_page(page(metrics, worst, f"{metrics['classifier']['name']}: evaluation"), out)
    write_json(out / "metrics.json", metrics)
