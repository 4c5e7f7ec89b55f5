"""The images of a dataset folder as tensors; what cannot be read is named and counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from scanner.errors import TrainingError
from scanner.models.chip_networks import resized
from training.dataset.folder import Sample
from training.finetune.change import Change
from training.finetune.scaling import filled
from training.pictures import read_image

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """What of a list of images can be trained on."""

    samples: list[Sample]
    corrupt: list[str]
    """One line for each image that cannot be read."""
    size: int
    """Pixels a side of most of them."""


def check_images(samples: Sequence[Sample], skip: bool) -> Checked:
    """Read every image once.

    Raises ``TrainingError`` naming the first that cannot be read and their number, unless ``skip``.
    """
    good, corrupt, sizes = [], [], Counter[int]()
    for sample in samples:
        try:
            image = read_image(sample.path)
        except TrainingError as error:
            corrupt.append(str(error))
            continue
        good.append(sample)
        sizes[max(image.shape[1:])] += 1
    if corrupt:
        told = f"{len(corrupt)} of {len(samples)} images cannot be read, first {corrupt[0]}"
        if not skip:
            raise TrainingError(f"{told}; take them out, or give --skip-corrupt")
        LOG.warning("%s; they are left out", told)
    if not good:
        raise TrainingError("no image can be read; make the dataset again")
    if len(sizes) > 1:
        LOG.warning("images of %d sizes (%s); all are resized", len(sizes), sizes.most_common(3))
    return Checked(good, corrupt, sizes.most_common(1)[0][0])


def read_pixels(path: Path, size: int) -> Tensor:
    """Return reflectance (3, size, size) of B02 B03 B04, 0..WHITE, nodata filled with the mean.

    It is clipped, filled and resized as the classifier does it when it predicts.
    """
    pixels = filled(torch.from_numpy(read_image(path)[:3].copy()))
    return resized(pixels[None], size)[0]


class ChipImages(Dataset[tuple[Tensor, Tensor]]):
    """(reflectance, label) of each sample, changed anew each time it is seen."""

    def __init__(self, samples: Sequence[Sample], size: int, change: Change | None = None) -> None:
        self.samples = list(samples)
        self.size = size
        self.change = change

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.samples[index]
        pixels = read_pixels(sample.path, self.size)
        if self.change is not None:
            pixels = self.change(pixels)
        return pixels, torch.tensor(float(sample.label))
