"""The classic recipe: its values, its six steps on the demo's scenes, what a missing input says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from scanner.area.grid import geographic_to_pixel
from scanner.detection.cells import BARREN
from scanner.errors import TrainingError
from scanner.imagery.demo import PLANTED, make_scenes
from training import classic
from training.classic import steps
from training.classic.command import _chosen
from training.classic.overview import cells, cover, overview_geobox, shares
from training.classic.recipe import STEPS, ClassicRecipe, read_recipe
from training.classic.results import Cell

ROOT = Path(__file__).resolve().parents[2]
CLASSIC = Path(classic.__file__).parents[1] / "classic.toml"
CENTER = (-7.0245, -54.0624)
"""In the demo's largest mine."""
CONFIG = """
out = "{out}"
[search]
catalog = "scenes/items.json"
max_cloud = 100
[chip]
half_width_km = 0.24
pixels = 48
brightness = [5, 250]
pause_s = 0
workers = 1
[mines]
coordinates = "mines.csv"
[forest]
samples = 5
attempts = 5
from_mines_km = 1
spacing_km = 0.5
review = false
[[forest.circles]]
name = "demo"
lat = -7.0121
lon = -54.0
km = 6
[dataset]
block_degrees = 0.05
validation = 0.3
copies = 1
[train]
backbone = "narrow"
pretrained = "no"
input_size = 32
epochs = 2
batch = 4
augment = "none"
[detect]
center = [{lat}, {lon}]
radius_km = 1.2
classification_distance_km = 0.6
threshold = 0.0
"""


def write_config(folder: Path, out: Path) -> Path:
    mines = [mine.polygon.centroid for mine in PLANTED if "ha" in mine.name][:6]
    table = pd.DataFrame({"lat": [p.y for p in mines], "lon": [p.x for p in mines]})
    table.loc[len(table)] = [60.0, 10.0]  # outside the bounds
    table.to_csv(folder / "mines.csv", index=False)
    path = folder / "classic.toml"
    path.write_text(CONFIG.format(out=out.as_posix(), lat=CENTER[0], lon=CENTER[1]))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Config file, results and what was printed of one run of all six steps."""
    folder = tmp_path_factory.mktemp("classic")
    make_scenes(folder / "scenes")
    config = write_config(folder, folder / "out")
    done = subprocess.run(
        [sys.executable, "-m", "training.cli", "all", str(config)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return config, folder / "out", done.stdout


def test_six_steps_run_in_order(ran: tuple[Path, Path, str]) -> None:
    _, out, told = ran
    begun = [line.rsplit(" ", 1)[1] for line in told.splitlines() if line.startswith("step ")]
    assert [name for name in begun if name in STEPS] == list(STEPS)
    assert "1 outside the bounds skipped" in told
    for name in (
        "mines/index.parquet",
        "forest/index.parquet",
        "dataset/dataset_metadata.json",
        "model/card.json",
        "model/run/history.csv",
        "detect/detect.json",
        "validate/metrics.json",
    ):
        assert (out / name).is_file(), name


def test_detect_leaves_tables_and_pictures(ran: tuple[Path, Path, str]) -> None:
    out = ran[1] / "detect"
    told = json.loads((out / "detect.json").read_text())
    every = gpd.read_parquet(out / "cells.parquet")
    mining = gpd.read_parquet(out / "detections.parquet")
    assert (told["pixels"], len(every), told["resolution_m"]) == ([240, 240], 16, 10.0)
    # at a threshold of 0 whatever is suspicious is mining: the demo's largest mine lies there
    assert len(mining) == (every.suspicious_share > 0.05).sum() > 0
    assert set(mining.status) == {"mining"}
    mine = next(one.polygon for one in PLANTED if one.name == "valley-15ha")
    assert mining.union_all().intersection(mine).area > 0.5 * mine.area
    assert len(pd.read_csv(out / "detections.csv")) == len(mining)
    assert mining.crs.to_epsg() == 4326
    with Image.open(out / "overview_grid.png") as picture:
        colours = {colour for _, colour in picture.getcolors(1 << 20)}
    assert {(230, 30, 30), (40, 200, 60)} <= colours
    with Image.open(out / "overview.png") as picture:
        assert picture.size == (240, 240)


def test_a_dataset_of_the_same_chips_is_not_made_again(
    ran: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = steps.Recipe(ran[0], read_recipe(ran[0]))
    before = (ran[1] / "dataset/dataset_metadata.json").stat().st_mtime_ns
    steps.dataset(recipe)
    assert "already" in capsys.readouterr().out
    assert (ran[1] / "dataset/dataset_metadata.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("step", "first"),
    [("dataset", "mines"), ("train", "dataset"), ("detect", "train"), ("validate", "train")],
)
def test_a_missing_input_names_the_step_to_run(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path, step: str, first: str
) -> None:
    config = write_config(tmp_path, tmp_path / "out")
    code, _, err = call("all", config, "--only", step)
    assert code == 2
    assert f"--only {first}" in err
    assert err.count("\n") == 1


def test_mines_must_be_named(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[chip]\npixels = 48\n")
    code, _, err = call("all", config, "--only", "mines")
    assert code == 2
    assert "[mines] coordinates" in err
    code, _, err = call("detect", "--out", tmp_path / "out", "--catalog", "demo")
    assert code == 2
    assert "--center" in err


def test_the_config_holds_the_values_of_the_original_pipeline() -> None:
    asked = read_recipe(CLASSIC)
    assert (asked.search.date, asked.search.max_cloud) == ("2023-01-01/2025-10-31", 20)
    assert (asked.chip.half_width_km, asked.chip.pixels, asked.chip.pause_s) == (2.5, 512, 0.5)
    assert asked.chip.brightness == (20, 230)
    assert asked.mines.bounds == (-75, -35, -35, 5)
    assert (asked.forest.samples, asked.forest.attempts) == (800, 10)
    assert [(c.lat, c.lon, c.km) for c in asked.forest.circles] == [
        (1.5, -52.5, 100), (-2, -63, 80), (-2.5, -65, 50), (-5.5, -53, 100), (-10.5, -52.5, 100),
    ]  # fmt: skip
    assert (asked.dataset.validation, asked.dataset.copies) == (0.15, 5)
    assert asked.dataset.augment == "medium"
    train = asked.train
    assert (train.backbone, train.input_size, train.dropout) == ("resnet34", 224, 0.5)
    assert (train.batch, train.optimizer, train.rate) == (16, "adam", 1e-4)
    assert (train.schedule, train.plateau_factor, train.plateau_patience) == ("plateau", 0.5, 3)
    assert (train.epochs, train.stop_after, train.threshold) == (300, 10, 0.5)
    detect = asked.detect
    assert (detect.radius_km, detect.overview_size) == (10, 2048)
    assert (detect.suspicious_share, detect.classification_distance_km) == (0.05, 2.5)


def test_options_choose_the_steps() -> None:
    asked = ClassicRecipe()
    assert _chosen(asked, False, False, (), None) == [n for n in STEPS if n != "detect"]
    assert _chosen(asked, True, True, (), None) == ["validate"]
    assert _chosen(asked, True, False, (), False) == ["train"]
    assert _chosen(asked, False, False, ("train", "mines"), None) == ["mines", "train"]
    with pytest.raises(TrainingError, match="--only"):
        _chosen(asked, True, False, ("train",), None)


@given(
    lat=st.floats(-70, 70),
    lon=st.floats(-180, 179.9),
    radius=st.floats(0.5, 60),
    size=st.integers(64, 2048),
)
def test_an_overview_lies_around_its_middle(
    lat: float, lon: float, radius: float, size: int
) -> None:
    box = overview_geobox(lat, lon, radius, size)
    height, width = box.shape
    assert height == width <= size + 1
    assert width % 2 == 0
    assert box.resolution.x >= 10
    assert width * box.resolution.x >= 2000 * radius - 20
    row, col = (float(v) for v in geographic_to_pixel(box, lon, lat))
    assert abs(row - height / 2) * box.resolution.x <= 21
    assert abs(col - width / 2) * box.resolution.x <= 21


@given(radius=st.floats(0.5, 30), side=st.floats(0.3, 5))
def test_cells_cover_the_overview_once(radius: float, side: float) -> None:
    box = overview_geobox(-7, -54, radius, 500)
    try:
        found = cells(box, side)
    except TrainingError:
        assert side > 2 * radius * 0.98
        return
    count = np.zeros(box.shape, int)
    for rows, cols in found:
        count[rows, cols] += 1
    assert (count == 1).all()


def test_a_cell_ends_as_one_status() -> None:
    def cell(clear: float, score: float | None = None, reason: str | None = None) -> Cell:
        ground = shapely.box(0, 0, 1, 1)
        return Cell("a", slice(0, 1), slice(0, 1), ground, 0.5, clear, score, reason)

    assert cell(1, 0.9, "unread").status(0.5) == "failed"
    assert cell(0.1, 0.9).status(0.5) == "mining"
    assert cell(0.1, 0.2).status(0.5) == "unseen"
    assert cell(0.9, 0.2).status(0.5) == "not_mining"
    assert cell(0.9).status(0.5) == "not_suspicious"


def test_shares_count_what_was_seen_clear() -> None:
    classes = np.zeros((4, 4), np.uint8)
    classes[:2] = BARREN
    clear = np.zeros((4, 4), bool)
    assert shares(classes, clear) == (0, 0)
    clear[:, :2] = True
    assert shares(classes, clear) == (0.5, 0.5)


class Bright:
    """A segmenter of the simplest kind: bright ground is barren."""

    def class_map(self, reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
        assert reflectance.shape[2:] == (800, 800)
        return np.where(reflectance[:, 0] > 0.2, BARREN, 5).astype(np.uint8)


def test_the_class_map_fits_the_overview_whatever_its_size() -> None:
    image = np.full((3, 700, 900), 0.05, np.float32)
    image[:, 660:690, 665:680] = 0.3  # across the seams of windows
    image[:, :10] = np.nan
    found = cover(image, Bright())  # type: ignore[arg-type]
    np.testing.assert_array_equal(found == BARREN, image[0] > 0.2)
