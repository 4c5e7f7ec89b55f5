"""Train the chip classifier: ``python -m training.classifier --data ../shared/data --out DIR``.

Chips are L1C; the air is taken out at random strength, so that the network bears L1C and L2A.
Whole sources are held out: they choose nothing but the calibration and the threshold.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

from scanner.models.card import CLASSIFIER_CLASSES, ModelCard, Scaling
from scanner.models.classifier import build_network
from training.augment import mixed, random_air, random_heading
from training.chips import Chips, read_chips
from training.loop import fit

CONFIG = Path(__file__).with_name("classifier.toml")
LAYOUT = torch.channels_last  # half as fast again as the default on a CPU
SCALING = Scaling(mean=(0.06, 0.08, 0.09), std=(0.05, 0.05, 0.07), low=0.0, high=0.3)


class ChipModule(L.LightningModule):
    """ChipNet, binary cross entropy, AdamW on one cycle."""

    def __init__(self, options: dict[str, Any], steps: int) -> None:
        super().__init__()
        self.options = options
        self.steps = steps
        self.network = build_network(network_config(options)).to(memory_format=LAYOUT)
        self.loss = nn.BCEWithLogitsLoss()
        self.auc = BinaryAUROC()
        self.precision = BinaryAveragePrecision()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One step on chips whose air, heading and noise are drawn anew."""
        pixels, labels = batch
        low, high = self.options["air"]
        pixels = random_heading(random_air(pixels, low, high))
        pixels, targets = mixed(pixels, labels.float(), self.options["mixup"])
        logits = self.network(scaled(pixels).contiguous(memory_format=LAYOUT))
        loss: Tensor = self.loss(logits, 0.02 + 0.96 * targets)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Score held-out chips as they are (L1C)."""
        pixels, labels = batch
        logits = self.network(scaled(pixels)).float()
        self.auc.update(logits, labels)
        self.precision.update(logits, labels)
        self.log_dict({"auc": self.auc, "ap": self.precision}, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; the rate rises over the first tenth, then falls to nothing."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), self.options["rate"], weight_decay=self.options["decay"]
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.options["rate"], total_steps=self.steps, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def network_config(options: dict[str, Any]) -> dict[str, Any]:
    """Return the ``config`` of the card."""
    return {
        "backbone": options["backbone"],
        "bands": 3,
        "dropout": options["dropout"],
        "flips": options["flips"],
    }


def scaled(pixels: Tensor) -> Tensor:
    """Scale as the card does."""
    mean = torch.tensor(SCALING.mean).view(1, -1, 1, 1)
    std = torch.tensor(SCALING.std).view(1, -1, 1, 1)
    return (pixels.clamp(SCALING.low, SCALING.high) - mean) / std


def draw_weights(chips: Chips) -> NDArray[np.float64]:
    """Weights of the sampler: half mines; a source counts by the root of its size."""
    weights = np.zeros(len(chips.labels))
    for label in (0, 1):
        rows = chips.labels == label
        names, back, counts = np.unique(
            chips.sources[rows], return_inverse=True, return_counts=True
        )
        each = np.sqrt(counts) / np.sqrt(counts).sum() / counts
        weights[rows] = 0.5 * each[back]
        assert len(names) == len(each)  # noqa: S101
    return weights


def train(train_set: Chips, held: Chips, options: dict[str, Any], runs: Path) -> nn.Module:
    """Train, or go on from the last checkpoint in ``runs``; returns the averaged network."""
    L.seed_everything(options["seed"])
    torch.set_num_threads(options["threads"])
    sampler = WeightedRandomSampler(draw_weights(train_set).tolist(), options["samples"])
    loader = DataLoader(_tensors(train_set), options["batch"], sampler=sampler, drop_last=True)
    module = ChipModule(options, options["epochs"] * len(loader))
    return fit(
        module,
        module.network,
        (loader, DataLoader(_tensors(held), 256)),
        runs,
        ema=options["ema"],
        max_epochs=options["epochs"],
        check_val_every_n_epoch=options["check_every"],
    )


def _tensors(chips: Chips) -> TensorDataset:
    return TensorDataset(torch.from_numpy(chips.pixels), torch.from_numpy(chips.labels))


def draft_card(options: dict[str, Any], network: nn.Module) -> ModelCard:
    """Return the card as far as it is known before anything was measured."""
    from scanner.models.card import Calibration

    return ModelCard(
        name="mining-scan chips",
        task="classification",
        architecture="ResNet",
        bands=("B02", "B03", "B04"),
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
    """Train, judge and write the model directory."""
    from training.judge_classifier import finish

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mine-chips/")
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("training/runs/classifier"))
    given = parser.parse_args(argv)
    options = tomllib.loads(given.config.read_text(encoding="utf-8"))
    train_set, held = read_chips(given.data / "mine-chips/chips.parquet", options["held_out"])
    print(f"train {len(train_set.labels)}, held out {len(held.labels)} chips", flush=True)
    network = train(train_set, held, options, given.runs)
    finish(network, draft_card(options, network), train_set, held, options, given.data, given.out)


if __name__ == "__main__":
    main()
