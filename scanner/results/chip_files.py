"""The form of a chip folder, for whoever writes one: ``mining-train collect`` and an audit.

``index.parquet`` has one row a chip (``SCHEMA``), ``chips/<chip_id>.tif`` its DN (reflectance *
10000 without offset, 0 is nodata), ``chips/<chip_id>.jpg`` the picture for the eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scanner.imagery.bands import NODATA, QUANTIFICATION

if TYPE_CHECKING:
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


def write_tif(path: Path, dn: NDArray[np.uint16], geobox: GeoBox, bands: Sequence[str]) -> None:
    """Write DN (band, y, x) as a GeoTIFF that names its bands, straight to ``path``."""
    import rasterio

    _, height, width = dn.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=len(bands), dtype="uint16",
        crs=str(geobox.crs), transform=geobox.affine, nodata=NODATA, compress="deflate",
        predictor=2, interleave="band",
    ) as file:  # fmt: skip
        file.write(dn)
        file.descriptions = tuple(bands)
