"""The files of a chip folder, written and read; their form is ``scanner.results.chip_files``'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scanner.errors import TrainingError
from scanner.files import atomic_path
from scanner.imagery.bands import NODATA
from scanner.results.chip_files import CHIPS, INDEX_FILE, RGB, SCHEMA, from_dn, write_tif
from training.pictures import to_picture, write_image

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox


def picture_of(dn: NDArray[np.uint16], bands: Sequence[str]) -> NDArray[np.uint8]:
    """Return the 8-bit picture (y, x, 3) R G B of a chip (band, y, x)."""
    return to_picture(from_dn(dn[_rgb(bands)]))


def seen(dn: NDArray[np.uint16], bands: Sequence[str]) -> NDArray[np.bool_]:
    """Return the pixels (y, x) of a chip that have data."""
    return np.asarray((dn[_rgb(bands)] != NODATA).all(axis=0))


def brightness_of(picture: NDArray[np.uint8], valid: NDArray[np.bool_]) -> float:
    """Return the mean of a picture's values 0..255 over valid pixels (y, x); NaN if there are none.

    A picture of a local image counts whole.
    """
    return round(float(picture[valid].mean()), 2) if valid.any() else float("nan")


def write_chip(
    folder: Path, chip_id: str, dn: NDArray[np.uint16], geobox: GeoBox, bands: Sequence[str]
) -> str:
    """Write a chip's GeoTIFF and JPEG, each whole or not at all; return the path of the first."""
    path = folder / CHIPS / f"{chip_id}.tif"
    write_image(folder / CHIPS / f"{chip_id}.jpg", from_dn(dn[_rgb(bands)]))
    with atomic_path(path) as scratch:
        write_tif(scratch, dn, geobox, bands)
    return path.relative_to(folder).as_posix()


def write_index(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``index.parquet`` from rows as the manifest keeps them, ordered by chip_id."""
    import geopandas as gpd
    import shapely

    from scanner.results.outputs import GeoParquetWriter

    rows = sorted(rows, key=lambda row: str(row["chip_id"]))
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    points = [None if row["lon"] is None else shapely.Point(row["lon"], row["lat"]) for row in rows]
    placed = np.array([(p.x, p.y) for p in points if p is not None])
    bounds = tuple(float(v) for v in (*placed.min(0), *placed.max(0))) if len(placed) else None
    frame = gpd.GeoDataFrame(
        table.to_pandas(types_mapper=_nullable), geometry=points, crs="EPSG:4326"
    )
    types = ["Point"] if len(placed) else []
    with GeoParquetWriter(folder / INDEX_FILE, SCHEMA, bounds, types) as writer:  # type: ignore[arg-type]
        writer.write(frame)


def read_index(folder: Path) -> gpd.GeoDataFrame:
    """Return the index of a chip folder, a row a chip; ``TrainingError`` where there is none."""
    import geopandas as gpd

    path = folder / INDEX_FILE
    if not path.is_file():
        raise TrainingError(f"{path}: no such file; collect chips into the folder first")
    try:
        frame = gpd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: is no index of chips ({error}); collect again") from error
    if missing := {"chip_id", "label", "path", "bands"} - set(frame.columns):
        raise TrainingError(f"{path}: has no column {', '.join(sorted(missing))}; collect again")
    frame["label"] = frame["label"].astype("Int8")
    return frame


def _rgb(bands: Sequence[str]) -> list[int]:
    return [list(bands).index(band) for band in RGB]


def _nullable(kind: pa.DataType) -> Any:
    import pandas as pd

    return pd.Int8Dtype() if kind == pa.int8() else None
