"""A real QGIS opens what we write: every layer valid, styled, drawn in its colours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from scanner.area.grid import CHUNK_PX, CORE_PX
from scanner.detection.rasters import tile_rasters
from scanner.detection.segment import APRON
from scanner.results.changes.compare import write_changes
from scanner.results.finished import FinishedRun
from scanner.results.formats.exports import write_formats
from scanner.results.maps.rasters import assemble
from scanner.results.outputs import sha256
from scanner.results.palette import CLASS_COLOURS, STATUS_COLOURS
from scanner.results.qgis.folder import write_qgis
from scanner.results.qgis.styles import SCORES
from tests.results.runs import TILE, UNSEEN, Cell, cell, make_run

SCRIPT = Path(__file__).parent / "render.py"
FOREST = (34, 80, 42)


@pytest.fixture(scope="session")
def python_of_qgis() -> str:
    """A Python that has pyqgis: the system's, or MINING_SCAN_QGIS_PYTHON."""
    for python in (os.environ.get("MINING_SCAN_QGIS_PYTHON"), "/usr/bin/python3"):
        if python and shutil.which(python):
            known = subprocess.run([python, "-c", "import qgis.core"], capture_output=True)
            if known.returncode == 0:
                return python
    pytest.skip("no QGIS with Python here (Debian: apt-get install qgis python3-qgis)")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Forest with two sites, bare ground about them and a patch of clouds; synthetic pixels."""
    cells = {
        cell(1, 1): Cell(0.95, barren_ha=9),
        cell(1, 2): Cell(0.8, barren_ha=9),
        cell(6, 6): Cell(0.3, barren_ha=9),
        cell(8, 8): Cell(0.1),
        cell(4, 4): UNSEEN,
        cell(4, 5): UNSEEN,
    }
    side = CORE_PX + 2 * APRON
    classes = np.full((side, side), 5, dtype=np.uint8)
    classes[APRON + 48 : APRON + 96, APRON + 48 : APRON + 144] = 4
    reflectance = np.array(FOREST, dtype=np.float32)[::-1] / 255
    image = np.ones((4, CHUNK_PX, CHUNK_PX), dtype=np.float32)
    image[:3] = (reflectance ** (1 / 0.7) * 0.25)[:, None, None]
    suspicious = classes[APRON:-APRON, APRON:-APRON] == 4
    rasters = tile_rasters(image, classes, suspicious, TILE, ["B02", "B03", "B04"])
    folder = tmp_path_factory.mktemp("qgis") / "a run"
    made = make_run(folder, cells, rasters={TILE.tile_id: rasters}, threshold=0.25)
    assemble(made)
    days = ["2024-01-12", "2024-02-17"]
    old = make_run(folder.with_name("old"), {cell(6, 6): cells[cell(6, 6)]}, days=days,
                   threshold=0.25)  # fmt: skip
    write_changes(old, made, made.path / "changes")
    write_formats(made, ["gpkg"])
    write_qgis(made)
    return made


def qgis(python: str, *args: object) -> Any:
    """Run the script; returns what it tells."""
    done = subprocess.run(
        [python, str(SCRIPT), *(str(arg) for arg in args)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def drawn(python: str, run: FinishedRun, picture: Path, *layers: str) -> tuple[Any, Any]:
    """Return what QGIS tells of the project, and what it draws, (y, x, 3)."""
    names = ",".join(f"mining-scan-{name}" for name in layers)
    told = qgis(python, "project", run.path / "qgis" / "mining-scan.qgz", picture, 700, names)
    pixels = cv2.imread(str(picture))
    assert pixels is not None
    return told, pixels[..., ::-1]  # OpenCV reads blue first


def share(pixels: NDArray[np.uint8], colour: tuple[int, ...], within: int = 3) -> float:
    """Return which share of the picture has a colour."""
    near = np.abs(pixels.astype(int) - colour).max(axis=-1) <= within
    return float(near.mean())


def test_every_layer_is_valid_styled_and_in_order(
    python_of_qgis: str, run: FinishedRun, tmp_path: Path
) -> None:
    before = {path: sha256(path) for path in run.path.rglob("*") if path.is_file()}
    told, pixels = drawn(python_of_qgis, run, tmp_path / "map.png")
    assert told["read"]
    assert told["crs"] == "EPSG:32721"
    layers = {one["id"].removeprefix("mining-scan-"): one for one in told["layers"]}
    assert all(one["valid"] for one in layers.values())
    assert {name: one["renderer"] for name, one in layers.items()} == {
        "changes": "categorizedSymbol",
        "detections": "graduatedSymbol",
        "cells": "categorizedSymbol",
        "aoi": "singleSymbol",
        "coverage": "graduatedSymbol",
        "suspicious": "paletted",
        "classes": "paletted",
        "quicklook": "multibandcolor",
    }
    assert layers["detections"]["features"] == layers["changes"]["features"] == 2
    assert layers["classes"]["crs"] == "EPSG:32721"
    hexes = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in CLASS_COLOURS.values()]
    names = list(CLASS_COLOURS)
    assert layers["classes"]["legend"] == [list(one) for one in zip(names, hexes, strict=True)]
    assert len(layers["detections"]["legend"]) == len(SCORES) - 1
    assert share(pixels, FOREST, 8) > 0.5  # the picture lies below
    assert share(pixels, STATUS_COLOURS["mining"], 40) > 0.001  # outlines of cells
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    after = {path: sha256(path) for path in run.path.rglob("*") if path.is_file()}
    assert after == before  # looking changes nothing


def test_sites_are_drawn_where_they_are_by_score(
    python_of_qgis: str, run: FinishedRun, tmp_path: Path
) -> None:
    told, pixels = drawn(python_of_qgis, run, tmp_path / "sites.png", "detections")
    xmin, ymin, xmax, ymax = told["view"]
    height, width = pixels.shape[:2]
    sites = run.sites.to_crs(told["crs"])
    found = []
    for point in sites.sort_values("score").geometry.centroid:
        x = int((point.x - xmin) / (xmax - xmin) * width)
        y = int((ymax - point.y) / (ymax - ymin) * height)
        found.append(pixels[y, x].astype(int).sum())
    assert found[1] < found[0] < 3 * 255  # the likelier, the darker
    assert share(pixels, (255, 255, 255)) > 0.9


def test_the_maps_are_drawn_in_the_palette(
    python_of_qgis: str, run: FinishedRun, tmp_path: Path
) -> None:
    _, pixels = drawn(python_of_qgis, run, tmp_path / "classes.png", "classes")
    assert share(pixels, CLASS_COLOURS["forest"]) > 0.6
    assert share(pixels, CLASS_COLOURS["barren"]) > 0.01
    _, pixels = drawn(python_of_qgis, run, tmp_path / "cells.png", "cells")
    assert share(pixels, STATUS_COLOURS["unseen"], 60) > 0.002


def test_files_open_styled_without_the_project(python_of_qgis: str, run: FinishedRun) -> None:
    package = shutil.copy(run.path / "detections.gpkg", run.path / "opened.gpkg")
    layers = {
        f"{package}|layername=detections": "graduatedSymbol",
        str(run.path / "qgis" / "detections.fgb"): "graduatedSymbol",
        str(run.path / "qgis" / "cells.fgb"): "categorizedSymbol",
        str(run.path / "qgis" / "coverage.fgb"): "graduatedSymbol",
        str(run.path / "classes.tif"): "paletted",
    }
    try:
        assert qgis(python_of_qgis, "layers", *layers) == layers
    finally:
        Path(package).unlink()


def test_a_run_without_anything_opens_too(python_of_qgis: str, tmp_path: Path) -> None:
    empty = make_run(tmp_path / "run")
    write_qgis(empty)
    told, _ = drawn(python_of_qgis, empty, tmp_path / "map.png")
    assert [one["valid"] for one in told["layers"]] == [True] * 4
