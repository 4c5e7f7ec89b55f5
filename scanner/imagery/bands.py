"""Sentinel-2 bands, their names in each catalog, and the scene classification (SCL)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Scl(IntEnum):
    """Scene classification of Sentinel-2 L2A, 20 m (Sen2Cor product definition)."""

    NODATA = 0
    SATURATED = 1
    DARK = 2
    CLOUD_SHADOW = 3
    VEGETATION = 4
    BARE_SOIL = 5
    WATER = 6
    UNCLASSIFIED = 7
    CLOUD_MEDIUM = 8
    CLOUD_HIGH = 9
    THIN_CIRRUS = 10
    SNOW = 11


CLEAR_SCL: Final = (Scl.DARK, Scl.VEGETATION, Scl.BARE_SOIL, Scl.WATER, Scl.UNCLASSIFIED)
"""SCL classes taken as a clear view of the ground by default.

``UNCLASSIFIED`` is in, since turbid ponds and tailings often end there; ``CLOUD_MEDIUM`` is out,
though Sen2Cor calls bright bare soil so at times (the setting ``clear_scl`` changes it).
"""

NODATA: Final = 0
"""DN of a pixel without data, in every band and at every processing baseline."""

QUANTIFICATION: Final = 10_000
"""DN of reflectance 1 (Sentinel-2 product specification, QUANTIFICATION_VALUE)."""

RESOLUTION: Final = 10
"""Metres a pixel of the grid; B02, B03, B04 and B08 have it natively."""

SCL_RESOLUTION: Final = 20
"""Metres a pixel of the scene classification."""

COMMON_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "B01": ("coastal",),
    "B02": ("blue",),
    "B03": ("green",),
    "B04": ("red",),
    "B05": ("rededge1", "rededge"),
    "B06": ("rededge2",),
    "B07": ("rededge3",),
    "B08": ("nir",),
    "B8A": ("nir08",),
    "B11": ("swir16",),
    "B12": ("swir22",),
    "SCL": ("scl",),
}
"""Our band names (Planetary Computer's asset keys) and the common names of the STAC eo extension.

Earth Search names its assets by common name; ``item.Item.asset_key`` tries both.
"""
