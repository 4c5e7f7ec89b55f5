"""Train the shipped classifier: ``mining-train classifier --data ../shared/data --out DIR``.

It learns from L1C chips with the air taken out at random strength, and from L2A chips with air
added, so that it bears both; near and short-wave infrared are there at times, as in a catalog.

First a model a fold is trained without whole campaigns and regions, to judge, calibrate and choose
the threshold; then the one that is shipped, on all chips. A run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import shutil
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

from scanner.models.card import CLASSIFIER_CLASSES, Calibration, ModelCard, Scaling
from scanner.models.classifier import ResnetClassifier, build_network
from training.augment import mixed, random_air, random_heading, random_infrared, random_view
from training.chips import BANDS, Chips, joined, read_chips, read_pairs
from training.folds import fold_of, trained_on
from training.judge_classifier import Looks, finish
from training.loop import fit

CONFIG: Final = Path(__file__).with_name("classifier.toml")
SEEN: Final = 512
"""Chips the last model is checked on while it is trained; it learns from them, so they only tell
that it learns."""
LAYOUT: Final = torch.channels_last  # half as fast again as the default on a CPU
SCALING: Final = Scaling(
    mean=(0.06, 0.08, 0.09, 0.25, 0.18, 0.10),
    std=(0.05, 0.05, 0.07, 0.10, 0.08, 0.08),
    low=0.0,
    high=(0.3, 0.3, 0.3, 0.6, 0.6, 0.6),
)
Batch = tuple[Tensor, Tensor, Tensor]


class Rows(Dataset[Batch]):
    """Some rows of the chips, a batch at a time: pixels, labels, whether they are L2A."""

    def __init__(self, chips: Chips, rows: NDArray[np.int64]) -> None:
        self.chips, self.rows = chips, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = self.rows[np.asarray(indices)]
        return (
            torch.from_numpy(self.chips.pixels[rows]),
            torch.from_numpy(self.chips.labels[rows]),
            torch.from_numpy(self.chips.surface[rows]),
        )


def _whole(batch: Batch) -> Batch:
    return batch


class ChipModule(L.LightningModule):
    """ChipNet, binary cross entropy, AdamW on one cycle."""

    def __init__(self, options: dict[str, Any], steps: int) -> None:
        super().__init__()
        self.options = options
        self.steps = steps
        self.network = build_network(network_config(options)).to(memory_format=LAYOUT)
        if options["compile"] and shutil.which("g++"):
            self.network.compile()
        self.loss = nn.BCEWithLogitsLoss()
        self.auc = BinaryAUROC()
        self.precision = BinaryAveragePrecision()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on chips whose air, heading, place and noise are drawn anew."""
        pixels, labels, surface = batch
        pixels = varied(pixels, surface, self.options)
        pixels, targets = mixed(scaled(pixels), labels.float(), self.options["mixup"])
        logits = self.network(pixels.contiguous(memory_format=LAYOUT))
        loss: Tensor = self.loss(logits, 0.02 + 0.96 * targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Score held-out chips as they are; straight, since compiling it again takes longer."""
        pixels, labels, _surface = batch
        logits = self.network.forward(scaled(pixels)).float()
        self.auc.update(logits, labels)
        self.precision.update(logits, labels)
        self.log_dict({"auc": self.auc, "ap": self.precision})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, no decay of biases and norms; the rate rises over a tenth, then falls to nil."""
        named = list(self.network.named_parameters())
        groups = [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": self.options["decay"]},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, self.options["rate"])
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.options["rate"], total_steps=self.steps, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def varied(pixels: Tensor, surface: Tensor, options: dict[str, Any]) -> Tensor:
    """Change chips (n, 6, y, x) as another day, another level or another grid might."""
    bands = pixels[:, :3].clone()
    for level, (low, high) in ((~surface, options["air"]), (surface, options["air_surface"])):
        if level.any():
            bands[level] = random_air(bands[level], low, high)
    tint = torch.exp(options["tint"] * torch.randn(len(bands), 3, 1, 1, device=bands.device))
    infrared = random_infrared(pixels[:, 3:], options["without_infrared"])
    both = torch.cat([(bands * tint).clamp(0, 1), infrared], 1)
    view = options["view"]
    return random_view(random_heading(both), view["share"], view["zoom"], view["shift"])


def network_config(options: dict[str, Any]) -> dict[str, Any]:
    """Return the ``config`` of the card."""
    return {
        "backbone": options["backbone"],
        "bands": len(BANDS),
        "dropout": options["dropout"],
        "flips": options["flips"],
    }


def scaled(pixels: Tensor) -> Tensor:
    """Scale as the card does."""
    shape = (1, -1, 1, 1)
    mean, std, high = (
        pixels.new_tensor(v).view(shape) for v in (SCALING.mean, SCALING.std, SCALING.high)
    )
    return torch.nan_to_num((pixels.clamp_min(SCALING.low).minimum(high) - mean) / std)


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
        Rows(chips, rows), options["batch"], sampler=sampler, drop_last=True, collate_fn=_whole
    )
    module = ChipModule(options, options["epochs"] * len(loader))
    return fit(
        module,
        module.network,
        (loader, DataLoader(Rows(chips, judges), 256, collate_fn=_whole)),
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
        looks.fill(ResnetClassifier(network, draft_card(options, network)), chips, folds == fold)
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
