"""Labelled or unlabelled chips, wherever they come from, behind one table and one reader.

| given | what it is |
|---|---|
| a parquet with encoded images (column ``image``) | the form of mine-chips |
| a folder with ``index.parquet``, or that file | what ``mining-train collect`` writes |
| a folder with ``train`` or ``val`` | what ``mining-train dataset`` writes |
| any other folder, or an image | pictures without labels |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scanner.errors import TrainingError
from training.pictures import PICTURES, RASTERS, decode_image, read_image, to_reflectance

Reader = Callable[[int], NDArray[np.float32]]

COLUMNS: Final = ("sample_id", "label", "source", "lon", "lat")
MINE_WORDS: Final = ("1", "1.0", "mining", "mine", "positive", "true")
OTHER_WORDS: Final = ("0", "0.0", "forest", "not_mine", "negative", "false")
SUFFIXES: Final = (*RASTERS, *PICTURES)
"""Of images; of two with one name in a folder the one whose suffix comes first is taken."""


@dataclass(frozen=True)
class Samples:
    """Chips by row.

    ``table`` has the columns of ``COLUMNS``, rows counted from 0: label 1.0 mine, 0.0 not, NaN
    unknown; lon and lat in degrees, NaN unknown.
    """

    table: pd.DataFrame
    read: Reader
    """Row -> reflectance float32 (band, y, x), B02 B03 B04 [B08 B11 B12]; ``TrainingError`` names
    an image that cannot be read."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Label that is neither mine nor other -> rows."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    """Rows that never became an image, with ``reason``."""

    def take(self, rows: NDArray[np.intp]) -> Samples:
        """Return the samples of these rows, in their order."""
        table = self.table.iloc[rows].reset_index(drop=True)
        return replace(self, table=table, read=lambda row: self.read(int(rows[row])))

    def labelled(self) -> Samples:
        """Return those with a label; ``TrainingError`` if there is none."""
        known = np.flatnonzero(self.table["label"].notna())
        if not len(known):
            told = ", ".join(f"{name} ({count})" for name, count in self.left_out.items())
            raise TrainingError(
                f"no row has a label of mine or not{f', but: {told}' if told else ''}; labels are "
                "mining, mine, positive, 1 or forest, not_mine, negative, 0"
            )
        return self.take(known)

    def draw(self, size: int | None, seed: int) -> Samples:
        """Return ``size`` of them drawn at random, each label in its share; ``None`` takes all."""
        if size is None or size >= len(self.table):
            return self
        return self.take(draw_rows(self.table["label"].to_numpy(np.float64), size, seed))


def draw_rows(labels: NDArray[np.float64], size: int, seed: int) -> NDArray[np.intp]:
    """Return ``size`` rows drawn at random, sorted, each label in its share and none lost."""
    rng = np.random.default_rng(seed)
    mines, others = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
    wanted = round(size * len(mines) / len(labels))
    if len(mines) and len(others) and size > 1:  # neither kind may vanish
        wanted = min(max(wanted, 1), size - 1)
    drawn = [
        rng.choice(mines, wanted, replace=False),
        rng.choice(others, size - wanted, replace=False),
    ]
    return np.sort(np.concatenate(drawn))


def open_samples(path: Path, split: str = "val") -> Samples:
    """Open chips of any form of the module's table; ``split`` is of a dataset folder.

    Raises ``TrainingError`` naming what is missing.
    """
    if not path.exists():
        raise TrainingError(f"{path}: does not exist; give an image, a folder or a parquet")
    if path.is_dir():
        if (path / "index.parquet").is_file():
            return _index(path / "index.parquet")
        if any((path / name).is_dir() for name in ("train", "val")):
            return _dataset(path, split)
        return _pictures(images_in(path), path)
    if path.suffix == ".parquet":
        return _parquet(path)
    return _pictures([path], path.parent)


def words_to_labels(words: Sequence[Any]) -> tuple[NDArray[np.float64], dict[str, int]]:
    """Return labels (1.0, 0.0, NaN) of words in any case, and how often each other word stands."""
    plain = pd.Series([_plain(word) for word in words], dtype=object)
    labels = np.full(len(plain), np.nan)
    labels[plain.isin(MINE_WORDS)] = 1
    labels[plain.isin(OTHER_WORDS)] = 0
    others = plain[np.isnan(labels)].value_counts()
    return labels, {str(word): int(count) for word, count in sorted(others.items())}


def _plain(word: Any) -> str:
    if word is None or (isinstance(word, float) and np.isnan(word)):
        return "(none)"
    return str(word).strip().lower().replace(" ", "_").replace("-", "_") or "(none)"


def samples_table(count: int, columns: dict[str, Any]) -> pd.DataFrame:
    """Return a table of ``COLUMNS``, absent ones filled with what says unknown."""
    empty: dict[str, Any] = {"label": np.nan, "source": "unknown", "lon": np.nan, "lat": np.nan}
    table = pd.DataFrame({"sample_id": np.arange(count).astype(str), **empty} | columns)
    for name in ("label", "lon", "lat"):
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
    table["source"] = table["source"].fillna("unknown").astype(str)
    return table[list(COLUMNS)]


def _parquet(path: Path) -> Samples:
    try:
        names = pq.read_schema(path).names
        if "image" not in names and "path" in names:
            return _index(path)
        if "image" not in names:
            raise TrainingError(
                f"{path}: columns {', '.join(names)}; it needs image (encoded pictures) or path"
            )
        wanted = ("chip_id", "label", "source", "lon", "lat", "image")
        read = pq.read_table(path, columns=[name for name in wanted if name in names])
    except (OSError, pa.ArrowException) as error:
        raise TrainingError(f"{path}: cannot be read as Parquet ({error}); give chips") from error
    images = read["image"]
    columns: dict[str, Any] = {
        name: read[name].to_pandas() for name in read.column_names if name != "image"
    }
    left_out: dict[str, int] = {}
    if "label" in columns:
        columns["label"], left_out = words_to_labels(columns["label"].tolist())
    if "chip_id" in columns:
        columns["sample_id"] = columns.pop("chip_id").astype(str)
    table = samples_table(len(read), columns)

    def decode(row: int) -> NDArray[np.float32]:
        data, name = images[row].as_py(), f"{path}: chip {table['sample_id'][row]}"
        if not isinstance(data, bytes):
            raise TrainingError(
                f"{name}: no encoded picture but {type(data).__name__}; take it out"
            )
        return to_reflectance(decode_image(data, name))

    return Samples(table, decode, left_out)


def _index(path: Path) -> Samples:
    """Open a chip folder by its index."""
    table = pd.read_parquet(path, columns=None)
    missing = {"chip_id", "path"} - set(table.columns)
    if missing:
        raise TrainingError(f"{path}: no column {min(missing)}; give an index of collected chips")
    labels, left_out = words_to_labels(
        table["label"].astype(object).where(table["label"].notna(), None).tolist()
        if "label" in table
        else [None] * len(table)
    )
    columns = {name: table[name] for name in ("source", "lon", "lat") if name in table}
    paths = [path.parent / name for name in table["path"]]
    named = samples_table(
        len(table), {"sample_id": table["chip_id"].astype(str), "label": labels, **columns}
    )
    return Samples(named, lambda row: read_image(paths[row]), left_out)


def _dataset(path: Path, split: str) -> Samples:
    from training.dataset.folder import is_copy, read_split

    found = [sample for sample in read_split(path, split) if not is_copy(sample.path)]
    columns = {
        "sample_id": [sample.path.stem for sample in found],
        "label": [sample.label for sample in found],
        "source": [sample.source for sample in found],
        "lon": [sample.lon for sample in found],
        "lat": [sample.lat for sample in found],
    }
    return Samples(samples_table(len(found), columns), lambda row: read_image(found[row].path))


def _pictures(paths: list[Path], root: Path) -> Samples:
    if not paths:
        raise TrainingError(f"{root}: no image ({', '.join(SUFFIXES)}); give another folder")
    names = [path.relative_to(root).as_posix() for path in paths]
    table = samples_table(len(paths), {"sample_id": names})
    return Samples(table, lambda row: read_image(paths[row]))


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder and below, in order of their names."""
    found: dict[Path, Path] = {}
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES and path.is_file() and not path.name.startswith("."):
            twin = found.get(path.with_suffix(""))
            if twin is None or SUFFIXES.index(suffix) < SUFFIXES.index(twin.suffix.lower()):
                found[path.with_suffix("")] = path
    return list(found.values())
