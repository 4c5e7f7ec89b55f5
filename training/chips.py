"""The mine-chips as arrays, and which of their sources are held out."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

WHITE: Final = 0.3
"""Reflectance stored as 255 (the chips are ``uint8 = clip(DN / 3000, 0, 1) * 255``)."""
EARTH_M: Final = 6_371_000


@dataclass(frozen=True)
class Chips:
    """Chips as reflectance float32 (n, 3, 48, 48) in B02, B03, B04, with labels and sources."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    sources: NDArray[np.str_]

    def take(self, rows: NDArray[np.bool_]) -> Chips:
        """Return the chips of a mask."""
        return Chips(self.pixels[rows], self.labels[rows], self.sources[rows])


def read_chips(path: Path, held_out: list[str]) -> tuple[Chips, Chips]:
    """Return training and held-out chips, split by source.

    Training chips within a kilometre of a held-out one are left out, where both have a place.
    """
    table = pd.read_parquet(path)
    unknown = set(held_out) - set(table["source"])
    if unknown:
        raise ValueError(f"{path}: held-out sources {sorted(unknown)} are not there; see the TOML")
    chips = Chips(
        np.stack([_reflectance(data) for data in table["image"]]),
        table["label"].to_numpy(np.int64),
        table["source"].to_numpy(str),
    )
    held = table["source"].isin(held_out).to_numpy()
    near = _near(table[["lat", "lon"]].to_numpy(np.float64), held)
    return chips.take(~held & ~near), chips.take(held)


def _reflectance(data: bytes) -> NDArray[np.float32]:
    rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)
    return np.ascontiguousarray(rgb[..., ::-1].transpose(2, 0, 1)) * np.float32(WHITE / 255)


def _near(
    places: NDArray[np.float64], held: NDArray[np.bool_], metres: float = 1000
) -> NDArray[np.bool_]:
    """Whether a chip that is not held out lies within ``metres`` of one that is."""
    from sklearn.neighbors import BallTree  # type: ignore[import-untyped]

    known = np.isfinite(places).all(1)
    near = np.zeros(len(places), bool)
    if (known & held).any() and (known & ~held).any():
        tree = BallTree(np.radians(places[known & held]), metric="haversine")
        count = tree.query_radius(
            np.radians(places[known & ~held]), metres / EARTH_M, count_only=True
        )
        near[np.flatnonzero(known & ~held)] = count > 0
    return near
