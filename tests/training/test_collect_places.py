"""Which places are collected: tables, polygons, areas, what to keep away from, samples drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from scanner.errors import AoiError, TrainingError
from training.collect.areas import Area, KeepOff, circle, read_areas, read_circles, read_keep_off
from training.collect.forest import Draw, Sampler
from training.collect.places import (
    Place,
    in_polygons,
    random_point,
    read_csv,
    slug,
    unique,
    within,
)
from training.collect.table import number, read_table

GEOD = Geod(ellps="WGS84")
LON, LAT = st.floats(-179, 179), st.floats(-80, 80)


def km(one: tuple[float, float], other: tuple[float, float]) -> float:
    return float(GEOD.inv(*one, *other)[2]) / 1000


def text_file(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def geojson(path: Path, *polygons: Any) -> Path:
    features = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(p)}
        for p in polygons
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize(
    "header",
    ["lat,lon", "Latitude,Longitude", "LAT,LNG", " y , x ", "lat,long", "\ufefflat,lon",
     "id;lat;lon", "lat\tlon", '"lat","lon"'],
)  # fmt: skip
def test_columns_are_found_by_name(tmp_path: Path, header: str) -> None:
    delimiter = next((d for d in ";\t" if d in header), ",")
    row = delimiter.join(["1"] * ("id" in header) + ["-7.5", "-54.25"])
    table = read_table(text_file(tmp_path, f"{header}\r\n{row}\r\n\r\n"))
    assert [(r.lat, r.lon, r.line) for r in table.rows] == [(-7.5, -54.25, 2)]
    assert table.bad == ()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('"-7,5",-54', "decimal comma; write -7.5"),
        ("-7,5,-54,2", "4 values for 3 columns"),
        ("-7.5", "lon is empty"),
        (",-54", "lat is empty"),
        ("nan,-54", "not a decimal number"),
        ("1_0,-54", "not a decimal number"),
        ("7°30'S,-54", "not a decimal number"),
        ("-95,-54", "swapped"),
        ("-88,-54", "beyond 84"),
        ("-7,-254", "lon -254 is beyond 180"),
    ],
)
def test_bad_rows_are_named_with_their_line(tmp_path: Path, line: str, why: str) -> None:
    path = text_file(tmp_path, f"lat,lon,what\n-1,-50,a\n{line}\n-2,-51,b\n")
    found = read_csv(path, 1, "src")
    assert [p.lat for p in found.places] == [-1, -2]
    [(where, reason)] = found.bad
    assert where == "line 3"
    assert why in reason
    assert f"{path}: line 3: {reason}" in found.told(path)


@pytest.mark.parametrize(
    "text", ["", "lat,name\n1,2\n", "a\n1\n", "lat,lon\n1,\0\n"], ids=["empty", "lon", "a", "nul"]
)
def test_a_file_without_coordinates_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TrainingError, match=r"t\.csv"):
        read_csv(text_file(tmp_path, text), 1, "src")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_csv(tmp_path / "absent.csv", 1, "src")


@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.floats(-100, 100).map(str), st.text("0123456789.,-e ;x", max_size=6)),
            st.one_of(st.floats(-200, 200).map(str), st.text("0123456789.,-e ;x", max_size=6)),
        ),
        max_size=12,
    )
)
def test_every_row_ends_in_one_count(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    lines = [f'"{lat}","{lon}"' for lat, lon in rows]
    path = text_file(tmp_path_factory.mktemp("t"), "\n".join(["lat,lon", *lines]))
    bounds = (-75.0, -35.0, -35.0, 5.0)
    found = read_csv(path, 1, "src", bounds)
    empty = sum(not (lat.strip() or lon.strip()) for lat, lon in rows)
    ended = len(found.places) + found.outside + found.twice + len(found.bad)
    assert ended == len(rows) - empty
    assert all(within(bounds, p.lon, p.lat) for p in found.places)
    assert len({p.chip_id for p in found.places}) == len(found.places)


@given(st.floats(-1e6, 1e6))
def test_numbers_are_read_as_written(value: float) -> None:
    assert number(repr(value), "lat") == value
    comma = f"{value:.3f}".replace(".", ",")
    with pytest.raises(ValueError, match="decimal comma"):
        number(comma, "lat")


@given(lon=LON, lat=LAT, source=st.text(max_size=30))
def test_chip_ids_are_file_names(lon: float, lat: float, source: str) -> None:
    name = Place(lon, lat, 1, source).chip_id
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*-[NS]\d{7}[EW]\d{8}", name)
    assert "__" not in name
    assert len(name) < 80
    assert slug(slug(source)) == slug(source)


def test_places_of_one_id_are_one_unless_their_labels_differ() -> None:
    one = Place(-54, -7, 1, "a")
    assert unique([one, Place(-54 + 1e-7, -7, 1, "a")]) == [one]
    with pytest.raises(TrainingError, match="labelled 1 at"):
        unique([one, Place(-54, -7, 0, "a")])
    with pytest.raises(TrainingError, match="two places have this id"):
        unique([Place(-54, -7, 1, "a", "x"), Place(-55, -7, 1, "a", "x")])


def test_polygons_give_their_middle_or_points_inside(tmp_path: Path) -> None:
    square = shapely.box(-54.1, -7.1, -54.0, -7.0)
    ring = shapely.box(-53, -7, -52, -6).difference(shapely.box(-52.9, -6.9, -52.1, -6.1))
    bow = shapely.Polygon([(-50, -7), (-49, -6), (-49, -7), (-50, -6)])
    flat = shapely.Polygon([(-48, -7), (-47, -7), (-46, -7)])
    path = geojson(tmp_path / "p.geojson", square, ring, bow, flat)
    found = in_polygons(path, 1, "p", (-60, -20, -45, 0))
    assert len(found.places) == 3
    assert found.bad == (("polygon 4", "has no area"),)
    assert (found.places[0].lon, found.places[0].lat) == pytest.approx((-54.05, -7.05))
    assert shapely.contains_xy(ring, found.places[1].lon, found.places[1].lat)
    many = in_polygons(path, 1, "p", (-53.5, -20, -45, 0), points=5, seed=3)
    assert (len(many.places), many.outside) == (10, 5)
    assert many == in_polygons(path, 1, "p", (-53.5, -20, -45, 0), points=5, seed=3)
    assert all(shapely.contains_xy(ring, p.lon, p.lat) for p in many.places[:5])


@given(lon=LON, lat=LAT, radius=st.floats(0.5, 200), seed=st.integers(0, 1000))
def test_points_lie_inside_their_circle(lon: float, lat: float, radius: float, seed: int) -> None:
    if abs(lon) + 4 / np.cos(np.radians(lat)) * radius / 200 > 179 or abs(lat) > 78:
        return
    area = circle(lat, lon, radius)
    point = random_point(area.geometry, np.random.default_rng(seed))
    assert km(point, (lon, lat)) <= radius * 1.001


def test_points_are_spread_evenly_over_the_ground() -> None:
    rng = np.random.default_rng(0)
    box = shapely.box(0, 0, 10, 60)
    lats = np.array([random_point(box, rng)[1] for _ in range(600)])
    # half of a sphere's band between 0 and 60 degrees lies below 25.7
    assert np.mean(lats < 25.66) == pytest.approx(0.5, abs=0.07)


def test_circles_and_areas_from_files(tmp_path: Path) -> None:
    text = "name,LAT,LON,km\nXingu,-10.5,-52.5,100\n,-2,-63,80\nbad,-2,-63,0\nworse,-2,x,1\n"
    areas, bad = read_circles(text_file(tmp_path, text))
    assert [a.name for a in areas] == ["Xingu", "circle_-2_-63_80km"]
    assert [where for where, _ in bad] == ["line 5", "line 4"]
    with pytest.raises(TrainingError, match="no column km"):
        read_circles(text_file(tmp_path, "lat,lon\n1,2\n"))
    path = geojson(tmp_path / "park.geojson", shapely.box(-54.1, -7.1, -54.0, -7.0))
    assert [area.name for area in read_areas([path])] == ["park"]
    with pytest.raises(AoiError, match="does not exist"):
        read_areas([tmp_path / "absent.geojson"])


@given(lon=st.floats(-60, -50), lat=st.floats(-12, 4), limit=st.floats(0.5, 60))
def test_distances_are_right_to_half_a_percent(lon: float, lat: float, limit: float) -> None:
    mines = [(-55.0, -5.0), (-52.0, -3.0)]
    keep = KeepOff("mine", limit, np.array(mines))
    nearest = min(km((lon, lat), mine) for mine in mines)
    if abs(nearest / limit - 1) > 0.006:
        assert keep.too_near(lon, lat) == (nearest < limit)


def test_polygons_are_kept_away_from_inside_and_around(tmp_path: Path) -> None:
    path = geojson(tmp_path / "mine.geojson", shapely.box(-54.5, -7.5, -54.0, -7.0))
    keep, bad = read_keep_off(path, "mine", 2)
    assert bad == []
    assert keep.too_near(-54.25, -7.25)  # far from its outline, but in it
    assert keep.too_near(-53.985, -7.25)
    assert not keep.too_near(-53.97, -7.25)
    with pytest.raises(TrainingError, match="holds no town"):
        read_keep_off(text_file(tmp_path, "lat,lon\nx,y\n"), "town", 5)


AREAS = [Area("west", shapely.box(-56, -8, -55, -7)), Area("east", shapely.box(-53, -8, -52, -7))]


def draw_all(seed: int, spacing: float, fail: int = 0) -> tuple[Sampler, list[list[Place]]]:
    """Run a sampler to its end; every ``fail``-th place of the first round fails to be fetched."""
    keep = KeepOff("mine", 30, np.array([(-55.5, -7.5)]))
    sampler = Sampler(AREAS, [keep], Draw(12, 5, seed, spacing))
    rounds = [sampler.next_round({})]
    failed = {p.chip_id: "too dark" for p in rounds[0][:: fail or 99999]} if fail else {}
    while fresh := sampler.next_round(failed):
        rounds.append(fresh)
        failed |= {p.chip_id: "too dark" for p in fresh if fail == 1}
    return sampler, rounds


@given(seed=st.integers(0, 200), spacing=st.sampled_from([0, 5, 40]))
def test_samples_keep_their_distances(seed: int, spacing: float) -> None:
    sampler, rounds = draw_all(seed, spacing, fail=3)
    held = list(sampler.places.values())
    assert len(held) + len(sampler.left) == 12
    assert all(km((p.lon, p.lat), (-55.5, -7.5)) > 29.8 for p in held)
    assert all(
        km((a.lon, a.lat), (b.lon, b.lat)) > 0.99 * spacing
        for i, a in enumerate(held)
        for b in held[:i]
    )
    assert all((p.label == 0 and p.source == "west") or p.source == "east" for p in held)
    again, same = draw_all(seed, spacing, fail=3)
    assert (again.places, same) == (sampler.places, rounds)


def test_a_sample_gets_so_many_attempts_and_then_says_why() -> None:
    sampler, rounds = draw_all(1, 0, fail=1)
    assert sampler.places == {}
    assert set(sampler.used.values()) == {5}
    assert all(re.search("too dark|near a mine", text) for text in sampler.left.values())
    assert sum(map(len, rounds)) <= 60


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"attempts": 0}, {"spacing_km": float("nan")}])
def test_wrong_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="forest samples"):
        Draw(**wrong)
