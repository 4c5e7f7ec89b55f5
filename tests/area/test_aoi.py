"""AOIs: what is taken, what is refused, and that a refusal is one quick line with the fix."""

from __future__ import annotations

import json
import os
import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from scanner.area import geojson
from scanner.area.aoi import Aoi, read_aoi, square_aoi
from scanner.errors import AoiError

RING = [[-55.0, -8.0], [-54.0, -8.0], [-54.0, -7.0], [-55.0, -7.0], [-55.0, -8.0]]
SQUARE: dict[str, Any] = {"type": "Polygon", "coordinates": [RING]}
VRT = (
    "<OGRVRTDataSource><OGRVRTLayer name='passwd'><SrcDataSource>CSV:/etc/passwd"
    "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
)


def square(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features), **members}


def write(folder: Path, content: Any, name: str = "park.geojson") -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def crs(name: Any) -> dict[str, Any]:
    return {"crs": {"type": "name", "properties": {"name": name}}}


TANGLE = np.random.default_rng(1).uniform((-55, -8), (-54, -7), (3000, 2)).tolist()
CIRCLE = np.linspace(0, 2 * np.pi, 1_000_000)
MILLION = polygon(np.column_stack([np.cos(CIRCLE), np.sin(CIRCLE)]).round(4).tolist())
MANY = polygon(np.column_stack([np.cos(CIRCLE), np.sin(CIRCLE)])[::8].round(6).tolist())
HATCH = [[square(-55 + i / 1000, -8, 3e-4, 1)] for i in range(900)]
HATCH += [[square(-55, -8 + i / 1000, 1, 3e-4)] for i in range(900)]

REFUSED: dict[str, tuple[Any, str]] = {
    "an OGR VRT": (VRT, "is not JSON"),
    "KML": ("<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><kml/>", "is not JSON"),
    "a zip": (b"PK\x03\x04" + bytes(range(256)), "is not UTF-8"),
    "UTF-16": (json.dumps(SQUARE).encode("utf-16"), "is not UTF-8"),
    "an empty file": ("", "is empty"),
    "blanks": (" \n\t ", "is empty"),
    "cut off": (json.dumps(SQUARE)[:-4], "is not JSON"),
    "a list": ([SQUARE], "no GeoJSON"),
    "a number": ("5", "no GeoJSON"),
    "no type": ({"coordinates": [RING]}, "type"),
    "a strange type": ({"type": ["Polygon"], "coordinates": [RING]}, "type"),
    "TopoJSON": ({"type": "Topology", "arcs": []}, "Topology"),
    "deep lists": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "deep objects": ('{"a":' * 90_000 + "1" + "}" * 90_000, "nested too deeply"),
    "very deep lists": ("[" * 5_000_000, "positions"),
    "deep collections": (
        '{"type":"GeometryCollection","geometries":[' * 50 + "]}" * 50,
        "too deeply",
    ),
    "a million positions": (MILLION, "positions"),
    "125,000 positions": (MANY, "positions"),
    "a million values": ({**SQUARE, "more": [0] * 1_500_000}, "positions"),
    "a long number": ('{"type": ' + "1" * 1_000_000 + "}", "is not JSON"),
    "NaN": (json.dumps(SQUARE).replace("-54.0", "NaN"), "NaN"),
    "Infinity": (json.dumps(SQUARE).replace("-54.0", "Infinity"), "Infinity"),
    "1e999": (json.dumps(SQUARE).replace("-54.0", "1e999"), "not finite"),
    "a huge integer": (json.dumps(SQUARE).replace("-54.0", "1" + "0" * 400), "not [lon, lat]"),
    "text for numbers": (polygon([["-55", "-8"]] * 5), "not [lon, lat]"),
    "true for numbers": (polygon([[True, False]] * 5), "not [lon, lat]"),
    "lone numbers": (polygon([[1]] * 5), "not [lon, lat]"),
    "a ring too few": ({"type": "Polygon", "coordinates": RING}, "not [lon, lat]"),
    "coordinates of text": ({"type": "Polygon", "coordinates": "all"}, "no list"),
    "UTM metres": (polygon(square(320_000, 9_200_000, 1000, 1000)), "metres, not degrees"),
    "Web Mercator": (polygon(square(-6e6, -9e5, 1000, 1000)), "ogr2ogr -t_srs EPSG:4326"),
    "lat, lon": (polygon(square(-8, -121, 1, 1)), "lat, lon order"),
    "a latitude of 95": (polygon(square(-121, 94, 1, 1)), "latitudes end at 90"),
    "longitudes from 0 to 360": (polygon(square(305, -8, 1, 1)), "subtract 360"),
    "crossing edges": (polygon([[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]), "repair"),
    "a great tangle": (polygon([*TANGLE, TANGLE[0]]), "too often"),
    "a hatching": ({"type": "MultiPolygon", "coordinates": HATCH}, "too often"),
    "no area": (polygon([[0, 0], [1, 1], [2, 2], [0, 0]]), "a polygon is not valid"),
    "a grain of sand": (polygon(square(-55, -8, 1e-9, 1e-9)), "has no area"),
    "an open ring": (polygon(RING[:-1]), "is not closed"),
    "three positions": (polygon([RING[0], RING[1], RING[0]]), "fewer than 4"),
    "an empty ring": (polygon([]), "fewer than 4"),
    "an empty polygon": (polygon(), "is empty"),
    "an empty multipolygon": ({"type": "MultiPolygon", "coordinates": []}, "holds no polygon"),
    "no features": (collection(), "holds no feature"),
    "features missing": ({"type": "FeatureCollection"}, "no list"),
    "features that are none": (collection(SQUARE), "feature 1 is not of type Feature"),
    "a null geometry": (feature(None), "null"),
    "one null of two": (collection(feature(SQUARE), feature(None)), "feature 2 has no geometry"),
    "a point": ({"type": "Point", "coordinates": [-55, -8]}, "--center"),
    "a line": (feature({"type": "LineString", "coordinates": RING}), "--center"),
    "a polygon and a point": (
        collection(feature(SQUARE), feature({"type": "Point", "coordinates": [0, 0]})),
        "feature 2 is a Point",
    ),
    "the antimeridian": (polygon(square(-179, -17, 358, 1)), "180th meridian"),
    "the whole earth": (polygon(square(-180, -90, 360, 180)), "split it"),
    "half the earth": (polygon(square(-100, -40, 100, 60)), "more than 10,000,000"),
    "a pole": (polygon(square(-55, -89, 1, 1)), "latitude 89"),
    "an endless comb": (
        polygon([[i / 500, (i % 2) * 4 - 3] for i in range(2000)] + [[4, -4], [0, -4], [0, -3]]),
        "boundary",
    ),
    "crs in metres": ({**feature(SQUARE), **crs("urn:ogc:def:crs:EPSG::32721")}, "32721"),
    "crs of a geometry": (feature({**SQUARE, **crs("EPSG:3857")}), "3857"),
    "crs by link": ({**feature(SQUARE), "crs": {"type": "link"}}, "crs"),
    "crs with a line break": ({**feature(SQUARE), **crs("a\nb" * 99)}, "crs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_quick_line(tmp_path: Path, case: str) -> None:
    content, fact = REFUSED[case]
    path = write(tmp_path, content)
    start = time.process_time()
    with pytest.raises(AoiError) as caught:
        read_aoi(path)
    assert time.process_time() - start < 1.5  # under a second on an idle machine
    message = str(caught.value)
    assert fact in message
    assert message.startswith(f"AOI {path}: ")
    assert "; " in message  # the fix
    assert len(message.splitlines()) == 1
    assert len(message) < 400 + len(str(path))
    assert caught.value.exit_code == 2


def test_size_is_refused_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.geojson"
    with path.open("wb") as file:
        file.truncate(200_000_000)  # sparse
    monkeypatch.setattr(Path, "open", None)
    with pytest.raises(AoiError, match="has 200 MB, more than 20 MB"):
        read_aoi(path)


@pytest.mark.parametrize("case", ["a million positions", "a million values", "very deep lists"])
def test_refusing_costs_little_memory(tmp_path: Path, case: str) -> None:
    path = write(tmp_path, REFUSED[case][0])
    tracemalloc.start()
    with pytest.raises(AoiError):
        read_aoi(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("https://example.org/a.geojson", "is an address"),
        ("/vsicurl/https://example.org/a.geojson", "is an address"),
        ("s3://bucket/a.geojson", "is an address"),
        ("file:///etc/passwd", "is an address"),
        ("missing.geojson", "does not exist"),
        ("../../missing.geojson", "does not exist"),
        (".", "is a folder"),
        ("a\0b", "cannot be read"),
        ("a" * 5000, "cannot be read"),
        ("a\nb.geojson", "does not exist"),
    ],
)
def test_paths_that_are_no_file(name: str, fact: str) -> None:
    for path in (name, Path(name)):
        with pytest.raises(AoiError, match=fact) as caught:
            read_aoi(path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and devices")
def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.geojson")
    (tmp_path / "zero.geojson").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(AoiError, match="device or pipe"):
            read_aoi(tmp_path / f"{name}.geojson")


def test_links(tmp_path: Path) -> None:
    real = write(tmp_path, SQUARE, "real.geojson")
    link, broken, loop = (tmp_path / f"{n}.geojson" for n in ("link", "broken", "loop"))
    try:
        link.symlink_to(real)
        broken.symlink_to(tmp_path / "nothing")
        loop.symlink_to(loop)
    except OSError:
        pytest.skip("no links here")
    assert read_aoi(link) == Aoi("link", read_aoi(real).geometry)
    for path in (broken, loop):
        with pytest.raises(AoiError):
            read_aoi(path)


TWO = collection(feature(SQUARE, name="a"), feature(polygon(square(-54.5, -8, 2, 1)), name="b"))


@pytest.mark.parametrize(
    ("content", "km2"),
    [
        (SQUARE, 12206),
        (feature(SQUARE), 12206),
        (collection(feature(SQUARE)), 12206),
        (TWO, 30515),  # overlapping: once
        ({"type": "GeometryCollection", "geometries": [SQUARE, SQUARE]}, 12206),
        (polygon(RING[::-1]), 12206),  # clockwise
        (polygon([[x, y, 120.0] for x, y in RING]), 12206),  # heights
        (polygon(RING, square(-54.75, -7.75, 0.5, 0.5)), 9154),  # a hole
        ({**SQUARE, **crs("urn:ogc:def:crs:OGC:1.3:CRS84")}, 12206),
        ({**SQUARE, **crs("EPSG:4326")}, 12206),
        ({**SQUARE, **crs("urn:ogc:def:crs:EPSG::4674")}, 12206),  # SIRGAS 2000
        ({**SQUARE, "crs": None}, 12206),
        ("\ufeff" + json.dumps(SQUARE), 12206),
        # a loop of some metres in one corner is repaired
        (polygon([*RING[:4], [-55.00001, -8.00001], [-54.9999, -8.00001], RING[0]]), 12206),
    ],
)
def test_taken(tmp_path: Path, content: Any, km2: float) -> None:
    aoi = read_aoi(write(tmp_path, content))
    assert aoi.area_km2 == pytest.approx(km2, rel=0.001)
    assert shapely.is_valid(aoi.geometry)
    assert not shapely.has_z(aoi.geometry)
    assert all(shapely.is_ccw(p.exterior) for p in shapely.get_parts(aoi.geometry))
    again = read_aoi(write(tmp_path, aoi.to_geojson(), "again.geojson"))
    assert again.digest == aoi.digest
    assert again.geometry == aoi.geometry


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (SQUARE, "park"),
        (feature(SQUARE, name="Kayapó"), "Kayapó"),
        (feature(SQUARE, Name="Kayapó"), "Kayapó"),
        (feature(SQUARE, NAME="Kayapó", name=7), "Kayapó"),
        (feature(SQUARE, name="  two\nlines\x1b[31m "), "two?lines?[31m"),
        ({"type": "Feature", "properties": None, "geometry": SQUARE}, "park"),
        (collection(feature(SQUARE, name="a"), feature(SQUARE, name="a")), "a"),
        (TWO, "park"),
        ({**TWO, "name": "layer"}, "layer"),
    ],
)
def test_names(tmp_path: Path, content: Any, name: str) -> None:
    assert read_aoi(write(tmp_path, content)).name == name


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Kayapó", "Kayapo"),
        ("Rio Paru d'Este", "Rio-Paru-d-Este"),
        ("../../etc/passwd", "etc-passwd"),
        ("x" * 300, "x" * 64),
        ("亚马逊", None),
        ("...", None),
        ("", None),
        ("NUL", None),
        ("com1", None),
    ],
)
def test_slugs_are_safe(name: str, slug: str | None) -> None:
    aoi = Aoi(name, shapely.box(-55, -8, -54, -7))
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", aoi.slug)
    assert aoi.slug == (slug or f"aoi-{aoi.digest[:12]}")


def test_the_digest_is_that_of_the_ground(tmp_path: Path) -> None:
    aoi = read_aoi(write(tmp_path, SQUARE))
    turned = polygon([*RING[2:], *RING[1:3]][::-1])
    assert read_aoi(write(tmp_path, turned, "other.geojson")).digest == aoi.digest
    moved = polygon([[x + 1e-6, y] for x, y in RING])
    assert read_aoi(write(tmp_path, moved)).digest != aoi.digest
    assert aoi.digest == "bbc535f3d083f8fca623f68bd6d8855f314f4abb0d53a78a4ad0434dc247f114"


@pytest.mark.parametrize(
    "change",
    [
        lambda: Aoi("line", shapely.LineString([(0, 0), (1, 1)])),  # type: ignore[arg-type]
        lambda: Aoi("none", shapely.Polygon()),
        lambda: Aoi("bow", shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])),
        lambda: Aoi("metres", shapely.box(3e5, 9e6, 4e5, 9.1e6)),
        lambda: Aoi("earth", shapely.box(-90, -60, 80, 60)),
    ],
)
def test_no_aoi_is_unsound(change: Callable[[], Aoi]) -> None:
    with pytest.raises(AoiError, match=r"AOI \w+: .+; "):
        change()


@pytest.mark.parametrize(
    ("lat", "lon", "radius"),
    [(-14.2, -49.4, 10), (0, -54, 5), (-7, -60, 100), (80, 10, 50), (-8, -55, 500), (1, 2, 0.5)],
)
def test_squares_have_their_size(lat: float, lon: float, radius: float) -> None:
    aoi = square_aoi(lat, lon, radius)
    assert aoi.area_km2 == pytest.approx(4 * radius**2, rel=1e-3)
    assert aoi.geometry.contains(shapely.Point(lon, lat))
    assert aoi.name == f"center_{lat:.4f}_{lon:.4f}_{radius:g}km"


def test_square_name_and_default() -> None:
    aoi = square_aoi(-14.2, -49.4)
    assert aoi.name == "center_-14.2000_-49.4000_10km"
    assert aoi.slug == "center_-14-2000_-49-4000_10km"


@pytest.mark.parametrize(
    ("lat", "lon", "radius", "fact"),
    [
        (-121.0, -8.0, 10, "lon, lat order"),
        (91, 181, 10, "out of range"),
        (85, 0, 10, "out of range"),
        (-14, 181, 10, "out of range"),
        (83.99, 0, 100, "beyond 84"),
        (-17, 179.99, 10, "180th meridian"),
        (float("nan"), 0, 10, "not finite"),
        (0, float("inf"), 10, "not finite"),
        (0, 0, float("nan"), "not finite"),
        (0, 0, 0, "radius 0 km"),
        (0, 0, -5, "radius -5 km"),
        (0, 0, 501, "radius 501 km"),
    ],
)
def test_squares_refused(lat: float, lon: float, radius: float, fact: str) -> None:
    with pytest.raises(AoiError, match=fact) as caught:
        square_aoi(lat, lon, radius)
    assert "; " in str(caught.value)


def test_the_fix_is_a_command_that_names_the_crs() -> None:
    assert geojson.TO_DEGREES.startswith("ogr2ogr -t_srs EPSG:4326")
