"""Changes drawn anew each time an image is seen, on reflectance without nodata."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from training.augment import random_heading
from training.dataset.augment import Augment
from training.pictures import WHITE
from training.recipe import Level

Change = Callable[[Tensor], Tensor]


def change_of(level: Level, air: tuple[float, float] | None = None) -> Change | None:
    """Return what changes reflectance (3, y, x), 0..WHITE, by a level; ``none`` is no change.

    ``air`` is the range of the atmosphere's strength (see ``dataset.augment``).
    """
    if level == "none" and air is None:
        return None
    return _Change(Augment(level, air))


class _Change:
    """A class and no closure: worker processes are sent it."""

    def __init__(self, augment: Augment) -> None:
        self.augment = augment

    def __call__(self, pixels: Tensor) -> Tensor:
        return self.augment(pixels[None] / WHITE)[0] * WHITE


def change_both(change: Change | None, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Change reflectance (3, y, x), and turn its class map (y, x) the same way.

    ``Augment`` turns first; drawing from the same state of the random numbers turns alike.
    """
    before = torch.get_rng_state()
    pixels = random_heading(pixels[None])[0] if change is None else change(pixels)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    labels = random_heading(labels[None, None])[0, 0]
    torch.set_rng_state(after)
    return pixels, labels
