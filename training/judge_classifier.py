"""Judge the classifier on what it never saw, calibrate it, choose thresholds, write its card."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve  # type: ignore[import-untyped]
from torch import nn

from scanner.models.calibration import Calibration, calibrate
from scanner.models.card import ModelCard
from scanner.models.classifier import ResnetClassifier, load_classifier
from training.augment import atmosphere
from training.calibrate import compare_methods, fit, prevalence_weights, thresholds
from training.chips import BY_EYE, LEAST_OPEN, Chips, open_share
from training.evaluate.metrics import Rules, measure
from training.export import CREDIT, write_weights
from training.places import regions

LEARNT_FROM: Final = ("mine-chips/chips.parquet", "mine-pairs/pairs.csv", "mine-pairs/pairs.npz")
KEPT: Final = ("roc_auc", "average_precision", "f1", "precision", "recall", "false_alarm_rate")
"""Figures of a card; ``mining-train evaluate`` gives more."""
LIMITS: Final = (
    "figures come from cross-validation: models made the same way without the campaigns and "
    "5-degree blocks they are judged on; the model shipped learnt from all and is judged by none",
    "scores are relative to the stated prevalence; where mines are rarer among the chips looked "
    "at, a score overstates, and --prior rescales it",
    "negatives of the campaigns are partly hard cases, so their figures are no field figures",
    "negative chips have no place: one may lie beside a held-out one",
    "the labels of mine-pairs call some closed forest mining, all of it in one block of Peru "
    "(lat-5lon-80); figures on open ground leave such pairs out",
    "B08, B11 and B12 were learnt from mine-pairs alone, under labels of our own",
    "single mines below about 1 ha in wide forest score low",
    "industrial pits, bright river bars and towns with bare ground are the likely false alarms; "
    "faint, overgrown or very small mines the likely misses",
)


@dataclass(frozen=True)
class Looks:
    """Logits of chips by models that never saw their campaign and region, each (n,)."""

    folds: NDArray[np.int64]
    plain: NDArray[np.float32]
    """Of B02 B03 B04 as they are."""
    cleared: NDArray[np.float32]
    """Of L1C with the air taken out, as L2A looks; NaN for chips that are L2A."""
    infrared: NDArray[np.float32]
    """With B08 B11 B12; NaN for chips without."""

    @classmethod
    def empty(cls, folds: NDArray[np.int64]) -> Looks:
        """Return looks still to be filled."""
        none = np.full(len(folds), np.nan, np.float32)
        return cls(folds, none.copy(), none.copy(), none.copy())

    def fill(self, model: ResnetClassifier, chips: Chips, held: NDArray[np.bool_]) -> None:
        """Look at the chips of ``held`` with a model that never saw them."""
        pairs, others = held & chips.surface, held & ~chips.surface
        rgb = np.ascontiguousarray(chips.pixels[:, :3])
        self.plain[held] = model.logits(rgb[held])
        self.cleared[others] = model.logits(cleared(rgb[others]))
        self.infrared[pairs] = model.logits(chips.pixels[pairs])


def finish(
    network: nn.Module,
    card: ModelCard,
    chips: Chips,
    looks: Looks,
    options: dict[str, Any],
    data: Path,
    out: Path,
) -> ModelCard:
    """Write the model directory: weights in half precision, and the card with what was measured."""
    write_weights(network, out)
    rounded = card.write(out)
    logits, labels, groups = told(chips, looks)
    prevalence = options["prevalence"]
    calibration = fit(logits, labels, prevalence, options["calibration"])
    scores = calibrate(logits, calibration)
    threshold = best_threshold(
        scores, labels, prevalence_weights(labels, prevalence), options["recall_weight"]
    )
    rules = Rules(threshold, prevalence)
    metrics = on_chips(chips, looks, calibration, rules)
    metrics["calibration on campaigns and regions it was not fitted on"] = compare_methods(
        logits, labels, groups, prevalence
    )
    if chips.surface.any():
        metrics |= on_pairs(chips, looks, calibration, rules, data / "mine-pairs")
    done = replace(
        rounded,
        calibration=calibration,
        threshold=threshold,
        thresholds=thresholds(scores, labels, prevalence),
        metrics=metrics,
        limits=LIMITS,
        licence="Apache-2.0; trained on chips under CC BY 4.0",
        credit=CREDIT,
        training_data=_training_data(chips, options, data),
    ).write(out)
    load_classifier(out)
    print(f"threshold {threshold}, {done.thresholds}, {calibration}", flush=True)
    for name, value in metrics.items():
        print(name, value, flush=True)
    return done


def told(
    chips: Chips, looks: Looks
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.str_]]:
    """Return every look at a chip with a label: logits, labels, and what is held out together."""
    pairs = np.char.add("pairs of fold ", looks.folds.astype(str))
    groups = np.where(chips.surface, pairs, chips.sources)
    found = []
    for logits in (looks.plain, looks.cleared, looks.infrared):
        rows = (chips.labels >= 0) & np.isfinite(logits)
        found.append((logits[rows], chips.labels[rows], groups[rows]))
    values, labels, names = (np.concatenate(part) for part in zip(*found, strict=True))
    return values, labels, names


def on_chips(chips: Chips, looks: Looks, calibration: Calibration, rules: Rules) -> dict[str, Any]:
    """Judge on mine-chips: as they are (L1C), with the air taken out, by fold, campaign, region."""
    rows = ~chips.surface
    labels, plain = chips.labels[rows], calibrate(looks.plain[rows], calibration)
    clear = calibrate(looks.cleared[rows], calibration)
    return {
        "cross-validated, mine-chips (L1C)": kept(plain, labels, rules),
        "cross-validated, mine-chips with the air taken out": kept(clear, labels, rules),
        "cross-validated, mine-chips (L1C) by fold": {
            str(fold): kept(plain[of], labels[of], replace(rules, resamples=0))
            for fold in np.unique(looks.folds[rows])
            for of in [looks.folds[rows] == fold]
        },
        "cross-validated, mine-chips (L1C) by campaign": called(
            plain, labels, chips.sources[rows], rules
        ),
        "cross-validated, mine-chips (L1C) by region": called(
            plain, labels, regions(chips.places[rows]).astype(str), rules
        ),
    }


def on_pairs(
    chips: Chips, looks: Looks, calibration: Calibration, rules: Rules, folder: Path
) -> dict[str, Any]:
    """Judge on mine-pairs (L2A) by their own labels (later date), and by ours (both dates).

    Chips within a kilometre of a pair were left out of the training of its fold, where their place
    is known. ``away from chips`` leaves out the mining pairs within a kilometre of any mine-chip as
    well, ``open ground`` those too that show nothing but closed forest or cloud, whatever they are
    called.
    """
    table = pd.read_csv(folder / "pairs.csv")
    later = np.flatnonzero(chips.surface)[len(table) :]
    kind = table["change_type"].to_numpy(str)
    mines = kind == "mining"
    away = ~mines | (table["near_chip_m"].to_numpy(float) > 1000)
    seen = away & (open_share(chips.pixels[later]) >= LEAST_OPEN)
    grounds = {"all pairs": np.ones_like(away), "away from chips": away, "open ground": seen}
    found: dict[str, Any] = {}
    for bands, logits in (("B02 B03 B04", looks.plain), ("with B08 B11 B12", looks.infrared)):
        scores = calibrate(logits[later], calibration)
        for ground, shown in grounds.items():
            for name, others in (("natural", kind == "natural"), ("all others", kind != "mining")):
                rows = (mines | others) & shown
                key = f"cross-validated, mine-pairs (L2A), {bands}, {ground}, mining vs {name}"
                found[key] = kept(scores[rows], mines[rows].astype(np.int64), rules)
        eye = chips.surface & (chips.labels >= 0)
        found[f"cross-validated, mine-pairs (L2A), {bands}, our own labels"] = kept(
            calibrate(logits[eye], calibration), chips.labels[eye], rules
        )
    for ground, shown in grounds.items():
        found[f"cross-validated, mine-pairs (L2A), {ground}, mining by region"] = called(
            calibrate(looks.plain[later], calibration)[mines & shown],
            np.ones(int((mines & shown).sum()), np.int64),
            regions(chips.places[later][mines & shown]).astype(str),
            rules,
        )
    return found


def kept(scores: NDArray[np.float32], labels: NDArray[np.int64], rules: Rules) -> dict[str, Any]:
    """Return the figures a card keeps: [value, low, high] with 95 % intervals where drawn."""
    found = measure(scores, labels, rules)
    ends = found.get("confidence", {})
    values = {name: [found[name], *(ends.get(name) or [])] for name in (*KEPT, "calibration_error")}
    short = {name: value[0] if len(value) == 1 else value for name, value in values.items()}
    rarer = {name: value["precision"] for name, value in (found["precision_at"] or {}).items()}
    return short | {"precision_at": rarer, "mines": found["mines"], "others": found["others"]}


def called(
    scores: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.str_], rules: Rules
) -> dict[str, Any]:
    """Return the share called a mine in each group, apart for mines and others."""
    found: dict[str, Any] = {}
    for group in np.unique(groups[(groups != "None") & (groups != "")]):
        for name, label in (("mines", 1), ("others", 0)):
            of = (groups == group) & (labels == label)
            if of.any():
                share = round(float((scores[of] >= rules.threshold).mean()), 4)
                found.setdefault(str(group), {}).update(
                    {f"{name}_called": share, name: int(of.sum())}
                )
    return found


def cleared(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring L1C chips to the look of L2A: the whole path taken out, some contrast won."""
    whole = torch.ones(len(pixels))
    return atmosphere(torch.from_numpy(pixels), whole, torch.full((len(pixels), 3), 1.1)).numpy()


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


def data_digest(data: Path) -> str:
    """Return the sha256 of the files learnt from, our own labels first."""
    digest = hashlib.sha256(BY_EYE.read_bytes())
    for path in (data / name for name in LEARNT_FROM):
        if path.exists():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _training_data(chips: Chips, options: dict[str, Any], data: Path) -> str:
    chip, pair = ~chips.surface, chips.surface
    counts = [int((of & (chips.labels == k)).sum()) for of in (chip, pair) for k in (1, 0)]
    return (
        f"mine-chips: {counts[0]} mines and {counts[1]} others of "
        f"{len(np.unique(chips.sources[chip]))} campaigns, L1C; pixels of mine-pairs under our own "
        f"labels: {counts[2]} mines and {counts[3]} others, L2A; judged by {options['folds']} "
        f"models, each without its part of the campaigns and 5-degree blocks and without chips "
        f"within 1 km of those; threshold: highest F-{options['recall_weight']:g} at prevalence "
        f"{options['prevalence']:g}; seed {options['seed']}; data sha256 {data_digest(data)}"
    )
