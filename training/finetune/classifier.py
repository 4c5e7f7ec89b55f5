"""A classifier from a dataset folder: ``mining-train classifier --dataset FOLDER --out DIR``.

Images are checked, the network begins with the best weights at hand, is trained until the
validation loss stands still, and its best epoch is calibrated on the validation side and written
as a model directory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, WeightedRandomSampler

from scanner.config import digest
from scanner.errors import TrainingError
from scanner.files import write_json
from scanner.models.card import ModelCard
from training.dataset.folder import Sample, read_split
from training.finetune.change import change_of
from training.finetune.finish import write_classifier
from training.finetune.images import Checked, ChipImages, check_images
from training.finetune.module import WATCHED, MineModule
from training.finetune.networks import begin, pos_weight
from training.finetune.pretext import pretrain
from training.loop import fit
from training.recipe import ClassifierRecipe, Schedule, plain

Loader = DataLoader[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Sides:
    """The two sides of a dataset folder, every image of them read once."""

    train: Checked
    val: Checked

    @property
    def corrupt(self) -> list[str]:
        """One line for each image left out."""
        return self.train.corrupt + self.val.corrupt


def train_classifier(dataset: Path, out: Path, recipe: ClassifierRecipe) -> ModelCard:
    """Train on ``dataset``, write the model directory ``out``; the same call resumes a killed one.

    What the run leaves on its way is in ``out/run``. Raises ``TrainingError`` for a folder without
    images of both classes on both sides, for images that cannot be read, and for weights that
    cannot be had.
    """
    sides = read_sides(dataset, recipe)
    runs = out / "run"
    runs.mkdir(parents=True, exist_ok=True)
    _tell(sides, runs)
    L.seed_everything(recipe.seed, verbose=False)
    network, start = begin(recipe, _self_supervised(recipe, runs))
    print(f"begins with {start}", flush=True)
    labels = [sample.label for sample in sides.train.samples]
    loaders = make_loaders(sides, recipe)
    weight = pos_weight(labels) if recipe.balance == "weight" else torch.tensor(1.0)
    module = MineModule(network, recipe, weight, recipe.epochs * max(len(loaders[0]), 1))
    fit(
        module,
        network,
        loaders,
        runs,
        ema=recipe.ema or None,
        monitor=WATCHED,
        patience=recipe.stop_after,
        seed=recipe.seed,
        config=plain(recipe) | {"dataset": _digest(sides, dataset)},
        **trainer_limits(recipe),
    )
    return write_classifier(network, recipe, sides.val, labels, start, dataset, out)


def trainer_limits(schedule: Schedule) -> dict[str, Any]:
    """Return what Lightning's Trainer is told by a recipe."""
    limits: dict[str, Any] = {"max_epochs": schedule.epochs, "devices": schedule.devices}
    if schedule.precision != "auto":
        limits["precision"] = schedule.precision
    return limits


def read_sides(dataset: Path, recipe: ClassifierRecipe) -> Sides:
    """Read and check both sides of a dataset folder."""
    sides = Sides(
        *(check_images(read_split(dataset, name), recipe.skip_corrupt) for name in ("train", "val"))
    )
    for name, side in (("train", sides.train), ("val", sides.val)):
        count = Counter(sample.label for sample in side.samples)
        for label, folder in ((1, "positive"), (0, "negative")):
            if not count[label]:
                raise TrainingError(
                    f"{dataset / name / folder}: no image; both classes are needed on both sides, "
                    "make the dataset again"
                )
    return sides


def make_loaders(sides: Sides, recipe: ClassifierRecipe) -> tuple[Loader, Loader]:
    """Return the loaders of training and validation."""
    train = ChipImages(
        sides.train.samples, recipe.input_size, change_of(recipe.augment, recipe.air)
    )
    held = ChipImages(sides.val.samples, recipe.input_size)
    sampler = even_sampler(sides.train.samples) if recipe.balance == "sample" else None
    size = min(recipe.batch, len(train))
    return (
        DataLoader(
            train,
            size,
            shuffle=sampler is None,
            sampler=sampler,
            drop_last=True,  # a last batch of one image would break batch normalisation
            num_workers=recipe.workers,
            persistent_workers=recipe.workers > 0,
        ),
        DataLoader(held, recipe.batch, num_workers=recipe.workers),
    )


def even_sampler(samples: list[Sample]) -> WeightedRandomSampler:
    """Draw mines and others alike often."""
    count = Counter(sample.label for sample in samples)
    weights = [1 / count[sample.label] for sample in samples]
    return WeightedRandomSampler(weights, len(samples))


def _self_supervised(recipe: ClassifierRecipe, runs: Path) -> Path | None:
    """Return the weights to begin with, made of a folder of images where one is named."""
    if recipe.init is None:
        return None
    given = Path(recipe.init)
    if not given.exists():
        raise TrainingError(f"--init {given}: not found; give weights, or a folder of images")
    if given.is_file():
        return given
    change = change_of("strong")
    assert change is not None  # noqa: S101 - only "none" has none
    return pretrain(given, replace(recipe, init=None), change, runs / "pretext")


def _digest(sides: Sides, dataset: Path) -> str:
    """Return the digest of names and sizes of the images; a run goes on with the same alone."""
    found = [
        [sample.path.relative_to(dataset).as_posix(), sample.path.stat().st_size]
        for side in (sides.train, sides.val)
        for sample in side.samples
    ]
    return digest(found)


def _tell(sides: Sides, runs: Path) -> None:
    """Say what is trained on, and list what is left out."""
    for name, side in (("train", sides.train), ("val", sides.val)):
        mines = sum(sample.label for sample in side.samples)
        print(f"{name}: {mines} mines, {len(side.samples) - mines} others", flush=True)
    write_json(runs / "corrupt.json", {"count": len(sides.corrupt), "images": sides.corrupt})
