"""From chips of three forms to a dataset folder: labels, split, leaks, copies, what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin
from torch.utils.data import DataLoader, Dataset

from scanner.errors import TrainingError
from training.augment import PATH
from training.dataset.augment import LEVELS, Augment, Level
from training.dataset.build import LEAKS, MARKER, build_dataset
from training.dataset.command import command
from training.dataset.folder import METADATA, is_copy, read_dataset_metadata, read_split
from training.dataset.forms import open_source
from training.dataset.leakage import find_leaks, fingerprint
from training.dataset.recipe import DatasetRecipe
from training.dataset.sources import SourceSpec
from training.dataset.split import SplitPlan, divide
from training.dataset.write import file_names
from training.pictures import WHITE, read_image, to_reflectance, write_image

DEGREE = 111_195.0
"""Metres."""


def picture(seed: int, size: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(20, 230, (size, size, 3), np.uint8)


def encoded(pixels: NDArray[np.uint8], kind: str = "WEBP") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, lossless=True)
    return stream.getvalue()


def parquet(path: Path, rows: int = 24, first: int = 0) -> Path:
    """Chips of two campaigns of mines (placed, 0.5 degrees apart) and one of others (not)."""
    mine = np.arange(rows) % 2 == 0
    table = pd.DataFrame(
        {
            "chip_id": [f"c{n}" for n in range(rows)],
            "label": mine.astype(int),
            "source": np.where(mine, np.where(np.arange(rows) % 4 == 0, "m1", "m2"), "others"),
            "lon": np.where(mine, -60 + 0.5 * np.arange(rows), np.nan),
            "lat": np.where(mine, -5.0, np.nan),
            "image": [encoded(picture(first + n)) for n in range(rows)],
        }
    )
    table.to_parquet(path)
    return path


def chip_folder(folder: Path, rows: int = 6) -> Path:
    """What collect writes: an index, and chips as GeoTIFF beside their picture."""
    (folder / "chips").mkdir(parents=True)
    lon = -55 + 2 * np.arange(rows)
    for n in range(rows):
        pixels = np.random.default_rng(500 + n).uniform(0.02, 0.28, (6, 12, 12))
        write_image(folder / "chips" / f"k{n}.tif", pixels.astype(np.float32))
        Image.fromarray(picture(900 + n)).save(folder / "chips" / f"k{n}.jpg")
    table = pd.DataFrame(
        {
            "chip_id": [f"k{n}" for n in range(rows)],
            "label": pd.array([1, 0] * (rows // 2 - 1) + [0, None], "Int8"),
            "source": "walk",
            "lon": lon,
            "lat": -8.0,
            "path": [f"chips/k{n}.tif" for n in range(rows)],
            "dates": [["2024-07-01", "2024-07-11"]] * rows,
            "bands": [["B02", "B03", "B04", "B08", "B11", "B12"]] * rows,
            "size_m": 120.0,
            "cloud_cover": np.nan,
            "review": [None] * (rows - 2) + ["likely mine in a forest sample: score 0.93", None],
        }
    )
    points = geopandas.points_from_xy(lon, table["lat"], crs="EPSG:4326")
    geopandas.GeoDataFrame(table, geometry=points).to_parquet(folder / "index.parquet")
    return folder


def image_folder(folder: Path, first: int = 1000) -> Path:
    for n, label in enumerate(("positive", "negative") * 3):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(first + n)).save(folder / label / f"same_{n // 2}.png")
    return folder


def table_of(**columns: Any) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    blank = {"lon": np.nan, "lat": np.nan, "size_m": np.nan, "source": "s", "label": 1}
    return pd.DataFrame(blank | {"pixels": [f"p{n}" for n in range(count)]} | columns)


# --- the whole way


def test_three_forms_become_one_folder(tmp_path: Path) -> None:
    sources = [
        SourceSpec(parquet(tmp_path / "chips.parquet")),
        SourceSpec(chip_folder(tmp_path / "walk")),
        SourceSpec(image_folder(tmp_path / "a" / "pictures")),
        SourceSpec(image_folder(tmp_path / "b" / "pictures", 2000)),
    ]
    out = tmp_path / "out"
    told = build_dataset(sources, out, DatasetRecipe(val_share=0.25))
    samples = {split: read_split(out, split) for split in ("train", "val")}
    for split, found in samples.items():
        for label, name in ((1, "positive"), (0, "negative")):
            assert told["counts"][split][name] == sum(s.label == label for s in found) > 0
    assert sum(map(len, samples.values())) == 24 + 4 + 6 + 6  # one unlabelled, one to review
    assert told["sources"][1]["left_out"] == {"no label": 1, "to be reviewed": 1}
    assert told == read_dataset_metadata(out)
    assert not (out / MARKER).exists()
    assert told["statistics"]["n_images"] == len(samples["train"])

    chip = next(s for split in samples.values() for s in split if s.path.stem == "walk__k0")
    assert (chip.label, chip.source, chip.block, chip.lon, chip.lat) == (
        1,
        "walk",
        "-8,-55",
        -55,
        -8,
    )
    assert chip.path.read_bytes() == (tmp_path / "walk" / "chips" / "k0.tif").read_bytes()
    metadata = json.loads(chip.path.with_suffix(".json").read_text())
    assert metadata["dates"] == ["2024-07-01", "2024-07-11"]
    assert "cloud_cover" not in metadata  # not known

    names = sorted(
        s.path.name for split in samples.values() for s in split if s.source == "pictures"
    )
    assert len({name.lower() for name in names}) == 12  # both folders have same_0.png twice
    row = next(s for split in samples.values() for s in split if s.path.stem == "m1__c4")
    np.testing.assert_array_equal(read_image(row.path), to_reflectance(picture(4)))


def test_a_held_out_source_never_trains(tmp_path: Path) -> None:
    path = image_folder(tmp_path / "far")
    sources = [SourceSpec(parquet(tmp_path / "chips.parquet")), SourceSpec(path)]
    told = build_dataset(sources, tmp_path / "out", DatasetRecipe(hold_out=("far",)))
    assert {s.source for s in read_split(tmp_path / "out", "val")} == {"far"}
    assert "far" not in {s.source for s in read_split(tmp_path / "out", "train")}
    assert told["split"]["split_at_random"] == 0
    with pytest.raises(TrainingError, match="--hold-out near: no such source; they are far, m1"):
        build_dataset(sources, tmp_path / "x", DatasetRecipe(hold_out=("near",)))
    with pytest.raises(TrainingError, match="val: no negative chip"):
        build_dataset(sources, tmp_path / "x", DatasetRecipe(hold_out=("m1",)))


def test_the_same_call_makes_the_same_folder(tmp_path: Path) -> None:
    source = [SourceSpec(parquet(tmp_path / "chips.parquet"))]
    recipe = DatasetRecipe(augment="strong", copies=1, air=(0.0, 1.0))
    for name in ("a", "b"):
        build_dataset(source, tmp_path / name, recipe)
    first, second = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.png")}
        for name in ("a", "b")
    )
    assert first == second
    build_dataset(source, tmp_path / "c", replace(recipe, seed=1))
    assert sorted(p.name for p in (tmp_path / "c" / "val").rglob("*.png")) != sorted(
        p.name for p in (tmp_path / "a" / "val").rglob("*.png")
    )


def test_copies_are_made_of_training_images_only(tmp_path: Path) -> None:
    sources = [
        SourceSpec(parquet(tmp_path / "chips.parquet")),
        SourceSpec(chip_folder(tmp_path / "walk")),
    ]
    out = tmp_path / "out"
    told = build_dataset(sources, out, DatasetRecipe(augment="medium", copies=2))
    train = read_split(out, "train")
    copies = [s for s in train if is_copy(s.path)]
    assert not any(is_copy(s.path) for s in read_split(out, "val"))
    assert len(copies) == 2 * (len(train) - len(copies)) == told["counts"]["train"]["copies"]
    for sample in copies:
        metadata = json.loads(sample.path.with_suffix(".json").read_text())
        original = sample.path.with_name(metadata["copy_of"])
        assert (sample.source, sample.label) == (metadata["source"], metadata["label"])
        assert read_image(sample.path).shape == read_image(original).shape
        assert not np.array_equal(read_image(sample.path), read_image(original))
    # a dataset may be merged into another; its copies stay behind
    again = open_source(SourceSpec(out))
    assert len(again.table) == 24 + 4
    assert {"m1", "m2", "others", "walk"} == set(again.table["source"])
    assert {"c0", "k0"} <= set(again.table["chip_id"])


def test_a_style_is_applied_and_recorded(tmp_path: Path) -> None:
    path = parquet(tmp_path / "chips.parquet")
    span = {f"{c}_{end}": v for c in "rgb" for end, v in (("p2", 0.2), ("p98", 0.8))}
    style = {"method": "stretch", "source": span}
    told = build_dataset([SourceSpec(path)], tmp_path / "out", DatasetRecipe(style=style))
    assert told["style"] == style
    sample = next(s for s in read_split(tmp_path / "out", "train") if s.source == "others")
    chip = int(sample.path.stem.partition("__c")[2])
    expected = np.clip((picture(chip) / 255 - 0.2) / 0.6, 0, 1)
    found = np.moveaxis(read_image(sample.path)[::-1], 0, -1) / WHITE
    np.testing.assert_allclose(found, expected, atol=0.003)


# --- labels and forms


def test_classic_folders_take_their_512_pictures_first(tmp_path: Path) -> None:
    for name in ("a_512.jpg", "a.jpg", "b_512.jpg", "c.png"):
        Image.fromarray(picture(1)).save(tmp_path / name)
    origin = open_source(SourceSpec(tmp_path, label=1, name="local"))
    assert [path.name for path in origin.files or []] == ["a_512.jpg", "b_512.jpg"]
    assert set(origin.table["source"]) == {"local"}
    assert (origin.table["label"] == 1).all()
    assert origin.left_out == {"not _512.jpg": 2}
    with pytest.raises(TrainingError, match="--positive or --negative"):
        open_source(SourceSpec(tmp_path))


def test_a_geotiff_tells_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    profile = {"driver": "GTiff", "count": 3, "height": 12, "width": 12, "dtype": "uint16"}
    place = {"crs": "EPSG:32721", "transform": from_origin(5e5 - 60, 1e7 + 60, 10, 10)}
    with rasterio.open(tmp_path / "mine" / "x.tif", "w", **profile, **place) as sink:
        sink.write(np.full((3, 12, 12), 900, np.uint16))
        sink.descriptions = ("B02", "B03", "B04")
    table = open_source(SourceSpec(tmp_path)).table
    where = table[["lon", "lat", "size_m"]].iloc[0].tolist()
    assert where == pytest.approx([-57, 0, 120], abs=1e-6)
    assert table["label"].tolist() == [1]


def test_labels_may_be_words_and_unknown_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    image = encoded(picture(0))
    pd.DataFrame({"label": ["Mining", "forest", None], "image": [image] * 3}).to_parquet(path)
    origin = open_source(SourceSpec(path))
    assert origin.table["label"].tolist() == [1, 0]
    assert origin.table["chip_id"].tolist() == ["x-0", "x-1"]
    pd.DataFrame({"label": ["mining", "cloud"], "image": [image] * 2}).to_parquet(path)
    with pytest.raises(TrainingError, match="label 'cloud', known are"):
        open_source(SourceSpec(path))


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not found"):
        open_source(SourceSpec(tmp_path / "absent"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(TrainingError, match="cannot be read as parquet"):
        open_source(SourceSpec(tmp_path / "x.parquet"))
    pd.DataFrame({"label": [1]}).to_parquet(tmp_path / "y.parquet")
    with pytest.raises(TrainingError, match="no column image"):
        open_source(SourceSpec(tmp_path / "y.parquet"))


def test_corrupt_and_black_images_are_named_and_counted(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pictures")
    (folder / "positive" / "bad.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(folder / "positive" / "black.png")
    sources = [SourceSpec(folder)]
    with pytest.raises(TrainingError, match=r"2 of 8 images cannot be used, first .*bad\.png"):
        build_dataset(sources, tmp_path / "out", DatasetRecipe(val_share=0.34))
    told = build_dataset(
        sources, tmp_path / "out", DatasetRecipe(val_share=0.34, skip_corrupt=True)
    )
    assert told["corrupt"]["count"] == 2
    assert "black.png: nothing but black" in told["corrupt"]["images"][1]
    assert not list((tmp_path / "out").rglob("*bad*")) + list((tmp_path / "out").rglob("*black*"))


def test_names_never_clash() -> None:
    pairs = [("a/b", "1"), ("a:b", "1"), ("A-b", "1"), ("a-b", "1-1"), ("a__b", "1"), ("a", "b__1")]
    table = pd.DataFrame(pairs, columns=["source", "chip_id"])
    names = file_names(table)
    assert len({name.lower() for name in names}) == len(pairs)
    assert all(name.count("__") == 1 for name in names)


# --- split and leaks


placed = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans(), st.integers(0, 9)),
    min_size=12,
    max_size=60,
)


@given(placed, st.integers(0, 50), st.sampled_from([0.5, 1.0, 2.0]))
def test_no_block_no_source_and_no_pixels_are_on_both_sides(
    rows: list[tuple[int, int, bool, int]], seed: int, degrees: float
) -> None:
    """After leaks are dropped nothing of one side is within a kilometre of the other."""
    columns = np.array([(x, y, mine, digest) for x, y, mine, digest in rows])
    known = np.arange(len(rows)) % 3 > 0
    table = table_of(
        lon=np.where(known, -60 + 0.7 * columns[:, 0] + 1e-3 * columns[:, 3], np.nan),
        lat=np.where(known, -5 + 0.7 * columns[:, 1], np.nan),
        label=columns[:, 2],
        pixels=[f"p{digest}" for digest in columns[:, 3]],
        source=[f"s{n % 4}" for n in range(len(rows))],
    )
    plan = SplitPlan(("s3",), degrees, 0.2, seed)
    try:
        division = divide(table, plan)
    except TrainingError as error:
        assert "chip is left on this side" in str(error)  # noqa: PT017 - either may happen
        return
    val = division.val
    assert val[table["source"] == "s3"].all()
    free = (table["source"] != "s3").to_numpy()
    blocks = pd.Series(division.block).fillna(table["pixels"])
    assert not set(blocks[val & free]) & set(blocks[~val])
    kept = np.ones(len(table), bool)
    kept[[leak.train for leak in find_leaks(table, val)]] = False
    train, judge = table[~val & kept], table[val]
    assert not set(train["pixels"]) & set(judge["pixels"])
    apart = np.hypot(
        train["lon"].to_numpy()[:, None] - judge["lon"].to_numpy(),
        train["lat"].to_numpy()[:, None] - judge["lat"].to_numpy(),
    )
    assert not (apart * DEGREE < 990).any()


def test_neighbours_are_found_across_the_side_of_a_block() -> None:
    metres = np.array([0, 900, 1100, 5000, 1e5])
    table = table_of(lon=metres / DEGREE, lat=np.zeros(5))
    val = np.array([True, False, False, False, False])
    assert [leak.train for leak in find_leaks(table, val)] == [1]
    assert find_leaks(table, val)[0].why == "0.90 km apart"
    assert find_leaks(table, val, 0) == []
    wide = table.assign(size_m=5000.0)  # squares of 5 km overlap at 5 km, along a diagonal at 7
    assert [leak.train for leak in find_leaks(wide, val)] == [1, 2, 3]


@given(st.integers(0, 99), st.integers(0, 7), st.sampled_from([(6, 6), (5, 8)]))
def test_a_fingerprint_is_the_same_however_the_chip_lies(
    seed: int, code: int, shape: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 4, (*shape, 3), np.uint8)
    turned = np.rot90(np.flip(pixels, 1) if code >= 4 else pixels, code % 4)
    assert fingerprint(turned) == fingerprint(pixels)
    changed = pixels.copy()
    changed[0, 0, 0] += 1
    assert fingerprint(changed) != fingerprint(pixels)


def test_a_chip_turned_into_the_other_side_is_refused_or_dropped(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "far")
    Image.fromarray(np.rot90(np.flip(picture(4), 1))).save(folder / "positive" / "turned.png")
    sources = [SourceSpec(parquet(tmp_path / "chips.parquet")), SourceSpec(folder)]
    recipe = DatasetRecipe(hold_out=("far",))
    out = tmp_path / "out"
    with pytest.raises(TrainingError) as caught:
        build_dataset(sources, out, recipe)
    assert "1 training chips show ground" in str(caught.value)
    assert "row 4 (c4)" in str(caught.value)
    assert "turned.png (same pixels)" in str(caught.value)
    assert [p.name for p in out.iterdir()] == [LEAKS]
    assert len(pd.read_csv(out / LEAKS)) == 1
    told = build_dataset(sources, out, replace(recipe, on_leak="drop"))
    assert told["leakage"]["dropped"] == told["leakage"]["same_pixels"] == 1
    assert "m1__c4" not in {s.path.stem for s in read_split(out, "train")}


def test_same_pixels_of_two_labels_are_told(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pictures")
    Image.fromarray(picture(1000)).save(folder / "negative" / "also.png")
    told = build_dataset([SourceSpec(folder)], tmp_path / "out", DatasetRecipe(val_share=0.34))
    assert len(told["labels_at_odds"]) == 2
    assert any("also.png: label 0" in line for line in told["labels_at_odds"])


def test_what_has_no_place_is_split_at_random_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = build_dataset(
        [SourceSpec(parquet(tmp_path / "chips.parquet"))], tmp_path / "out", DatasetRecipe()
    )
    assert "12 of 24 chips have no place and are split at random" in caplog.text
    assert told["split"]["split_at_random"] == told["leakage"]["no_place"] == 12


# --- changes


pictures = st.tuples(st.integers(1, 4), st.sampled_from([3, 6]), st.sampled_from([(8, 8), (6, 9)]))


@given(
    pictures,
    st.sampled_from(["none", "light", "medium", "strong"]),
    st.sampled_from([None, (-0.5, 1.2)]),
    st.integers(0, 999),
)
def test_changes_keep_range_shape_and_what_is_unseen(
    shape: tuple[int, int, tuple[int, int]],
    level: Any,
    air: tuple[float, float] | None,
    seed: int,
) -> None:
    count, bands, size = shape
    pixels = torch.rand(count, bands, *size, generator=torch.Generator().manual_seed(seed))
    pixels = 0.01 + 0.99 * pixels
    pixels[0, :, 0, 0] = torch.nan
    pixels[0, :, 2, 1] = 0
    before = pixels.clone()
    out = Augment(level, air, seed)(pixels)
    assert torch.equal(pixels.nan_to_num(), before.nan_to_num())
    assert out.shape == pixels.shape
    assert out.dtype == torch.float32
    assert out.isnan().sum() == bands
    seen = out[~out.isnan()]
    assert seen.min() >= 0
    assert out[:, :3].nan_to_num().max() <= 1
    assert (out[0] == 0).all(0).sum() >= 1
    again = Augment(level, air, seed)(pixels)
    assert torch.equal(again.nan_to_num(), out.nan_to_num())


def test_levels_are_those_of_the_recipe() -> None:
    """Drawn often enough, changes fill their range and do not leave it."""
    for name, limit, noise in (
        ("light", 0.05, 0.01),
        ("medium", 0.15, 0.02),
        ("strong", 0.3, 0.03),
    ):
        even = torch.full((400, 3, 16, 16), 0.5)
        level = LEVELS[name]
        haze = level.haze * 0.5  # over half luminance
        out = Augment(name, seed=1)(even)  # type: ignore[arg-type]
        middle = out.mean((1, 2, 3)) / 0.5 - 1
        assert middle.min() > -limit - 4 * noise
        assert middle.min() < -0.9 * limit
        assert middle.max() < limit + haze / 0.5 + 4 * noise
        spread = (out - out.mean((2, 3), keepdim=True)).std()
        assert float(spread) == pytest.approx(noise, rel=0.05)


def test_haze_fades_dark_ground_first() -> None:
    pixels = torch.full((400, 3, 8, 8), 0.1)
    pixels[..., 4:] = 0.9
    augment = Augment("none", seed=3)
    augment.level = Level(0, 0, 0, 0.5, 0.15)
    out = augment(pixels).mean(1).flatten(1)
    dark, bright = out.amin(1) - 0.1, out.amax(1) - 0.9
    assert (dark < 1e-6).float().mean() == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(bright, dark / 9, atol=1e-5, rtol=0)  # 1 - 0.9 over 1 - 0.1
    assert 0.12 * 0.9 < dark.max() <= 0.15 * 0.9


def test_air_takes_off_what_the_atmosphere_adds() -> None:
    """Full strength brings L1C forest to L2A, by the measured difference of each band."""
    l2a = torch.tensor([0.02, 0.04, 0.025])
    l1c = (l2a + torch.tensor(PATH)).view(1, 3, 1, 1).expand(500, 3, 8, 8) / WHITE
    out = Augment("none", air=(1.0, 1.0), seed=0)(l1c) * WHITE
    assert out.mean((0, 2, 3)) == pytest.approx(l2a, abs=0.006)
    unchanged = Augment("none", air=(0.0, 0.0), seed=0)(l1c) * WHITE
    assert unchanged.mean((0, 2, 3)) == pytest.approx(l2a + torch.tensor(PATH), abs=0.006)


class Changed(Dataset[torch.Tensor]):
    def __init__(self, augment: Augment) -> None:
        self.augment = augment

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.augment(torch.full((1, 3, 4, 4), 0.5))[0]


@pytest.mark.parametrize("seed", [None, 7])
def test_on_the_fly_every_image_and_worker_draws_its_own(seed: int | None) -> None:
    loader = DataLoader(Changed(Augment("medium", seed=seed)), batch_size=1, num_workers=2)
    torch.manual_seed(0)
    seen = [batch.numpy().tobytes() for batch in loader]
    assert len(set(seen)) == 4
    torch.manual_seed(0)
    assert seen == [batch.numpy().tobytes() for batch in loader]


# --- the command, and its folder


def run(*args: object) -> Any:
    return CliRunner().invoke(command, [str(arg) for arg in args])


def test_the_command_tells_what_it_made(tmp_path: Path) -> None:
    path, out = parquet(tmp_path / "chips.parquet"), tmp_path / "out"
    extra = image_folder(tmp_path / "more") / "positive"
    other = image_folder(tmp_path / "more2", 3000) / "negative"
    result = run(
        "--source", path, "--positive", f"new={extra}", "--negative", other,
        "--out", out, "--copies", 1, "--air", 0, 1, "--block-degrees", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = read_dataset_metadata(out)
    assert told["augmentation"] == {"level": "medium", "copies": 1, "air": [0.0, 1.0]}
    assert told["split"]["block_degrees"] == 2
    assert sum(told["counts_by_source"]["new"].values()) == 3
    assert sum(told["counts_by_source"]["negative"].values()) == 3
    assert f"val: {told['counts']['val']['positive']} positive" in result.output
    again = run("--source", path, "--out", out)
    assert isinstance(again.exception, TrainingError)
    assert "--fresh" in str(again.exception)
    assert run("--source", path, "--out", out, "--fresh").exit_code == 0
    assert "new" not in read_dataset_metadata(out)["counts_by_source"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "no chips"),
        (("--source", "x", "--val-share", "2"), "val_share"),
        (("--source", "x", "--augment", "light"), "give both"),
    ],
)
def test_bad_options_are_refused(args: tuple[str, ...], told: str, tmp_path: Path) -> None:
    result = run("--out", tmp_path / "out", *args)
    assert result.exit_code != 0
    assert told in result.output + str(result.exception)


def test_an_unfinished_folder_is_begun_anew(tmp_path: Path) -> None:
    """A run killed while it writes leaves a marker; the same call ends with a whole folder."""
    path, out = parquet(tmp_path / "chips.parquet", 60), tmp_path / "out"
    code = "import sys; from training.dataset.command import command; command(sys.argv[1:])"
    args = ["--source", str(path), "--out", str(out), "--copies", "3"]
    killed = subprocess.Popen([sys.executable, "-c", code, *args], cwd=Path(__file__).parents[2])
    try:
        while not list(out.glob("train/*/*.png")):
            assert killed.poll() is None
            time.sleep(0.05)
    finally:
        killed.kill()
        killed.wait()
    assert (out / MARKER).exists()
    assert not (out / METADATA).exists()
    recipe = DatasetRecipe(augment="medium", copies=3)
    told = build_dataset([SourceSpec(path)], out, recipe)
    files = list((out / "train").rglob("*.png"))
    assert len(files) == sum(told["counts"]["train"].values())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    source = [SourceSpec(parquet(tmp_path / "chips.parquet"))]
    for fresh in (False, True):
        with pytest.raises(TrainingError, match="not empty"):
            build_dataset(source, tmp_path / "out", DatasetRecipe(), fresh)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(TrainingError, match="no folder train/"):
        read_split(tmp_path / "out", "train")
