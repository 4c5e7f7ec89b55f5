"""A run folder that is whole is opened; one that is not ours, unfinished or changed is named."""

from __future__ import annotations

import json
import shutil

import pytest

from scanner.errors import RunError
from scanner.results.finished import SIGNED, open_run


@pytest.fixture
def folder(finished_demo, tmp_path):
    """A copy that may be spoilt."""
    return shutil.copytree(finished_demo, tmp_path / "run")


def test_what_it_holds(finished_demo):
    run = open_run(finished_demo)
    assert len(run.tiles) == 2
    assert set(run.cells.status) >= {"mining", "not_mining"}
    assert len(run.sites) == run.summary["detections"] > 0
    tile = run.tiles[0].tile_id
    dates = run.clear_dates(tile)
    assert set(dates) == set(run.part(tile)["cell_id"].to_pylist())
    read = set(run.report(tile).days)
    assert {day.isoformat() for days in dates.values() for day in days} <= read
    assert run.raster(tile, "quicklook").is_file()
    assert run.raster(tile, "elevation") is None
    assert run.report("21S_9999_9999") is None


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(RunError, match=r"holds no run\.json"):
        open_run(tmp_path)
    with pytest.raises(RunError, match="holds no run"):
        open_run(tmp_path / "absent")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"run_id": "x"}', '{"files": {}, "run_id": 1}'])
def test_a_foreign_summary(folder, text):
    (folder / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        open_run(folder)


@pytest.mark.parametrize("name", SIGNED)
def test_a_changed_or_missing_file_is_named(folder, name):
    path = folder / name
    with path.open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(RunError, match=f"{name}: was changed"):
        open_run(folder)
    path.unlink()
    with pytest.raises(RunError, match=f"{name}: is missing"):
        open_run(folder)


def test_a_changed_part_or_raster_is_named_when_it_is_needed(folder):
    run = open_run(folder)
    tile = run.tiles[0].tile_id
    raster = run.parts.raster_path(tile, "classes")
    content = bytearray(raster.read_bytes())
    content[-1] ^= 1
    raster.write_bytes(content)
    with pytest.raises(RunError, match=r"classes\.tif: was changed"):
        run.raster(tile, "classes")
    (folder / "parts" / f"{tile}.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=f"{tile}: is gone or was changed"):
        run.part(tile)


def test_a_failed_tile_has_nothing(folder):
    summary = json.loads((folder / "run.json").read_text())
    run = open_run(folder)
    tile = run.tiles[0].tile_id
    (folder / "parts" / f"{tile}.json").unlink()
    summary["tiles"]["failed"] = [{"tile_id": tile, "reason": "lost"}]
    (folder / "run.json").write_text(json.dumps(summary))
    run = open_run(folder)
    assert run.part(tile) is None
    assert run.raster(tile, "classes") is None
    assert run.clear_dates(tile) == {}
