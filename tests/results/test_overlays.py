"""Sites and the user's own overlays: hectares add up, the first feature takes shared ground."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from scanner.area.coordinates import from_geographic, to_geographic
from scanner.errors import ConfigError
from scanner.results.formats import overlay_files
from scanner.results.formats.overlays import (
    OVERLAY_SCHEMA,
    Overlay,
    join_overlay,
    read_overlays,
    write_overlays,
)
from tests.results.runs import Cell, cell, make_run

VALIDATOR = Path(sys.executable).with_name("geoparquet-validator")
EPSG = 32721
CORNER = (500_000, 9_220_000)
WEST, EAST = shapely.box(-55, -8, -54.5, -7), shapely.box(-54.5, -8, -54, -7)


def degrees(geometry: shapely.Geometry) -> shapely.Geometry:
    return shapely.transform(geometry, lambda c: np.column_stack(to_geographic(EPSG, *c.T)))


def metres(geometry: shapely.Geometry) -> shapely.Geometry:
    return shapely.transform(geometry, lambda c: np.column_stack(from_geographic(EPSG, *c.T)))


def sites_of(*shapes: shapely.Geometry) -> gpd.GeoDataFrame:
    """Sites from shapes in metres."""
    return gpd.GeoDataFrame(
        {
            "detection_id": [f"site_21S_{i:05d}_00001" for i in range(len(shapes))],
            "area_ha": [round(shape.area / 1e4, 4) for shape in shapes],
        },
        geometry=[degrees(shape) for shape in shapes],
        crs=4326,
    )


def overlay_of(*shapes: shapely.Geometry, presumed: tuple[str | None, ...] = ()) -> Overlay:
    kept = np.empty(len(shapes), dtype=object)
    kept[:] = shapes
    names = tuple(f"f{i}" for i in range(len(shapes)))
    return Overlay("park", names, presumed or (None,) * len(shapes), kept)


def table(**columns: list) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=[WEST, EAST], crs=4326)


def written(folder: Path, suffix: str, frame: gpd.GeoDataFrame) -> Path:
    path = folder / f"lands.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "zip":
        frame = frame.rename(columns={"presumed_illegal": "presumed_i"})  # as GDAL cuts it
        pyogrio.write_dataframe(frame, folder / "lands.shp", encoding="UTF-8")
        with zipfile.ZipFile(path, "w") as archive:
            for part in folder.glob("lands.*"):
                if part != path:
                    archive.write(part, part.name)
    else:
        driver = {"geojson": "GeoJSON", "gpkg": "GPKG", "kml": "LIBKML"}[suffix]
        pyogrio.write_dataframe(frame, path, driver=driver)
    return path


class TestReading:
    @pytest.mark.parametrize("suffix", ["geojson", "parquet", "gpkg", "zip", "kml"])
    def test_every_format_says_the_same(self, tmp_path: Path, suffix: str) -> None:
        frame = table(nr=[1, 2], NM_TI=["Kayapó", None], presumed_illegal=["protected", None])
        overlay = read_overlays(written(tmp_path, suffix, frame))
        assert overlay.name == "lands"
        assert overlay.features == ("Kayapó", "feature 2")
        assert overlay.presumed_illegal == ("protected", None)
        assert shapely.equals(overlay.shapes, np.array([WEST, EAST])).all()

    @pytest.mark.parametrize("suffix", ["geojson", "parquet", "gpkg", "zip"])
    def test_truth_in_every_format(self, tmp_path: Path, suffix: str) -> None:
        frame = table(name=["a", "b"], presumed_illegal=[True, False])
        assert read_overlays(written(tmp_path, suffix, frame)).presumed_illegal == ("yes", None)

    @pytest.mark.parametrize("suffix", ["parquet", "gpkg"])
    def test_reprojected(self, tmp_path: Path, suffix: str) -> None:
        frame = table(name=["a", "b"])
        frame.geometry = frame.segmentize(0.01)
        overlay = read_overlays(written(tmp_path, suffix, frame.to_crs(5880)))
        assert shapely.hausdorff_distance(overlay.shapes, frame.geometry.to_numpy()).max() < 1e-5

    def test_parts_that_overlap_and_crossing_edges_are_repaired(self, tmp_path: Path) -> None:
        loop = shapely.Polygon([(0, 0), (1, 0), (1, 1), (0, 1), (1e-4, -1e-4), (0, -1e-4)])
        assert not loop.is_valid
        twice = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(1, 1, 3, 3)])
        frame = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=[loop, twice], crs=4326)
        overlay = read_overlays(written(tmp_path, "gpkg", frame))
        assert shapely.is_valid(overlay.shapes).all()
        assert overlay.shapes[0].area == pytest.approx(1, abs=1e-3)
        assert overlay.shapes[1].area == pytest.approx(7)

    @pytest.mark.parametrize(
        ("properties", "name"),
        [
            ({"NAME": "a", "NM_TI": "b"}, "a"),
            ({"NM_UC": "Jamanxim", "NM_UF": "PA"}, "Jamanxim"),
            ({"nome_uc": "x"}, "x"),
            ({"terrai_nom": "Munduruku", "fase": "y"}, "Munduruku"),
            ({"ORIG_NAME": "Xingu"}, "Xingu"),
            ({"name": "", "nombre": " Manu\n"}, "Manu?"),
            ({"name": 7, "id": "x"}, "feature 1"),
            ({}, "feature 1"),
            ({"name": "<b>=1+1</b>"}, "<b>=1+1</b>"),
        ],
    )
    def test_names(self, tmp_path: Path, properties: dict, name: str) -> None:
        assert self.read(tmp_path, properties).features == (name,)

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (True, "yes"), ("TRUE", "yes"), ("sim", "yes"), (1, "yes"), ("Sí", "yes"),
            (False, None), (None, None), ("", None), ("no", None), ("não", None), (0, None),
            ("inside  an indigenous\nterritory", "inside an indigenous?territory"),
        ],
    )  # fmt: skip
    def test_presumed_illegal_is_what_the_file_states(
        self, tmp_path: Path, value: object, told: str | None
    ) -> None:
        assert self.read(tmp_path, {"presumed_illegal": value}).presumed_illegal == (told,)

    def test_nothing_else_is_presumed(self, tmp_path: Path) -> None:
        told = {"illegal": True, "type": "indigenous", "presumed": True, "name": "illegal"}
        assert self.read(tmp_path, told).presumed_illegal == (None,)

    @staticmethod
    def read(folder: Path, properties: dict) -> Overlay:
        geometry = json.loads(shapely.to_geojson(WEST))
        feature = {"type": "Feature", "properties": properties, "geometry": geometry}
        path = folder / "lands.geojson"
        path.write_text(json.dumps(feature))
        return read_overlays(path)


def bow(folder: Path) -> Path:
    tie = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    frame = gpd.GeoDataFrame({"name": ["good", "bow"]}, geometry=[WEST, tie], crs=4326)
    return written(folder, "gpkg", frame)


def points(folder: Path) -> Path:
    frame = gpd.GeoDataFrame(geometry=[WEST, shapely.Point(0, 0)], crs=4326)
    return written(folder, "parquet", frame)


def no_crs(folder: Path) -> Path:
    return written(folder, "parquet", table().set_crs(None, allow_override=True))


def plain_parquet(folder: Path) -> Path:
    pd.DataFrame({"geometry": [b"x"]}).to_parquet(folder / "lands.parquet")
    return folder / "lands.parquet"


def broken_geometry(folder: Path) -> Path:
    path = written(folder, "parquet", table())
    whole = pq.read_table(path)
    wkb = pa.array([b"\1\3\0\0\0\xff\xff\xff\xff", b"\1"], pa.binary())
    pq.write_table(whole.set_column(0, whole.schema.field("geometry"), wkb), path)
    return path


def bomb(folder: Path) -> Path:
    """A table of some kilobytes whose one text unpacks to more than a gigabyte."""
    table().iloc[[0] * 1200].reset_index(drop=True).to_parquet(folder / "small.parquet")
    small = pq.read_table(folder / "small.parquet")
    schema = small.schema.append(pa.field("name", pa.string()))
    names = pa.array(["x" * 1_000_000] * 100)
    with pq.ParquetWriter(folder / "lands.parquet", schema, compression="zstd") as writer:
        for start in range(0, 1200, 100):
            piece = small.slice(start, 100).append_column("name", names)
            writer.write_table(piece.cast(schema))
    assert (folder / "lands.parquet").stat().st_size < 200_000
    return folder / "lands.parquet"


def a_number(folder: Path) -> Path:
    return written(folder, "geojson", table(name=["x", "y"], presumed_illegal=[0, 7]))


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (bow, "bow: a polygon is not valid"),
        (points, "feature 2 is a Point"),
        (no_crs, "does not tell its CRS"),
        (plain_parquet, "no GeoParquet"),
        (broken_geometry, "; "),
        (bomb, "memory"),
        (a_number, "y: presumed_illegal is 7; give true, false or a reason"),
        (lambda folder: folder / "lands.gpkg", "does not exist"),
    ],
)
def test_refused_in_one_line(
    tmp_path: Path, make, fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay_files, "CAPS", replace(overlay_files.CAPS, memory=1 << 30))
    path = make(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read_overlays(path)
    message = str(caught.value)
    assert message.startswith(f"overlay {path}: ")
    assert fact in message
    assert len(message.splitlines()) == 1


coordinate = st.integers(-40, 140)
box = st.tuples(coordinate, coordinate, st.integers(1, 60), st.integers(1, 60)).map(
    lambda b: shapely.box(b[0], b[1], b[0] + b[2], b[1] + b[3])
)
site = st.lists(box, min_size=1, max_size=5).map(shapely.union_all)
hull = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=6).map(
    lambda points: shapely.MultiPoint(points).convex_hull
)
feature = st.one_of(box, hull).filter(lambda shape: shape.area > 0)


def placed(shape: shapely.Geometry) -> shapely.Geometry:
    """Take pixels to metres of the zone."""
    return shapely.transform(shape, lambda c: c * 10 + np.array(CORNER))


@given(st.lists(site, min_size=1, max_size=4), st.lists(feature, max_size=5))
def test_hectares_add_up_and_the_first_feature_takes_shared_ground(
    drawn: list[shapely.Geometry], features: list[shapely.Geometry]
) -> None:
    sites = sites_of(*map(placed, drawn))
    overlay = overlay_of(*(degrees(placed(one)) for one in features))
    rows = pd.DataFrame(join_overlay(sites, overlay))
    for index, known in enumerate(sites.itertuples()):
        mine = rows[rows.detection_id == known.detection_id]
        assert mine.area_ha.sum() == pytest.approx(known.area_ha, abs=1e-9)
        assert mine.share.sum() == pytest.approx(1, abs=1e-3)
        assert not mine.feature.duplicated().any()
        told = dict(zip(mine.feature.fillna(""), mine.area_ha, strict=True))
        rest = drawn[index]  # the truth, in pixels of 100 m2
        for number, one in enumerate(features):
            taken = rest.intersection(one).area / 100
            assert told.get(f"f{number}", 0) == pytest.approx(taken, abs=2e-3)
            rest = rest.difference(one)
        assert told.get("", 0) == pytest.approx(rest.area / 100, abs=2e-3)
        pieces = [metres(piece) for piece in mine.geometry]
        assert all(piece.is_valid and piece.area > 0.9 for piece in pieces)
        assert sum(p.area for p in pieces) == pytest.approx(metres(known.geometry).area, abs=5)
        for i, piece in enumerate(pieces):
            assert all(piece.intersection(other).area < 1 for other in pieces[:i])
            assert piece.difference(metres(known.geometry).buffer(0.01)).area < 1


def test_whole_sites_keep_their_outline() -> None:
    inside, outside, across = (
        placed(shapely.box(x, 0, x + 10, 10)) for x in (20, 500, 95)
    )  # fmt: skip
    sites = sites_of(inside, outside, across)
    park = degrees(placed(shapely.box(0, -50, 100, 50)))
    rows = pd.DataFrame(join_overlay(sites, overlay_of(park, presumed=("a park",))))
    assert rows.feature.fillna("-").tolist() == ["f0", "-", "f0", "-"]
    assert rows.area_ha.tolist() == pytest.approx([1, 1, 0.5, 0.5], abs=1e-3)
    assert rows.presumed_illegal.fillna("-").tolist() == ["a park", "-", "a park", "-"]
    assert rows.geometry[0] == sites.geometry[0]
    assert rows.geometry[1] == sites.geometry[1]


def test_long_edges_are_straight_in_degrees() -> None:
    """A border along a parallel, 6 degrees long, is not cut along a straight line of the zone."""
    border = -7.3
    x, y = (float(v) for v in from_geographic(EPSG, -56.0, border))
    site = shapely.box(x - 500, y - 500, x + 500, y + 500)
    far = shapely.box(-60, border, -54, -5)
    row, rest = join_overlay(sites_of(site), overlay_of(far))
    assert row["area_ha"] == pytest.approx(50, abs=0.5)  # as a straight line, 18 ha off
    assert row["area_ha"] + rest["area_ha"] == 100


class TestWriting:
    @pytest.fixture
    def run(self, tmp_path: Path):
        cells = {cell(r, c): Cell(0.9, barren_ha=4) for r, c in [(1, 1), (1, 2), (5, 5), (8, 1)]}
        return make_run(tmp_path / "run", cells)

    def test_a_valid_table_anyone_reads(self, run) -> None:
        west, south, east, north = run.sites.total_bounds
        middle = (west + east) / 2
        halves = [shapely.box(west, south, middle, north), shapely.box(middle, south, east, north)]
        path = write_overlays(run, [overlay_of(*halves, presumed=("yes", None)), lands()])
        assert path == run.path / "overlays.parquet"
        done = subprocess.run([VALIDATOR, "check", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        assert pq.read_schema(path).names[:6] == OVERLAY_SCHEMA.names
        sums = duckdb.sql(  # as a stranger would
            f"select overlay, detection_id, round(sum(area_ha), 4) from '{path}' group by all"  # noqa: S608
        ).fetchall()
        areas = dict(zip(run.sites.detection_id, run.sites.area_ha, strict=True))
        assert len(sums) == 2 * len(areas)
        assert all(total == areas[site] for _, site, total in sums)
        stated = gpd.read_parquet(path).dropna(subset="presumed_illegal")
        assert set(stated.feature) == {"f0"}
        before = path.read_bytes()
        write_overlays(run, [overlay_of(*halves, presumed=("yes", None)), lands()])
        assert path.read_bytes() == before

    def test_without_sites(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", {})
        path = write_overlays(run, [lands()])
        assert len(gpd.read_parquet(path)) == 0
        assert pq.read_schema(path).field("share").type == pa.float64()
        done = subprocess.run([VALIDATOR, "check", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout

    def test_two_of_one_name(self, run) -> None:
        with pytest.raises(ConfigError, match="two overlays are called 'park'; rename"):
            write_overlays(run, [overlay_of(WEST), overlay_of(EAST)])


def lands() -> Overlay:
    return Overlay("lands", ("far",), (None,), np.array([shapely.box(10, 10, 11, 11)]))
