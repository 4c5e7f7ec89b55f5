"""Train the shipped classifier: ``mining-train classifier --data ../shared/data --out DIR``.

It learns from L1C chips with the air taken out at random strength, and from L2A chips with air
added, so that it bears both; near and short-wave infrared are there at times, as in a catalog.

First a model a fold is trained without whole campaigns and regions, to judge, calibrate and choose
the threshold; then the one that is shipped, on all chips. A run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, WeightedRandomSampler

from scanner.models.card import CLASSIFIER_CLASSES, Calibration, ModelCard
from scanner.models.classifier import classifier_of
from training.chip_module import SCALING, ChipModule, Rows, network_config, whole
from training.chips import BANDS, Chips, joined, read_chips, read_pairs
from training.folds import fold_of, trained_on
from training.judge_classifier import Looks, finish
from training.loop import fit

CONFIG: Final = Path(__file__).with_name("classifier.toml")
SEEN: Final = 512
"""Chips the last model is checked on while it is trained; it learns from them, so they only tell
that it learns."""


def draw_weights(chips: Chips, rows: NDArray[np.int64], pairs: float) -> NDArray[np.float64]:
    """Weights of the sampler, which sum to 1: half mines; a campaign by the root of its size.

    Chips of mine-pairs (L2A) are drawn with a share of ``pairs``.
    """
    labels, surface = chips.labels[rows], chips.surface[rows]
    weights = np.zeros(len(rows))
    for level, share in ((surface, pairs), (~surface, 1 - pairs)):
        for label in (0, 1):
            of = level & (labels == label)
            _, back, counts = np.unique(
                chips.sources[rows][of], return_inverse=True, return_counts=True
            )
            each = np.sqrt(counts) / np.sqrt(counts).sum() / counts
            weights[of] = 0.5 * share * each[back]
    return weights / weights.sum()


def train(
    chips: Chips,
    rows: NDArray[np.int64],
    judges: NDArray[np.int64],
    options: dict[str, Any],
    runs: Path,
) -> nn.Module:
    """Train on ``rows``, or go on from the last checkpoint in ``runs``; returns the network."""
    L.seed_everything(options["seed"], verbose=False)
    torch.set_num_threads(options["threads"])
    weights = draw_weights(chips, rows, options["pairs"])
    sampler = WeightedRandomSampler(weights.tolist(), options["samples"])
    loader = DataLoader(
        Rows(chips, rows), options["batch"], sampler=sampler, drop_last=True, collate_fn=whole
    )
    module = ChipModule(options, options["epochs"] * len(loader))
    return fit(
        module,
        module.network,
        (loader, DataLoader(Rows(chips, judges), 256, collate_fn=whole)),
        runs,
        ema=options["ema"],
        seed=options["seed"],
        config=options,
        max_epochs=options["epochs"],
        check_val_every_n_epoch=options["check_every"],
    )


def cross_validate(chips: Chips, options: dict[str, Any], runs: Path) -> Looks:
    """Return the logits of every chip from a model that saw neither its campaign nor its region."""
    folds = fold_of(chips, options["folds"])
    looks = Looks.empty(folds)
    for fold in range(options["folds"]):
        network = train_fold(chips, fold, options, runs)
        looks.fill(classifier_of(network, draft_card(options, network)), chips, folds == fold)
    return looks


def train_apart(data: Path, options: dict[str, Any], runs: Path) -> None:
    """Train all models, ``processes`` at a time; each finds its own place to go on from."""
    parts = [*range(options["folds"]), None]
    with ProcessPoolExecutor(options["processes"], get_context("spawn")) as pool:
        for done in [pool.submit(train_part, data, part, options, runs) for part in parts]:
            done.result()


def train_part(data: Path, fold: int | None, options: dict[str, Any], runs: Path) -> None:
    """Train the model of one fold, or the one that is shipped (``None``)."""
    chips = read_all(data)
    if fold is None:
        train_on_all(chips, options, runs)
    else:
        train_fold(chips, fold, options, runs)


def train_fold(chips: Chips, fold: int, options: dict[str, Any], runs: Path) -> nn.Module:
    """Train the model that never saw the campaigns and regions of ``fold``."""
    held = fold_of(chips, options["folds"]) == fold
    rows = trained_on(chips, held)
    judges = np.flatnonzero(held & (chips.labels >= 0) & ~chips.surface)
    return train(chips, rows, judges, options, runs / f"fold-{fold}")


def train_on_all(chips: Chips, options: dict[str, Any], runs: Path) -> nn.Module:
    """Train the model that is shipped."""
    rows = np.flatnonzero(chips.labels >= 0)
    seen = np.random.default_rng(options["seed"]).choice(rows, min(SEEN, len(rows)), replace=False)
    return train(chips, rows, seen, options, runs / "all")


def read_all(data: Path) -> Chips:
    """Read every chip of ``data``: mine-chips, and mine-pairs where it is there."""
    parts = [read_chips(data / "mine-chips/chips.parquet")]
    if (data / "mine-pairs/pairs.csv").exists():
        parts.append(read_pairs(data / "mine-pairs"))
    return joined(parts)


def draft_card(options: dict[str, Any], network: nn.Module) -> ModelCard:
    """Return the card as far as it is known before anything was measured."""
    return ModelCard(
        name="mining-scan chips",
        task="classification",
        architecture="ResNet",
        bands=BANDS[:3],
        optional_bands=BANDS[3:],
        scaling=SCALING,
        sha256="",
        config=network_config(options),
        classes=CLASSIFIER_CLASSES,
        input_size=48,
        chip_size=48,
        threshold=0.5,
        calibration=Calibration(1.0, 0.0, 0.5),
        parameters=sum(p.numel() for p in network.parameters()),
    )


def main(argv: list[str] | None = None) -> None:
    """Cross-validate, train, and write the model directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mine-chips/")
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("training/runs/classifier"))
    given = parser.parse_args(argv)
    options = tomllib.loads(given.config.read_text(encoding="utf-8"))
    if options["processes"] > 1:
        train_apart(given.data, options, given.runs)
    chips = read_all(given.data)
    looks = cross_validate(chips, options, given.runs)
    network = train_on_all(chips, options, given.runs)
    finish(network, draft_card(options, network), chips, looks, options, given.data, given.out)


if __name__ == "__main__":
    main()
