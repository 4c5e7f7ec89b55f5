"""Names from outside that become paths, and links that would lead writes out of the run folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import shapely

from scanner.area.aoi import Aoi
from scanner.config import ReportConfig, ScanConfig
from scanner.errors import ScannerError
from scanner.results.finished import open_run
from scanner.results.publish import MADE, publish
from scanner.run.folder import OURS, RunFolder, run_folder
from tests.results.runs import TILE, Cell, area, cell, make_run
from tests.synth import write_aoi

NAMES = [
    "../../etc/passwd", "..", ".", "", "/", "/etc/passwd", "C:\\Windows\\x", "\\\\host\\share",
    "a/b", "a\\b", "a\0b", "\x00", "con", "NUL", "com1", "LPT9", "aux.txt", "x" * 5000,
    "\u202egnp.exe", "\u2066x\u2069", "\ud7ff\uffff", "名前", "é" * 300, "a\nb", "a\tb", " ",
    "...", "-rf", "--out=/etc", "~root", "$HOME", "`id`", "$(id)", "%2e%2e%2f", "a:b", "a*?b",
    "<script>", "'\"", ".hidden", "file.", "name ",
]  # fmt: skip
"""Names somebody might give an area so that a path is made of them."""


@pytest.mark.parametrize("name", NAMES)
def test_an_areas_name_becomes_a_plain_folder_name(name: str) -> None:
    aoi = Aoi(name, shapely.box(-54, -7, -53.9, -6.9))
    assert 1 <= len(aoi.slug) <= 64
    assert set(aoi.slug) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    assert aoi.slug.lower() not in ("con", "nul", "com1", "lpt9", "prn", "aux")
    folder = run_folder(ScanConfig(center=(-7, -54)), aoi)
    assert folder.path.parent == Path("runs")


def test_a_hostile_name_in_a_file_names_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is named after the file, which is there already, never after the text in it."""
    monkeypatch.chdir(tmp_path)
    path = write_aoi(tmp_path / "park.geojson", (-54, -7, -53.9, -6.9), "../../../tmp/x")
    config = ScanConfig(aoi=path)
    assert run_folder(config, Aoi("../x", shapely.box(0, 0, 1, 1))).path == Path("runs/park")


def digests(folder: Path) -> dict[str, str]:
    """Return what lies in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything made of it."""
    folder = tmp_path_factory.mktemp("names") / "run"
    run = make_run(folder, {cell(3, 3): Cell(0.9, barren_ha=3)}, aoi=area((0, 6), (0, 6)))
    publish(run, ReportConfig(also=("gpkg", "kml", "gpx", "csv")))
    return folder


def linked(run: Path, outside: Path, names: list[str]) -> dict[str, str]:
    """Put links to ``outside`` in place of entries of a run; return what lies there."""
    outside.mkdir()
    for name in names:
        entry, target = run / name, outside / name.replace("/", "_")
        if entry.is_dir():
            shutil.copytree(entry, target)
            shutil.rmtree(entry)
            (target / "precious.txt").write_text("mine")
        else:
            target.write_bytes(entry.read_bytes() if entry.exists() else b"precious")
            entry.unlink(missing_ok=True)
        entry.symlink_to(target)
    return digests(outside)


def test_links_in_a_run_folder_are_not_written_through(finished: Path, tmp_path: Path) -> None:
    """Whoever gave the folder cannot have other files changed: what is written is a new file."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    names = [n for n in MADE if (run / n).exists()]
    assert {"report.html", "stac", "qgis", "detections.gpkg", "detections.csv"} <= set(names)
    before = linked(run, tmp_path / "outside", names)
    opened = open_run(run)
    told = []
    for _ in range(len(names)):  # one that is refused is told and taken away, as a user would
        try:
            publish(opened, ReportConfig(also=("gpkg", "kml", "gpx", "csv"), lang="pt"))
            break
        except ScannerError as error:
            told.append(str(error))
            (found,) = [n for n in names if str(run / n) in str(error) and (run / n).is_symlink()][
                :1
            ]
            (run / found).unlink()
    assert digests(tmp_path / "outside") == before
    assert (run / "report.html").is_file()
    assert not (run / "report.html").is_symlink()
    assert 'lang="pt' in (run / "report.html").read_text(encoding="utf-8")
    assert all(len(line.splitlines()) == 1 for line in told)


def test_links_among_the_parts_are_not_written_through(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    names = [f"parts/{path.name}" for path in (run / "parts").iterdir()]
    assert f"parts/{TILE.tile_id}.json" in names
    before = linked(run, tmp_path / "outside", names)
    make_run(run, {cell(4, 4): Cell(0.8)}, aoi=area((0, 6), (0, 6)))
    assert digests(tmp_path / "outside") == before
    assert not any((run / name).is_symlink() for name in names)


def test_the_frozen_files_are_not_written_through(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    names = ["aoi.geojson", "items.json", "config.toml", "run.json", "detections.parquet",
             "cells.parquet", "coverage.parquet"]  # fmt: skip
    before = linked(run, tmp_path / "outside", names)
    make_run(run, {cell(4, 4): Cell(0.8)}, aoi=area((0, 6), (0, 6)), days=["2024-07-01"])
    assert digests(tmp_path / "outside") == before
    assert not any((run / name).is_symlink() for name in names)


def test_fresh_takes_links_away_and_not_what_they_lead_to(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    names = [name for name in OURS if (run / name).exists()]
    assert {"parts", "stac", "run.json"} <= set(names)
    before = linked(run, tmp_path / "outside", names)
    RunFolder(run).clear()
    assert digests(tmp_path / "outside") == before
    assert not [name for name in names if (run / name).is_symlink() or (run / name).exists()]


def test_the_lock_is_no_way_to_empty_another_file(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (run / "run.lock").unlink(missing_ok=True)
    (run / "run.lock").symlink_to(precious)
    with suppress(ScannerError), RunFolder(run).alone():
        pass
    assert precious.read_text() == "mine"


def test_an_out_folder_that_is_a_link_is_the_users_choice(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    run = make_run(tmp_path / "run", {cell(3, 3): Cell(0.9, barren_ha=3)}, aoi=area((0, 6), (0, 6)))
    publish(run, ReportConfig())
    assert (tmp_path / "disk" / "report.html").is_file()
    assert (tmp_path / "run").is_symlink()


@pytest.mark.parametrize(
    "site",
    ["../../x", "/etc/passwd", "site_..", "..", "", "a\0b", "site_21S_0031_0034_003_003/../x"],
)
def test_a_sites_name_leads_nowhere(finished: Path, tmp_path: Path, site: str) -> None:
    """``mining-report evidence RUN ID`` makes a folder of the name, where there is such a site."""
    from scanner.results.evidence import write_evidence

    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = digests(tmp_path)
    with pytest.raises(ScannerError) as caught:
        write_evidence(open_run(run), site, None)
    assert len(str(caught.value).splitlines()) == 1
    assert digests(tmp_path) == before


def test_a_tile_named_in_a_marker_leads_nowhere(finished: Path, tmp_path: Path) -> None:
    """Paths of parts come from the grid; what a marker says of itself is only told."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    marker = run / "parts" / f"{TILE.tile_id}.json"
    raw = json.loads(marker.read_text())
    raw["report"]["tile_id"] = "../../../x"
    raw["rasters"] = {"../../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}
    marker.write_text(json.dumps(raw))
    make_run(run, {cell(4, 4): Cell(0.8)}, aoi=area((0, 6), (0, 6)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
