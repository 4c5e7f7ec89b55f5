"""The same command in a folder that something happened to: refused, redone and named, or untouched.

What was computed is never thrown away without ``--fresh``, and never taken for another run's.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time

import pytest

from scanner.imagery import stac_api
from scanner.run.pipeline import prepare
from tests.faults.two_tiles import TwoTiles, left_over, make_two_tiles, rows
from tests.models_tiny import tiny_classifier, tiny_segmenter
from tests.servers.stac_api import StacServer

WEST, EAST = "21S_0030_0040", "21S_0031_0040"


@pytest.fixture(scope="module")
def two_tiles(scheduler, tiny_models, tmp_path_factory):
    """An unbroken run over two tiles."""
    return make_two_tiles(tmp_path_factory, tiny_models, scheduler)


@pytest.fixture
def out(two_tiles: TwoTiles, tmp_path):
    """A copy of the unbroken run."""
    return shutil.copytree(two_tiles.out, tmp_path / "run")


@pytest.fixture
def again(two_tiles, out, call):
    """``again(*more)`` runs the command in the copy; no cluster may start for it."""

    def run(*more):
        return call(*two_tiles.arguments, "--out", out, *more)

    return run


@pytest.fixture
def no_cluster(monkeypatch):
    """Reading pixels would need one."""
    monkeypatch.setattr(
        "scanner.run.pipeline.open_client", lambda *_: pytest.fail("cluster started")
    )


@pytest.fixture
def warned(caplog):
    """What was logged; a LocalCluster turns down the handlers of the process that started it."""
    caplog.set_level(logging.WARNING)
    return caplog


def all_files(folder):
    """Return every file of a folder, but for the lock."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def edit(path, change):
    """Change a JSON document."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=1) + "\n")


def halve(path):
    """Cut a file in two."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Change one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


# Another run's parts


@pytest.mark.parametrize(
    ("kind", "make"), [("classifier", tiny_classifier), ("segmenter", tiny_segmenter)]
)
def test_another_model_is_refused_and_costs_nothing(kind, make, again, out, no_cluster, tmp_path):
    before = all_files(out)
    code, _, err = again(f"--{kind}", make(tmp_path / "other", seed=1))
    assert code == 2
    assert "--fresh" in err
    assert kind in err
    assert all_files(out) == before


def test_the_same_model_from_elsewhere_is_the_same_run(two_tiles, out, again, no_cluster, tmp_path):
    """Weights count; a folder that has moved is named by the setting that was frozen."""
    moved = shutil.copytree(two_tiles.config.pixels.classifier, tmp_path / "moved")
    code, _, err = again("--classifier", moved)
    assert code == 2
    assert "pixels.classifier" in err


def test_weights_exchanged_in_place_are_refused(
    two_tiles, scheduler, tmp_path, tmp_path_factory, no_cluster, call
):
    """The settings are the same letter by letter, the model is not."""
    folder = tmp_path / "models"
    names = {"segmenter": "segmenter", "classifier": "classifier"}
    pixels = two_tiles.config.pixels
    for name in names:
        shutil.copytree(getattr(pixels, name), folder / name)
    config = two_tiles.config.with_values(
        out=tmp_path / "run", **{name: str(folder / name) for name in names}
    )
    frozen = prepare(config).folder
    before = all_files(frozen.path)
    for name, make in (("classifier", tiny_classifier), ("segmenter", tiny_segmenter)):
        kept = shutil.copytree(folder / name, tmp_path / "kept" / name)
        make(folder / name, seed=1)
        code, _, err = call(config.aoi, "--out", frozen.path, "--catalog", config.search.catalog)
        assert code == 2
        assert f"holds a run of the {name} " in err
        assert "--fresh" in err
        shutil.rmtree(folder / name)
        shutil.copytree(kept, folder / name)
    assert all_files(frozen.path) == before
    assert len(prepare(config).todo()) == 2, "put back, it goes on"


def cloudier(document):
    document["features"][0]["properties"]["eo:cloud_cover"] = 6


def elsewhere(document):
    ring = document["geometry"]["coordinates"][0]
    document["geometry"]["coordinates"][0] = [[lon, lat + 0.001] for lon, lat in ring]


def fewer(document):
    del document["features"][0]


@pytest.mark.parametrize(
    ("name", "change", "code", "told"),
    [
        ("items.json", lambda p: edit(p, cloudier), 2, "items.json: was changed since"),
        ("items.json", lambda p: edit(p, fewer), 2, "items.json: was changed since"),
        ("items.json", halve, 3, "items.json: not JSON"),
        ("items.json", lambda p: p.write_text("[]"), 3, "items.json: not a JSON object"),
        ("items.json", lambda p: p.unlink(), 3, "items.json: no such file"),
        ("aoi.geojson", halve, 3, "aoi.geojson: is damaged"),
        ("aoi.geojson", lambda p: p.unlink(), 3, "aoi.geojson: is damaged"),
        (
            "aoi.geojson",
            lambda p: edit(p, elsewhere),
            2,
            "holds a run over another area",
        ),
        ("identity.json", halve, 3, "identity.json: cannot be read"),
        ("identity.json", lambda p: p.unlink(), 3, "identity.json: cannot be read"),
        ("identity.json", lambda p: p.write_text("{}"), 3, "identity.json: cannot be read"),
        (
            "identity.json",
            lambda p: p.write_text("[" * 100_000),
            3,
            "identity.json: cannot be read",
        ),
        (
            "identity.json",
            lambda p: edit(p, lambda d: d.update(models=[])),
            3,
            "identity.json: cannot be read",
        ),
        (
            "identity.json",
            lambda p: edit(p, lambda d: d.update(run_id="0" * 64)),
            2,
            "was changed since the run began",
        ),
        (
            "identity.json",
            lambda p: edit(p, lambda d: d.update(algorithm=0)),
            2,
            "another mining-scan, which counts otherwise",
        ),
        ("config.toml", lambda p: p.write_bytes(p.read_bytes()[:200]), 2, "config.toml: not TOML"),
        (
            "config.toml",
            lambda p: p.write_text(p.read_text().replace("max_scenes = 6", "max_scenes = 5")),
            2,
            "pixels.max_scenes = 5, asked was 6",
        ),
    ],
)
def test_frozen_files_that_changed_are_named_and_nothing_is_lost(
    name, change, code, told, out, again, no_cluster
):
    change(out / name)
    before = all_files(out)
    found, _, err = again()
    assert found == code, err
    assert told in err
    assert "--fresh" in err or "not TOML" in err
    assert len(err.splitlines()) == 1
    assert "unexpected" not in err
    assert all_files(out) == before


def test_settings_that_changed_are_found_without_being_asked_for(two_tiles, out, call, no_cluster):
    """Here the command names no settings of its own, so the frozen ones would be taken."""
    path = out / "config.toml"
    path.write_text(path.read_text().replace("max_scenes = 6", "max_scenes = 5"))
    code, _, err = call(two_tiles.config.aoi, "--out", out)
    assert code == 2
    assert "config.toml or aoi.geojson: was changed since the run began" in err


def test_a_folder_without_settings_is_a_new_run_that_finds_its_parts(
    two_tiles, out, again, no_cluster
):
    (out / "config.toml").unlink()
    code, told, err = again()
    assert (code, err) == (0, "")
    assert "resuming: 2 of 2 tiles are done" in told
    assert all_files(out) == all_files(two_tiles.out)


# Parts, markers and rasters


def other(path, west=WEST, east=EAST):
    """Return the same file of the other tile."""
    names = {west: east, east: west}
    tile = next(tile for tile in names if path.name.startswith(tile))
    return path.with_name(path.name.replace(tile, names[tile]))


def linked_to_other(path):
    path.unlink()
    path.symlink_to(other(path))


def foreign(path):
    edit(path, lambda marker: marker.update(run_id="0" * 64))


def other_digest(path):
    edit(path, lambda marker: marker.update(sha256="0" * 64))


def of_report(**values):
    return lambda path: edit(path, lambda marker: marker["report"].update(values))


SPOILT = [
    ("parquet", halve, "was changed"),
    ("parquet", flip, "was changed"),
    ("parquet", lambda p: p.write_bytes(other(p).read_bytes()), "was changed"),
    ("parquet", linked_to_other, "was changed"),
    ("parquet", lambda p: p.unlink(), "is not whole"),
    ("json", halve, "cannot be read"),
    ("json", lambda p: p.write_text("[]"), "cannot be read"),
    ("json", lambda p: p.write_bytes(b"\xff\xfe"), "cannot be read"),
    ("json", foreign, "belongs to another run"),
    ("json", other_digest, "was changed"),
    ("json", of_report(days=["2020-01-01"]), "was changed"),
    ("json", of_report(status="failed"), "was changed"),
    ("json", of_report(opinion="mine"), "was changed"),
    ("json", lambda p: edit(p, lambda marker: marker["report"].pop("days")), "was changed"),
    ("json", lambda p: edit(p, lambda marker: marker["rasters"].pop("classes")), "was changed"),
    ("json", lambda p: edit(p, lambda m: m["rasters"]["classes"].pop("sha256")), "was changed"),
    ("json", lambda p: p.write_text("[" * 100_000), "cannot be read"),
    ("json", linked_to_other, "was changed"),
    ("json", lambda p: p.write_text(other(p).read_text()), "was changed"),
    ("classes.tif", halve, "was cut (classes)"),
    ("classes.tif", flip, "was changed (classes)"),
    ("quicklook.tif", flip, "was changed (quicklook)"),
    ("suspicious.tif", linked_to_other, "(suspicious)"),
    ("suspicious.tif", lambda p: p.unlink(), "is not whole"),
]


@pytest.mark.parametrize(("ending", "spoil", "told"), SPOILT)
def test_what_is_spoilt_is_done_again_and_named(ending, spoil, told, two_tiles, out, warned):
    spoil(out / "parts" / f"{WEST}.{ending}")
    todo = prepare(two_tiles.config.with_values(out=out)).todo()
    assert [tile.tile_id for tile in todo] == [WEST]
    assert f"1 parts are done again: {WEST} " in warned.text
    assert told in warned.text


def test_an_absent_marker_is_an_open_tile_and_no_news(two_tiles, out, warned):
    (out / "parts" / f"{WEST}.json").unlink()
    todo = prepare(two_tiles.config.with_values(out=out)).todo()
    assert [tile.tile_id for tile in todo] == [WEST]
    assert warned.text == ""


def test_spoilt_parts_done_again_give_the_same_rows(two_tiles, out, again, warned, tmp_path):
    """Links among them: what they lead to is not written to."""
    stranger = tmp_path / "stranger.parquet"
    stranger.write_bytes(b"not yours")
    part = out / "parts" / f"{WEST}.parquet"
    part.unlink()
    part.symlink_to(stranger)
    halve(out / "parts" / f"{EAST}.json")
    code, _, err = again("--scheduler", two_tiles.config.run.scheduler)
    assert code == 0, err
    assert "2 parts are done again" in warned.text
    assert rows(out) == rows(two_tiles.out)
    assert stranger.read_bytes() == b"not yours"
    assert not part.is_symlink()
    code, told, err = again()
    assert (code, err) == (0, ""), "and that settled it"
    assert "resuming: 2 of 2 tiles are done" in told


def test_strangers_files_are_left_alone_and_named(two_tiles, out, again, warned, no_cluster):
    """Among them the whole part of a tile that is not in the area, as from a merge of folders."""
    parts = out / "parts"
    for ending in ("parquet", "json"):
        shutil.copy(parts / f"{WEST}.{ending}", parts / f"21S_0099_0040.{ending}")
    (parts / "notes.txt").write_text("mine")
    (parts / "folder").mkdir()
    (out / "thesis.docx").write_text("mine too")
    assert again()[0] == 0
    assert "not of this run, left alone: 21S_0099_0040.json" in warned.text
    assert "notes.txt" in warned.text
    assert rows(out) == rows(two_tiles.out)
    assert (parts / "notes.txt").read_text() == "mine"
    assert (parts / "21S_0099_0040.parquet").is_file()
    assert (parts / "folder").is_dir()
    assert (out / "thesis.docx").read_text() == "mine too"


def test_tables_that_somebody_changed_are_made_again(two_tiles, out, again, no_cluster):
    for name in rows(out):
        flip(out / name)
    (out / "run.json").write_text("{")
    assert again()[0] == 0
    assert all_files(out) == all_files(two_tiles.out)


def test_a_run_moved_in_the_middle_goes_on(two_tiles, out, call, tmp_path):
    (out / "parts" / f"{EAST}.json").unlink()
    there = tmp_path / "other disk" / "ação"
    there.parent.mkdir()
    shutil.move(out, there)
    scheduler = two_tiles.config.run.scheduler
    code, told, err = call(*two_tiles.arguments, "--out", there, "--scheduler", scheduler)
    assert (code, err) == (0, err)
    assert "resuming: 1 of 2 tiles are done" in told
    assert rows(there) == rows(two_tiles.out)
    assert left_over(there) == []


# Two at once

WAITING = """
import pathlib, sys, time
from scanner.results.outputs import Parts

go, real = pathlib.Path(sys.argv.pop(1)), Parts.write

def write(self, *args):
    go.with_suffix(".reached").touch()
    while not go.exists():
        time.sleep(0.05)
    real(self, *args)

Parts.write = write
from scanner.cli import main
main()
"""


def test_a_second_run_in_the_folder_is_refused_and_the_first_not_disturbed(
    two_tiles, tmp_path, call
):
    """Also one with ``--fresh``, which throws nothing away."""
    out, go = tmp_path / "run", tmp_path / "go"
    scheduler = two_tiles.config.run.scheduler
    command = [*two_tiles.arguments, "--out", str(out), "--scheduler", scheduler]
    first = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(go), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not go.with_suffix(".reached").exists():
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        before = all_files(out)
        assert len(before) >= 4
        for more in ([], ["--fresh"], ["--threshold", "0.1"]):
            code, _, err = call(*command, *more)
            assert code == 2, err
            assert "another mining-scan is at work in this folder" in err
            assert all_files(out) == before
        go.touch()
        _, err = first.communicate(timeout=500)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 0, err
    assert "2/2" in err
    assert rows(out) == rows(two_tiles.out)
    assert call(*command)[0] == 0, "and now the folder is free"


# Starting over


def test_fresh_with_a_catalog_that_fails_throws_nothing_away(
    two_tiles, out, call, tmp_path, monkeypatch, no_cluster
):
    monkeypatch.setattr(stac_api, "BACKOFF_S", 0)
    server = StacServer([])
    server.behaviour.fail(1, 503, times=100)
    before = all_files(out)
    try:
        pixels = two_tiles.config.pixels
        models = ["--segmenter", pixels.segmenter, "--classifier", pixels.classifier]
        place = [two_tiles.config.aoi, "--out", out, "--fresh", *models, "--catalog"]
        code, _, err = call(*place, server.url, "--date", "2024-06-01/2024-07-30")
        assert code == 3, err
        assert "not answered completely" in err
        assert all_files(out) == before
        code, _, err = call(*place, tmp_path / "none.json")
        assert code == 2
        assert all_files(out) == before
    finally:
        server.stop()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_fresh_takes_away_links_and_not_what_they_lead_to(two_tiles, out, again, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(out / "parts", elsewhere)
    (out / "parts").symlink_to(elsewhere)
    config = two_tiles.config.with_values(out=out, fresh=True)
    run = prepare(config)
    assert len(run.todo()) == 2
    assert not (out / "parts").exists()
    assert len(list(elsewhere.glob("*.json"))) == 2
