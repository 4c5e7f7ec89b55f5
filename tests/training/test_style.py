"""Pictures and reflectance, the even sample of pixels, statistics and styles of folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from scanner.errors import TrainingError
from training.dataset.style_command import command
from training.pictures import WHITE, read_image, to_picture, to_reflectance, write_image
from training.style import (
    Reservoir,
    image_paths,
    make_style,
    measure_folder,
    restyle_folder,
)

SPAN = {"r": (0.30, 0.70), "g": (0.20, 0.40), "b": (0.10, 0.50)}


def picture(size: int = 24, seed: int = 0) -> NDArray[np.uint8]:
    """Even noise within SPAN, red first."""
    random = np.random.default_rng(seed)
    bands = [random.uniform(*SPAN[letter], (size, size)) for letter in "rgb"]
    return np.rint(np.stack(bands, -1) * 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, one with a black corner, and a tif of DN beside its jpg."""
    place = tmp_path / "images"
    (place / "deep").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.webp", "deep/c.png")):
        pixels = picture(seed=seed)
        if name == "a.png":
            pixels[:8, :8] = 0
        Image.fromarray(pixels).save(place / name, lossless=True)
    write_image(place / "d.tif", to_reflectance(picture(seed=9)))
    Image.fromarray(np.full((24, 24, 3), 255, np.uint8)).save(place / "d.jpg")
    return place


@given(st.integers(0, 2**32 - 1))
def test_a_picture_survives_reflectance(seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 5, 7, 3), np.uint8)
    reflectance = to_reflectance(pixels)
    assert reflectance.shape == (2, 3, 5, 7)
    np.testing.assert_array_equal(to_picture(reflectance), pixels)
    assert reflectance[0, 2, 1, 1] == pytest.approx(pixels[0, 1, 1, 0] / 255 * WHITE)


def test_nodata_is_black_in_a_picture() -> None:
    assert (to_picture(np.full((3, 2, 2), np.nan, np.float32)) == 0).all()


def test_a_tif_keeps_bands_nodata_and_its_place(tmp_path: Path) -> None:
    like = tmp_path / "like.tif"
    pixels = np.random.default_rng(0).uniform(0, 0.8, (6, 9, 9)).astype(np.float32)
    pixels[:, 2, 3] = np.nan
    pixels[1, 4, 4] = 0  # seen, and black
    profile = {"driver": "GTiff", "count": 1, "height": 9, "width": 9, "dtype": "uint8"}
    place = {"crs": "EPSG:32721", "transform": from_origin(6e5, 9e6, 10, 10)}
    with rasterio.open(like, "w", **profile, **place) as sink:
        sink.write(np.ones((1, 9, 9), np.uint8))
    write_image(tmp_path / "x.tif", pixels, like)
    again = read_image(tmp_path / "x.tif")
    np.testing.assert_allclose(again, np.maximum(pixels, 1e-4), atol=5.1e-5)
    with rasterio.open(tmp_path / "x.tif") as source:
        assert source.crs == "EPSG:32721"
        assert source.descriptions == ("B02", "B03", "B04", "B08", "B11", "B12")


def test_bands_of_a_tif_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    profile = {"driver": "GTiff", "count": 4, "height": 2, "width": 2, "dtype": "uint16"}
    place = {"crs": "EPSG:32721", "transform": from_origin(6e5, 9e6, 10, 10)}
    with rasterio.open(path, "w", **profile, **place) as sink:
        sink.write(np.arange(1, 5, dtype=np.uint16)[:, None, None] * np.ones((2, 2), np.uint16))
        sink.descriptions = ("B11", "B04", "B03", "B02")
    values = read_image(path)[:, 0, 0] * 10_000
    assert values[[0, 1, 2, 4]] == pytest.approx([4, 3, 2, 1])
    assert np.isnan(values[[3, 5]]).all()
    with rasterio.open(path, "r+") as sink:
        sink.descriptions = ("B11", "B04", "B03", None)
    with pytest.raises(TrainingError, match="no band is called B02"):
        read_image(path)


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tif"])
def test_a_cut_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_image(path, to_reflectance(picture(64)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match=name):
        read_image(path)


def test_other_depths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(np.full((4, 4), 700, np.uint16)).save(path)
    with pytest.raises(TrainingError, match="8 bit is needed"):
        read_image(path)
    with pytest.raises(TrainingError, match=r"absent\.jpg"):
        read_image(tmp_path / "absent.jpg")


@given(st.lists(st.integers(0, 70), max_size=12), st.integers(1, 40), st.integers(0, 99))
def test_the_reservoir_is_bounded_and_takes_rows_once(
    blocks: list[int], capacity: int, seed: int
) -> None:
    reservoir = Reservoir(capacity, seed, columns=1)
    rows = np.arange(sum(blocks), dtype=np.float32)[:, None]
    for block in np.split(rows, np.cumsum(blocks)[:-1]) if blocks else []:
        reservoir.add(block)
        assert sum(map(len, reservoir._rows)) <= 2 * capacity
    kept = reservoir.rows[:, 0]
    assert len(kept) == min(capacity, len(rows))
    assert len(set(kept)) == len(kept)
    assert reservoir.seen == len(rows)


def test_the_reservoir_is_even_wherever_a_row_stands() -> None:
    """Each of 300 rows in uneven blocks is kept one time in six, over 1200 seeds."""
    rows = np.arange(300, dtype=np.float32)[:, None]
    count = np.zeros(300)
    for seed in range(1200):
        reservoir = Reservoir(50, seed, columns=1)
        for block in np.split(rows, (7, 90, 91, 260)):
            reservoir.add(block)
        count[reservoir.rows[:, 0].astype(int)] += 1
    expected = 1200 * 50 / 300
    assert ((count - expected) ** 2 / expected).sum() < 1.3 * 300  # chi squared, 300 - 1 degrees
    for part in np.split(count, (7, 90, 91, 260)):
        assert part.mean() == pytest.approx(expected, rel=0.2)


def test_statistics_are_those_of_the_pixels(folder: Path) -> None:
    statistics = measure_folder(folder).statistics
    assert statistics["n_images"] == 4  # the tif, not its jpg
    assert statistics["n_pixels_sampled"] == 4 * 24 * 24 - 64  # black is no ground
    assert statistics["source_dir"] == str(folder)
    for letter, (low, high) in SPAN.items():
        width = high - low
        assert statistics[f"{letter}_mean"] == pytest.approx((low + high) / 2, abs=0.02)
        assert statistics[f"{letter}_std"] == pytest.approx(width / 12**0.5, abs=0.02)
        assert statistics[f"{letter}_p2"] == pytest.approx(low + 0.02 * width, abs=0.01)
        assert statistics[f"{letter}_p98"] == pytest.approx(high - 0.02 * width, abs=0.01)
    assert measure_folder(folder).statistics == statistics
    assert len(statistics) == 15


def test_at_most_100000_pixels_are_sampled(tmp_path: Path) -> None:
    for seed in range(3):
        Image.fromarray(picture(256, seed)).save(tmp_path / f"{seed}.png")
    assert measure_folder(tmp_path).statistics["n_pixels_sampled"] == 100_000


def test_corrupt_images_are_named_and_counted(folder: Path) -> None:
    (folder / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"1 of 5 images .*bad\.jpg: cannot be read"):
        measure_folder(folder)
    measured = measure_folder(folder, skip_corrupt=True)
    assert measured.statistics["n_images"] == 4
    assert "bad.jpg" in measured.corrupt[0]


def test_nothing_to_measure_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no image"):
        image_paths(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(TrainingError, match="not black"):
        measure_folder(tmp_path)


def test_a_matched_folder_has_the_statistics_of_the_target(folder: Path, tmp_path: Path) -> None:
    target = measure_folder(folder).statistics | {"r_p2": 0.1, "r_p98": 0.9, "b_p98": 0.05}
    style = make_style("match", measure_folder(folder).statistics, target)
    assert "source_dir" not in style["source"]  # a card tells no folders
    (folder / "a.json").write_text('{"lon": -60}')
    out = tmp_path / "out"
    assert restyle_folder(folder, out, style, skip_corrupt=False) == []
    matched = measure_folder(out).statistics
    assert (matched["r_p2"], matched["r_p98"]) == pytest.approx((0.1, 0.9), abs=0.01)
    for name in ("g_p2", "g_p98", "b_p2", "b_p98"):  # the target's blue is no range: as it was
        assert matched[name] == pytest.approx(style["source"][name], abs=0.01)
    assert (out / "deep" / "c.png").is_file()
    assert (out / "a.json").read_text() == '{"lon": -60}'
    assert (read_image(out / "a.png")[:, :8, :8] == 0).all()
    with pytest.raises(TrainingError, match="lies within"):
        restyle_folder(folder, folder / "styled", style, skip_corrupt=False)


def test_the_command_measures_and_applies(folder: Path, tmp_path: Path) -> None:
    def run(*args: object) -> str:
        result = CliRunner().invoke(command, [str(arg) for arg in args], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    stats = tmp_path / "stats.json"
    run("stats", folder, "--out", stats)
    assert json.loads(run("stats", folder)) == json.loads(stats.read_text())
    for method, extra in (
        ("landsat", ()),
        ("stretch", ("--per-chip",)),
        ("match", ("--target", stats)),
    ):
        out = tmp_path / method
        assert method in run("apply", folder, out, "--method", method, *extra)
        assert json.loads((out / "style.json").read_text())["method"] == method
        assert len(image_paths(out)) == 4
    result = CliRunner().invoke(command, ["apply", str(folder), "x", "--method", "match"])
    assert result.exit_code == 2
    assert "--target" in result.output
