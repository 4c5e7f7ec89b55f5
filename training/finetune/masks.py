"""Images with class maps beside them: pairs of files, windows cut from them at random."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from scanner.errors import TrainingError
from scanner.models.card import SEGMENTER_CLASSES
from training.finetune.change import Change, change_both
from training.finetune.scaling import filled
from training.pictures import PICTURES, RASTERS, read_image

LOG = logging.getLogger(__name__)
UNKNOWN: Final = 255
"""Class of a pixel nobody knows; it counts neither in the loss nor in a figure."""
SUFFIXES: Final = (*PICTURES, *RASTERS)


@dataclass(frozen=True)
class Pair:
    """An image and its class map."""

    image: Path
    mask: Path


def find_pairs(images: Path, masks: Path) -> list[Pair]:
    """Pair the files of two folders by their stems.

    Raises ``TrainingError`` naming the first image without a mask, or an empty folder.
    """
    by_stem = {
        path.stem: path for path in sorted(masks.iterdir()) if path.suffix.lower() in SUFFIXES
    }
    found = []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem not in by_stem:
            raise TrainingError(f"{path}: no mask {masks / path.stem}.png; add it, or take it out")
        found.append(Pair(path, by_stem[path.stem]))
    if not found:
        raise TrainingError(f"{images}: no image ({', '.join(SUFFIXES)}); give another folder")
    return found


def read_pair(pair: Pair) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return reflectance (3, y, x), NaN nodata, and classes (y, x) of 0..6 and 255.

    Raises ``TrainingError`` naming the file that cannot be read or does not fit.
    """
    reflectance = read_image(pair.image)[:3]
    try:
        with Image.open(pair.mask) as picture:
            classes = np.asarray(picture)
    except (OSError, UnidentifiedImageError) as error:
        raise TrainingError(f"{pair.mask}: cannot be read ({error}); make it again") from error
    if classes.shape != reflectance.shape[1:]:
        raise TrainingError(
            f"{pair.mask}: shape {classes.shape}, its image has {reflectance.shape[1:]}; "
            "give one class a pixel"
        )
    odd = np.setdiff1d(np.unique(classes), [*range(len(SEGMENTER_CLASSES)), UNKNOWN])
    if odd.size:
        raise TrainingError(
            f"{pair.mask}: class {odd[0]}; known are 0 to {len(SEGMENTER_CLASSES) - 1}, "
            f"and {UNKNOWN} for unknown"
        )
    return reflectance, classes.astype(np.uint8)


def check_pairs(pairs: Sequence[Pair], skip: bool) -> tuple[list[Pair], list[str]]:
    """Read every pair once; returns those that can be read, and a line for each other.

    Raises ``TrainingError`` with the first of them and their number, unless ``skip``.
    """
    good, corrupt = [], []
    for pair in pairs:
        try:
            read_pair(pair)
        except TrainingError as error:
            corrupt.append(str(error))
        else:
            good.append(pair)
    if corrupt:
        told = f"{len(corrupt)} of {len(pairs)} pairs cannot be used, first {corrupt[0]}"
        if not skip:
            raise TrainingError(f"{told}; correct them, or give --skip-corrupt")
        LOG.warning("%s; they are left out", told)
    return good, corrupt


def split_pairs(pairs: Sequence[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """Split by the digest of the stems: the same file is on the same side in every run."""
    order = sorted(pairs, key=lambda pair: zlib.crc32(pair.image.stem.encode()))
    n = max(1, round(share * len(order)))
    if len(order) < 2:
        raise TrainingError(f"{len(order)} image; at least 2 are needed, one to judge")
    return order[n:], order[:n]


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """(reflectance, classes): cut, turned and changed at random, or whole and as they are."""

    def __init__(self, pairs: Sequence[Pair], crop: int, change: Change | None, cut: bool) -> None:
        self.pairs = list(pairs)
        self.crop = crop
        self.change = change
        self.cut = cut

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        reflectance, classes = read_pair(self.pairs[index])
        pixels = filled(torch.from_numpy(reflectance.copy()))
        labels = torch.from_numpy(classes.copy()).long()
        if not self.cut:
            return pixels, labels
        pixels, labels = self._window(pixels, labels)
        return change_both(self.change, pixels, labels)

    def _window(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cut a window at random; an image that is smaller is filled up with unknown ground."""
        height, width = labels.shape
        short = (0, max(0, self.crop - width), 0, max(0, self.crop - height))
        if any(short):
            pixels = torch.nn.functional.pad(pixels, short)
            labels = torch.nn.functional.pad(labels, short, value=UNKNOWN)
        top = int(torch.randint(0, labels.shape[0] - self.crop + 1, ()))
        left = int(torch.randint(0, labels.shape[1] - self.crop + 1, ()))
        rows, cols = slice(top, top + self.crop), slice(left, left + self.crop)
        return pixels[:, rows, cols], labels[rows, cols]
