"""Changes that leave a mine a mine: heading, light, noise, haze and air.

Pixels are picture values (n, band, y, x) in the order B02 B03 B04 [B08 B11 B12]: reflectance over
``WHITE``, within 0..1 for the first three bands; the others may be brighter. All bands of an image
turn together. Pixels without ground (all bands at most ``EMPTY``, or NaN) stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from scanner.models.style import EMPTY
from training.augment import random_air, random_heading
from training.pictures import WHITE

LUMINANCE: Final = (0.114, 0.587, 0.299)
"""Weights of B02, B03, B04 (ITU-R BT.601)."""
Name = Literal["none", "light", "medium", "strong"]


@dataclass(frozen=True)
class Level:
    """How much may change; every change is drawn for each image."""

    brightness: float
    """Pixels are multiplied with 1 +- this."""
    contrast: float
    """Their distance from the image's mean is multiplied with 1 +- this."""
    noise: float
    """Standard deviation of gaussian noise, in picture values."""
    haze_chance: float
    haze: float
    """At most this is added, weighted by 1 - luminance: dark ground fades first."""


LEVELS: Final[dict[str, Level]] = {
    "light": Level(0.05, 0.05, 0.01, 0.1, 0.05),
    "medium": Level(0.15, 0.15, 0.02, 0.3, 0.10),
    "strong": Level(0.30, 0.30, 0.03, 0.5, 0.15),
}


class Augment:
    """A callable for picture values (n, band, y, x), numbers of images and seeds alike.

    Args:
        level: ``light``, ``medium``, ``strong``; ``none`` turns and mirrors only.
        air: range of the atmosphere's strength, from which one is drawn for each image, or
            ``None``: 0 leaves L1C as it is, 1 makes about L2A of it, less than 0 adds haze
            (``training.augment.atmosphere``). It closes the gap between the two levels.
        seed: makes a stream of its own, one for each worker process of a DataLoader; without it
            torch's global generator is drawn from, which a DataLoader seeds for each worker.
    """

    def __init__(
        self,
        level: Name = "medium",
        air: tuple[float, float] | None = None,
        seed: int | None = None,
    ) -> None:
        self.level = LEVELS.get(level)
        self.air = air
        self.seed = seed
        self._calls = 0

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return changed pictures of the same shape; the input is left alone."""
        if self.seed is None:
            return self._changed(pictures)
        self._calls += 1
        worker = get_worker_info()
        return self.draw(pictures, self.seed, 0 if worker is None else 1 + worker.id, self._calls)

    def draw(self, pictures: Tensor, *key: int) -> Tensor:
        """Change pictures by a generator seeded with ``key``: the same key draws the same."""
        # as torch.random.fork_rng does, without what torch.manual_seed does for absent GPUs
        state = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(_mixed(key))
            return self._changed(pictures)
        finally:
            torch.set_rng_state(state)

    def _changed(self, pictures: Tensor) -> Tensor:
        pixels = _turned(pictures)
        unseen = pixels.isnan()
        ground = ~(unseen | (pixels.nan_to_num() <= EMPTY).all(1, keepdim=True))
        out = pixels.nan_to_num()
        if self.air is not None:
            out = torch.cat([_air(out[:, :3], *self.air), out[:, 3:]], 1)
        if self.level is not None:
            out = _light(out, ground, self.level)
            out = torch.cat([_haze(out[:, :3], self.level), out[:, 3:]], 1)
            out = out + self.level.noise * torch.randn_like(out)
        out = torch.cat([out[:, :3].clamp(0, 1), out[:, 3:].clamp(0, 1 / WHITE)], 1)
        return torch.where(ground, out, pixels)


def _turned(pixels: Tensor) -> Tensor:
    """Turn and mirror; what is not square is only mirrored, which keeps its shape."""
    if pixels.shape[2] == pixels.shape[3]:
        return random_heading(pixels)
    for axis in (2, 3):
        mirrored = torch.rand(len(pixels), 1, 1, 1) < 0.5
        pixels = torch.where(mirrored, pixels.flip(axis), pixels)
    return pixels


def _light(pixels: Tensor, ground: Tensor, level: Level) -> Tensor:
    """Change brightness, then contrast about the mean of each image's band."""
    n = len(pixels)
    bright = pixels * _around_one(n, level.brightness)
    count = ground.sum((2, 3), keepdim=True).clamp_min(1)
    mean = torch.where(ground, bright, 0.0).sum((2, 3), keepdim=True) / count
    return mean + (bright - mean) * _around_one(n, level.contrast)


def _haze(pixels: Tensor, level: Level) -> Tensor:
    """Add haze to some of the images, (n, 3, y, x)."""
    n = len(pixels)
    amount = level.haze * torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < level.haze_chance)
    luminance = (pixels * torch.tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return pixels + amount * (1 - luminance.clamp(0, 1))


def _air(pixels: Tensor, low: float, high: float) -> Tensor:
    return random_air(pixels * WHITE, low, high) / WHITE


def _around_one(n: int, share: float) -> Tensor:
    return 1 + share * (2 * torch.rand(n, 1, 1, 1) - 1)


def _mixed(key: tuple[int, ...]) -> int:
    """Make one seed of several numbers; those of neighbouring keys have nothing in common."""
    import numpy as np

    return int(np.random.SeedSequence([abs(part) for part in key]).generate_state(1)[0])
