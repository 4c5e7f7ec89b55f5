"""What the chip classifier learns from, as arrays: mine-chips (L1C) and mine-pairs (L2A).

The labels of mine-pairs may judge a model, not train one, so its pixels come here under labels of
our own, given to each date by eye on contact sheets in true colour and in B12 B08 B04
(``mine_pairs_by_eye.csv``: mine, not, or unsure; industrial pits are unsure).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from training.pictures import to_reflectance

BANDS: Final = ("B02", "B03", "B04", "B08", "B11", "B12")
"""Bands of a chip; mine-chips have the first three, the others are NaN there."""
BY_EYE: Final = Path(__file__).with_name("mine_pairs_by_eye.csv")
MEANING: Final = {"mine": 1, "not": 0, "unsure": -1}
LEAST_OPEN: Final = 0.02
"""A chip with less ground than this that is no dense vegetation shows nothing to judge by."""


@dataclass(frozen=True)
class Chips:
    """Chips with what is known of each; all arrays have the same first length n."""

    pixels: NDArray[np.float32]
    """Reflectance (n, 6, 48, 48) in ``BANDS``, NaN where a band is absent."""
    labels: NDArray[np.int64]
    """1 mine, 0 not, -1 unknown: such a chip is scored, never trained on."""
    sources: NDArray[np.str_]
    """Sampling campaign, or ``mine-pairs``."""
    places: NDArray[np.float64]
    """(n, 2) longitude and latitude in degrees, NaN where unknown."""
    surface: NDArray[np.bool_]
    """Whether the pixels are surface reflectance (L2A); else they are top of atmosphere (L1C)."""

    def __len__(self) -> int:
        return len(self.labels)


def read_chips(path: Path) -> Chips:
    """Read ``mine-chips/chips.parquet``: 8-bit R G B to reflectance."""
    table = pd.read_parquet(path)
    pixels = np.full((len(table), len(BANDS), 48, 48), np.nan, np.float32)
    for row, data in enumerate(table["image"]):
        pixels[row, :3] = to_reflectance(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    return Chips(
        pixels,
        table["label"].to_numpy(np.int64),
        table["source"].to_numpy(str),
        table[["lon", "lat"]].to_numpy(np.float64),
        np.zeros(len(table), bool),
    )


def read_pairs(folder: Path, by_eye: Path = BY_EYE) -> Chips:
    """Read ``mine-pairs``: all first dates, then all second ones, under our own labels.

    A chip of closed forest, or under cloud, gets none: it says nothing on whether there is a mine,
    and a scan sends no such cell to a classifier.
    """
    table = pd.read_csv(folder / "pairs.csv")
    told = pd.read_csv(by_eye).set_index("sample_id").loc[table["sample_id"]]
    with np.load(folder / "pairs.npz") as file:
        dates = [file[name].astype(np.float32).transpose(0, 3, 1, 2) / 1e4 for name in ("t0", "t1")]
    pixels = np.concatenate(dates)
    labels = np.concatenate([told[date].map(MEANING) for date in ("t0", "t1")])
    labels[open_share(pixels) < LEAST_OPEN] = -1
    return Chips(
        pixels,
        labels.astype(np.int64),
        np.full(len(labels), "mine-pairs"),
        np.tile(table[["lon_center", "lat_center"]].to_numpy(np.float64), (2, 1)),
        np.ones(len(labels), bool),
    )


def open_share(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of each chip (n, 6, y, x) that is no dense vegetation, (n,)."""
    red, near = pixels[:, 2], pixels[:, 3]
    greenness = (near - red) / (near + red + 1e-6)
    return np.asarray(((greenness < 0.65) | (red > 0.06)).mean((1, 2)), np.float64)


def joined(parts: Sequence[Chips]) -> Chips:
    """Lay chips of several sources end to end."""
    return Chips(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.sources for part in parts]),
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.surface for part in parts]),
    )
