"""Files for QGIS as any reader sees them; ``tests/qgis`` opens them in a real one."""

from __future__ import annotations

import shutil
import sqlite3
import zipfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import pyogrio
import pytest

from scanner.errors import OutputError
from scanner.results.changes.compare import CHANGES, write_changes
from scanner.results.finished import FinishedRun, open_run
from scanner.results.maps.rasters import assemble
from scanner.results.outputs import sha256
from scanner.results.palette import STATUS_COLOURS
from scanner.results.qgis import folder as qgis
from scanner.results.qgis.folder import embed_styles, write_qgis
from scanner.results.qgis.project import plain
from scanner.results.qgis.styles import SCORES, STYLES, document
from tests.results.runs import UNSEEN, Cell, area, cell, make_run

CELLS = {
    cell(1, 1): Cell(0.95, barren_ha=4),
    cell(1, 2): Cell(0.8, barren_ha=4),
    cell(6, 6): Cell(0.55),
    cell(8, 8): Cell(0.1),
    cell(4, 4): UNSEEN,
    cell(4, 5): UNSEEN,
}


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    """Two sites, a suspicious cell, two that were not seen; no pictures."""
    return make_run(tmp_path / "run", CELLS)


def opened(folder: Path) -> ET.Element:
    with zipfile.ZipFile(folder / "mining-scan.qgz") as archive:
        assert archive.namelist() == ["mining-scan.qgs"]
        return ET.fromstring(archive.read("mining-scan.qgs"))  # noqa: S314 - our own


def sources(project: ET.Element) -> dict[str, str]:
    """Return layer id -> path, in the order of the legend."""
    told = {one.findtext("id"): one.findtext("datasource") for one in project.iter("maplayer")}
    legend = {one.get("id"): one.get("source") for one in project.iter("layer-tree-layer")}
    assert told == legend
    return {str(name).removeprefix("mining-scan-"): str(path) for name, path in legend.items()}


def test_project_of_a_run_with_maps(finished_demo: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_demo, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assemble(run)
    folder = write_qgis(run)
    assert folder == run.path / "qgis"
    project = opened(folder)
    found = sources(project)
    assert list(found) == [
        "detections", "cells", "aoi", "coverage", "suspicious", "classes", "quicklook",
    ]  # fmt: skip
    for path in found.values():
        assert path.startswith(("./", "../"))
        assert (folder / path).is_file()
    about = project.findtext("projectMetadata/abstract")
    assert about is not None
    assert "SYNTHETIC" in about
    assert "never illegal" in about
    assert project.findtext("properties/Paths/Absolute") == "false"
    assert project.findtext("projectCrs/spatialrefsys/authid") == f"EPSG:{run.tiles[0].epsg}"


def test_layers_hold_what_the_run_found(run: FinishedRun) -> None:
    folder = write_qgis(run)
    sites = gpd.read_file(folder / "detections.fgb")
    assert sorted(sites.detection_id) == sorted(run.sites.detection_id)
    assert set(sites.geom_type) == {"MultiPolygon"}
    assert set(sites.item_ids) == {"item-2024-06-12, item-2024-07-17"}
    assert set(sites.first_observed) == {"2024-06-12"}
    cells = gpd.read_file(folder / "cells.fgb")
    kinds = {"mining": 3, "not_mining": 1, "unseen": 2}
    assert cells.status.value_counts().to_dict() == kinds
    assert len(gpd.read_file(folder / "coverage.fgb")) == len(run.tiles)
    assert list(sources(opened(folder))) == ["detections", "cells", "aoi", "coverage"]


def test_changes_are_a_layer_where_there_are_some(run: FinishedRun, tmp_path: Path) -> None:
    days = ["2024-01-12", "2024-02-17"]
    old = make_run(tmp_path / "old", {cell(6, 6): Cell(0.55)}, days=days)
    changes = write_changes(old, run, run.path / "changes")
    folder = write_qgis(run)
    assert next(iter(sources(opened(folder)))) == "changes"
    layer = gpd.read_file(folder / "changes.fgb")
    assert sorted(layer.change) == sorted(changes.change)
    assert "new" in set(layer.change)
    style = (folder / "changes.qml").read_text()
    assert [change for change in CHANGES if f'value="{change}"' in style] == list(CHANGES)


def test_an_empty_run_has_all_layers(tmp_path: Path) -> None:
    folder = write_qgis(make_run(tmp_path / "run"))
    for name in ("detections", "cells"):
        layer = gpd.read_file(folder / f"{name}.fgb")
        assert len(layer) == 0
        assert {"detections": "detection_id", "cells": "cell_id"}[name] in layer.columns


def test_same_bytes_wherever_it_lies(run: FinishedRun, tmp_path: Path) -> None:
    first = digests(write_qgis(run))
    assert digests(write_qgis(run)) == first
    shutil.copytree(run.path, tmp_path / "elsewhere")
    assert digests(write_qgis(open_run(tmp_path / "elsewhere"))) == first
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


def test_cells_beyond_the_cap_are_told_and_go_first_where_they_matter_least(
    run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qgis, "MAX_CELLS", 4)
    folder = write_qgis(run)
    cells = gpd.read_file(folder / "cells.fgb")
    assert cells.status.value_counts().to_dict() == {"mining": 3, "unseen": 1}
    project = opened(folder)
    notes = [one.findtext("resourceMetadata/abstract") or "" for one in project.iter("maplayer")]
    assert any("2 more than a map can hold are left out" in note for note in notes)


def test_names_from_outside_are_text(tmp_path: Path) -> None:
    name = "A</title>&\"'<evil attr='1'/>]]> ç"
    folder = write_qgis(make_run(tmp_path / "run", CELLS, aoi=area(name=name)))
    project = opened(folder)
    assert project.findtext("title") == name
    assert project.get("projectname") == name
    assert project.find(".//evil") is None


def test_characters_xml_has_no_way_to_write() -> None:
    text = plain("a\x00\x1b\ud800\uffff\t\u00e7\U0001f30d")
    assert text == "a\ufffd\ufffd\ufffd\ufffd\t\u00e7\U0001f30d"
    assert ET.fromstring(f"<a>{text}</a>").text == text  # noqa: S314 - our own


def test_an_earlier_folder_is_replaced(run: FinishedRun) -> None:
    (run.path / "qgis").mkdir()
    (run.path / "qgis" / "old.qml").write_text("old")
    assert "old.qml" not in digests(write_qgis(run))


def test_a_folder_that_cannot_be_written(run: FinishedRun) -> None:
    (run.path / "qgis").write_text("in the way")
    with pytest.raises(OutputError, match="qgis: cannot be written"):
        write_qgis(run)
    assert (run.path / "qgis").read_text() == "in the way"
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []


def test_styles_stand_beside_their_layers_in_the_palette(run: FinishedRun) -> None:
    folder = write_qgis(run)
    for name in STYLES.keys() - {"quicklook", "changes"}:
        text = (folder / f"{name}.qml").read_text()
        assert text == document(STYLES[name]())
        assert text.startswith("<!DOCTYPE qgis")
    detections = ET.parse(folder / "detections.qml")  # noqa: S314 - our own
    ranges = [(float(r.get("lower", "")), float(r.get("upper", ""))) for r in
              detections.iter("range")]  # fmt: skip
    assert ranges == list(pairwise(SCORES))
    cells = (folder / "cells.qml").read_text()
    for status, colour in STATUS_COLOURS.items():
        assert f'value="{status}"' in cells
        assert ",".join(map(str, colour)) in cells


def geopackage(path: Path, run: FinishedRun) -> Path:
    sites = run.sites[["detection_id", "score", "area_ha", "geometry"]]
    sites.to_file(path, driver="GPKG", layer="detections", engine="pyogrio")
    cells = run.cells.astype({"score": float, "clear_fraction": float})
    cells.to_file(path, driver="GPKG", layer="cells", engine="pyogrio", mode="a")
    cells.iloc[:1].to_file(path, driver="GPKG", layer="other", engine="pyogrio", mode="a")
    return path


def styles(path: Path) -> list[tuple[str, str, str, int]]:
    with closing(sqlite3.connect(path)) as base:
        return base.execute(
            "SELECT f_table_name, f_geometry_column, styleName, useAsDefault FROM layer_styles"
        ).fetchall()


def test_styles_inside_a_geopackage(run: FinishedRun, tmp_path: Path) -> None:
    path = geopackage(tmp_path / "detections.gpkg", run)
    embed_styles(path)
    wanted = [("cells", "geom", "cells", 1), ("detections", "geom", "detections", 1)]
    assert styles(path) == wanted
    with closing(sqlite3.connect(path)) as base:
        (text,) = base.execute(
            "SELECT styleQML FROM layer_styles WHERE styleName = 'detections'"
        ).fetchone()
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert text == document(STYLES["detections"]())
    assert {"detections", "cells", "other"} <= {name for name, _ in pyogrio.list_layers(path)}
    assert len(gpd.read_file(path, layer="detections")) == len(run.sites)
    embed_styles(path)
    assert styles(path) == wanted


def test_a_styled_geopackage_holds_no_clock(run: FinishedRun, tmp_path: Path) -> None:
    first, second = (geopackage(tmp_path / f"{n}.gpkg", run) for n in ("first", "second"))
    for path in (first, second):
        embed_styles(path)
    assert sha256(first) == sha256(second)


def test_no_geopackage_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a b?.gpkg"
    with pytest.raises(OutputError, match=r"a b\?\.gpkg: no GeoPackage"):
        embed_styles(path)
    assert not path.exists()
    path.write_text("no data base" * 100)
    with pytest.raises(OutputError, match=r"a b\?\.gpkg: no GeoPackage"):
        embed_styles(path)
