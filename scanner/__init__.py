"""mining-scan: find mining scars inside a protected area, from Sentinel-2, on Dask.

The public names are loaded on first use: ``mining-scan --help`` needs neither torch nor GDAL.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scanner.imagery.drivers import harden_gdal
from scanner.version import __version__ as __version__

harden_gdal()  # GDAL reads its environment once, when rasterio is first imported

if TYPE_CHECKING:
    from scanner.area.aoi import Aoi as Aoi
    from scanner.area.aoi import read_aoi as read_aoi
    from scanner.config import ScanConfig as ScanConfig
    from scanner.imagery.notebook import open_cube as open_cube
    from scanner.models.classifier import load_classifier as load_classifier
    from scanner.models.segmenter import load_segmenter as load_segmenter
    from scanner.run.pipeline import scan as scan

_HOMES = {
    "Aoi": "scanner.area.aoi",
    "read_aoi": "scanner.area.aoi",
    "ScanConfig": "scanner.config",
    "load_classifier": "scanner.models.classifier",
    "load_segmenter": "scanner.models.segmenter",
    "open_cube": "scanner.imagery.notebook",
    "scan": "scanner.run.pipeline",
}
__all__ = [  # noqa: RUF022 - in the order of the flow
    "Aoi",
    "read_aoi",
    "ScanConfig",
    "open_cube",
    "load_segmenter",
    "load_classifier",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'scanner' has no attribute {name!r}")
