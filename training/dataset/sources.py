"""Where chips come from: chip folders, image folders and chips.parquet files, read alike.

Each becomes an ``Origin``: a table of what is known of its images, and a way to read them one
after another. Images are never held together in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scanner.errors import TrainingError
from training.pictures import decode_image, read_image, to_reflectance

COLUMNS: Final = ("chip_id", "label", "source", "lon", "lat", "size_m")
BATCH: Final = 256
"""Rows of a parquet file decoded at a time."""


@dataclass(frozen=True)
class SourceSpec:
    """One ``--source``, ``--positive`` or ``--negative``."""

    path: Path
    label: int | None = None
    """Of all its images; ``None`` takes those of the data."""
    name: str | None = None
    """Source of all its images; ``None`` takes those of the data, or the folder's name."""


@dataclass(frozen=True)
class Loaded:
    """One image, and its bytes where they can be copied as they are."""

    pixels: NDArray[np.float32]
    """Reflectance (band, y, x), B02 B03 B04 first."""
    suffix: str
    data: bytes | None
    file: Path | None


@dataclass
class Origin:
    """The images of one source, in the rows of ``table`` (see ``COLUMNS``)."""

    spec: SourceSpec
    table: pd.DataFrame
    files: list[Path] | None
    """Of each row; ``None`` for the ``image`` column of a parquet file."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why images were not taken -> how many."""

    def called(self, row: int) -> str:
        """Return what messages call an image."""
        if self.files is not None:
            return str(self.files[row])
        return f"{self.spec.path}: row {self.table.index[row]} ({self.table['chip_id'].iloc[row]})"

    def metadata(self, row: int) -> dict[str, Any]:
        """Return what else the source knows of an image, as JSON can hold it."""
        values = self.table.iloc[row].drop([*COLUMNS, "geometry"], errors="ignore")
        return {str(key): _plain(value) for key, value in values.items() if _known(value)} | (
            {"file": self.files[row].name} if self.files is not None else {}
        )

    def images(self) -> Iterator[tuple[int, Loaded | TrainingError]]:
        """Yield (row, image), or the error of one that cannot be read, in the table's order."""
        if self.files is None:
            yield from self._decoded()
            return
        for row, path in enumerate(self.files):
            try:
                pixels = read_image(path)
                yield row, Loaded(pixels, path.suffix.lower(), path.read_bytes(), path)
            except TrainingError as error:
                yield row, error
            except OSError as error:
                yield row, TrainingError(f"{path}: cannot be read ({error.strerror})")

    def _decoded(self) -> Iterator[tuple[int, Loaded | TrainingError]]:
        wanted = {int(place): row for row, place in enumerate(self.table.index)}
        place = 0
        with pq.ParquetFile(self.spec.path) as source:
            for batch in source.iter_batches(BATCH, columns=["image"]):
                for scalar in batch.column(0):
                    row = wanted.get(place)
                    place += 1
                    if row is None:
                        continue
                    try:
                        picture = decode_image(scalar.as_py() or b"", self.called(row))
                    except TrainingError as error:
                        yield row, error
                        continue
                    yield row, Loaded(to_reflectance(picture), ".png", None, None)


def _known(value: Any) -> bool:
    if isinstance(value, bytes | dict):
        return False
    return bool(np.ndim(value)) or not pd.isna(value)


def _plain(value: Any) -> Any:
    """Return what numpy and pandas hold as JSON knows it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return value if isinstance(value, bool | int | float | list | str) else str(value)
