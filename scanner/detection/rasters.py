"""Pictures of a tile that travel with its table: class map, suspicious ground, true colour.

Each is a small GeoTIFF of the tile's core (2016 x 2016 pixels of 10 m, its UTM zone), made on the
worker, so that a map, a report or a crop can be drawn later without a scene being read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from scanner.area.grid import CORE_PX, HALO_PX, Tile
from scanner.detection.segment import APRON, NOT_SEGMENTED
from scanner.imagery.bands import QUANTIFICATION

RASTERS: Final = ("classes", "suspicious", "quicklook")
"""Names of the rasters of a tile: classes 0..6 (``SEGMENTER_CLASSES``) and suspicious ground 0 or
1, both 255 where nothing was segmented or no scene has data; quicklook R, G and B, 8 bits, with a
mask of what no scene shows.
"""

TRUE_COLOUR: Final = ("B04", "B03", "B02")
WHITE: Final = 0.25
"""Reflectance shown as white: fixed, so that no picture depends on its surroundings."""
GAMMA: Final = 0.7
"""Exponent that lightens forest, which reflects a tenth of what bare ground does."""

_STEPS: Final = int(WHITE * QUANTIFICATION)
"""Steps of reflectance from black to white, one a DN."""
_STRIP: Final = 32
"""Rows of a picture made at a time."""

EXACT: Final[dict[str, Any]] = {"compress": "DEFLATE", "zlevel": 1, "nodata": NOT_SEGMENTED}
"""How classes and marks are written."""
LOSSY: Final[dict[str, Any]] = {
    "compress": "JPEG", "jpeg_quality": 90, "photometric": "YCBCR", "interleave": "pixel",
}  # fmt: skip
"""How the quicklook is written; WebP took four times as long."""

_TILED: Final = {
    "driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True,
}  # fmt: skip


def tile_rasters(
    image: NDArray[np.float32],
    classes: NDArray[np.uint8],
    suspicious: NDArray[np.bool_],
    tile: Tile,
    bands: Sequence[str],
) -> dict[str, bytes]:
    """Return the rasters of a tile as GeoTIFF files, by the names of ``RASTERS``.

    There is no quicklook where the models want no visible bands.

    Args:
        image: composite (band + 1, 2144, 2144), reflectance 0..1, NaN nodata.
        classes: class map of the core plus ``APRON`` px a side.
        suspicious: suspicious pixels of the core after smoothing.
        tile: which ground that is.
        bands: names of the first planes of ``image``.
    """
    core = classes[APRON:-APRON, APRON:-APRON]
    inner = slice(HALO_PX, HALO_PX + CORE_PX)
    unread = np.isnan(image[: len(bands), inner, inner]).all(axis=0)
    unknown = (core == NOT_SEGMENTED) | unread
    core = np.where(unknown, np.uint8(NOT_SEGMENTED), core)
    marked = np.where(unknown, np.uint8(NOT_SEGMENTED), suspicious.astype(np.uint8))
    found = {
        "classes": _encoded(core[None], tile, **EXACT),
        "suspicious": _encoded(marked[None], tile, **EXACT),
    }
    if set(TRUE_COLOUR) <= set(bands):
        picture = shown(image[[bands.index(band) for band in TRUE_COLOUR], inner, inner])
        found["quicklook"] = _encoded(picture[:3], tile, picture[3], **LOSSY)
    return found


def shown(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return reflectance (3, y, x) as a picture (4, y, x), 8 bits, opacity 0 where it has none."""
    table = np.rint((np.arange(_STEPS + 1) / _STEPS) ** GAMMA * 255).astype(np.uint8)
    picture = np.empty((4, *rgb.shape[1:]), dtype=np.uint8)
    for top in range(0, rgb.shape[1], _STRIP):  # what fits a cache
        rows = slice(top, top + _STRIP)
        opaque = np.isfinite(rgb[:, rows]).all(axis=0)
        steps = np.where(opaque, rgb[:, rows], np.float32(0))
        steps *= QUANTIFICATION
        np.clip(np.rint(steps, out=steps), 0, _STEPS, out=steps)
        picture[:3, rows] = table[steps.astype(np.uint16)]
        picture[3, rows] = np.where(opaque, 255, 0)
    return picture


def _encoded(
    planes: NDArray[np.uint8], tile: Tile, mask: NDArray[np.uint8] | None = None, **options: Any
) -> bytes:
    box = tile.core_geobox
    with MemoryFile() as memory, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with memory.open(
            **_TILED,
            count=len(planes),
            height=planes.shape[1],
            width=planes.shape[2],
            dtype="uint8",
            crs=f"EPSG:{tile.epsg}",
            transform=box.affine,
            **options,
        ) as out:
            out.write(planes)
            if mask is not None:
                out.write_mask(mask)
        return bytes(memory.read())
