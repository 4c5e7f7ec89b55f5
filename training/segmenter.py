"""Train the segmenter: ``python -m training.segmenter --data ../shared/data --out DIR``.

A SegFormer-b0 from scratch on windows laid out of mine-pairs, under spectral labels of our own;
air is added at random strength, so that the network bears L2A and L1C. Whole 5-degree blocks are
held out.
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
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from scanner.models.card import SEGMENTER_CLASSES, ModelCard, Scaling
from scanner.models.cover_networks import build_network
from training.augment import random_air, random_heading
from training.finetune.scaling import scaled
from training.labels import IGNORE
from training.loop import fit
from training.pairs import Mosaics, Patches, read_multispectral, read_pairs

CONFIG = Path(__file__).with_name("segmenter.toml")
SCALING = Scaling(mean=(0.06, 0.08, 0.08), std=(0.05, 0.06, 0.08), low=0.0, high=0.6)


class CoverModule(L.LightningModule):
    """SegFormer, weighted cross entropy on full-size logits, AdamW on one cycle."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options
        self.network = build_network(options["network"])
        self.loss = nn.CrossEntropyLoss(torch.tensor(options["weights"]), ignore_index=IGNORE)
        self.iou = MulticlassJaccardIndex(
            len(SEGMENTER_CLASSES), average="none", ignore_index=IGNORE
        )

    def logits(self, pixels: Tensor) -> Tensor:
        """Reflectance (n, 3, y, x) -> logits of the same size."""
        small = self.network(pixel_values=scaled(pixels, SCALING)).logits
        return nn.functional.interpolate(small.float(), pixels.shape[2:], mode="bilinear")

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One step on windows whose air, noise and heading are drawn anew."""
        pixels, labels = batch
        low, high = self.options["air"]
        both = torch.cat([random_air(pixels, low, high), labels[:, None].float()], 1)
        both = random_heading(both)
        loss: Tensor = self.loss(self.logits(both[:, :3]), both[:, 3].long())
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Measure on held-out blocks as they are (L2A)."""
        pixels, labels = batch
        self.iou.update(self.logits(pixels).argmax(1), labels)

    def on_validation_epoch_end(self) -> None:
        """Log the IoU of each class."""
        for name, value in zip(SEGMENTER_CLASSES, self.iou.compute(), strict=True):
            self.log(name, value)
        self.iou.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; the rate rises over the first tenth, then falls to nothing."""
        rate = self.options["rate"]
        optimizer = torch.optim.AdamW(
            self.network.parameters(), rate, weight_decay=self.options["decay"]
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rate, total_steps=self.options["steps"], pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def train(
    patches: Patches, held: Patches, scenes: Patches | None, options: dict[str, Any], runs: Path
) -> nn.Module:
    """Train round after round, each from the averaged weights of the one before."""
    L.seed_everything(options["seed"])
    torch.set_num_threads(options["threads"])
    judge = DataLoader(Mosaics(held, None, 8, 1), 1)
    network: nn.Module | None = None
    for number, changes in enumerate(options["rounds"]):
        chosen = options | changes
        module = CoverModule(chosen)
        if network is not None:
            module.network.load_state_dict(network.state_dict())
        length = chosen["steps"] * chosen["batch"]
        seed = chosen["seed"] + number
        windows = Mosaics(patches, scenes, length, seed, chosen["wet"], chosen["few"])
        network = fit(
            module,
            module.network,
            (DataLoader(windows, chosen["batch"]), judge),
            runs / f"round-{number}",
            ema=chosen["ema"],
            max_steps=chosen["steps"],
            val_check_interval=chosen["check_every"],
        )
    if network is None:
        raise ValueError("no [[rounds]] in the TOML; nothing to train")
    return network


def lift(network: nn.Module, values: list[float]) -> nn.Module:
    """Add ``values`` to the logits of the classes, for good: more of one means less of others."""
    bias = network.get_parameter("decode_head.classifier.bias")
    with torch.no_grad():
        bias.add_(torch.tensor(values))
    return network


def draft_card(options: dict[str, Any], network: nn.Module) -> ModelCard:
    """Return the card as far as it is known before anything was measured."""
    return ModelCard(
        name="mining-scan land cover",
        task="semantic-segmentation",
        architecture="SegFormer-b0",
        bands=("B02", "B03", "B04"),
        scaling=SCALING,
        sha256="",
        config=dict(options["network"]),
        classes=SEGMENTER_CLASSES,
        parameters=sum(p.numel() for p in network.parameters()),
    )


def main(argv: list[str] | None = None) -> None:
    """Train, judge and write the model directory."""
    from training.judge_segmenter import finish

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mine-pairs/ and others"
    )
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("training/runs/segmenter"))
    given = parser.parse_args(argv)
    options = tomllib.loads(given.config.read_text(encoding="utf-8"))
    pairs = read_pairs(given.data / "mine-pairs")
    held = np.isin(pairs.blocks, options["held_out"])
    scenes = read_multispectral(given.data / "multispectral")
    print(f"train {int((~held).sum())}, held out {int(held.sum())} patches", flush=True)
    network = train(pairs.take(~held), pairs.take(held), scenes, options, given.runs)
    network = lift(network, options["lift"])
    finish(network, draft_card(options, network), pairs.take(held), given.data, given.out)


if __name__ == "__main__":
    main()
