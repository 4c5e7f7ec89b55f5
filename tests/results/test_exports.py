"""GeoPackage, KML, GPX and CSV say the same of the same sites, and hold against hostile names."""

from __future__ import annotations

import csv
import sqlite3
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from lxml import etree

from scanner.results.finished import FinishedRun
from scanner.results.formats.exports import COLUMNS, listed_sites, site_names, write_formats
from scanner.results.formats.kml import ROWS
from scanner.results.formats.overlays import Overlay, write_overlays
from scanner.results.palette import STATUS_COLOURS
from tests.results.runs import Cell, area, cell, make_run

ALL = ("gpkg", "kml", "gpx", "csv")
HOSTILE = "=1+1 ]]><script>alert('\u00e9\x07')</script>&amp; \""
GPX = "{http://www.topografix.com/GPX/1/1}"
KML = "{http://www.opengis.net/kml/2.2}"
CELLS = {
    cell(1, 1): Cell(0.95, barren_ha=4),
    cell(1, 2): Cell(0.9, barren_ha=4),
    cell(5, 5): Cell(0.6, barren_ha=2, water_ha=1),
    cell(8, 1): Cell(0.6, barren_ha=9),
    cell(8, 8): Cell(0.55),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Four sites in an area with a name to be afraid of, two of them in a feature of an overlay."""
    run = make_run(tmp_path_factory.mktemp("run") / "run", CELLS, aoi=area(name=HOSTILE))
    west, south, east, north = run.sites.total_bounds
    half = np.array([shapely.box(west - 1, south - 1, west + 0.4 * (east - west), north + 1)])
    write_overlays(run, [Overlay("@SUM(1)", (HOSTILE,), ("<b>park</b>",), half)])
    write_formats(run, ALL)
    return run


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    run = make_run(tmp_path_factory.mktemp("empty") / "run", {})
    write_formats(run, ALL)
    return run


def rows_of(run: FinishedRun) -> list[dict[str, str]]:
    with (run.path / "detections.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def marks_of(run: FinishedRun) -> list[etree._Element]:
    return etree.parse(run.path / "detections.kml").findall(f".//{KML}Placemark")


def waypoints_of(run: FinishedRun) -> list[etree._Element]:
    return etree.parse(run.path / "detections.gpx").findall(f"{GPX}wpt")


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", CELLS)
    before = {path.name for path in run.path.iterdir()}
    assert write_formats(run, ()) == []
    assert write_formats(run, ("csv", "gpx")) == [
        run.path / "detections.csv",
        run.path / "detections.gpx",
    ]
    made = {"detections.csv", "detections.gpx"}
    assert {path.name for path in run.path.iterdir()} - before == made


def test_best_first_and_named_alike(run: FinishedRun) -> None:
    order = sorted(
        zip(run.sites.score, run.sites.area_ha, run.sites.detection_id, strict=True),
        key=lambda site: (-site[0], -site[1], site[2]),
    )
    names = [f"SCRI{number:03d}" for number in range(1, 5)]
    rows, layer = rows_of(run), gpd.read_file(run.path / "detections.gpkg", layer="detections")
    assert [row["detection_id"] for row in rows] == [site for *_, site in order]
    assert [row["name"] for row in rows] == names
    assert layer.name.tolist() == names
    assert layer.detection_id.tolist() == [site for *_, site in order]
    assert [mark.findtext(f"{KML}name") for mark in marks_of(run)] == names
    assert [point.findtext(f"{GPX}name") for point in waypoints_of(run)] == names


def test_points_lie_inside_their_sites(run: FinishedRun) -> None:
    outlines = run.sites.set_index("detection_id").geometry
    rows, marks, points = rows_of(run), marks_of(run), waypoints_of(run)
    for row, mark, waypoint in zip(rows, marks, points, strict=True):
        place = shapely.Point(float(row["lon"]), float(row["lat"]))
        assert outlines[row["detection_id"]].contains(place)
        assert (float(waypoint.get("lon")), float(waypoint.get("lat"))) == (place.x, place.y)
        pin = mark.findtext(f".//{KML}Point/{KML}coordinates")
        assert tuple(map(float, pin.split(","))) == (place.x, place.y)


class TestGeoPackage:
    def test_layers_styles_and_rows(self, run: FinishedRun) -> None:
        path = run.path / "detections.gpkg"
        kinds = {str(name): kind for name, kind in pyogrio.list_layers(path)}
        assert kinds["detections"] == kinds["coverage"] == "MultiPolygon"
        with sqlite3.connect(path) as base:
            styled = {name for (name,) in base.execute("select f_table_name from layer_styles")}
            assert base.execute("pragma integrity_check").fetchone() == ("ok",)
        assert {"detections", "coverage"} <= styled
        sites = gpd.read_file(path, layer="detections").set_index("detection_id")
        known = run.sites.set_index("detection_id")
        assert sites.score.to_dict() == known.score.to_dict()
        assert sites.item_ids.iloc[0] == "item-2024-06-12 | item-2024-07-17"
        assert str(sites.first_observed.iloc[0]) == "2024-06-12"
        assert sites.geometry.geom_equals(known.geometry.loc[sites.index]).all()
        coverage = gpd.read_file(path, layer="coverage")
        assert coverage.tile_id.tolist() == run.coverage.tile_id.tolist()


class TestKml:
    def test_elements_stand_in_the_order_of_the_schema(self, run: FinishedRun) -> None:
        order = ["name", "Snippet", "description", "styleUrl", "ExtendedData", "MultiGeometry"]
        for mark in marks_of(run):
            assert [etree.QName(child).localname for child in mark] == order

    @pytest.mark.parametrize("driver", ["LIBKML", "KML"])
    def test_gdal_reads_it(self, run: FinishedRun, driver: str) -> None:
        assert driver in pyogrio.list_drivers()
        (name, _), *more = pyogrio.list_layers(run.path / "detections.kml")
        assert not more
        sites = gpd.read_file(run.path / "detections.kml", layer=name)
        known = run.sites.set_index("detection_id").geometry
        for site in sites.itertuples():
            point, *outline = site.geometry.geoms
            assert shapely.get_type_id(point) == 0
            drawn = shapely.force_2d(shapely.union_all(outline))
            assert shapely.hausdorff_distance(drawn, known[site.detection_id]) < 1e-6

    def test_colours_follow_scores(self, run: FinishedRun) -> None:
        used = [mark.findtext(f"{KML}styleUrl") for mark in marks_of(run)]
        assert used == ["#score-4", "#score-2", "#score-2", "#score-2"]
        styles = etree.parse(run.path / "detections.kml").findall(f".//{KML}Style")
        colours = [style.findtext(f"{KML}LineStyle/{KML}color") for style in styles]
        assert [style.get("id") for style in styles] == [f"score-{i}" for i in range(5)]
        assert len(set(colours)) == 5
        red, green, blue = STATUS_COLOURS["mining"]
        assert colours[3] == f"ff{blue:02x}{green:02x}{red:02x}"

    def test_the_best_score_and_the_lowest_have_a_colour(self, tmp_path: Path) -> None:
        cells = {cell(1, 1): Cell(1.0), cell(5, 5): Cell(0.0)}
        run = make_run(tmp_path / "run", cells, threshold=0.0)
        write_formats(run, ("kml",))
        used = [mark.findtext(f"{KML}styleUrl") for mark in marks_of(run)]
        assert used == ["#score-4", "#score-0"]

    def test_holes_are_holes(self, tmp_path: Path) -> None:
        ring = {cell(r, c): Cell(0.9) for r in range(3) for c in range(3) if (r, c) != (1, 1)}
        run = make_run(tmp_path / "run", ring)
        write_formats(run, ("kml",))
        (mark,) = marks_of(run)
        assert len(mark.findall(f".//{KML}outerBoundaryIs")) == 1
        assert len(mark.findall(f".//{KML}innerBoundaryIs")) == 1

    def test_nothing_from_outside_becomes_markup(self, run: FinishedRun) -> None:
        text = (run.path / "detections.kml").read_text(encoding="utf-8")
        assert "<script" not in text
        assert "CDATA" not in text
        shown = [mark.findtext(f"{KML}description") for mark in marks_of(run)]
        for table in shown:  # what Google Earth takes for HTML
            assert "<script" not in table
            tree = etree.fromstring(table)
            assert {child.tag for child in tree.iter()} == {"table", "tr", "th", "td"}
        assert any("&lt;b&gt;park&lt;/b&gt;" in table for table in shown)

    def test_all_that_a_table_shows_is_known(self) -> None:
        assert set(ROWS) <= set(COLUMNS)


class TestGpx:
    WPT = (
        "ele", "time", "magvar", "geoidheight", "name", "cmt", "desc", "src", "link", "sym", "type",
        "fix", "sat", "hdop", "vdop", "pdop", "ageofdgpsdata", "dgpsid", "extensions",
    )  # fmt: skip
    METADATA = ("name", "desc", "author", "copyright", "link", "time", "keywords", "bounds")

    def test_elements_stand_in_the_order_of_the_schema(
        self, run: FinishedRun, empty: FinishedRun
    ) -> None:
        for one in (run, empty):
            root = etree.parse(one.path / "detections.gpx").getroot()
            assert root.tag == f"{GPX}gpx"
            assert root.get("version") == "1.1"
            assert root.get("creator") == "mining-scan"
            tags = [etree.QName(child).localname for child in root]
            assert tags == ["metadata", *["wpt"] * len(one.sites)]
            for element, order in ((root[0], self.METADATA), *((w, self.WPT) for w in root[1:])):
                found = [order.index(etree.QName(child).localname) for child in element]
                assert found == sorted(set(found))
                assert element.find(f"{GPX}time") is None

    def test_a_receiver_shows_what_matters_first(self, run: FinishedRun) -> None:
        best = waypoints_of(run)[0]
        told = best.findtext(f"{GPX}desc")
        assert told == best.findtext(f"{GPX}cmt")
        assert told.startswith("score 0.95, 8.0 ha, seen 2024-06-12 to 2024-07-17, site_")
        assert "presumed illegal: @SUM(1): <b>park</b>" in told

    def test_gdal_reads_it(self, run: FinishedRun) -> None:
        back = gpd.read_file(run.path / "detections.gpx", layer="waypoints")
        assert back.name.tolist() == [row["name"] for row in rows_of(run)]


class TestCsv:
    def test_columns_and_types(self, run: FinishedRun) -> None:
        path = run.path / "detections.csv"
        assert not path.read_bytes().startswith(b"\xef\xbb\xbf")
        frame = pd.read_csv(path)
        assert tuple(frame.columns) == COLUMNS
        assert frame.score.dtype == frame.lat.dtype == np.float64
        best, known = frame.iloc[0], run.sites.sort_values("score").iloc[-1]
        assert (best.score, best.area_ha) == (known.score, known.area_ha)
        assert best.first_observed == "2024-06-12"
        assert best.item_ids.split(" | ") == list(known.item_ids)
        told = duckdb.sql(f"select sum(area_ha) from read_csv('{path}')").fetchone()  # noqa: S608
        assert told[0] == pytest.approx(run.sites.area_ha.sum())

    def test_no_cell_is_a_formula(self, run: FinishedRun) -> None:
        rows = rows_of(run)
        assert rows[0]["aoi"].startswith("'=1+1")
        assert rows[0]["overlays"].startswith("'@SUM(1): =1+1")
        for row in rows:
            for name, value in row.items():
                if name not in ("lat", "lon"):
                    assert value.lstrip()[:1] not in tuple("=+-@")
                assert "\x07" not in value
                assert ";" not in value or name in ("aoi", "overlays")  # its own, in the name


class TestOverlays:
    def test_they_are_named_where_they_are(self, run: FinishedRun) -> None:
        listed = listed_sites(run).set_index("detection_id")
        inside = gpd.read_parquet(run.path / "overlays.parquet").dropna(subset="feature")
        assert 0 < len(inside) < len(listed)
        for site in listed.itertuples():
            if site.Index in set(inside.detection_id):
                assert "@SUM(1): =1+1" in site.overlays
                assert site.overlays.endswith("(100 %)")
                assert site.presumed_illegal == "@SUM(1): <b>park</b>"
            else:  # the rest outside all features is a row too, and names nothing
                assert site.overlays is None
                assert site.presumed_illegal is None

    def test_a_sliver_is_not_0_percent(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", {cell(5, 5): Cell(0.9, barren_ha=10)})
        west, south, east, north = run.sites.total_bounds
        edge = np.array([shapely.box(west - 1, south, west + 0.004 * (east - west), north)])
        write_overlays(run, [Overlay("park", ("edge",), (None,), edge)])
        assert listed_sites(run).overlays.tolist() == ["park: edge (under 1 %)"]

    def test_nothing_is_said_without_them(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", CELLS)
        write_formats(run, ALL)
        assert {row["overlays"] + row["presumed_illegal"] for row in rows_of(run)} == {""}
        for name in ("kml", "gpx"):
            text = (run.path / f"detections.{name}").read_text(encoding="utf-8")
            assert "resumed illegal" not in text
            assert "A site says mining, never illegal." in text


class TestEmpty:
    def test_every_format_is_valid(self, empty: FinishedRun) -> None:
        path = empty.path / "detections.gpkg"
        assert len(gpd.read_file(path, layer="detections")) == 0
        assert set(COLUMNS) <= set(pyogrio.read_info(path, layer="detections")["fields"])
        assert len(gpd.read_file(path, layer="coverage")) == len(empty.coverage)
        assert rows_of(empty) == []
        assert (empty.path / "detections.csv").read_text().startswith("name,lat,lon,score")
        assert marks_of(empty) == []
        assert waypoints_of(empty) == []
        assert len(gpd.read_file(empty.path / "detections.gpx", layer="waypoints")) == 0


@pytest.mark.parametrize("name", ALL)
def test_the_same_sites_are_the_same_bytes(run: FinishedRun, name: str) -> None:
    path = run.path / f"detections.{name}"
    before = path.read_bytes()
    write_formats(run, (name,))
    assert path.read_bytes() == before
    assert str(run.path).encode() not in before


@pytest.mark.parametrize(
    ("slug", "count", "first", "last"),
    [
        ("xingu", 5, "XING001", "XING005"),
        ("Kayapo-2024", 1, "KAYA001", "KAYA001"),
        ("aoi-0123", 1, "AOI001", "AOI001"),
        ("center_-14-2000_-49-4000_10km", 1200, "CENT0001", "CENT1200"),
        ("_-1", 100_000, "SITE000001", "SITE100000"),
    ],
)
def test_names_fit_a_receiver(slug: str, count: int, first: str, last: str) -> None:
    names = site_names(slug, count)
    assert (names[0], names[-1]) == (first, last)
    assert len(set(names)) == count
    assert max(map(len, names)) <= 10


def test_the_demo_says_that_it_is_synthetic(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", CELLS, catalog="demo")
    write_formats(run, ("kml", "gpx"))
    for name in ("kml", "gpx"):
        text = (run.path / f"detections.{name}").read_text(encoding="utf-8")
        assert "The scenes are synthetic." in text
