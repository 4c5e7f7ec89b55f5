"""Evidence of a site: what is in it holds, whatever the scenes, names and languages are."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.features import geometry_mask

from scanner import cli_report
from scanner.area.grid import from_geographic
from scanner.config import ScanConfig, SearchConfig
from scanner.detection.detections import DETECTION_SCHEMA
from scanner.errors import ConfigError, RunError
from scanner.imagery.catalog import search_items
from scanner.imagery.item import Item
from scanner.models.card import ModelCard
from scanner.models.store import shipped
from scanner.results.evidence import write_evidence
from scanner.results.evidence.ground import MOST_M, ground_of
from scanner.results.evidence.models import figures
from scanner.results.evidence.words import Words, dms
from scanner.results.finished import open_run
from scanner.results.outputs import write_geoparquet
from scanner.results.texts import LANGUAGES, texts
from scanner.run.pipeline import prepare
from tests.evidence_runs import (
    BSI,
    CLOUDY,
    DAYS,
    FIRST_MINED,
    FOREST,
    MINED,
    NDVI,
    SITE,
    scene,
    signed_again,
    with_items,
)
from tests.results.runs import TILE, Cell, area, cell, make_run


def opened(folder: Path) -> str:
    return (folder / "evidence.html").read_text(encoding="utf-8")


def seen(page: str) -> str:
    """The text of a page as it is read, white space made one."""
    parts: list[str] = []
    parser = HTMLParser()
    parser.handle_data = parts.append  # type: ignore[method-assign]
    parser.feed(page.partition("<body>")[2])
    return " ".join(" ".join(parts).split())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Five days: two of forest, one of cloud, two of a mine."""
    folder = tmp_path_factory.mktemp("scenes")
    return [
        scene(folder, day, mined=n >= FIRST_MINED, cloudy=n == CLOUDY) for n, day in enumerate(DAYS)
    ]


@pytest.fixture
def run(tmp_path, scenes):
    """A run over them with one site of 8 ha, no rasters."""
    return with_items(make_run(tmp_path / "run", SITE, days=DAYS), scenes)


@pytest.fixture
def site_id(run):
    return str(run.sites.detection_id[0])


@pytest.fixture(scope="module")
def made(tmp_path_factory, scenes):
    """Such a run and its evidence, only to be read."""
    run = with_items(make_run(tmp_path_factory.mktemp("made") / "run", SITE, days=DAYS), scenes)
    return run, write_evidence(run, run.sites.detection_id[0], None)


@pytest.fixture(scope="module")
def demo(finished_demo, tmp_path_factory):
    """Evidence of a site of the demo, only to be read."""
    run = open_run(finished_demo)
    site = next(run.sites.itertuples())
    folder = tmp_path_factory.mktemp("demo") / "out"
    return run, site, write_evidence(run, site.detection_id, folder)


# What is in it


def test_the_checksums_hold_for_every_file_and_there_is_no_other(demo):
    run, _, folder = demo
    sums = dict(
        reversed(line.split("  "))
        for line in (folder / "checksums.sha256").read_text().splitlines()
    )
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == {*sums, "checksums.sha256"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert {"after.png", "after.tif", "composite.png", "classes.png", "series.svg"} <= there
    for name in ("aoi.geojson", "config.toml", "run.json"):
        assert (folder / name).read_bytes() == (run.path / name).read_bytes()
    page = seen(opened(folder))
    assert all(sums[name] in page for name in there - {"evidence.html", "checksums.sha256"})
    assert "SYNTHETIC" in page
    assert "never illegal mining" in page


def test_the_series_has_a_row_a_clear_day_with_what_its_pixels_hold(made):
    run, folder = made
    assert folder == run.path / "evidence" / run.sites.detection_id[0]
    found = rows(folder / "series.csv")
    assert [row["date"] for row in found] == [d for n, d in enumerate(DAYS) if n != CLOUDY]
    for row in found:
        ground = "mined" if row["date"] >= DAYS[FIRST_MINED] else "forest"
        assert float(row["ndvi"]) == pytest.approx(NDVI[ground], abs=1e-4)
        assert float(row["bsi"]) == pytest.approx(BSI[ground], abs=1e-4)
        assert float(row["clear_share"]) == 1
        assert row["scenes"] == f"item-{row['date']}"
        assert row["run_id"] == run.run_id
    assert {row["ndvi_around"] for row in found[:2]} == {f"{NDVI['forest']:.4f}"}
    page = seen(opened(folder))
    assert f"NDVI: 0.85 on {DAYS[0]}, 0.09 on {DAYS[4]}" in page
    assert "days looked at again for this page: 5; clear over the outline: 4" in page


def test_the_demos_series_is_that_of_its_files_read_another_way(demo):
    run, site, folder = demo
    ground = ground_of(run, site)
    outline = geometry_mask(
        [ground.outline], ground.inside.shape, ground.geobox.affine, invert=True
    )
    expected = {}
    for item in run.items.items:
        if item.epsg != ground.zone.epsg:
            continue
        bands = {}
        for band in ("B04", "B08", "SCL"):
            with rasterio.open(item.href(band), driver="GTiff") as source:
                bands[band] = source.read(1, window=source.window(*ground.bounds))
        scl = np.kron(bands["SCL"], np.ones((2, 2), dtype=np.uint8))
        pixels = outline & np.isin(scl, (2, 4, 5, 6, 7)) & (bands["B04"] > 0)
        red, nir = ((bands[b].astype(float) - 1000).clip(0) / 10_000 for b in ("B04", "B08"))
        if pixels.sum() >= 0.8 * outline.sum():
            ndvi = ((nir - red) / (nir + red))[pixels].mean()
            expected[item.solar_day.isoformat()] = pytest.approx(ndvi, abs=1e-4)
    assert expected
    assert {r["date"]: float(r["ndvi"]) for r in rows(folder / "series.csv")} == expected


def test_the_chips_can_be_measured(made):
    run, folder = made
    for name, day, dn in (("before", DAYS[0], FOREST), ("after", DAYS[4], MINED)):
        with rasterio.open(folder / f"{name}.tif", driver="GTiff") as chip:
            assert chip.crs.to_epsg() == TILE.epsg
            assert chip.res == (10, 10)
            assert chip.descriptions == tuple(FOREST)
            assert day in chip.tags()["TIFFTAG_IMAGEDESCRIPTION"]
            x, y = from_geographic(TILE.epsg, *run.sites.geometry[0].centroid.coords[0])
            (values,) = chip.sample([(float(x), float(y))])
        assert values.tolist() == pytest.approx([(dn[b] - 1000) / 10_000 for b in FOREST])
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = seen(opened(folder))
    assert f"Before: {DAYS[0]}" in page
    assert f"After: {DAYS[4]}" in page


def test_the_outline_and_the_scenes_are_there_for_others(made, scenes):
    run, folder = made
    (site,) = gpd.read_file(folder / "site.geojson").itertuples()
    assert site.geometry.equals_exact(run.sites.geometry[0], 1e-9)
    assert site.score == 0.9
    listed = json.loads((folder / "items.json").read_text())["features"]
    assert [item["id"] for item in listed] == [item.id for item in scenes]
    assert {item["assets"]["B04"]["href"] for item in listed} == {
        f"./{item.id}/B04.tif" for item in scenes
    }
    used = {row["scene"]: row for row in rows(folder / "scenes.csv")}
    assert used[f"item-{DAYS[0]}"]["before"] == used[f"item-{DAYS[4]}"]["after"] == "yes"
    assert used[f"item-{DAYS[CLOUDY]}"]["series"] == ""
    assert [row["day"] for row in used.values()] == list(DAYS)


def test_the_page_holds_all_it_shows_and_lets_nothing_in(made):
    page = opened(made[1])
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<script" not in page
    assert "url(" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_same_run_gives_the_same_bytes(made, tmp_path):
    run, folder = made
    other = write_evidence(run, run.sites.detection_id[0], tmp_path / "other")
    contents = [
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (folder, other)
    ]
    assert contents[0] == contents[1]
    assert str(run.path.parent) not in opened(folder)


# Repeating it


def test_its_settings_ask_the_same_question(demo, tmp_path, tiny_models):
    run, site, folder = demo
    config = ScanConfig.from_toml(folder / "repeat.toml")
    assert config.search.catalog == "SCENES/items.json"
    assert config.report.threshold == run.threshold
    assert str(run.path.parent) not in (folder / "repeat.toml").read_text()
    filled = config.with_values(
        aoi=folder / "aoi.geojson", out=tmp_path / "again", **tiny_models,
        catalog=run.config.search.catalog,
    )  # fmt: skip
    assert prepare(filled).run_id == run.run_id
    page = seen(opened(folder))
    assert "mining-scan aoi.geojson --config repeat.toml --catalog SCENES/items.json" in page
    assert f"mining-report evidence run-again {site.detection_id}" in page


def test_its_items_beside_the_scenes_are_a_catalog(made, scenes, tmp_path):
    run, folder = made
    place = tmp_path / "elsewhere"
    shutil.copytree(Path(scenes[0].href("B02")).parent.parent, place)
    shutil.copy(folder / "items.json", place)
    found = search_items(run.aoi, SearchConfig(catalog=str(place / "items.json")))
    assert [item.id for item in found.items] == [item.id for item in scenes]


def test_the_cards_of_the_models_are_there_if_they_are_those_used(demo, made):
    _, _, folder = demo
    card = json.loads((folder / "classifier.card.json").read_text())
    assert card["mining:sha256"] in seen(opened(folder))
    assert "holds no figures" in seen(opened(folder))
    assert not (made[1] / "classifier.card.json").exists()
    assert "is not on this machine" in seen(opened(made[1]))


def test_the_figures_of_a_card_are_told():
    card = ModelCard.read(shipped("classifier"))
    group, told = figures(card, Words.of("en"))
    auc = card.metrics[group]["roc_auc"]
    assert f"ROC AUC {auc[0]:.2f} ({auc[1]:.2f}-{auc[2]:.2f})" in told


# What may be lacking


def test_without_infrared_bands_brightness_stands_in(tmp_path):
    items = [
        scene(tmp_path, day, mined=n > 0, bands=("B02", "B03", "B04"))
        for n, day in enumerate(DAYS[:2])
    ]
    run = with_items(make_run(tmp_path / "run", SITE, days=DAYS), items)
    folder = write_evidence(run, run.sites.detection_id[0], None)
    found = rows(folder / "series.csv")
    assert [row["ndvi"] + row["bsi"] for row in found] == ["", ""]
    assert [float(row["brightness"]) for row in found] == pytest.approx([0.0283, 0.15], abs=1e-4)
    page = seen(opened(folder))
    assert "No NDVI: the scenes have no band B08" in page
    assert "Brightness stands in" in page


def test_a_scene_that_is_gone_is_named_and_left_out(tmp_path):
    items = [scene(tmp_path, day, mined=n > 0) for n, day in enumerate(DAYS[:3])]
    run = with_items(make_run(tmp_path / "run", SITE, days=DAYS), items)
    shutil.rmtree(tmp_path / items[0].id)
    (tmp_path / items[1].id / "B04.tif").write_bytes(b"II*\0 cut short")
    folder = write_evidence(run, run.sites.detection_id[0], None)
    page = seen(opened(folder))
    assert [row["date"] for row in rows(folder / "series.csv")] == [DAYS[2]]
    assert "Not used, 2 of 3" in page
    assert f"{items[0].id} : {items[0].id}/B02.tif is not there" in page
    assert str(tmp_path) not in opened(folder)
    assert "The only clear view" in page
    reasons = {row["scene"]: row["left_out"] for row in rows(folder / "scenes.csv")}
    assert "B04.tif" in reasons[items[1].id]


def test_without_any_scene_the_page_is_made_of_what_the_run_kept(finished_demo, tmp_path):
    shutil.copytree(finished_demo, tmp_path / "run")
    run = open_run(tmp_path / "run")
    lost = [item.with_hrefs(lambda href: f"/nowhere{href}") for item in run.items.items]
    run = with_items(run, lost)
    folder = write_evidence(run, run.sites.detection_id[0], None)
    there = {path.name for path in folder.iterdir()}
    assert {"composite.png", "classes.png"} <= there
    assert not {"before.png", "after.png", "after.tif", "series.svg"} & there
    page = seen(opened(folder))
    assert "No scene could be read again" in page
    assert "so there is no series" in page


def test_a_run_without_rasters_or_clear_days_says_so(tmp_path):
    items = [scene(tmp_path, day, cloudy=True) for day in DAYS[:2]]
    run = with_items(make_run(tmp_path / "run", SITE, days=DAYS), items)
    folder = write_evidence(run, run.sites.detection_id[0], None)
    page = seen(opened(folder))
    assert f"No clear view. The clearest: {DAYS[1]}, 0 %" in page
    assert "kept no picture of what the models saw" in page
    assert rows(folder / "series.csv") == []
    assert (folder / "after.png").is_file()


def test_a_scene_whose_offset_is_doubted_is_left_out(tmp_path):
    items = [scene(tmp_path, day) for day in DAYS[:2]]
    raw = {**items[1].raw, "properties": {**items[1].properties, "s2:processing_baseline": "03.00"}}
    run = with_items(make_run(tmp_path / "run", SITE, days=DAYS), [items[0], Item(raw)])
    folder = write_evidence(run, run.sites.detection_id[0], None)
    assert [row["date"] for row in rows(folder / "series.csv")] == [DAYS[0]]
    assert "seems still in" in seen(opened(folder))


def test_of_a_large_site_the_window_shows_a_part(tmp_path, scenes):
    cells = {cell(5, col): Cell(0.9, barren_ha=2) for col in range(1, 40)}
    run = make_run(tmp_path / "run", cells, aoi=area((0, 12), (0, 42)), days=DAYS)
    run = with_items(run, scenes)
    ground = ground_of(run, next(run.sites.itertuples()))
    assert ground.side_m == MOST_M
    assert 0 < ground.share < 0.5
    page = seen(opened(write_evidence(run, run.sites.detection_id[0], None)))
    assert "The site is larger than the window" in page


def test_scenes_over_a_network_are_tried_again(tmp_path, serve_files):
    files = tmp_path / "files"
    items = [scene(files, day, mined=n > 0) for n, day in enumerate(DAYS[:2])]
    server = serve_files(files)
    server.fail(f"{items[0].id}/B04.tif", status=503, times=1)
    server.fail(f"{items[1].id}/B08.tif", status=404, times=None)
    remote = [item.with_hrefs(lambda h: h.replace(str(files), server.url)) for item in items]
    made = make_run(
        tmp_path / "run", SITE, days=DAYS, catalog=f"{server.url}/stac", hosts=["http://127.0.0.1"]
    )
    run = with_items(made, remote)
    folder = write_evidence(run, run.sites.detection_id[0], None)
    assert [row["date"] for row in rows(folder / "series.csv")] == [DAYS[0]]
    assert f"{items[1].id}/B08.tif" in seen(opened(folder))
    listed = json.loads((folder / "items.json").read_text())["features"]
    assert listed[0]["assets"]["B04"]["href"] == f"{server.url}/{items[0].id}/B04.tif"


# Another run


def test_before_may_come_from_an_earlier_run(tmp_path, run, site_id):
    old = [scene(tmp_path, day) for day in ("2023-06-01", "2023-06-11")]
    earlier = with_items(make_run(tmp_path / "old", {}, days=DAYS), old)
    folder = write_evidence(run, site_id, None, before=earlier)
    page = seen(opened(folder))
    assert "Before: 2023-06-01" in page
    assert f"earlier run {earlier.run_id[:12]}" in page
    assert (folder / "before" / "run.json").read_bytes() == (earlier.path / "run.json").read_bytes()
    found = rows(folder / "series.csv")
    assert [row["date"] for row in found][:2] == ["2023-06-01", "2023-06-11"]
    assert len(found) == 6
    assert "--before earlier-again" in page


def test_an_earlier_run_elsewhere_is_refused(tmp_path, run, site_id):
    away = replace(TILE, col=TILE.col + 3)
    earlier = make_run(tmp_path / "old", {}, aoi=area(tile=away))
    with pytest.raises(ConfigError, match="has no scene over"):
        write_evidence(run, site_id, None, before=earlier)
    assert not (run.path / "evidence" / site_id).exists()


# What is refused


def test_an_unknown_site_is_told_with_those_there_are(run, site_id):
    with pytest.raises(ConfigError, match=f"has no site 'site_9'; it has {site_id}"):
        write_evidence(run, "site_9", None)
    with pytest.raises(ConfigError, match="has no site"):
        write_evidence(run, f"../{site_id}", None)


def test_a_run_without_sites_has_no_evidence(tmp_path):
    with pytest.raises(ConfigError, match="found no site"):
        write_evidence(make_run(tmp_path / "run"), "site_21S_00001_00001", None)


def test_an_id_that_is_a_path_is_refused_though_the_run_holds_it(run):
    table = gpd.read_parquet(run.path / "detections.parquet").drop(columns="bbox", errors="ignore")
    table["detection_id"] = "../../away"
    write_geoparquet(run.path / "detections.parquet", table, DETECTION_SCHEMA)
    forged = signed_again(run.path)
    with pytest.raises(RunError, match="is no id of mining-scan's"):
        write_evidence(forged, "../../away", None)


def test_a_raster_that_was_changed_is_refused(finished_demo, tmp_path):
    shutil.copytree(finished_demo, tmp_path / "run")
    run = open_run(tmp_path / "run")
    site = next(run.sites.itertuples())
    target = tmp_path / "run" / "parts" / f"{site.tile_ids[0]}.quicklook.tif"
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    with pytest.raises(RunError, match=r"quicklook\.tif: was changed"):
        write_evidence(run, site.detection_id, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_files_of_others_stay_and_its_own_are_replaced(run, site_id, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep")
    with pytest.raises(ConfigError, match="holds other files"):
        write_evidence(run, site_id, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep"
    folder = write_evidence(run, site_id, tmp_path / "new" / "deep")
    (folder / "old.png").write_bytes(b"")
    write_evidence(run, site_id, folder)
    assert not (folder / "old.png").exists()


# Names and words


def test_whatever_things_are_called_nothing_of_it_runs(tmp_path):
    evil = "<script>alert(1)</script>"
    item = scene(tmp_path, DAYS[0])
    lost = Item({**item.raw, "id": '"><img src=x onerror=alert(1)>', "assets": {}})
    named = Item({**item.raw, "id": f"=cmd{evil}"})
    made = make_run(tmp_path / "run", SITE, aoi=area(name=evil), days=DAYS)
    run = with_items(made, [named, lost])
    folder = write_evidence(run, run.sites.detection_id[0], None)
    page = opened(folder)
    assert evil in seen(page)
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append((tag, dict(attrs)))  # type: ignore[method-assign]
    parser.feed(page)
    assert not [tag for tag, attrs in tags if tag == "script" or "onerror" in attrs]
    assert not re.search(r"^[=+@-]", (folder / "scenes.csv").read_text(), re.MULTILINE)


def test_overlays_are_told_in_their_own_words(run, site_id):
    table = gpd.GeoDataFrame(
        {
            "overlay": ["parks", "parks"],
            "feature": ["<b>Park</b>", None],
            "detection_id": [site_id, site_id],
            "area_ha": [6.0, 2.0],
            "share": [0.75, 0.25],
            "presumed_illegal": ["strict protection", None],
        },
        geometry=[run.sites.geometry[0]] * 2,
        crs="EPSG:4326",
    )
    table.to_parquet(run.path / "overlays.parquet")
    page = seen(opened(write_evidence(run, site_id, None)))
    assert "<b>Park</b> (parks): 6.00 ha, 75 % of the site" in page
    assert "presumed illegal by that layer's own word: strict protection" in page
    (run.path / "overlays.parquet").write_bytes(b"no table")
    with pytest.raises(RunError, match=r"overlays\.parquet: cannot be read"):
        write_evidence(run, site_id, None)


@pytest.mark.parametrize(
    ("lang", "words"),
    [("pt", "nunca mineração ilegal"), ("es", "nunca minería ilegal")],
)
def test_it_is_written_in_portuguese_and_spanish(run, site_id, lang, words):
    page = opened(write_evidence(run, site_id, None, lang=lang))
    assert f'<html lang="{lang}">' in page
    assert words in seen(page)
    assert f"--lang {lang}" in page


def test_all_languages_have_the_same_texts_with_the_same_places():
    def places(lang):
        return {
            key: sorted({name for _, name, _, _ in Formatter().parse(text) if name})
            for key, text in texts(lang).items()
            if key.startswith("evidence.")
        }

    assert all(places(lang) == places("en") for lang in LANGUAGES)
    with pytest.raises(ConfigError, match="language"):
        Words.of("fr")


def test_positions_are_written_as_people_write_them():
    signs = str.maketrans({"\N{DEGREE SIGN}": "d", "\u2032": "m", "\u2033": "s"})
    assert dms(-6.5, -55.999_999).translate(signs) == "6d 30m 00.0s S, 56d 00m 00.0s W"
    assert dms(0.000_01, 10.25).translate(signs) == "0d 00m 00.0s N, 10d 15m 00.0s E"


def test_numbers_are_written_as_the_language_does():
    assert [Words.of(lang).number(1.25, 1) for lang in LANGUAGES] == ["1.2", "1,2", "1.2"]
    assert Words.of("pt").percent(0.1234) == "12,3"


# The command


def test_the_command_tells_where_the_page_is(run, site_id, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli_report.main(["evidence", str(run.path), site_id, "--out", str(tmp_path / "out")])
    assert not ended.value.code
    assert str(tmp_path / "out" / "evidence.html") in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli_report.main(["evidence", str(run.path), "site_1"])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.count("\n") == 1
    assert site_id in told
