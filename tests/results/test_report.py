"""``report.html`` without a browser: what it holds, what it must not, and in which languages."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import string
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import pytest
import shapely

from scanner.area.aoi import Aoi
from scanner.area.grid import tiles
from scanner.errors import ConfigError, RunError
from scanner.models.calibration import rescale
from scanner.models.store import shipped
from scanner.results.changes.compare import write_changes
from scanner.results.finished import FinishedRun, open_run
from scanner.results.palette import STATUS_COLOURS
from scanner.results.report import page, write_report
from scanner.results.report.embed import json_text, number, picture_uri, share, source_hash
from scanner.results.report.figures import cards, measured, seen
from scanner.results.report.frame import frame_of, from_mercator, square, to_mercator
from scanner.results.report.map_data import map_data
from scanner.results.report.shapes import STEP, rings, thinned
from scanner.results.report.tables import speaker
from scanner.results.report.words import reading
from scanner.results.texts import LANGUAGES, texts
from tests.results.runs import TILE, UNSEEN, Cell, area, cell, make_run

REPORT = files("scanner.results.report")
SITES = {
    cell(2, 2): Cell(0.9, barren_ha=3, water_ha=1),
    cell(2, 3): Cell(0.7, barren_ha=2),
    cell(6, 6): Cell(0.9, barren_ha=8),
    cell(8, 1): Cell(0.6),
    cell(5, 0): Cell(0.3),
    cell(0, 9): UNSEEN,
}


class Page(HTMLParser):
    """Elements, attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.html = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.text = ""
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.raw.append((self._within, data))
        else:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(next(text for tag, text in self.raw if text.startswith("{")))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return make_run(tmp_path_factory.mktemp("report") / "run", SITES)


@pytest.fixture(scope="module")
def read(small: FinishedRun) -> Page:
    return Page(page(small, "en"))


def test_a_real_run(finished_demo: Path, tmp_path: Path) -> None:
    """The whole page of a scan with rasters, twice: the same bytes, nothing of this machine."""
    run = open_run(shutil.copytree(finished_demo, tmp_path / "run"))
    path = write_report(run, "pt")
    assert path == run.path / "report.html"
    content = path.read_text(encoding="utf-8")
    again = open_run(shutil.copytree(finished_demo, tmp_path / "elsewhere"))
    assert write_report(again, "pt").read_bytes() == path.read_bytes()
    assert str(tmp_path) not in content
    assert str(finished_demo.parent) not in content
    read = Page(content)
    assert texts("pt")["report.synthetic.badge"] in read.text
    pictures = read.data["pictures"]
    assert pictures.pop("missing") is None  # everything was seen
    assert all(pictures.values())
    assert len(read.data["chips"]) == len(run.sites)
    assert all(read.data["chips"])
    assert [site["id"] for site in read.data["sites"]] == [
        site.detection_id
        for site in sorted(run.sites.itertuples(), key=lambda s: (-s.score, -s.area_ha))
    ]


def test_sites_are_ranked_by_score_then_area(read: Page, small: FinishedRun) -> None:
    sites = read.data["sites"]
    assert [(site["score"], round(site["ha"])) for site in sites] == [(0.9, 8), (0.9, 6), (0.6, 23)]
    assert [site["cells"] for site in sites] == [1, 2, 1]
    assert sites[0]["rare"] == round(rescale(0.9, small.prevalence, 0.01), 4)
    assert {site["outline"] for site in sites} == {"barren", "cells"}
    assert [read.data["items"][i] for i in sites[0]["items"]] == [
        "item-2024-06-12",
        "item-2024-07-17",
    ]
    assert sites[0]["first"] == "2024-06-12"
    assert sites[0]["last"] == "2024-07-17"


def test_figures_add_up(small: FinishedRun) -> None:
    told = seen(small)
    assert told.area == pytest.approx(100 * 23.04)
    assert told.answered + told.unseen + told.failed == pytest.approx(told.area)
    assert sum(told.status.values()) == pytest.approx(told.area)


def test_every_cell_is_painted_in_the_colour_of_its_status(small: FinishedRun, read: Page) -> None:
    pixels = opened(read.data["pictures"]["status"])
    missing = opened(read.data["pictures"]["missing"])
    frame = frame_of(small.aoi)
    rows, columns = frame.shape
    assert pixels.shape[:2] == frame.shape
    (south, west), (north, east) = read.data["corners"]
    for one in small.cells.itertuples():
        point = one.geometry.centroid
        assert west < point.x < east
        assert south < point.y < north
        x, y = to_mercator(np.array([point.x]), np.array([point.y]))
        col = int((x[0] - frame.bounds[0]) / (frame.bounds[2] - frame.bounds[0]) * columns)
        row = int((frame.bounds[3] - y[0]) / (frame.bounds[3] - frame.bounds[1]) * rows)
        assert tuple(pixels[row, col, :3]) == STATUS_COLOURS[one.status], one.cell_id
        assert bool(missing[row, col, 3]) == (one.status in ("unseen", "failed"))
    assert read.data["cells"]["status"].count("mining") == 4
    assert read.data["cells_total"] == 5


def test_ground_that_no_model_looked_at_is_told_with_what_is_known_of_it(
    small: FinishedRun,
) -> None:
    work = {"segmented_ha": 0.0, "classified_ha": 0.0, "bytes_read": 0}
    told = {"screened_ha": 1234.5, **work}, {"screened_ha": 0.0, **work}
    some, none = (FinishedRun(small.path, small.summary | {"work": one}) for one in told)
    for lang, warning in (("en", "synthetic scenes only"), ("pt", "apenas em cenas sintéticas")):
        texts = [text for _, text in reading(some, speaker(lang))]
        (said,) = (text for text in texts if "--screen off" in text)
        assert number(1234.5) in said
        assert warning in said
        assert said not in [text for _, text in reading(none, speaker(lang))]
    assert len(reading(some, speaker("es"))) == len(reading(none, speaker("es"))) + 1


def test_clicked_cells_are_capped_at_those_that_matter(small: FinishedRun) -> None:
    from scanner.results.report.layers import cell_layer

    kept = cell_layer(small, frame_of(small.aoi), 2).shapes
    assert kept.total == 5
    assert kept.columns()["score"] == [0.9, 0.9]
    square_ = unfold(kept.columns()["ring"][0])
    wanted = small.cells.set_index("cell_id").loc[kept.columns()["id"][0]].geometry
    assert shapely.hausdorff_distance(square_, wanted) < 2 * STEP
    assert cell_layer(small, frame_of(small.aoi), 0).shapes.columns()["id"] == []


def test_tiles_carry_their_reason(tmp_path: Path) -> None:
    around = area(rows=(0, 10), cols=(-4, 10))
    names = [tile.tile_id for tile in tiles(around)]
    run = make_run(tmp_path / "run", aoi=around, failed=names[:1], without_items=names[1:])
    told = Page(page(run, "en"))
    assert [(one["state"], one["reason"]) for one in told.data["tiles"]] == [
        ("failed", "its pixels broke"),
        ("unseen", "no scene covers it"),
    ]
    assert "its pixels broke" in told.text
    assert "no scene covers it" in told.text
    assert "Tiles failed: 1 of 2" in told.text
    assert "Nothing could be seen" in told.text


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    ("cells", "settings", "notice"),
    [({}, {}, "no_sites"), ({}, {"every": UNSEEN}, "nothing_seen")],
)
def test_empty_runs_are_clear_valid_pages(
    tmp_path: Path, lang: str, cells: dict[str, Cell], settings: dict[str, Any], notice: str
) -> None:
    run = make_run(tmp_path / "run", cells, **settings)
    told = Page(page(run, lang))
    assert texts(lang)[f"report.notice.{notice}"] in told.text
    assert texts(lang)["report.notice.no_pictures"] in told.text
    assert told.data["sites"] == []
    assert "table" not in [tag for tag, attrs in told.elements if attrs.get("id") == "sites"]
    assert "{" not in told.text


def test_overlays_are_told(small: FinishedRun, tmp_path: Path) -> None:
    run = open_run(shutil.copytree(small.path, tmp_path / "run"))
    first, second, third = page_sites(run)
    overlay = {
        "overlay": ["parks", "parks", "parks", "rights"],
        "feature": ["<u>Park</u>", "<u>Park</u>", None, "Claim 7"],
        "detection_id": [first, second, third, first],
        "area_ha": [2.5, 1.25, 23.0, 4.0],
        "share": [0.5, 0.25, 1.0, 1.0],
        "presumed_illegal": ["inside a park", "inside a park", None, None],
    }
    shape = run.sites.geometry.iloc[[0, 0, 0, 0]].to_numpy()
    gpd.GeoDataFrame(overlay, geometry=shape, crs="EPSG:4326").to_parquet(
        run.path / "overlays.parquet"
    )
    told = Page(page(run, "en"))
    sites = {site["id"]: site for site in told.data["sites"]}
    assert [one["overlay"] for one in sites[first]["overlays"]] == ["parks", "rights"]
    assert sites[second]["overlays"][0]["presumed"] == "inside a park"
    assert sites[third]["overlays"] == []  # it lies in none of their features
    assert "u" not in {tag for tag, _ in told.elements}
    rows = table(told, "Sites in your overlays")
    assert rows == [
        ["parks", "<u>Park</u>", "2", "3.8", "inside a park"],
        ["parks", "in none of its features", "1", "23.0", ""],
        ["rights", "Claim 7", "1", "4.0", ""],
    ]


def test_changes_are_told(tmp_path: Path) -> None:
    before = make_run(tmp_path / "old", {**SITES, cell(4, 8): Cell(0.8)}, days=["2023-06-12"])
    grown = {**SITES, cell(6, 6): Cell(0.9, barren_ha=12), cell(9, 9): Cell(0.8)}
    run = make_run(tmp_path / "new", grown)
    write_changes(before, run, run.path / "changes")
    told = Page(page(run, "en"))
    labels = {site["id"]: site["change"]["label"] for site in told.data["sites"]}
    assert labels[f"site_{cell(6, 6)}"] == "growing"
    assert labels[f"site_{cell(9, 9)}"] == "new"
    assert {row[0]: row[1] for row in table(told, "Since the earlier run")}["gone"] == "1"
    assert told.data["sites"][0]["change"]["by"]


def table(told: Page, title: str) -> list[list[str]]:
    """Return the rows of the table under a title."""
    body = told.html.partition(f">{title}</h2>")[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [html.unescape(one) for one in re.findall("<td[^>]*>(.*?)</td>", row)]
        for row in body.split("</tr>")[:-1]
    ]


def page_sites(run: FinishedRun) -> list[str]:
    return [site["id"] for site in map_data(run, "en")["sites"]]


def test_nothing_can_be_asked_for_or_run_but_what_is_inside(read: Page, small: FinishedRun) -> None:
    policy = next(
        attrs["content"] or ""
        for tag, attrs in read.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    scripts = [text for tag, text in read.raw if tag == "script" and not text.startswith("{")]
    styles = [text for tag, text in read.raw if tag == "style"]
    assert len(scripts) == len(styles) == 2
    assert all(source_hash(text) in policy for text in scripts + styles)
    assert "https://tile.openstreetmap.org" in policy
    assert policy.count("http") == 1
    for tag, attrs in read.elements:
        assert "style" not in attrs, tag  # the policy would drop it
        assert not [name for name in attrs if name.startswith("on")], tag
        for name in ("src", "href", "srcset", "action", "data"):
            value = attrs.get(name) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, value)
    assert not any("url(" in text for text in styles)
    assert "</script" not in json_text({"x": "</script><!--\u2028"})


def test_json_says_what_went_in() -> None:
    odd = {"a": "</script>&\u2028\u2029<!--", "b": [1.5, None]}
    text = json_text(odd)
    assert json.loads(text) == odd
    assert not re.search("[<>&\u2028\u2029]", text)


def test_leaflet_is_the_one_named() -> None:
    folder = REPORT / "vendor" / "leaflet"
    told = dict(re.findall(r"`([\w.]+)`.*`([0-9a-f]{64})`", (folder / "VENDORED.md").read_text()))
    for name in ("leaflet.js", "leaflet.css", "LICENSE"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told[name]


def test_languages_have_the_same_texts_and_places() -> None:
    english = texts("en")
    assert len(english) > 150
    for lang in LANGUAGES:
        table = texts(lang)
        assert set(table) == set(english), lang
        for key, text in table.items():
            assert text, (lang, key)
            assert _places(text) == _places(english[key]), (lang, key)
    with pytest.raises(ConfigError, match="en, pt, es"):
        texts("de")


def test_every_text_of_the_scripts_is_there() -> None:
    spoken = {key.removeprefix("report.ui.") for key in texts("en") if ".ui." in key}
    scripts = "".join((REPORT / "assets" / f"{name}.js").read_text() for name in ("map", "sites"))
    for key in re.findall(r'say\("(\w+)"', scripts):
        assert key in spoken, key
    for prefix in re.findall(r"say\(`(\w+_)\$\{", scripts):
        assert any(key.startswith(prefix) for key in spoken), prefix
    assert {f"outline_{name}" for name in ("barren", "suspicious", "cells")} <= spoken


def _places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_the_shipped_card_is_told_and_another_is_not(small: FinishedRun, tmp_path: Path) -> None:
    assert cards(small) == {"segmenter": None, "classifier": None}  # these weights do not exist
    run = open_run(shutil.copytree(small.path, tmp_path / "run"))
    digest = json.loads((shipped("classifier") / "card.json").read_text())["mining:sha256"]
    run.summary["models"]["classifier"] = f"mining-scan chips@{digest[:12]}"
    card = cards(run)["classifier"]
    rows = measured(card)
    assert card is not None
    assert 0 < rows[0]["recall"][0] < 1
    told = Page(page(run, "en"))
    assert f"it found {100 * rows[0]['recall'][0]:.0f} %" in told.text


def test_a_changed_raster_is_refused(finished_demo: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished_demo, tmp_path / "run")
    raster = next((folder / "parts").glob("*.quicklook.tif"))
    content = bytearray(raster.read_bytes())
    content[-10] ^= 255
    raster.write_bytes(content)
    with pytest.raises(RunError, match="quicklook"):
        write_report(open_run(folder))


def test_outlines_come_back_to_the_metre() -> None:
    hole = shapely.Point(0.02, 0.02).buffer(0.005)
    drawn = shapely.union_all(
        [shapely.Point(0.02, 0.02).buffer(0.01).difference(hole), shapely.box(0.05, 0, 0.06, 0.01)]
    )
    found = [shapely.Polygon(*_shell(one)) for one in rings(drawn)]
    assert shapely.hausdorff_distance(shapely.union_all(found), drawn) < 2 * STEP
    assert rings(shapely.box(0, 0, 1e-7, 1e-7)) == []
    ragged = [shapely.Point(i, 0).buffer(0.3, quad_segs=200) for i in range(10)]
    assert shapely.get_num_coordinates(thinned(ragged, 300)).sum() <= 300


def _shell(polygon: list[list[int]]) -> tuple[Any, list[Any]]:
    outer, *holes = ([*unfold(ring).exterior.coords] for ring in polygon)
    return outer, holes


def unfold(steps: list[int]) -> shapely.Polygon:
    return shapely.Polygon(np.cumsum(np.reshape(steps, (-1, 2)), axis=0) * STEP)


def test_frames() -> None:
    lon, lat = np.array([-55.5, 12.0]), np.array([-6.3, 60.0])
    back = from_mercator(*to_mercator(lon, lat))
    assert np.allclose(back, (lon, lat))
    frame = frame_of(area())
    assert frame.ground_pixel == pytest.approx(10, rel=0.01)
    wide = frame_of(area((0, 420), (0, 210), TILE))
    assert max(wide.shape) == 2400
    assert wide.ground_pixel > 80
    edge = frame_of(Aoi("edge", shapely.box(179.9, -17, 180, -16.9)))
    assert edge.corners[1][1] == 180
    close = square((-55.5, -6.3, -55.49, -6.295), 240, 960, 256)
    assert close.shape[0] == close.shape[1] <= 256
    assert close.bounds[2] - close.bounds[0] == pytest.approx(close.bounds[3] - close.bounds[1])


def test_pictures_keep_to_their_limit() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (4, 300, 300), dtype=np.uint8)
    noise[3] = 255
    free, tight = (picture_uri(noise, limit) for limit in (10**7, 40_000))
    assert free is not None
    assert tight is not None
    assert len(tight) <= 40_000 < len(free)
    exact = picture_uri(noise, 10**7, lossless=True)
    assert exact is not None
    assert (opened(exact)[..., :3] == np.moveaxis(noise[:3], 0, -1)).all()
    small = picture_uri(noise, 40_000, lossless=True)
    assert small is not None
    assert len(small) <= 40_000
    noise[3] = 0
    assert picture_uri(noise, 10**7) is None


def opened(uri: str) -> Any:
    """Decode a data URI to (y, x, RGBA)."""
    kind, _, content = uri.partition(",")
    assert kind == "data:image/webp;base64"
    bgra = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)
    return bgra[..., [2, 1, 0, 3]] if bgra.shape[2] == 4 else bgra[..., ::-1]


def test_numbers() -> None:
    assert number(1234.5, 1) == "1234.5"
    assert number(1234567.0) == "1\u202f234\u202f567"
    assert number(None) == number(float("nan")) == "\u2013"
    assert [share(part, 1000) for part in (0, 0.1, 4, 999.9, 1000)] == [
        "0 %",
        "< 0.1 %",
        "0.4 %",
        "> 99.9 %",
        "100 %",
    ]
