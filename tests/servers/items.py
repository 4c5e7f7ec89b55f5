"""Hand-made STAC items in the forms that catalogs give them."""

from __future__ import annotations

import json
from typing import Any

HOST = "https://sentinel2l2a01.blob.core.windows.net"
"""Where the Planetary Computer keeps Sentinel-2 pixels."""


def polygon(*corners: list[float]) -> dict[str, Any]:
    """Return a GeoJSON polygon of these corners, closed."""
    return {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}


def square(west: float, south: float, size: float = 1.0) -> dict[str, Any]:
    """Return a GeoJSON square."""
    east, north = west + size, south + size
    return polygon([west, south], [east, south], [east, north], [west, north])


def raw(assets: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    """A small item in the Planetary Computer's form."""
    here = f"{HOST}/sentinel2-l2/21/M/WR"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2B_MSIL2A_20240701T135709_R067_T21MWR_20240701T192233",
        "collection": "sentinel-2-l2a",
        "geometry": square(-56.0, -7.0),
        "properties": {
            "datetime": "2024-07-01T13:57:09.024000Z",
            "proj:epsg": 32721,
            "s2:mgrs_tile": "21MWR",
            "s2:processing_baseline": "05.10",
            "eo:cloud_cover": 12.5,
        }
        | properties,
        "assets": assets
        or {b: {"href": f"{here}/{b}_10m.tif"} for b in ("B02", "B03", "B04", "SCL")},
        "links": [],
    }


def reprocessed(item: dict[str, Any], baseline: str) -> dict[str, Any]:
    """Return the same pass over the same granule as a catalog lists it once more, made anew."""
    again: dict[str, Any] = json.loads(json.dumps(item))
    again["id"] = f"{item['id']}_{baseline.replace('.', '')}"
    again["properties"]["s2:processing_baseline"] = baseline
    return again
