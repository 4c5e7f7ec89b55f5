"""A segmenter from images and masks: ``mining-train segmenter --images DIR --masks DIR --out DIR``.

A SegFormer, from scratch or from another's weights, on windows of labelled images; what is unknown
(255) counts neither in the loss nor in a figure. Its best epoch is written as a model directory.
"""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from scanner.files import write_json
from scanner.models.card import SEGMENTER_CLASSES, ModelCard, Scaling
from training.export import write_model
from training.finetune.change import change_of
from training.finetune.classifier import trainer_limits
from training.finetune.masks import UNKNOWN, Pair, Windows, check_pairs, find_pairs, split_pairs
from training.finetune.module import WATCHED, Scheduled
from training.finetune.scaling import scaled
from training.finetune.segformer import Start, begin
from training.loop import fit
from training.recipe import SegmenterRecipe, plain


class CoverModule(Scheduled):
    """A SegFormer under cross entropy on full-size logits."""

    def __init__(self, network: nn.Module, scaling: Scaling, recipe: SegmenterRecipe, n: int):
        super().__init__(recipe, n)
        self.network = network
        self.scaling = scaling
        self.loss = nn.CrossEntropyLoss(ignore_index=UNKNOWN, reduction="sum")
        self.iou = MulticlassJaccardIndex(
            len(SEGMENTER_CLASSES), average="none", ignore_index=UNKNOWN
        )

    def logits(self, pixels: Tensor) -> Tensor:
        """Reflectance (n, 3, y, x) -> logits of the same size."""
        small = self.network(pixel_values=scaled(pixels, self.scaling)).logits
        return nn.functional.interpolate(small.float(), pixels.shape[2:], mode="bilinear")

    def mean_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the known pixels; 0 where none is known."""
        known = (labels != UNKNOWN).sum().clamp_min(1)
        loss: Tensor = self.loss(logits, labels) / known
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One step on windows."""
        pixels, labels = batch
        loss = self.mean_loss(self.logits(pixels), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Judge whole images as they are."""
        pixels, labels = batch
        logits = self.logits(pixels)
        self.log(WATCHED, self.mean_loss(logits, labels), batch_size=1, sync_dist=True)
        self.iou.update(logits.argmax(1), labels)

    def on_validation_epoch_end(self) -> None:
        """Log the IoU of each class there is."""
        present = self.iou.confmat.sum(1) > 0
        for name, value, seen in zip(SEGMENTER_CLASSES, self.iou.compute(), present, strict=True):
            if seen:
                self.log(f"val_iou_{name}", value)
        self.iou.reset()
        super().on_validation_epoch_end()


def train_segmenter(images: Path, masks: Path, out: Path, recipe: SegmenterRecipe) -> ModelCard:
    """Train on labelled images, write the model directory ``out``; the same call resumes a run.

    Where both folders hold ``train`` and ``val``, these are the sides; else some images judge.
    Raises ``TrainingError`` naming files that cannot be used, ``ModelError`` for ``recipe.start``.
    """
    train, held, corrupt = _sides(images, masks, recipe)
    runs = out / "run"
    runs.mkdir(parents=True, exist_ok=True)
    write_json(runs / "corrupt.json", {"count": len(corrupt), "images": corrupt})
    L.seed_everything(recipe.seed, verbose=False)
    start = begin(recipe.start)
    print(f"train {len(train)}, val {len(held)} images; begins with {start.told}", flush=True)
    windows = Windows(train, recipe.crop, change_of(recipe.augment), cut=True)
    loader = DataLoader(
        windows, min(recipe.batch, len(train)), shuffle=True, drop_last=True,
        num_workers=recipe.workers,
    )  # fmt: skip
    judge = DataLoader(Windows(held, recipe.crop, None, cut=False), 1, num_workers=recipe.workers)
    module = CoverModule(start.network, start.scaling, recipe, recipe.epochs * len(loader))
    network = fit(
        module,
        start.network,
        (loader, judge),
        runs,
        ema=recipe.ema or None,
        monitor=WATCHED,
        patience=recipe.stop_after,
        seed=recipe.seed,
        config=plain(recipe) | {"images": len(train)},
        **trainer_limits(recipe),
    )
    return write_model(network, _card(module, start, recipe, train, judge), out)


def _sides(
    images: Path, masks: Path, recipe: SegmenterRecipe
) -> tuple[list[Pair], list[Pair], list[str]]:
    if (images / "val").is_dir() and (masks / "val").is_dir():
        train, lost = check_pairs(
            find_pairs(images / "train", masks / "train"), recipe.skip_corrupt
        )
        held, more = check_pairs(find_pairs(images / "val", masks / "val"), recipe.skip_corrupt)
        return train, held, lost + more
    good, lost = check_pairs(find_pairs(images, masks), recipe.skip_corrupt)
    return *split_pairs(good, recipe.validation), lost


def _card(
    module: CoverModule,
    start: Start,
    recipe: SegmenterRecipe,
    train: list[Pair],
    judge: DataLoader[tuple[Tensor, Tensor]],
) -> ModelCard:
    """Measure the IoU of each class on the validation side and write the card."""
    module = module.eval().cpu()
    iou = MulticlassJaccardIndex(len(SEGMENTER_CLASSES), average="none", ignore_index=UNKNOWN)
    known = torch.zeros(len(SEGMENTER_CLASSES), dtype=torch.long)
    with torch.inference_mode():
        for pixels, labels in judge:
            iou.update(module.logits(pixels).argmax(1), labels)
            known += torch.bincount(labels[labels != UNKNOWN], minlength=len(known))
    found = {
        name: {"iou": round(float(value), 4), "pixels": int(n)} if n else "no evidence"
        for name, value, n in zip(SEGMENTER_CLASSES, iou.compute(), known, strict=True)
    }
    lacking = [name for name, n in zip(SEGMENTER_CLASSES, known, strict=True) if not n]
    limits = [f"never measured: {', '.join(lacking)}"] if lacking else []
    return ModelCard(
        name="mining-train segmenter",
        task="semantic-segmentation",
        architecture="SegFormer",
        bands=("B02", "B03", "B04"),
        scaling=start.scaling,
        sha256="",
        config=dict(start.config),
        classes=SEGMENTER_CLASSES,
        parameters=sum(p.numel() for p in start.network.parameters()),
        training_data=f"{len(train)} labelled images, seed {recipe.seed}; begun with {start.told}",
        metrics={"validation images": found},
        limits=tuple(limits),
    )
