"""``mining-scan`` over pixels: exit codes, what it prints, Ctrl-C, and the same command again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import geopandas as gpd
import pytest

from tests.processes import COMMAND, Started, parts_done

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")
GONE = "S2B_MSIL2A_20240701T135709_R067_T21MZN_20240701T221809"

posix = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process group")


def rows(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def listed(demo_scenes):
    """The demo's items, and one whose pixels are not there."""
    document = json.loads(demo_scenes.read_text())
    lost = json.loads(json.dumps(document["features"][-1]))
    lost["id"] = GONE
    lost["properties"]["datetime"] = "2024-07-01T13:57:09.024000Z"
    for asset in lost["assets"].values():
        asset["href"] = f"./{GONE}/B02.tif"
    document["features"].append(lost)
    path = demo_scenes.with_name("one-is-gone.json")
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def arguments(seam_aoi, listed, tiny_models):
    """The command's arguments, but for the run folder."""
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    return [str(seam_aoi), "--catalog", str(listed), "--workers", "1", *models]


@pytest.fixture(scope="module")
def done(arguments, tmp_path_factory):
    """A finished scan by a process of its own, and its folder."""
    out = tmp_path_factory.mktemp("command") / "run"
    command = [*COMMAND, *arguments, "--out", str(out)]
    return out, subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def finished(done, tmp_path, monkeypatch):
    """A copy of the finished folder, where no cluster may be started."""
    out = tmp_path / "run"
    shutil.copytree(done[0], out)
    monkeypatch.setattr(
        "scanner.run.pipeline.open_client", lambda *_: pytest.fail("cluster started")
    )
    return out


def test_a_scan_ends_with_a_summary(done, calm):
    out, process = done
    assert process.returncode == 0, process.stderr
    told = process.stdout.splitlines()
    assert told[0].startswith("seam: 7 km2, 2 tiles, 6 scenes, 2024-06-12 to 2024-08-21, into ")
    assert told[1].startswith("0 sites, 0.0 ha, at a score of ")
    assert told[2].startswith("coverage: ")
    for words in ("ha", "seen clear", "unseen", "failed 0.0 %"):
        assert words in told[2]
    assert told[3].startswith("screened by SCL alone: 0 ha; segmented: ")
    assert told[4].startswith("scenes left out: 1, the first since ")
    assert told[-1].startswith(f"results in {out}: open report.html")
    assert "2/2" in process.stderr, "the progress bar"
    assert "Traceback" not in process.stderr
    assert "Warning" not in process.stderr
    assert rows(out) == rows(calm.run.out)


def test_the_same_command_again_has_nothing_to_do(arguments, finished, done, call):
    code, out, err = call(*arguments, "--out", finished)
    assert code == 0
    assert "resuming: 2 of 2 tiles are done" in out
    assert err == ""
    assert rows(finished) == rows(done[0])


def test_another_threshold_makes_the_detections_again(arguments, finished, done, call):
    middle = float(gpd.read_parquet(finished / "cells.parquet").score.median())
    code, out, _ = call(*arguments, "--out", finished, "--threshold", middle)
    assert code == 0
    assert f"at a score of {middle:g} or more" in out
    sites = gpd.read_parquet(finished / "detections.parquet")
    assert len(sites) > 0
    assert f"{len(sites)} sites, " in out
    assert call(*arguments, "--out", finished)[0] == 0
    assert rows(finished) == rows(done[0]), "back to the model's own threshold"


def test_a_prior_rescales_scores_and_keeps_the_sites(arguments, finished, call):
    before = gpd.read_parquet(finished / "cells.parquet")
    code, out, _ = call(*arguments, "--out", finished, "--prior", "0.01")
    assert code == 0
    assert "relative to a prevalence of 1 % among the cells looked at" in out
    after = gpd.read_parquet(finished / "cells.parquet")
    assert (after.status == before.status).all()
    scored = before.score.between(0.01, 0.99)
    assert scored.any()
    assert (after.score < before.score)[scored].all()
    told = json.loads((finished / "run.json").read_text())["scores"]
    assert (told["prevalence"], told["prevalence_from"]) == (0.01, "--prior")


def test_strict_ends_with_1_where_a_scene_was_left_out(arguments, finished, call):
    summary = json.loads((finished / "run.json").read_text())
    assert GONE in [one["id"] for one in summary["dropped_items"]]
    code, out, _ = call(*arguments, "--out", finished, "--strict")
    assert code == 1
    assert "scenes left out: 1" in out
    assert call(*arguments, "--out", finished)[0] == 0


# Ctrl-C


def assert_told(code, err, folder):
    assert code == 130
    lines = [line for line in err.splitlines() if line.strip()]
    assert lines[-1].startswith("interrupted; resume with: mining-scan ")
    assert str(folder) in lines[-1]
    others = [line for line in lines[:-1] if "/2 [" not in line]  # but for the progress bar
    assert others == []


@posix
def test_ctrl_c_after_a_tile_and_the_same_command_finishes_it(arguments, done, tmp_path, call):
    out = tmp_path / "run"
    started = Started(*arguments, "--out", out, "--fresh")
    started.wait_for(lambda: parts_done(out))
    code, _, err = started.interrupt()
    assert_told(code, err, out)
    assert "--fresh" not in err, "resuming must not start over"
    assert not (out / "detections.parquet").exists()
    assert len(list((out / "parts").glob("*.json"))) == 1
    code, told, _ = call(*arguments, "--out", out)
    assert code == 0
    assert "resuming: 1 of 2 tiles are done" in told
    assert rows(out) == rows(done[0])
    assert not [p for p in out.rglob("*") if p.name.startswith(".")], "no scratch files"


@posix
def test_ctrl_c_while_workers_start(arguments, tmp_path):
    out = tmp_path / "run"
    started = Started(*arguments, "--out", out)
    started.wait_for(started.workers)
    code, told, err = started.interrupt()
    assert_told(code, err, out)
    assert told.startswith("seam: ")
    assert not list((out / "parts").glob("*"))
