"""Where samples lie: 5-degree blocks, and which lie beside what a model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scanner.errors import TrainingError
from training.collect.table import LAT_NAMES, LON_NAMES, read_table

NEAR_M: Final = 1000
"""A sample this close to a training sample has been seen, in part, by the model."""
BLOCK_DEGREES: Final = 5
EARTH_M: Final = 6_371_000
"""Mean radius of the Earth."""


def regions(places: NDArray[np.float64]) -> NDArray[np.object_]:
    """Return the name of the 5-degree block of each (lon, lat), ``None`` without a place."""
    names = np.full(len(places), None, object)
    for row in np.flatnonzero(np.isfinite(places).all(1)):
        lon, lat = (np.floor(places[row] / BLOCK_DEGREES) * BLOCK_DEGREES).astype(int)
        names[row] = f"lat{lat}lon{lon}"
    return names


def read_places(path: Path) -> NDArray[np.float64]:
    """Return (lon, lat) of each row of a CSV or Parquet file that has both, (n, 2), degrees."""
    if path.suffix != ".parquet":
        rows = read_table(path).rows
        return np.array([(row.lon, row.lat) for row in rows], np.float64).reshape(-1, 2)
    try:
        names = {name.lower(): name for name in pq.read_schema(path).names}
        pair = [
            next((names[name] for name in known if name in names), None)
            for known in (LON_NAMES, LAT_NAMES)
        ]
        if None in pair:
            raise TrainingError(
                f"{path}: no columns lat and lon; give the places of training samples"
            )
        columns = pq.read_table(path, columns=pair).columns
    except (OSError, pa.ArrowException) as error:
        raise TrainingError(f"{path}: cannot be read as Parquet ({error}); give another") from error
    places = np.column_stack([np.asarray(one.to_numpy(), np.float64) for one in columns])
    return places[np.isfinite(places).all(1)]


def near(
    places: NDArray[np.float64], others: NDArray[np.float64], metres: float = NEAR_M
) -> NDArray[np.object_]:
    """Return whether each (lon, lat) lies within ``metres`` of any of ``others``; ``None`` unknown.

    Raises ``TrainingError`` if no place is known among ``others``.
    """
    from sklearn.neighbors import BallTree  # type: ignore[import-untyped]

    if not len(others):
        raise TrainingError("training samples: not one has a place; give a table with lat and lon")
    found: NDArray[np.object_] = np.full(len(places), None, object)
    known = np.flatnonzero(np.isfinite(places).all(1))
    if len(known):
        tree = BallTree(np.radians(others[:, ::-1]), metric="haversine")
        seen: Any = tree.query_radius(
            np.radians(places[known][:, ::-1]), metres / EARTH_M, count_only=True
        )
        found[known] = (seen > 0).tolist()
    return found
