"""From a trained network to a model directory: judged on the validation side, calibrated, written.

What is measured are the weights as they lie in the file, in half precision.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from scanner.models.calibration import Calibration, calibrate
from scanner.models.card import CLASSIFIER_CLASSES, ModelCard
from scanner.models.chip_networks import ChipNet, resized
from scanner.models.classifier import ResnetClassifier, load_classifier
from training.calibrate import fit, thresholds
from training.dataset.folder import Sample, read_dataset_metadata
from training.evaluate.metrics import Rules, measure
from training.export import write_model
from training.finetune.images import Checked
from training.finetune.networks import network_config
from training.finetune.scaling import SCALING, filled
from training.pictures import read_image
from training.recipe import ClassifierRecipe

LOG = logging.getLogger(__name__)
BATCH: Final = 32
RESAMPLES: Final = 200
LIMITS: Final = (
    "calibrated and measured on the validation side of its dataset, which also chose its best "
    "epoch; mining-train evaluate tells more of a dataset it never met",
)


def write_classifier(
    network: ChipNet,
    recipe: ClassifierRecipe,
    held: Checked,
    labels: list[int],
    start: str,
    dataset: Path,
    out: Path,
) -> ModelCard:
    """Write weights and card; ``labels`` are those trained on, ``start`` what it began with."""
    metadata = read_dataset_metadata(dataset)
    written = write_model(network, _draft(network, recipe, held), out)
    model = load_classifier(out)
    assert isinstance(model, ResnetClassifier)  # noqa: S101 - what was just written
    logits = score_samples(model, held.samples, held.size)
    truth = np.array([sample.label for sample in held.samples])
    prevalence = recipe.prevalence or round(float(truth.mean()), 4)
    calibration, limits = _calibrated(logits, truth, prevalence)
    scores = calibrate(logits, calibration).astype(np.float64)
    return replace(
        written,
        calibration=calibration,
        threshold=recipe.threshold,
        thresholds=thresholds(scores, truth, prevalence),
        style=metadata.get("style"),
        resolution=_resolution(held.samples[0]),
        metrics=_metrics(scores, truth, held.samples, recipe.threshold, prevalence),
        limits=LIMITS + limits,
        training_data=(
            f"dataset {dataset.name}: {sum(labels)} mines, {len(labels) - sum(labels)} others; "
            f"validation {int(truth.sum())} and {int((1 - truth).sum())}; begun with {start}; "
            f"seed {recipe.seed}"
        ),
    ).write(out)


def score_samples(
    model: ResnetClassifier, samples: Sequence[Sample], size: int
) -> NDArray[np.float32]:
    """Return the logit of each image, brought to ``size`` pixels a side where it differs."""
    found = [model.logits(batch) for batch in _batches(samples, size)]
    return np.concatenate(found)


def _batches(samples: Sequence[Sample], size: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(samples), BATCH):
        images = [read_image(sample.path)[:3] for sample in samples[start : start + BATCH]]
        yield np.stack([_sized(image, size) for image in images])


def _sized(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if image.shape[1:] == (size, size):
        return image
    return resized(filled(torch.from_numpy(image.copy()))[None], size)[0].numpy()


def _draft(network: ChipNet, recipe: ClassifierRecipe, held: Checked) -> ModelCard:
    """Return the card before anything was measured; scores are plain sigmoids yet."""
    return ModelCard(
        name=f"mining-train {recipe.backbone}",
        task="classification",
        architecture=recipe.backbone,
        bands=("B02", "B03", "B04"),
        scaling=SCALING,
        sha256="",
        config=network_config(recipe),
        classes=CLASSIFIER_CLASSES,
        input_size=recipe.input_size,
        chip_size=held.size,
        threshold=recipe.threshold,
        calibration=Calibration(1.0, 0.0, 0.5),
        parameters=sum(p.numel() for p in network.parameters()),
    )


def _calibrated(
    logits: NDArray[np.float32], truth: NDArray[np.int64], prevalence: float
) -> tuple[Calibration, tuple[str, ...]]:
    """Fit the line from logits to log-odds; one that falls would turn the model upside down."""
    found = fit(logits, truth, prevalence)
    if found.a > 0:
        return found, ()
    told = "no better than chance on the validation side, so not calibrated"
    LOG.warning("the classifier is %s; train longer, or on more images", told)
    return Calibration(1.0, 0.0, prevalence), (told,)


def _metrics(
    scores: NDArray[np.float64],
    truth: NDArray[np.int64],
    samples: Sequence[Sample],
    threshold: float,
    prevalence: float,
) -> dict[str, Any]:
    """Return the figures of the validation side, as a whole and by source."""
    rules = Rules(threshold, prevalence, RESAMPLES)
    short = replace(rules, resamples=0)
    sources = np.array([sample.source for sample in samples])
    return {
        "validation": measure(scores, truth, rules),
        "validation by source": {
            str(name): measure(scores[sources == name], truth[sources == name], short)
            for name in np.unique(sources)
        },
    }


def _resolution(sample: Sample) -> float:
    """Return metres a pixel from the file beside a chip, 10 where it does not say."""
    beside = sample.path.with_suffix(".json")
    known = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    return float(known.get("resolution_m") or 10.0)
