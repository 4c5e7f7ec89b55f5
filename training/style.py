"""The look of a folder of images in a few numbers: statistics of its pixels, and styles of them.

All values are picture values, 0..1. Pixels are sampled evenly over the whole folder in memory that
does not grow with it; images are read one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.errors import TrainingError
from scanner.models.style import EMPTY, LETTERS, PER_CHIP, apply_style, check_style
from training.pictures import BANDS, PICTURES, RASTERS, WHITE, read_image, write_image

LOG = logging.getLogger(__name__)
CAPACITY: Final = 100_000
"""Pixels sampled, at most."""
ALONG: Final = ("index.parquet", "dataset_metadata.json")
"""What tells of the images of a whole folder: it goes along when they get another style."""
Statistics = dict[str, Any]


class Reservoir:
    """An even sample of the rows of a stream, at most ``capacity`` of them.

    Each row draws a random key, and those with the lowest keys stay: the sample of Algorithm R,
    for whole blocks at a time. Memory is that of twice ``capacity`` rows and one block.
    """

    def __init__(self, capacity: int = CAPACITY, seed: int = 42, columns: int = 3) -> None:
        self.capacity = capacity
        self.seen = 0
        """Rows offered."""
        self._random = np.random.default_rng(seed)
        self._keys = [np.empty(0)]
        self._rows = [np.empty((0, columns), np.float32)]
        self._held = 0
        self._highest = np.inf
        """No row with a higher key can stay."""

    def add(self, rows: NDArray[np.float32]) -> None:
        """Offer rows (n, columns)."""
        self.seen += len(rows)
        keys = self._random.random(len(rows))
        lower = keys < self._highest
        self._keys.append(keys[lower])
        self._rows.append(np.asarray(rows[lower], np.float32))
        self._held += int(lower.sum())
        if self._held > 2 * self.capacity:
            self._shrink()

    @property
    def rows(self) -> NDArray[np.float32]:
        """The sample, float32 (at most capacity, columns)."""
        self._shrink()
        return self._rows[0]

    def _shrink(self) -> None:
        keys, rows = np.concatenate(self._keys), np.concatenate(self._rows)
        if len(keys) > self.capacity:
            kept = np.argpartition(keys, self.capacity - 1)[: self.capacity]
            keys, rows = keys[kept], rows[kept]
            self._highest = float(keys.max())
        self._keys, self._rows, self._held = [keys], [rows], len(keys)


@dataclass(frozen=True)
class Measured:
    """Statistics of a folder, and one line for each image that could not be read."""

    statistics: Statistics
    corrupt: list[str]


def image_paths(folder: Path) -> list[Path]:
    """Return the images below ``folder``, sorted; of a tif and its picture, the tif.

    Raises ``TrainingError`` if there is none.
    """
    suffixes = (*PICTURES, *RASTERS)
    found = [p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.name[0] != "."]
    rasters = {p.with_suffix("") for p in found if p.suffix.lower() in RASTERS}
    paths = sorted(
        p for p in found if p.suffix.lower() in RASTERS or p.with_suffix("") not in rasters
    )
    if not paths:
        raise TrainingError(
            f"{folder}: no image ({', '.join(suffixes)}) below it; give a folder of images"
        )
    return paths


def measure_folder(folder: Path, seed: int = 42, skip_corrupt: bool = False) -> Measured:
    """Measure all images below ``folder``; see ``statistics_of`` and ``refuse_corrupt``."""
    paths = image_paths(folder)
    corrupt: list[str] = []
    reservoir = Reservoir(seed=seed)
    for _, image in readable(paths, corrupt):
        reservoir.add(ground_pixels(image))
    refuse_corrupt(corrupt, len(paths), skip_corrupt)
    return Measured(statistics_of(reservoir, len(paths) - len(corrupt), str(folder)), corrupt)


def readable(
    paths: Sequence[Path], corrupt: list[str]
) -> Iterator[tuple[Path, NDArray[np.float32]]]:
    """Read images one at a time; those that cannot be read are told in ``corrupt``."""
    for path in paths:
        try:
            yield path, read_image(path)
        except TrainingError as error:
            corrupt.append(str(error))


def refuse_corrupt(corrupt: Sequence[str], total: int, skip: bool) -> None:
    """Name every corrupt image in the log; unless ``skip``, raise ``TrainingError``."""
    for line in corrupt:
        LOG.warning("%s", line)
    if corrupt and not skip:
        raise TrainingError(
            f"{len(corrupt)} of {total} images cannot be used, first {corrupt[0]}; "
            "take them out, or give --skip-corrupt"
        )


def ground_pixels(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pixels (n, 3) of a reflectance image (band, y, x) that show something.

    They are picture values; a pixel is left out if none of its first three bands is above
    ``EMPTY`` (NaN is not).
    """
    pixels = np.clip(image[:3].reshape(3, -1).T / np.float32(WHITE), 0, 1)
    return np.asarray(pixels[(pixels > EMPTY).any(axis=1)], np.float32)


def statistics_of(reservoir: Reservoir, n_images: int, source_dir: str) -> Statistics:
    """Return r_mean, r_std, r_p2, r_p98, the same for g and b, and where they come from.

    Values of at most ``EMPTY`` are left out. Raises ``TrainingError`` if none is left.
    """
    return summary(reservoir.rows) | {
        "n_images": n_images,
        "n_pixels_sampled": len(reservoir.rows),
        "source_dir": source_dir,
    }


def summary(pixels: NDArray[np.float32]) -> Statistics:
    """Return mean, std, p2 and p98 of picture values (n, 3) in B02 B03 B04, by band."""
    out: Statistics = {}
    for band, letter in LETTERS.items():
        values = pixels[:, BANDS.index(band)].astype(np.float64)
        values = values[values > EMPTY]
        if not values.size:
            raise TrainingError(
                f"{band}: no pixel above {EMPTY} in any image; give images that are not black"
            )
        low, high = np.percentile(values, (2, 98))
        figures = (values.mean(), values.std(), low, high)
        for name, value in zip(("mean", "std", "p2", "p98"), figures, strict=True):
            out[f"{letter}_{name}"] = round(float(value), 6)
    return out


def make_style(
    method: str, source: Statistics | None = None, target: Statistics | None = None
) -> dict[str, Any]:
    """Return a style for ``apply_style`` and a model card; statistics of each chip if no source.

    Raises ``ModelError`` if the method is unknown or lacks its target.
    """
    style: dict[str, Any] = {"method": method}
    if method in ("match", "stretch"):
        style |= {"source": _figures(source) or PER_CHIP, "white": WHITE}
    if method == "match":
        style["target"] = _figures(target)
    check_style(style)
    return style


def restyle_folder(folder: Path, out: Path, style: dict[str, Any], skip_corrupt: bool) -> list[str]:
    """Write every image below ``folder`` in a style to the same place below ``out``.

    Metadata (.json beside an image) go along. Returns one line for each image that could not be
    read; raises ``TrainingError`` for these unless ``skip_corrupt``, and if ``out`` is within
    ``folder``.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise TrainingError(f"{out}: lies within {folder}; give another folder to write to")
    paths = image_paths(folder)
    corrupt: list[str] = []
    for path, image in readable(paths, corrupt):
        goal = out / path.relative_to(folder)
        write_image(goal, apply_style(image[None], style)[0], like=path)
        aside = path.with_suffix(".json")
        if aside.is_file():
            goal.with_suffix(".json").write_bytes(aside.read_bytes())
    for name in ALONG:
        if (folder / name).is_file():
            (out / name).write_bytes((folder / name).read_bytes())
    refuse_corrupt(corrupt, len(paths), skip_corrupt)
    return corrupt


def _figures(statistics: Statistics | None) -> Statistics | None:
    """Keep what a card needs: the numbers, not the folder they come from."""
    if statistics is None:
        return None
    return {name: value for name, value in statistics.items() if name != "source_dir"}
