"""One training step of a network on folders of images; the same schedule for both models."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
)

from scanner.models.chip_networks import ChipNet
from training.finetune.scaling import scaled
from training.recipe import Schedule

WATCHED = "val_loss"


class Scheduled(L.LightningModule):
    """Adam or AdamW on one of three schedules; ``val_loss`` must be logged by what inherits it."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.steps = steps
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None

    def configure_optimizers(self) -> Any:
        """Return the optimizer, with its one-cycle schedule if that is chosen."""
        wanted = self.schedule
        kind = torch.optim.AdamW if wanted.optimizer == "adamw" else torch.optim.Adam
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = kind(trained, wanted.rate, weight_decay=wanted.decay)
        if wanted.schedule == "one-cycle":
            cycle = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, wanted.rate, total_steps=self.steps, pct_start=0.1
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": cycle, "interval": "step"},
            }
        if wanted.schedule == "plateau":
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=wanted.plateau_factor, patience=wanted.plateau_patience
            )
        return optimizer

    def on_validation_epoch_end(self) -> None:
        """Step the plateau here: Lightning leaves that step out when it resumes."""
        if self.plateau is not None and not self.trainer.sanity_checking:
            self.plateau.step(self.trainer.callback_metrics[WATCHED])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the plateau has seen."""
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note it for when the optimizer is there."""
        self._seen = checkpoint.get("plateau")

    def on_train_start(self) -> None:
        """Go on with what the plateau has seen."""
        if self.plateau is not None and (seen := getattr(self, "_seen", None)):
            self.plateau.load_state_dict(seen)


class MineModule(Scheduled):
    """A :class:`ChipNet` under binary cross entropy."""

    def __init__(self, network: ChipNet, schedule: Schedule, weight: Tensor, steps: int) -> None:
        super().__init__(schedule, steps)
        self.network = network
        self.loss = nn.BCEWithLogitsLoss(pos_weight=weight)
        self.figures = MetricCollection(
            {
                "val_accuracy": BinaryAccuracy(),
                "val_precision": BinaryPrecision(),
                "val_recall": BinaryRecall(),
                "val_f1": BinaryF1Score(),
                "val_auc": BinaryAUROC(),
                "val_ap": BinaryAveragePrecision(),
            }
        )

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One step on images as the loader changed them."""
        pixels, labels = batch
        loss: Tensor = self.loss(self.network(scaled(pixels)), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Judge images as they are."""
        pixels, labels = batch
        logits = self.network(scaled(pixels)).float()
        self.log(WATCHED, self.loss(logits, labels), batch_size=len(labels), sync_dist=True)
        self.figures.update(logits, labels.int())
        self.log_dict(self.figures)
