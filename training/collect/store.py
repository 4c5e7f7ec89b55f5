"""The files of a chip folder: chips as GeoTIFF and JPEG, and their index as GeoParquet.

``index.parquet`` has one row a chip, ``chips/<chip_id>.tif`` its DN (reflectance * 10000 without
offset, 0 is nodata), ``chips/<chip_id>.jpg`` the picture for the eye.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scanner.errors import TrainingError
from scanner.files import atomic_path
from scanner.imagery.bands import NODATA, QUANTIFICATION
from training.pictures import to_picture, write_image

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

INDEX_FILE: Final = "index.parquet"
CHIPS: Final = "chips"
RGB: Final = ("B02", "B03", "B04")
"""Bands of the picture; without them a pixel is not seen. Others may lack."""

SCHEMA: Final = pa.schema(
    [
        ("chip_id", pa.string()),
        ("label", pa.int8()),
        ("source", pa.string()),
        ("lon", pa.float64()),
        ("lat", pa.float64()),
        ("path", pa.string()),
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64())),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("bands", pa.list_(pa.string())),
        ("size_m", pa.float64()),
        ("resolution_m", pa.float64()),
        ("dates", pa.list_(pa.string())),
        ("cloud_cover", pa.float64()),
        ("clear_fraction", pa.float64()),
        ("brightness", pa.float64()),
        ("item_ids", pa.list_(pa.string())),
        ("review", pa.string()),
        ("review_score", pa.float64()),
    ]
)
"""Columns of the index besides the geometry (points, EPSG:4326); each may be null for an image."""


def to_dn(reflectance: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return reflectance 0..1 as DN 1..10000; NaN becomes 0, nodata."""
    dn = np.clip(np.round(reflectance * QUANTIFICATION), 1, QUANTIFICATION)
    return np.where(np.isnan(reflectance), NODATA, dn).astype(np.uint16)


def from_dn(dn: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return DN as reflectance, 0 as NaN."""
    reflectance = dn.astype(np.float32) / np.float32(QUANTIFICATION)
    reflectance[dn == NODATA] = np.nan
    return reflectance


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
    import rasterio

    _, height, width = dn.shape
    path = folder / CHIPS / f"{chip_id}.tif"
    write_image(folder / CHIPS / f"{chip_id}.jpg", from_dn(dn[_rgb(bands)]))
    with atomic_path(path) as scratch, rasterio.open(
        scratch, "w", driver="GTiff", height=height, width=width, count=len(bands), dtype="uint16",
        crs=str(geobox.crs), transform=geobox.affine, nodata=NODATA, compress="deflate",
        predictor=2, interleave="band",
    ) as file:  # fmt: skip
        file.write(dn)
        file.descriptions = tuple(bands)
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
