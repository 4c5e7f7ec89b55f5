"""A self-supervised start on unlabelled images: SimSiam (Chen and He, arXiv:2011.10566).

Two views of one image, cut and changed at random, are to be told from each other's features; the
gradient is stopped on one side, which keeps all features from becoming the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from scanner.errors import TrainingError
from scanner.models.chip_networks import ChipNet
from training.finetune.change import Change
from training.finetune.images import read_pixels
from training.finetune.networks import begin, body
from training.finetune.scaling import scaled
from training.loop import DONE, fit
from training.pictures import PICTURES, RASTERS
from training.recipe import ClassifierRecipe

WIDTH = 512
"""Features compared."""


class Views(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each image."""

    def __init__(self, paths: list[Path], size: int, change: Change) -> None:
        self.paths = paths
        self.size = size
        self.change = change
        self.cut = v2.RandomResizedCrop(size, scale=(0.4, 1.0), antialias=True)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = read_pixels(self.paths[index], self.size)
        return self.change(self.cut(pixels)), self.change(self.cut(pixels))


class SimSiam(L.LightningModule):
    """A network without its head, a projector and a predictor."""

    def __init__(self, network: ChipNet, rate: float) -> None:
        super().__init__()
        self.rate = rate
        features = body(network)
        self.network = network
        self.projector = nn.Sequential(
            *_layer(features, WIDTH), *_layer(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        )
        self.predictor = nn.Sequential(*_layer(WIDTH, WIDTH // 4), nn.Linear(WIDTH // 4, WIDTH))

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the loss, -1..1, and the spread of the features: 0 if all became the same."""
        seen = [self.projector(self.network(scaled(view))) for view in batch]
        told = [self.predictor(features) for features in seen]
        pairs = ((told[0], seen[1]), (told[1], seen[0]))
        alike = [nn.functional.cosine_similarity(a, b.detach()).mean() for a, b in pairs]
        unit = nn.functional.normalize(seen[0].detach().float())
        return -torch.stack(alike).mean(), unit.std(0, correction=0).mean() * WIDTH**0.5

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One step on two views."""
        loss, _spread = self.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Judge on images held out."""
        loss, spread = self.loss(batch)
        self.log_dict({"val_loss": loss, "spread": spread}, batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        """AdamW at an even rate."""
        return torch.optim.AdamW(self.parameters(), self.rate, weight_decay=1e-4)


def _layer(given: int, wanted: int) -> tuple[nn.Module, ...]:
    return nn.Linear(given, wanted, bias=False), nn.BatchNorm1d(wanted), nn.ReLU()


def pretrain(folder: Path, recipe: ClassifierRecipe, change: Change, runs: Path) -> Path:
    """Train on all images below ``folder``; returns the file of weights (without a head).

    Raises ``TrainingError`` if there are fewer than two batches of images.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (*PICTURES, *RASTERS))
    if len(paths) < 2 * recipe.batch:
        raise TrainingError(
            f"{folder}: {len(paths)} images, a self-supervised start needs {2 * recipe.batch} "
            "(two batches); add images, or give a smaller --batch"
        )
    L.seed_everything(recipe.seed, verbose=False)
    network, _ = begin(recipe, None)
    module = SimSiam(network, recipe.rate)
    every = max(2, len(paths) // max(recipe.batch, len(paths) // 10))
    held, rest = paths[::every], [p for i, p in enumerate(paths) if i % every]
    sets = (Views(rest, recipe.input_size, change), Views(held, recipe.input_size, change))
    fit(
        module,
        module.network,
        (
            DataLoader(
                sets[0], recipe.batch, shuffle=True, drop_last=True, num_workers=recipe.workers
            ),
            DataLoader(sets[1], recipe.batch, num_workers=recipe.workers),
        ),
        runs,
        ema=None,
        seed=recipe.seed,
        config={"unlabelled": len(paths), "backbone": recipe.backbone, "rate": recipe.rate},
        max_epochs=recipe.init_epochs,
    )
    return runs / DONE
