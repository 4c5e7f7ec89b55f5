"""The dataset folder: ``{train,val}/{positive,negative}/``, its names and what is read from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scanner.errors import TrainingError
from training.pictures import PICTURES, RASTERS

SPLITS: Final = ("train", "val")
LABELS: Final = {"positive": 1, "negative": 0}
"""Folder -> label."""
METADATA: Final = "dataset_metadata.json"
SUFFIXES: Final = (*PICTURES, *RASTERS)
_COPY = re.compile(r"__aug\d+$")


@dataclass(frozen=True)
class Sample:
    """An image of a dataset folder, and what its metadata tell of it."""

    path: Path
    label: int
    """1 mine, 0 not."""
    source: str
    """Campaign, folder or area it comes from."""
    block: str | None
    """Spatial block it was split by; ``None`` where it has no place."""
    lon: float | None
    lat: float | None


def read_split(folder: Path, split: str) -> list[Sample]:
    """Return the images of one side, in the order of their paths.

    Images without metadata count too: their source is what stands before ``__`` in the name.
    Raises ``TrainingError`` if the folder has no such side, or metadata are no JSON.
    """
    if not (folder / split).is_dir():
        raise TrainingError(
            f"{folder}: no folder {split}/; give a dataset folder (mining-train dataset makes one)"
        )
    return [
        _sample(path, label)
        for name, label in sorted(LABELS.items())
        for path in images(folder / split / name)
    ]


def read_dataset_metadata(folder: Path) -> dict[str, Any]:
    """Return what ``dataset_metadata.json`` says, or nothing if there is none."""
    path = folder / METADATA
    return read_metadata(path) if path.is_file() else {}


def images(folder: Path) -> list[Path]:
    """Return the image files right in ``folder`` (none if it is absent), sorted by name."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and _shown(p))


def is_copy(path: Path) -> bool:
    """Whether an image is an augmented copy, by its name."""
    return _COPY.search(path.stem) is not None


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a JSON object; ``TrainingError`` naming the file if it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path}: cannot be read as JSON ({error}); correct it or remove it"
        ) from error
    if not isinstance(value, dict):
        raise TrainingError(f"{path}: not a JSON object; correct it or remove it")
    return value


def _sample(path: Path, label: int) -> Sample:
    aside = path.with_suffix(".json")
    told = read_metadata(aside) if aside.is_file() else {}
    source = told.get("source") or path.stem.partition("__")[0]
    block, lon, lat = (told.get(name) for name in ("block", "lon", "lat"))
    return Sample(path, label, str(source), block, lon, lat)


def _shown(path: Path) -> bool:
    return not path.name.startswith(".")
