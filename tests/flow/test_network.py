"""The Planetary Computer's way over a network: search in pages, tokens that end, hosts that fail.

Stand-ins on loopback: a STAC API, a host of ranges that asks for tokens, an endpoint that gives
them. Tokens end when a test says so, never by the clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import pytest
import tomli_w

from scanner import cli
from scanner.config import ScanConfig
from scanner.errors import CatalogError
from scanner.imagery import hrefs, stac_api
from scanner.run.pipeline import prepare, scan
from tests.servers.stand import Stand
from tests.synth import write_aoi

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")


def rows(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def stand(demo_scenes):
    """A stand whose tokens last."""
    it = Stand(demo_scenes)
    yield it
    it.stop()


def written(folder):
    """Return all a run folder holds, as text."""
    return {p.name: p.read_bytes().decode("latin-1") for p in folder.rglob("*") if p.is_file()}


# A bad day: tokens end while SCL is read and while pixels are, and the host is overloaded


@pytest.fixture(scope="module")
def bad_day(demo_scenes, seam_aoi, tiny_models, tmp_path_factory):
    """A scan by a process of its own: the stand it met, its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("bad-day")
    stand = Stand(demo_scenes, ends=("SCL.tif", "B03.tif"))
    stand.files.fail("B02.tif", status=503, times=2)
    stand.files.fail("B04.tif", status=503, times=2)
    pixels = dict(tiny_models)
    settings = {"search": stand.search, "pixels": pixels, "run": {"workers": 1}}
    (folder / "there.toml").write_text(tomli_w.dumps(settings))
    script = (
        "import sys\nfrom scanner.imagery import hrefs\n"
        "hrefs.ENDPOINTS['planetary-computer'] = sys.argv.pop(1)\n"
        "from scanner.cli import main\nmain()"
    )
    names = ["--catalog", "planetary-computer", "--config", "there.toml", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-c", script, stand.api.url, seam_aoi, "--debug", *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    yield stand, folder / "run", done
    stand.stop()


def test_a_bad_day_gives_the_rows_of_local_files(bad_day, calm):
    _, out, done = bad_day
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "run.json").read_text())
    assert summary["config"]["search"]["catalog"] == "planetary-computer"
    assert summary["coverage_ha"]["clear"] > 0
    assert rows(out) == rows(calm.run.out)


def test_a_bad_day_was_one(bad_day):
    stand, out, _ = bad_day
    assert stand.files.ends == []
    assert stand.files.statuses("SCL").count(403) >= 1, "refused in the look"
    assert stand.files.statuses("B0").count(403) >= 1, "refused in the pixels"
    assert stand.files.statuses().count(503) == 4
    assert len(stand.mint.tokens) >= 3, "signed anew after each refusal"
    assert {(one["method"], one["page"]) for one in stand.api.behaviour.requests} == {
        ("POST", page) for page in (1, 2, 3, 4)
    }
    markers = [json.loads(path.read_text()) for path in (out / "parts").glob("*.json")]
    assert max(marker["report"]["attempts"] for marker in markers) > 1
    assert all(not marker["report"]["dropped"] for marker in markers)


def test_no_token_is_written_or_printed(bad_day):
    stand, out, done = bad_day
    files = written(out)
    assert {"items.json", "run.json", "config.toml", "cells.parquet"} <= set(files)
    for name, text in {**files, "stdout": done.stdout, "stderr": done.stderr}.items():
        assert not stand.mint.found_in(text), name
        assert "sig=" not in text.replace("sig=***", ""), name
    kept = json.loads(files["items.json"])["features"]
    assert len(kept) == 6
    assert all("?" not in a["href"] for raw in kept for a in raw["assets"].values())


def test_only_what_a_scan_needs_was_asked_for(bad_day):
    stand, _, _ = bad_day
    asked = {Path(one.path).name for one in stand.files.seen}
    assert asked == {"B02.tif", "B03.tif", "B04.tif", "SCL.tif"}


# Scenes that no token opens


@pytest.fixture
def one_tile(stand, bad_day, scheduler, tiny_models, tmp_path):
    """Settings of a scan of a few cells over the stand, and a scene it reads first."""
    markers = sorted((bad_day[1] / "parts").glob("*.json"))
    report = json.loads(markers[0].read_text())["report"]
    item = next(raw for raw in stand.api.items if raw["id"] == report["item_ids"][0][0])
    cell = next(
        box
        for box in gpd.read_parquet(bad_day[1] / "cells.parquet").itertuples()
        if box.tile_id == report["tile_id"]
    )
    bounds = cell.geometry.buffer(-0.0005).bounds
    config = ScanConfig().with_values(
        aoi=write_aoi(tmp_path / "one.geojson", bounds),
        catalog=stand.api.url,
        out=tmp_path / "run",
        scheduler=scheduler,
        screen="off",  # it is forest, whose bands would not be read
        **stand.search,
        **tiny_models,
    )
    return config, item["id"]


def test_a_scene_refused_for_ever_is_dropped_by_name(stand, one_tile, caplog, capfd):
    """The tile is kept, from the other scenes; refused all of them, it has failed."""
    config, lost = one_tile
    everything = stand.files.fail("", status=403, times=None)
    (report,) = scan(config)
    assert report.status == "failed"
    assert "none of its scenes could be read" in report.reason
    cells = gpd.read_parquet(config.run.out / "cells.parquet")
    assert set(cells.status) == {"failed"}

    everything.times = 0
    stand.files.fail(f"{lost}/B03.tif", status=403, times=None)
    before = len(stand.mint.tokens)
    (report,) = scan(config)
    assert report.status == "done", "the same command again tries it again"
    assert report.days
    assert lost not in [name for day in report.item_ids for name in day]
    dropped = json.loads((config.run.out / "run.json").read_text())["dropped_items"]
    reason = next(one["reason"] for one in dropped if one["id"] == lost)
    assert "B03.tif" in reason
    assert "?" not in reason
    assert len(stand.mint.tokens) - before >= config.run.tries, "signed anew for each try"
    told = "".join([caplog.text, *capfd.readouterr(), *written(config.run.out).values()])
    assert not stand.mint.found_in(told)


# The search


def test_a_catalog_that_breaks_off_leaves_nothing_behind(
    stand, seam_aoi, tiny_models, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(stac_api, "BACKOFF_S", 0)
    monkeypatch.setitem(hrefs.ENDPOINTS, "planetary-computer", stand.api.url)
    stand.api.behaviour.fail(2, 503, times=2 * (stac_api.RETRIES + 1))
    out = tmp_path / "run"
    config = ScanConfig().with_values(aoi=seam_aoi, out=out, **stand.search, **tiny_models)
    assert config.search.catalog == "planetary-computer"
    with pytest.raises(CatalogError, match="not answered completely"):
        prepare(config)
    assert not out.exists()
    (tmp_path / "there.toml").write_text(config.to_toml())
    with pytest.raises(SystemExit) as ended:
        cli.main(["--config", str(tmp_path / "there.toml")])
    assert ended.value.code == 3
    assert "not answered completely" in capsys.readouterr().err
    assert not out.exists()
    assert {one["page"] for one in stand.api.behaviour.requests} == {1, 2}
    assert len(prepare(config).found.items) == 6, "it answers again, and so do we"
    assert stand.files.seen == []
