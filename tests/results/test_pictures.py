"""The classic pictures: what they show is read back from the files."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from scanner.area.grid import to_geographic
from scanner.detection.detections import CELL_SCHEMA
from scanner.errors import OutputError
from scanner.results.finished import FinishedRun, open_run
from scanner.results.maps import pictures
from scanner.results.maps.drawing import LONGEST_PX, NOTHING, save_with_legend
from scanner.results.maps.grids import transformer
from scanner.results.maps.pictures import write_pictures
from scanner.results.maps.rasters import mosaic_grid, picture
from scanner.results.outputs import write_geoparquet
from scanner.results.palette import CLASS_COLOURS, STATUS_COLOURS, SUSPICIOUS
from tests.raster_runs import rule_run

LON, LAT = (float(v) for v in to_geographic(32721, 31 * 20_160 + 9000, 10_000_000 - 35 * 20_160))
AREA = (LON - 0.01, LAT - 0.01, LON + 0.01, LAT + 0.01)
"""An area over the seam of two tiles, one above the other."""
OVERVIEWS = (
    "grid_analysis.jpg",
    "overview_raw.jpg",
    "overview_segmentation_classes.jpg",
    "overview_segmentation_suspicious.jpg",
)


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run of two tiles with its pictures."""
    run = rule_run(tmp_path_factory.mktemp("pictures") / "run", AREA)
    assert write_pictures(run) == run.path / "pictures"
    return run


def image(path: Path) -> NDArray[np.uint8]:
    """Return a picture, red first."""
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def near(pixel: NDArray[np.uint8], colour: tuple[int, int, int], by: int = 40) -> bool:
    """Tell whether a pixel of a JPEG is meant to have a colour."""
    return bool(np.abs(pixel.astype(int) - colour).max() <= by)


def corners(run: FinishedRun) -> dict[str, NDArray[np.int64]]:
    """Return cell id -> its corners in the overviews, (4, 2) column and row."""
    frame = mosaic_grid(run, "classes")
    assert frame is not None
    view = pictures._view(run, frame)
    change = transformer("EPSG:4326", view.crs)
    found = {}
    for cell_id, cell in zip(run.cells.cell_id, run.cells.geometry, strict=True):
        x, y = change.transform(*np.asarray(cell.exterior.coords)[:4].T)
        px = np.column_stack([(x - view.left) / view.dx, (view.top - y) / view.dy])
        found[cell_id] = np.rint(px).astype(int)
    return found


def test_files_and_sizes(shown: FinishedRun) -> None:
    folder = shown.path / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == ["classification_crops", *OVERVIEWS]
    for name in OVERVIEWS:
        assert 1000 < max(image(folder / name).shape) <= LONGEST_PX  # a small area is enlarged
    assert not list(shown.path.glob(".*"))


def test_the_grid_is_white_mining_red_and_clean_ground_green(shown: FinishedRun) -> None:
    drawn, raw = (
        image(shown.path / "pictures" / name) for name in ("grid_analysis.jpg", "overview_raw.jpg")
    )
    places, status = corners(shown), dict(zip(shown.cells.cell_id, shown.cells.status, strict=True))
    assert {"mining", "not_mining", "not_suspicious", "unseen"} == set(status.values())
    for cell_id, ring in places.items():
        left, top = ring.min(axis=0)
        right, bottom = ring.max(axis=0)
        inside = np.s_[top + 12 : bottom - 12, left + 12 : right - 12]
        before, after = (one[inside].mean(axis=(0, 1)) for one in (raw, drawn))
        if status[cell_id] == "not_suspicious":
            assert np.abs(after - before).max() < 3, cell_id
        else:
            wanted = 0.75 * before + 0.25 * np.array(STATUS_COLOURS[status[cell_id]])
            assert np.abs(after - wanted).max() < 3, cell_id
        if status[cell_id] == "mining":
            assert all(near(drawn[y, x], STATUS_COLOURS["mining"]) for x, y in ring)
    assert _white_lines(drawn, places, status)


def _white_lines(
    drawn: NDArray[np.uint8], places: dict[str, NDArray[np.int64]], status: dict[str, str]
) -> bool:
    """Tell whether the sides of plain cells are white where no marked cell adjoins."""
    marked = np.concatenate([ring for cell, ring in places.items() if "not_s" not in status[cell]])
    for cell, ring in places.items():
        if status[cell] != "not_suspicious":
            continue
        for one, other in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            both = [(np.abs(marked - end).max(axis=1) < 3).any() for end in (one, other)]
            if not any(both):
                x, y = (one + other) // 2
                patch = drawn[y - 1 : y + 2, x - 1 : x + 2].min(axis=-1)
                return bool(patch.max() > 180)
    return False


def test_classes_have_the_colours_of_the_legend(shown: FinishedRun) -> None:
    classes = image(shown.path / "pictures" / "overview_segmentation_classes.jpg")
    for name in ("barren", "forest"):
        share = (np.abs(classes.astype(int) - CLASS_COLOURS[name]).max(axis=-1) < 20).mean()
        assert 0.3 < share < 0.6
    ground = classes[:900]
    for name in ("water", "building", "agriculture"):  # in the legend alone
        away = np.abs(ground.astype(int) - CLASS_COLOURS[name]).max(axis=-1)
        assert (away < 20).mean() < 0.01
        assert (np.abs(classes.astype(int) - CLASS_COLOURS[name]).max(axis=-1) < 20).any()


def test_suspicious_ground_stands_out_from_grey(shown: FinishedRun) -> None:
    marked = image(shown.path / "pictures" / "overview_segmentation_suspicious.jpg").astype(int)
    yellow = (np.abs(marked - SUSPICIOUS).max(axis=-1) < 25).mean()
    grey = (np.ptp(marked, axis=-1) < 20).mean()
    assert 0.35 < yellow < 0.55
    assert 0.35 < grey < 0.65


def test_crops_are_the_best_scores_and_show_their_cells(
    shown: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = sorted((shown.path / "pictures" / "classification_crops").iterdir())
    scored = shown.cells.dropna(subset=["score"])
    assert [path.name for path in crops] == sorted(
        f"{row.score:.4f}_{row.cell_id}.jpg" for row in scored.itertuples()
    )
    cells = dict(zip(scored.cell_id, scored.geometry, strict=True))
    for path in crops:
        crop = image(path)
        assert crop.shape == (384, 384, 3)
        own = picture(shown, cells[path.stem.partition("_")[2]], 48)[..., :3].astype(float)
        small = cv2.resize(crop, (48, 48), interpolation=cv2.INTER_AREA)
        assert np.abs(small - own).mean() < 8
        assert own.std() > 20  # a cell of a single colour would fit anywhere
    monkeypatch.setattr(pictures, "CROPS", 3)
    copy = FinishedRun(Path(shutil.copytree(shown.path, tmp_path / "run")), shown.summary)
    write_pictures(copy)
    best = sorted(path.name for path in (copy.path / "pictures" / "classification_crops").iterdir())
    assert best == [
        f"{row.score:.4f}_{row.cell_id}.jpg"
        for row in scored.sort_values(["score", "cell_id"], ascending=[False, True])
        .head(3)
        .sort_values(["score", "cell_id"])
        .itertuples()
    ]
    for name in OVERVIEWS:  # the same bytes, wherever the run lies
        one, other = (run.path / "pictures" / name for run in (shown, copy))
        assert one.read_bytes() == other.read_bytes()


def drawn(run: FinishedRun) -> dict[str, tuple[bytes, int]]:
    """Return what lies in the folder, and when each file was written."""
    folder = run.path / "pictures"
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*.*")
    }


def test_pictures_are_drawn_again_only_where_something_changed(
    shown: FinishedRun, tmp_path: Path
) -> None:
    run = FinishedRun(Path(shutil.copytree(shown.path, tmp_path / "run")), shown.summary)
    before = drawn(run)
    write_pictures(run)
    assert drawn(run) == before

    (run.path / "pictures" / "overview_raw.jpg").write_bytes(b"painted over")
    next((run.path / "pictures" / "classification_crops").iterdir()).unlink()
    (run.path / "pictures" / "mine.jpg").touch()
    write_pictures(run)
    again = drawn(run)
    assert {name: held for name, (held, _) in again.items()} == {
        name: held for name, (held, _) in before.items()
    }
    assert all(again[name][1] > time for name, (_, time) in before.items())

    cells = run.cells.assign(status="unseen")
    write_geoparquet(run.path / "cells.parquet", cells, CELL_SCHEMA)
    write_pictures(run)
    changed = drawn(run)
    assert changed["grid_analysis.jpg"][0] != before["grid_analysis.jpg"][0]
    assert changed["overview_raw.jpg"][0] == before["overview_raw.jpg"][0]


def test_without_visible_bands_there_are_class_maps_alone(tmp_path: Path) -> None:
    area = (LON, LAT + 0.004, LON + 0.004, LAT + 0.008)
    run = rule_run(tmp_path / "run", area, bands=("B08", "B11"))
    folder = write_pictures(run)
    assert folder is not None
    assert sorted(path.name for path in folder.iterdir()) == list(OVERVIEWS[2:])


def test_without_rasters_there_are_no_pictures(tmp_path: Path) -> None:
    run = rule_run(tmp_path / "run", AREA, rule=None)
    (run.path / "pictures").mkdir()
    (run.path / "pictures" / "stale.jpg").touch()
    assert write_pictures(run) is None
    assert not (run.path / "pictures").exists()


def test_ground_without_a_raster_is_grey(tmp_path: Path) -> None:
    run = rule_run(tmp_path / "run", AREA, without=("21S_0031_0035",))
    folder = write_pictures(run)
    assert folder is not None
    raw = image(folder / "overview_raw.jpg")
    assert near(raw[700, 500], NOTHING, 5)
    assert not near(raw[300, 500], NOTHING, 5)


def test_a_disk_that_refuses_is_told(shown: FinishedRun, tmp_path: Path) -> None:
    run = FinishedRun(Path(shutil.copytree(shown.path, tmp_path / "run")), shown.summary)
    shutil.rmtree(run.path / "pictures")
    real = run.path.rename(tmp_path / "real")
    (tmp_path / "run").symlink_to(real)
    (real / "pictures").symlink_to(
        tmp_path / "nowhere" / "at-all"
    )  # cannot be replaced by a folder
    with pytest.raises(OutputError, match="pictures: cannot be written"):
        write_pictures(run)


@pytest.mark.parametrize("width", [5, 300, 4096])
def test_a_legend_fits_any_width(width: int, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    black = np.zeros((4096, width, 3), dtype=np.uint8)
    save_with_legend(path, black, [((1, 2, 3), "suspicious, not mining"), (None, "a credit")])
    assert max(image(path).shape) == LONGEST_PX


def test_a_real_run(finished_demo: Path, tmp_path: Path) -> None:
    run = open_run(Path(shutil.copytree(finished_demo, tmp_path / "run")))
    folder = write_pictures(run)
    assert folder is not None
    crops = list((folder / "classification_crops").iterdir())
    assert len(crops) == min(500, int(run.cells.score.notna().sum()))
    assert (folder / "grid_analysis.jpg").stat().st_size > 10_000
