"""Pixels for the segmenter: mine-pairs and multispectral, under labels of our own (labels.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from training.labels import AGRICULTURE, BUILDING, FOREST, LAND_COVER, WATER, spectral_labels
from training.places import regions

SIX: Final = (1, 2, 3, 7, 10, 11)
"""Places of B02 B03 B04 B08 B11 B12 among the 12 bands of an S2L2A file, from 0."""


@dataclass(frozen=True)
class Patches:
    """Reflectance float32 (n, 3, y, x) in B02 B03 B04 and labels uint8 (n, y, x)."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.uint8]
    blocks: NDArray[np.str_]
    """Name of the 5-degree block each lies in."""

    def take(self, rows: NDArray[np.bool_]) -> Patches:
        """Return the patches of a mask."""
        return Patches(self.pixels[rows], self.labels[rows], self.blocks[rows])


def read_pairs(folder: Path) -> Patches:
    """Read both dates of every pair; its labels are made here, the source's are not looked at."""
    table = pd.read_csv(folder / "pairs.csv")
    with np.load(folder / "pairs.npz") as file:
        dates = [file[name].astype(np.float32).transpose(0, 3, 1, 2) / 1e4 for name in ("t0", "t1")]
    six = np.concatenate(dates)
    blocks = regions(table[["lon_center", "lat_center"]].to_numpy(np.float64)).astype(str)
    return Patches(
        np.ascontiguousarray(six[:, :3]),
        np.stack([spectral_labels(patch) for patch in six]),
        np.tile(blocks, 2),
    )


def read_multispectral(folder: Path) -> Patches:
    """Read the three S2L2A places: our rules, and buildings from their land cover product."""
    pixels, labels = [], []
    for path in sorted((folder / "S2L2A").glob("*.tif")):
        with rasterio.open(path) as file:
            bands = file.read().astype(np.float32)[list(SIX)]
        with rasterio.open(folder / "LULC" / path.name) as file:
            cover = file.read(1)
        offset = 1000 if np.percentile(bands[0], 1) > 950 else 0  # as the README found, by value
        six = np.clip((bands - offset) / 1e4, 1e-4, 1)
        label = spectral_labels(six)
        green = np.isin(label, (FOREST, AGRICULTURE))
        for code, name in LAND_COVER.items():  # the rules know forest of the Amazon, not crops
            here = (cover == code) & (~green if name == BUILDING else green)
            if name in (BUILDING, FOREST, AGRICULTURE):
                label[here] = name
        pixels.append(six[:3])
        labels.append(label)
    return Patches(np.stack(pixels), np.stack(labels), np.array(["elsewhere"] * len(pixels)))


class Mosaics(Dataset[tuple[Tensor, Tensor]]):
    """Windows laid out of 5 x 5 patches drawn at random, each turned and mirrored at random.

    Patches with water are drawn ``1 + wet`` times as often as others, and a share of ``few`` of
    the windows is laid out of one to four patches only. At times a whole scene is shown instead:
    mosaics have seams, the ground has not.
    """

    def __init__(
        self,
        patches: Patches,
        scenes: Patches | None,
        length: int,
        seed: int,
        wet: float = 0.0,
        few: float = 0.0,
    ) -> None:
        self.patches, self.scenes, self.length, self.seed = patches, scenes, length, seed
        self.few = few
        chance = np.ones(len(patches.labels))
        chance[(patches.labels == WATER).mean((1, 2)) > 0.03] += wet
        self.chance = chance / chance.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        if self.scenes is not None and rng.random() < 0.06:
            pick = int(rng.integers(len(self.scenes.pixels)))
            pixels, labels = self.scenes.pixels[pick], self.scenes.labels[pick]
            wide = ((8, 8), (8, 8))
            pixels, labels = (
                np.pad(pixels, ((0, 0), *wide), "reflect"),
                np.pad(labels, wide, "reflect"),
            )
        else:
            pixels, labels = self._mosaic(rng)
        return torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64))

    def _mosaic(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        side = self.patches.labels.shape[1]
        pixels = np.empty((3, 5 * side, 5 * side), np.float32)
        labels = np.empty((5 * side, 5 * side), np.uint8)
        picks = rng.choice(len(self.chance), size=25, p=self.chance)
        if rng.random() < self.few:  # ground of few kinds, or of one, as most of the forest is
            picks = picks[rng.integers(rng.integers(1, 5), size=25)]
        for place, pick in enumerate(picks):
            rows = slice(place // 5 * side, (place // 5 + 1) * side)
            columns = slice(place % 5 * side, (place % 5 + 1) * side)
            turn, mirror = int(rng.integers(4)), bool(rng.integers(2))
            patch, label = self.patches.pixels[pick], self.patches.labels[pick]
            if mirror:
                patch, label = patch[..., ::-1], label[..., ::-1]
            pixels[:, rows, columns] = np.rot90(patch, turn, (1, 2))
            labels[rows, columns] = np.rot90(label, turn)
        shift = rng.integers(side, size=2)
        return (
            np.roll(pixels, tuple(shift), (1, 2)),
            np.roll(labels, tuple(shift), (0, 1)),
        )
