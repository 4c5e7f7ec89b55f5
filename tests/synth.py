"""Tiny COGs and STAC items of a known truth, made for a test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from scanner.imagery.item import Item


def write_cog(
    path: Path, pixels: NDArray[Any], epsg: int, west: float, north: float, size: float
) -> Path:
    """Write a 2-D array as a COG, nodata 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=1,
        dtype=pixels.dtype,
        crs=f"EPSG:{epsg}",
        transform=Affine(size, 0, west, 0, -size, north),
        nodata=0,
        compress="DEFLATE",
        blocksize=512,
    ) as out:
        out.write(pixels, 1)
    return path


def make_item(
    folder: Path,
    item_id: str,
    bands: Mapping[str, NDArray[Any]],
    *,
    epsg: int = 32721,
    west: float = 600_000,
    north: float = 9_300_000,
    datetime: str = "2024-07-01T13:50:00Z",
    baseline: str = "05.10",
    cloud: float = 5.0,
    **properties: Any,
) -> Item:
    """Write one COG a band (SCL at 20 m, others at 10 m); return the item, hrefs absolute."""
    assets = {}
    for name, pixels in bands.items():
        size = 20 if name == "SCL" else 10
        path = write_cog(folder / item_id / f"{name}.tif", pixels, epsg, west, north, size)
        assets[name] = {
            "href": str(path),
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "proj:shape": list(pixels.shape),
            "proj:transform": [size, 0, west, 0, -size, north],
        }
    height, width = next(iter(bands.values())).shape
    scale = 20 if next(iter(bands)) == "SCL" else 10
    box = transform_bounds(
        f"EPSG:{epsg}", "EPSG:4326", west, north - height * scale, west + width * scale, north
    )
    w, s, e, n = box
    return Item(
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "stac_extensions": ["https://stac-extensions.github.io/projection/v1.2.0/schema.json"],
            "id": item_id,
            "collection": "sentinel-2-l2a",
            "bbox": list(box),
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[w, s], [e, s], [e, n], [w, n], [w, s]]],
            },
            "properties": {
                "datetime": datetime,
                "eo:cloud_cover": cloud,
                "s2:processing_baseline": baseline,
                "proj:code": f"EPSG:{epsg}",
                **properties,
            },
            "links": [],
            "assets": assets,
        }
    )


def write_collection(path: Path, items: list[Item]) -> Path:
    """Write an ItemCollection file of these items."""
    document = {"type": "FeatureCollection", "features": [item.raw for item in items]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_aoi(path: Path, bounds: tuple[float, float, float, float], name: str = "square") -> Path:
    """Write a rectangle (west, south, east, north), degrees, as a GeoJSON Feature."""
    w, s, e, n = bounds
    ring = [[w, s], [e, s], [e, n], [w, n], [w, s]]
    feature = {
        "type": "Feature",
        "properties": {"name": name},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    path.write_text(json.dumps(feature), encoding="utf-8")
    return path
