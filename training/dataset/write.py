"""Write the images of a dataset folder, their metadata and their changed copies."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from scanner.errors import OutputError, TrainingError
from scanner.models.style import apply_style
from training.dataset.augment import Augment, Name
from training.dataset.folder import LABELS, SPLITS
from training.dataset.sources import Loaded, Origin
from training.pictures import WHITE, save_image
from training.style import Reservoir, ground_pixels, statistics_of

_FOLDERS = {label: name for name, label in LABELS.items()}


def file_names(table: pd.DataFrame) -> list[str]:
    """Return ``<source>__<chip_id>`` for each row, in letters any disk takes; no two are alike."""
    used: Counter[str] = Counter()
    names = []
    for source, chip in zip(table["source"], table["chip_id"], strict=True):
        name = plain = f"{_slug(source)}__{_slug(chip)}"
        while used[name.lower()]:  # some disks do not tell A from a
            used[plain.lower()] += 1
            name = f"{plain}-{used[plain.lower()]}"
        used[name.lower()] += 1
        names.append(name)
    return names


class Writer:
    """Writes to ``out``, which is marked unready meanwhile: so files need not be made safe singly.

    ``origins`` are read again, in their order; only one image is held at a time.
    """

    def __init__(
        self, out: Path, origins: Sequence[Origin], style: dict[str, Any] | None, seed: int
    ) -> None:
        self.out = out
        self.origins = origins
        self.style = style
        self.seed = seed
        self.reservoir = Reservoir(seed=seed)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.by_source: dict[str, Counter[str]] = {}

    def write(
        self, table: pd.DataFrame, level: Name, copies: int, air: tuple[float, float] | None
    ) -> dict[str, Any]:
        """Write the rows of ``table`` (split, block, file besides the origins' columns).

        Returns counts, and statistics of the training side without its copies.
        """
        for split in SPLITS:
            for folder in LABELS:
                (self.out / split / folder).mkdir(parents=True, exist_ok=True)
        augment = Augment(level, air)
        for number, origin in enumerate(self.origins):
            chosen = table[table["origin"] == number].set_index("row")
            wanted = {int(row): place for place, row in enumerate(chosen.index)}
            for row, image in origin.images():
                if row not in wanted:
                    continue
                if isinstance(image, TrainingError):  # it was whole a moment ago
                    raise image
                self._one(chosen.iloc[wanted[row]], origin.metadata(row), image, augment, copies)
        n_train = sum(self.counts[SPLITS[0], name] for name in LABELS)
        return {
            "counts": {
                split: {name: self.counts[split, name] for name in (*LABELS, "copies")}
                for split in SPLITS
            },
            "counts_by_source": {name: dict(c) for name, c in sorted(self.by_source.items())},
            "statistics": statistics_of(self.reservoir, n_train, str(self.out / SPLITS[0])),
        }

    def _one(
        self,
        row: pd.Series[Any],
        known: dict[str, Any],
        image: Loaded,
        augment: Augment,
        copies: int,
    ) -> None:
        split, folder = str(row["split"]), _FOLDERS[int(row["label"])]
        goal = self.out / split / folder / f"{row['file']}{image.suffix}"
        pixels = image.pixels
        if self.style is not None:
            pixels = apply_style(pixels[None], self.style)[0]
        try:
            if image.data is not None and self.style is None:
                goal.write_bytes(image.data)
            else:
                save_image(goal, pixels, image.suffix, image.file)
            told = known | {
                "chip_id": row["chip_id"],
                "label": int(row["label"]),
                "source": row["source"],
                "split": split,
                "block": row["block"],
                "lon": _number(row["lon"]),
                "lat": _number(row["lat"]),
                "size_m": _number(row["size_m"]),
            }
            _write_metadata(goal, told)
            if split == SPLITS[0]:
                self.reservoir.add(ground_pixels(pixels))
                self._copies(goal, pixels, told, augment, copies)
        except OSError as error:
            raise OutputError(
                f"{goal}: cannot be written ({error.strerror or error}); "
                "free space, or choose another --out"
            ) from error
        self.counts[split, folder] += 1
        self.by_source.setdefault(str(row["source"]), Counter())[f"{split}/{folder}"] += 1

    def _copies(
        self,
        goal: Path,
        pixels: NDArray[np.float32],
        told: dict[str, Any],
        augment: Augment,
        copies: int,
    ) -> None:
        pictures = torch.from_numpy(pixels[None] / np.float32(WHITE))
        key = zlib.crc32(goal.stem.encode())  # so that a copy does not depend on the other chips
        for number in range(1, copies + 1):
            changed = augment.draw(pictures, self.seed, key, number)[0].numpy()
            copy = goal.with_name(f"{goal.stem}__aug{number}{goal.suffix}")
            save_image(copy, changed * np.float32(WHITE), goal.suffix.lower())
            _write_metadata(copy, told | {"copy_of": goal.name})
            self.counts[SPLITS[0], "copies"] += 1


def _write_metadata(image: Path, told: dict[str, Any]) -> None:
    text = json.dumps(told, allow_nan=False)
    image.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _slug(text: str) -> str:
    """Keep letters, digits, dots, dashes and single underscores."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", str(text)).strip(".-_") or "x"
    return re.sub(r"_{2,}", "_", kept)[:100]
