"""What is made of a finished scan, made again with other settings, from the folder alone."""

from __future__ import annotations

import json
import shutil

import geopandas as gpd
import pytest

from scanner.results.publish import FORMATS, MADE
from scanner.run.folder import LOCK, OURS
from scanner.run.pipeline import prepare
from tests.synth import write_aoi

ALWAYS = (
    "classes.tif",
    "suspicious.tif",
    "quicklook.tif",
    "pictures",
    "qgis",
    "report.html",
    "stac",
)


@pytest.fixture(scope="module")
def scanned(seam_aoi, demo_scenes, tiny_models, tmp_path_factory):
    """A finished scan whose scenes are gone since, and the arguments that made it."""
    folder = tmp_path_factory.mktemp("publish")
    scenes = shutil.copytree(demo_scenes.parent, folder / "scenes") / demo_scenes.name
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    given = [str(seam_aoi), "--catalog", str(scenes), "--workers", "1", *models, "--threshold", "0"]
    from scanner import cli

    with pytest.raises(SystemExit) as ended:
        cli.main([*given, "--out", str(folder / "run")])
    assert ended.value.code == 0
    for tif in (folder / "scenes").rglob("*.tif"):
        tif.unlink()
    return folder / "run", given


@pytest.fixture
def again(scanned, tmp_path, monkeypatch, call):
    """``again(*options)`` runs the command over a copy; no cluster may be started."""
    out = shutil.copytree(scanned[0], tmp_path / "run")
    monkeypatch.setattr(
        "scanner.run.pipeline.open_client", lambda *_: pytest.fail("cluster started")
    )

    def run(*options):
        code, told, err = call(*scanned[1], "--out", out, *options)
        assert (code, err.count("Traceback")) == (0, 0), err
        return out, told

    return run


def test_a_scan_leaves_all_that_people_open(scanned):
    folder, _ = scanned
    assert all((folder / name).exists() for name in (*ALWAYS, "detections.gpkg"))
    assert not any((folder / name).exists() for name in ("detections.kml", "changes"))
    assert {path.name for path in folder.iterdir()} <= {*OURS, LOCK}


def test_formats_come_and_go(again, scanned):
    before = (scanned[0] / "classes.tif").stat().st_mtime_ns
    folder, _ = again("--also", "kml,gpx,csv")
    there = {name for name in FORMATS if (folder / f"detections.{name}").exists()}
    assert there == {"kml", "gpx", "csv"}
    assert (folder / "classes.tif").stat().st_mtime_ns == before


def test_another_threshold_reaches_the_report(again, scanned):
    every = len(gpd.read_parquet(scanned[0] / "detections.parquet"))
    assert every > 0
    folder, told = again("--threshold", "1", "--lang", "pt")
    assert len(gpd.read_parquet(folder / "detections.parquet")) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'lang="pt' in page
    assert "report.html" in told


def test_an_overlay_joins_and_goes(again, tmp_path):
    park = write_aoi(tmp_path / "park.geojson", (-56, -8, -53, -6), "Park of all")
    folder, _ = again("--overlay", park)
    joined = gpd.read_parquet(folder / "overlays.parquet")
    sites = gpd.read_parquet(folder / "detections.parquet")
    inside = joined[joined.feature == "Park of all"]
    assert inside.area_ha.sum() == pytest.approx(sites.area_ha.sum(), rel=1e-3)
    assert joined.presumed_illegal.isna().all()
    assert "Park of all" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_baseline_that_is_the_run_itself_is_refused(scanned, tmp_path, call):
    folder, given = scanned
    out = shutil.copytree(folder, tmp_path / "run")
    code, _, err = call(*given, "--out", out, "--baseline", folder)
    assert code == 2
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--overlay", "absent.geojson"), "absent.geojson"),
        (("--baseline", "absent"), "absent"),
        (("--also", "shp"), "also"),
    ],
)
def test_bad_wishes_cost_nothing(scanned, tmp_path, call, options, fact):
    out = shutil.copytree(scanned[0], tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, _, err = call(*scanned[1], "--out", out, *options)
    assert code == 2
    assert fact in err
    assert len(err.splitlines()) == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_plan_reads_no_pixel_and_freezes_the_run(scanned, tmp_path, call):
    out = tmp_path / "run"
    code, told, err = call(*scanned[1], "--out", out, "--plan")
    assert code == 0, err
    assert "2 tiles" in told
    assert not (out / "parts").exists()
    assert json.loads((out / "plan.json").read_text())
    assert (out / "items.json").exists()


def test_without_rasters_the_rest_is_made(config):
    run = prepare(config.with_values(rasters=False))
    assert all(list(run.scan()))
    run.finish()
    folder = run.folder.path
    assert not list(folder.glob("**/*.tif"))
    assert (folder / "report.html").exists()
    assert (folder / "detections.gpkg").exists()


def test_an_empty_run_is_told_as_such(config, tmp_path):
    empty = tmp_path / "none.json"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    run = prepare(config.with_values(catalog=str(empty), also=FORMATS))
    assert all(list(run.scan()))
    summary = run.finish()
    assert summary["coverage_ha"]["unseen"] == summary["coverage_ha"]["area"] > 0
    folder = run.folder.path
    for name in ("report.html", *(f"detections.{name}" for name in FORMATS)):
        assert (folder / name).stat().st_size > 0
    assert len(gpd.read_file(folder / "detections.gpkg", layer="detections")) == 0


def test_made_names_are_ours_to_take_away(config):
    run = prepare(config.with_values(also=FORMATS))
    list(run.scan())
    run.finish()
    stranger = run.folder.path / "notes.txt"
    stranger.write_text("keep")
    run.folder.clear()
    assert {path.name for path in run.folder.path.iterdir()} == {"notes.txt", LOCK}
    assert set(MADE) <= set(OURS)
