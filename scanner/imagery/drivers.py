"""Which of GDAL's drivers stay out; said before GDAL is loaded, so nothing big is imported."""

from __future__ import annotations

import os
from importlib import metadata
from typing import Final

SKIPPED_DRIVERS: Final = (
    "VRT", "GTI", "STACIT", "STACTA", "HTTP", "WMS", "WMTS", "WCS", "KMLSUPEROVERLAY",
    "PLMOSAIC", "EEDAI",
)  # fmt: skip
"""GDAL drivers whose files point at other files or services. GDAL picks a driver by content, so
without this an ``evil.tif`` holding a VRT returns the bytes of any file of the machine."""


BLOCK_CACHE_MB: Final = "256"
"""Decoded blocks a process keeps; GDAL's own default is 5 % of the memory, for each worker."""


def harden_gdal() -> None:
    """Tell GDAL through the environment to leave out drivers that follow other files.

    Must run before rasterio is imported, in workers too: GDAL reads ``GDAL_SKIP`` once.
    """
    os.environ.setdefault("GDAL_CACHEMAX", BLOCK_CACHE_MB)
    wanted = [*SKIPPED_DRIVERS, *(("GDALG",) if _gdal_has_pipelines() else ())]
    have = os.environ.get("GDAL_SKIP", "").replace(",", " ").split()
    os.environ["GDAL_SKIP"] = ",".join([*have, *(name for name in wanted if name not in have)])


def _gdal_has_pipelines() -> bool:
    """Tell whether rasterio brings GDAL >= 3.11, whose GDALG driver runs pipelines from a file."""
    try:
        major, minor = metadata.version("rasterio").split(".")[:2]
    except metadata.PackageNotFoundError:
        return False
    return (int(major), int(minor)) >= (1, 5)
