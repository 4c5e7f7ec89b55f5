"""Read every image of the sources once: is it whole, is it black, what are its pixels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from scanner.errors import TrainingError
from scanner.models.style import EMPTY
from training.dataset.folder import METADATA
from training.dataset.leakage import fingerprint
from training.dataset.sources import Loaded, Origin
from training.pictures import WHITE, to_picture

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """All images that can be used, in one table, and one line for each that cannot."""

    table: pd.DataFrame
    """The origins' columns, and origin, row (in it), pixels (digest) and name (for messages)."""
    corrupt: list[str]
    total: int


def check_origins(origins: Sequence[Origin]) -> Checked:
    """Check and fingerprint every image, one at a time."""
    frames, corrupt, total = [], [], 0
    for number, origin in enumerate(origins):
        total += len(origin.table)
        digests: dict[int, str] = {}
        for row, image in origin.images():
            problem = _problem(origin, row, image)
            if problem is not None:
                corrupt.append(problem)
            elif isinstance(image, Loaded):
                digests[row] = fingerprint(to_picture(image.pixels[:3]))
        rows = sorted(digests)
        frames.append(
            origin.table.iloc[rows][["chip_id", "label", "source", "lon", "lat", "size_m"]].assign(
                origin=number,
                row=rows,
                pixels=[digests[row] for row in rows],
                name=[origin.called(row) for row in rows],
            )
        )
    return Checked(pd.concat(frames, ignore_index=True), corrupt, total)


def at_odds(table: pd.DataFrame) -> list[str]:
    """Name images that have the same pixels and different labels."""
    labels = table.groupby("pixels")["label"].transform("nunique")
    doubtful = table[labels > 1].sort_values(["pixels", "label"])
    if len(doubtful):
        LOG.warning(
            "%d images have the same pixels as one of the other label, first %s; correct the "
            "labels (see %s)",
            len(doubtful),
            doubtful["name"].iloc[0],
            METADATA,
        )
    return [
        f"{name}: label {label}"
        for name, label in zip(doubtful["name"], doubtful["label"], strict=True)
    ]


def _problem(origin: Origin, row: int, image: Loaded | TrainingError) -> str | None:
    if isinstance(image, TrainingError):
        return str(image)
    if not (image.pixels[:3] > EMPTY * WHITE).any():
        return f"{origin.called(row)}: nothing but black or nodata; fetch it again"
    return None
