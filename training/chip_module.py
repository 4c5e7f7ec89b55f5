"""The shipped classifier while it learns: its batches, what is varied, the loss, the schedule."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any, Final

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

from scanner.models.card import Scaling
from scanner.models.chip_networks import build_network
from training.augment import mixed, random_air, random_heading, random_infrared, random_view
from training.chips import BANDS, Chips
from training.finetune.scaling import scaled as scale

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


def whole(batch: Batch) -> Batch:
    """Collate nothing: rows come as a batch."""
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
    """Scale as the card does; absent bands become 0."""
    return torch.nan_to_num(scale(pixels, SCALING))
