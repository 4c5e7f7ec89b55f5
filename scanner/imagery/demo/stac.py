"""STAC items of the demo, with the fields that Planetary Computer's sentinel-2-l2a items have."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any, Final

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from scanner.imagery.bands import NODATA, Scl
from scanner.imagery.demo.frame import Granule
from scanner.imagery.demo.sky import Day

SWATH_EDGE: Final = (330, 90)
"""First column with data in the first and in the last row of a granule that the swath cuts."""

_COMMON: Final = {
    "B02": ("blue", 0.49),
    "B03": ("green", 0.56),
    "B04": ("red", 0.665),
    "B08": ("nir", 0.842),
}
_EXTENSIONS: Final = (
    "https://stac-extensions.github.io/eo/v1.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.2.0/schema.json",
)
_NOTE: Final = (
    "SYNTHETIC: drawn by mining-scan's demo for machines without a network. Not a satellite image; "
    "nothing in it was ever seen on the ground."
)


def _footprint(granule: Granule, cut: bool) -> shapely.Polygon:
    """Return the outline of the pixels with data, EPSG:4326."""
    west, south, east, north = granule.bounds
    top, bottom = (10 * column if cut else 0 for column in SWATH_EDGE)
    corners = [(west + top, north), (west + bottom, south), (east, south), (east, north)]
    outline = shapely.segmentize(shapely.Polygon(corners), 5_000)
    change = pyproj.Transformer.from_crs(granule.epsg, 4326, always_xy=True)
    return shapely.transform(
        outline, lambda p: np.round(np.stack(change.transform(p[:, 0], p[:, 1]), axis=-1), 7)
    )


def _percent(part: NDArray[np.bool_], whole: int) -> float:
    return round(100 * int(part.sum()) / max(whole, 1), 6)


def _shares(classes: NDArray[np.uint8]) -> dict[str, float]:
    seen = int((classes != NODATA).sum())

    def share(*wanted: Scl) -> float:
        return _percent(np.isin(classes, wanted), seen)

    return {
        "eo:cloud_cover": share(Scl.CLOUD_MEDIUM, Scl.CLOUD_HIGH, Scl.THIN_CIRRUS),
        "s2:nodata_pixel_percentage": _percent(classes == NODATA, classes.size),
        "s2:high_proba_clouds_percentage": share(Scl.CLOUD_HIGH),
        "s2:medium_proba_clouds_percentage": share(Scl.CLOUD_MEDIUM),
        "s2:thin_cirrus_percentage": share(Scl.THIN_CIRRUS),
        "s2:cloud_shadow_percentage": share(Scl.CLOUD_SHADOW),
        "s2:vegetation_percentage": share(Scl.VEGETATION),
        "s2:not_vegetated_percentage": share(Scl.BARE_SOIL),
        "s2:water_percentage": share(Scl.WATER),
        "s2:unclassified_percentage": share(Scl.UNCLASSIFIED),
        "s2:dark_features_percentage": share(Scl.DARK),
    }


def _asset(name: str, granule: Granule, folder: str) -> dict[str, Any]:
    size = 20 if name == "SCL" else 10
    asset: dict[str, Any] = {
        "href": f"./{folder}/{name}.tif",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "title": f"{name} (synthetic), {size} m",
        "roles": ["data"],
        "gsd": float(size),
        "proj:bbox": list(granule.bounds),
        "proj:shape": [granule.height * 10 // size, granule.width * 10 // size],
        "proj:transform": [float(size), 0.0, granule.left, 0.0, float(-size), granule.top],
    }
    if name in _COMMON:
        common, wavelength = _COMMON[name]
        asset["eo:bands"] = [{"name": name, "common_name": common, "center_wavelength": wavelength}]
    return asset


def _name(day: Day, granule: Granule, made: dt.datetime) -> str:
    craft = "S2" + day.platform[-1]
    stamps = day.moment.strftime("%Y%m%dT%H%M%S"), made.strftime("%Y%m%dT%H%M%S")
    return f"{craft}_MSIL2A_{stamps[0]}_R{day.orbit:03d}_T{granule.name}_{stamps[1]}_SYNTHETIC"


def item(granule: Granule, day: Day, classes: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the STAC item of one scene; hrefs relative to items.json, baseline 05.10.

    ``classes``: the scene's SCL, for its cloud cover and its nodata.
    """
    made = day.moment + dt.timedelta(hours=8, minutes=21)
    name = _name(day, granule, made)
    cut = bool((classes == NODATA).any())
    footprint = _footprint(granule, cut)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": shapely.geometry.mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {
            "title": f"Synthetic scene {granule.name} {day.moment:%Y-%m-%d}",
            "description": _NOTE,
            "synthetic": True,
            "datetime": day.moment.strftime("%Y-%m-%dT%H:%M:%S.024000Z"),
            "platform": day.platform,
            "constellation": "Sentinel 2",
            "instruments": ["msi"],
            "proj:epsg": granule.epsg,
            "proj:code": f"EPSG:{granule.epsg}",
            **_shares(classes),
            "s2:mgrs_tile": granule.name,
            "s2:processing_baseline": "05.10",
            "s2:generation_time": made.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
            "s2:product_type": "S2MSI2A",
            "s2:product_uri": f"{name}.SAFE",
            "s2:mean_solar_zenith": 38.4,
            "s2:mean_solar_azimuth": 41.7,
            "sat:orbit_state": "descending",
            "sat:relative_orbit": day.orbit,
        },
        "links": [],
        "assets": {band: _asset(band, granule, name) for band in (*_COMMON, "SCL")},
    }


def earlier_baseline(later: dict[str, Any]) -> dict[str, Any]:
    """Return the same scene as processed before, baseline 05.09, over the same files.

    Catalogs list such pairs; whoever counts scenes must keep only the later one.
    """
    earlier = copy.deepcopy(later)
    properties = earlier["properties"]
    made = dt.datetime.fromisoformat(properties["s2:generation_time"].replace("Z", "+00:00"))
    made -= dt.timedelta(hours=5)
    parts = later["id"].split("_")
    parts[-2] = made.strftime("%Y%m%dT%H%M%S")
    earlier["id"] = "_".join(parts)
    properties["s2:generation_time"] = made.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    properties["s2:product_uri"] = f"{earlier['id']}.SAFE"
    properties["s2:processing_baseline"] = "05.09"
    properties["title"] += ", earlier processing"
    return earlier


def collection(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the ItemCollection of ``items``."""
    return {
        "type": "FeatureCollection",
        "title": "mining-scan demo (synthetic)",
        "description": _NOTE,
        "features": items,
    }
