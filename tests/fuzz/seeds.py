"""Where fuzzing begins: the inputs that other tests make by hand, and files GDAL wrote."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from scanner.config import ScanConfig
from scanner.models.mlm import to_mlm
from tests.servers.items import HOST, polygon, raw, square

SMALL = 20_000
"""Bytes from which a test's input is no seed: changes of small ones teach more."""

LARGE = ("a million positions", "125,000 positions", "a million values", "very deep lists")
"""Cases that take seconds to write out."""

WEIGHTS = (2).to_bytes(8, "little") + b"{}"
"""An empty safetensors file."""

RING = [[-55.0, -8.0], [-54.99, -8.0], [-54.99, -7.99], [-55.0, -7.99], [-55.0, -8.0]]
HOLE = [[-54.998, -7.998], [-54.992, -7.998], [-54.992, -7.992], [-54.998, -7.998]]
SHAPE: dict[str, Any] = {"type": "Polygon", "coordinates": [RING, HOLE]}
KML = (
    b'<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>'
    b"<Placemark><name>a park</name><Polygon><outerBoundaryIs><LinearRing><coordinates>"
    b"-55,-8,0 -54,-8,0 -54,-7,0 -55,-7,0 -55,-8,0</coordinates></LinearRing></outerBoundaryIs>"
    b"</Polygon></Placemark></Document></kml>"
)


def plain(value: Any) -> bytes:
    """Return a test's input as the bytes of its file."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace")


def areas() -> list[bytes]:
    from tests.area.test_aoi import REFUSED, TWO

    feature = {"type": "Feature", "properties": {"name": "Kayapó"}, "geometry": SHAPE}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    taken = [
        SHAPE,
        feature,
        {"type": "FeatureCollection", "features": [feature, feature], "name": "x", "crs": crs},
        {"type": "GeometryCollection", "geometries": [SHAPE, SHAPE]},
        {"type": "MultiPolygon", "coordinates": [[RING], [[[x + 1, y] for x, y in RING]]]},
        TWO,
    ]
    refused = [content for case, (content, _) in REFUSED.items() if case not in LARGE]
    return [one for one in map(plain, [*taken, *refused]) if len(one) < SMALL]


def answers() -> list[bytes]:
    head = {"features": [{"kind": None, "properties": {"name": "a"}, "polygons": [[5, 4]]}]}
    points = np.array([*RING, *HOLE], dtype="<f8").tobytes()
    refusal = {"refused": ["holds no polygon", "give polygons"]}
    return [
        json.dumps(head).encode() + b"\n" + points,
        json.dumps(refusal).encode() + b"\n",
        b'{"features": [{"kind": "Point", "properties": {}, "polygons": []}]}\n',
    ]


def earth_search() -> dict[str, Any]:
    keys = ("blue", "green", "red", "nir", "scl")
    assets: dict[str, Any] = {
        key: {
            "href": f"{HOST}/{key}.tif?se=1&sig=abc",
            "roles": ["data"],
            "gsd": 10,
            "proj:shape": [10980, 10980],
            "proj:transform": [10, 0, 600000, 0, -10, 9300040],
            "eo:bands": [{"name": key, "common_name": key}],
        }
        for key in keys
    }
    told = {
        "s2:mgrs_tile": None,
        "proj:epsg": None,
        "proj:code": "EPSG:32721",
        "grid:code": "MGRS-21MWR",
        "platform": "sentinel-2b",
        "earthsearch:boa_offset_applied": True,
        "created": "2024-07-02T00:00:00Z",
        "sat:relative_orbit": 67,
        "proj:bbox": [600000, 9190240, 709800, 9300040],
    }
    return raw(assets, **told) | {"links": [{"rel": "self", "href": "https://h/i?sig=1"}]}


def interval() -> dict[str, Any]:
    when = {"start_datetime": "2024-07-01T13:57:09Z", "end_datetime": "2024-07-01T13:57:19Z"}
    utm = {"mgrs:utm_zone": 21, "mgrs:latitude_band": "M", "mgrs:grid_square": "WR"}
    told = {"datetime": None, "s2:mgrs_tile": None, "proj:epsg": None, **when, **utm}
    return raw(**told) | {"id": "interval", "geometry": square(-55.9, -6.9)}


def items() -> list[bytes]:
    older = raw(**{"s2:processing_baseline": "02.12", "s2:generation_time": "2024-07-09"})
    half = polygon([-56, -7], [-55.5, -7], [-55.5, -6], [-56, -6])
    several = [raw(), older | {"id": "older"}, raw() | {"geometry": half, "id": "half"}, older]
    lists = [[raw(), earth_search()], several, [interval(), raw(), raw()]]
    return [plain(one) for one in (raw(), earth_search(), interval(), *lists)]


def collections() -> list[bytes]:
    about = {"date": "2024-07-01/2024-07-31", "dropped": [], "advice": None}
    about["dropped"] = [{"id": "x", "reason": "item x: no red", "superseded": False}]
    found = {"type": "FeatureCollection", "features": [raw(), earth_search()]}
    return [plain(one) for one in (found, found | {"mining_scan": about}, raw(), {"features": []})]


def configs() -> list[bytes]:
    many = ScanConfig().with_values(
        center=(-14.2, -49.4),
        radius_km=5,
        date="2024-01-01/2024-06-30",
        hosts=("*.example.org",),
        threshold="high-recall",
        prior=0.01,
        overlay=("a.gpkg",),
        out=Path("runs/x y"),
        workers=2,
    )
    area = ScanConfig().with_values(aoi=Path("aois/é.geojson"), threshold=0.4)
    odd = b"[pixels]\nmax_scenes = 1_0\nclear_scl = [4, 5]\n[report]\nalso = ['kml', 'csv']\n"
    return [many.to_toml().encode(), area.to_toml().encode(), odd, b"", b"a = 1979-05-27\n"]


def cards() -> list[bytes]:
    from scanner.models.calibration import Calibration
    from scanner.models.card import CLASSIFIER_CLASSES, SEGMENTER_CLASSES, ModelCard, Scaling

    def lay(task: Any, config: dict[str, Any], *optional: str, **more: Any) -> bytes:
        card = ModelCard(
            name="tiny",
            task=task,
            architecture="a network",
            bands=("B02", "B03", "B04"),
            optional_bands=optional,
            scaling=Scaling((0.1,) * (3 + len(optional)), (0.2,) * (3 + len(optional))),
            sha256=hashlib.sha256(WEIGHTS).hexdigest(),
            config=config,
            classes=CLASSIFIER_CLASSES if task == "classification" else SEGMENTER_CLASSES,
            **more,
        )
        return json.dumps(to_mlm(card)).encode()

    segformer = {
        "num_labels": 7,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 8, 16, 16],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
    }
    scored = {"chip_size": 48, "threshold": 0.5, "thresholds": {"balanced": 0.4}}
    resnet = {"backbone": "resnet18", "bands": 4, "flips": 1}
    curve = Calibration(1.0, 0.0, 0.2, "isotonic", ((-1.0, 0.1), (1.0, 0.9)))
    return [
        lay("semantic-segmentation", segformer),
        lay("classification", resnet, "B08", calibration=Calibration(1.0, 0.0, 0.2), **scored),
        lay("classification", resnet | {"bands": 3}, calibration=curve, **scored),
    ]


def hrefs() -> list[bytes]:
    found = [
        f"{HOST}/a/B02.tif",
        f"{HOST}/a/B02.tif?se=2024&sig=abc%2Fdef%3D#x",
        "https://me:pw@host/x.tif",
        "HTTP://127.0.0.1:8080/B02.TIF",
        "https://evil.example.org\\.blob.core.windows.net/a.tif",
        "https://[::1]:80/a.jp2",
        "/vsicurl/https://h/a.tif",
        "file:///etc/passwd",
        "RuntimeError('|a/b;c=d|",
        "https://|a:b/c|, then go",
    ]
    return [one.encode() for one in found]


def vector_files(folder: Path) -> dict[str, bytes]:
    """Return a file of one polygon in each format besides GeoJSON, by suffix."""
    import geopandas as gpd
    import pyogrio
    import shapely

    table = gpd.GeoDataFrame(
        {"name": ["a park"]}, geometry=[shapely.geometry.shape(SHAPE)], crs=4326
    )
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    pyogrio.write_dataframe(table, parts / "x.shp", driver="ESRI Shapefile")
    pyogrio.write_dataframe(table, parts / "x.gpkg", driver="GPKG")
    packed, kmz = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:  # not packed: changes reach the shapefile itself
        for part in sorted(parts.glob("x.[sdp][hbr]*")):
            archive.write(part, part.name)
    with zipfile.ZipFile(kmz, "w") as archive:
        archive.writestr("doc.kml", KML)
    return {
        ".zip": packed.getvalue(),
        ".gpkg": (parts / "x.gpkg").read_bytes(),
        ".kml": KML,
        ".kmz": kmz.getvalue(),
    }
