"""Judge the classifier on what it never saw, calibrate it, choose the threshold, write its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score  # type: ignore[import-untyped]
from torch import nn

from scanner.models.card import Calibration, ModelCard
from scanner.models.classifier import ResnetClassifier, calibrate
from training.augment import atmosphere
from training.chips import Chips
from training.export import CREDIT, write_weights

LIMITS: Final = (
    "scores are calibrated on held-out campaigns at the stated prevalence; where mines are rarer "
    "than that among the chips looked at, a score overstates",
    "negatives of the campaigns are partly hard cases, so held-out figures are no field figures",
    "trained on L1C with the air taken out at random; on real L2A only mine-pairs judged it",
    "negative chips have no place: one may lie beside a held-out one",
    "the held-out campaigns also chose this network over a ResNet-18, and the threshold",
    "chips have their mine in the middle, as the network has learnt: a small mine off the middle "
    "scores far lower, which is why a scan looks at each suspicious cell twice, once centred",
    "single mines below about 1 ha in wide forest score low",
    "industrial pits, bright river bars and towns with bare ground are the likely false alarms; "
    "faint, overgrown or very small mines the likely misses",
)


def finish(
    network: nn.Module,
    card: ModelCard,
    train_set: Chips,
    held: Chips,
    options: dict[str, Any],
    data: Path,
    out: Path,
) -> ModelCard:
    """Write the model directory: weights, then the card with what was measured on those weights."""
    write_weights(network, out)
    rounded = card.write(out)  # from here on the numbers of the file are judged, in half precision
    from scanner.models.classifier import load_classifier

    model = load_classifier(out)
    assert isinstance(model, ResnetClassifier)  # noqa: S101
    looks = {"L1C": model.logits(held.pixels), "air taken out": model.logits(cleared(held.pixels))}
    calibration = fit_platt(
        np.concatenate(list(looks.values())), np.tile(held.labels, 2), options["prevalence"]
    )
    weights = prevalence_weights(held.labels, calibration.prevalence)
    scores = {name: calibrate(logits, calibration) for name, logits in looks.items()}
    both = np.concatenate(list(scores.values()))
    threshold = best_threshold(
        both, np.tile(held.labels, 2), np.tile(weights, 2), options["recall_weight"]
    )
    metrics: dict[str, Any] = {
        f"held-out sources, {name}": figures(score, held.labels, threshold)
        for name, score in scores.items()
    }
    metrics["held-out by source, L1C"] = by_source(scores["L1C"], held, threshold)
    if (data / "mine-pairs/pairs.csv").exists():
        metrics |= on_pairs(model, calibration, threshold, data / "mine-pairs")
    sources = np.unique(train_set.sources)
    done = replace(
        rounded,
        calibration=calibration,
        threshold=threshold,
        metrics=metrics,
        limits=LIMITS,
        licence="Apache-2.0; trained on chips under CC BY 4.0",
        credit=CREDIT,
        training_data=(
            f"mine-chips: {int((train_set.labels == 1).sum())} mines and "
            f"{int((train_set.labels == 0).sum())} others of {len(sources)} campaigns, L1C median "
            f"composites; held out whole: {', '.join(options['held_out'])}; threshold: highest "
            f"F-{options['recall_weight']:g} on the held-out campaigns weighted to prevalence "
            f"{calibration.prevalence}"
        ),
    ).write(out)
    print(f"threshold {threshold}, {calibration}", flush=True)
    for name, value in metrics.items():
        print(name, value, flush=True)
    return done


def cleared(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring L1C chips to the look of L2A: the whole path taken out, some contrast won."""
    whole = torch.ones(len(pixels))
    return atmosphere(torch.from_numpy(pixels), whole, torch.full((len(pixels), 3), 1.1)).numpy()


def prevalence_weights(labels: NDArray[np.int64], prevalence: float) -> NDArray[np.float64]:
    """Weights that make mines ``prevalence`` of the whole."""
    share = labels.mean()
    weights = np.where(labels == 1, prevalence / share, (1 - prevalence) / (1 - share))
    return np.asarray(weights, np.float64)


def fit_platt(
    logits: NDArray[np.float32], labels: NDArray[np.int64], prevalence: float
) -> Calibration:
    """Fit score = sigmoid(a * logit + b) on chips weighted to ``prevalence``."""
    fit = LogisticRegression(C=1e6).fit(
        logits.reshape(-1, 1), labels, sample_weight=prevalence_weights(labels, prevalence)
    )
    return Calibration(
        round(float(fit.coef_[0, 0]), 5), round(float(fit.intercept_[0]), 5), prevalence
    )


def best_threshold(
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    beta: float = 1.0,
) -> float:
    """Return the score with the highest weighted F-beta, two decimals; above 1 favours recall."""
    precision, recall, cuts = precision_recall_curve(labels, scores, sample_weight=weights)
    share = (1 + beta**2) * precision * recall
    value = share / np.maximum(beta**2 * precision + recall, 1e-9)
    return round(float(cuts[int(np.argmax(value[:-1]))]), 2)


def figures(
    scores: NDArray[np.float32], labels: NDArray[np.int64], threshold: float
) -> dict[str, float]:
    """AUC, AP, and F1, recall and false alarm rate at the threshold, unweighted, with counts."""
    called = scores >= threshold
    true = int((called & (labels == 1)).sum())
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    wrong = int((called & (labels == 0)).sum())
    return {
        "auc": round(float(roc_auc_score(labels, scores)), 4),
        "ap": round(float(average_precision_score(labels, scores)), 4),
        "f1": round(2 * true / max(2 * true + wrong + positives - true, 1), 4),
        "recall": round(true / positives, 4),
        "false_alarm_rate": round(wrong / negatives, 4),
        "mines": positives,
        "others": negatives,
    }


def by_source(scores: NDArray[np.float32], chips: Chips, threshold: float) -> dict[str, Any]:
    """Share called a mine in each source, with its label and count."""
    out = {}
    for source in np.unique(chips.sources):
        rows = chips.sources == source
        label = "mines" if chips.labels[rows][0] == 1 else "others"
        called = round(float((scores[rows] >= threshold).mean()), 4)
        out[str(source)] = {"called_mine": called, label: int(rows.sum())}
    return out


def on_pairs(
    model: ResnetClassifier, calibration: Calibration, threshold: float, folder: Path
) -> dict[str, Any]:
    """Judge on the later date of mine-pairs (L2A); mines near a training chip are left out."""
    table = pd.read_csv(folder / "pairs.csv")
    with np.load(folder / "pairs.npz") as file:
        pixels = file["t1"][..., :3].astype(np.float32).transpose(0, 3, 1, 2) / 1e4
    scores = calibrate(model.logits(np.ascontiguousarray(pixels)), calibration)
    kind = table["change_type"].to_numpy(str)
    mines = (kind == "mining") & (table["near_chip_m"].to_numpy(float) > 1000)
    out: dict[str, Any] = {}
    corner = (table[["lat_center", "lon_center"]] // 5 * 5).astype(int)
    blocks = np.array([f"lat{lat}lon{lon}" for lat, lon in corner.itertuples(index=False)])
    out["mine-pairs (L2A), mining called mine by 5-degree block"] = {
        str(block): {
            "called_mine": round(float((scores[mines & (blocks == block)] >= threshold).mean()), 3),
            "mines": int((mines & (blocks == block)).sum()),
        }
        for block in np.unique(blocks[mines])
    }
    for name, others in (("natural", kind == "natural"), ("all others", kind != "mining")):
        rows = mines | others
        labels = mines[rows].astype(np.int64)
        out[f"mine-pairs (L2A), mining vs {name}"] = figures(scores[rows], labels, threshold)
    return out
