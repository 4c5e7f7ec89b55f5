"""``mining-train predict`` and the function behind it: what comes out for which image."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scanner.errors import ConfigError, TrainingError
from scanner.models.calibration import rescale
from scanner.models.card import CLASSIFIER_CLASSES, Calibration, ModelCard, Scaling
from scanner.models.classifier import load_classifier
from training.evaluate.predict import predict, score, to_chip
from training.evaluate.samples import images_in, open_samples
from training.pictures import write_image

SIDE = 48
CARD = ModelCard(
    name="brightness",
    task="classification",
    architecture="none",
    bands=("B02", "B03", "B04"),
    optional_bands=("B08",),
    scaling=Scaling((0.1,) * 4, (0.1,) * 4),
    sha256="0" * 64,
    config={},
    classes=CLASSIFIER_CLASSES,
    chip_size=SIDE,
    threshold=0.5,
    thresholds={"high_recall": 0.2},
    calibration=Calibration(1, 0, 0.2),
)


@dataclass
class Brightness:
    """A classifier whose score is the mean of blue, green and red, over 0.3."""

    card: ModelCard = CARD

    def predict(self, reflectance):
        assert reflectance.shape[1:] == (4, SIDE, SIDE)
        return (np.nanmean(reflectance[:, :3], (1, 2, 3)) / 0.3).astype(np.float32)


def picture(value, size=SIDE):
    return np.full((size, size, 3), value, np.uint8)


def save(path, value, size=SIDE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(value, size)).save(path)
    return path


@pytest.fixture
def mining_train(call_tiny):
    """``mining_train(*args)`` runs predict with a tiny model: (exit code, stdout, stderr)."""
    return partial(call_tiny, "predict")


# Arrays


def test_pictures_and_reflectance_give_the_same():
    bright = np.full((3, SIDE, SIDE), 0.3 * 204 / 255, np.float32)
    found = predict([picture(204), bright, picture(51)], Brightness())
    assert found.probability.tolist() == [0.8, 0.8, 0.2]
    assert found.label.tolist() == ["mining", "mining", "forest"]
    assert found.is_mining.tolist() == [True, True, False]
    stacked = predict(np.stack([picture(204), picture(51)]), Brightness())
    assert stacked.probability.tolist() == [0.8, 0.2]
    assert predict(picture(204), Brightness()).probability.tolist() == [0.8]
    assert predict(bright, Brightness()).probability.tolist() == [0.8]


def test_a_prior_moves_scores_and_threshold_a_given_threshold_stays():
    images = [picture(value) for value in (40, 127, 128, 200)]
    plain = predict(images, Brightness())
    moved = predict(images, Brightness(), prior=0.01)
    assert moved.is_mining.tolist() == plain.is_mining.tolist() == [False, False, True, True]
    expected = [rescale(value, 0.2, 0.01) for value in plain.probability]
    assert moved.probability.tolist() == expected
    assert predict(images, Brightness(), threshold=0.05, prior=0.01).is_mining.sum() == 1
    assert predict(images, Brightness(), threshold="high-recall").is_mining.sum() == 3
    with pytest.raises(ConfigError, match="has high-recall"):
        predict(images, Brightness(), threshold="balanced")


def test_a_model_directory_does_too(tiny_models):
    folder = tiny_models["classifier"]
    image = picture(90)
    expected = load_classifier(folder).predict(to_chip_of(image, load_classifier(folder).card))
    found = predict([image], folder)
    assert found.probability[0] == np.round(np.float64(expected[0]), 4)


def to_chip_of(image, card):
    bands = (image.astype(np.float32) * np.float32(0.3 / 255)).transpose(2, 0, 1)[::-1]
    return to_chip(bands, card, "x")[0][None]


def test_of_a_larger_image_the_middle_counts_and_a_smaller_one_is_refused():
    wide = picture(0, 101)
    wide[26:74, 26:74] = 255
    assert predict([wide], Brightness()).probability.tolist() == [1.0]
    tall = np.full((3, 60, SIDE), np.nan, np.float32)
    tall[:, 6:54] = 0.15
    assert predict([tall], Brightness()).probability.tolist() == [0.5]
    with pytest.raises(TrainingError, match=r"image 1: 47 x 47 pixels.*takes 48 x 48 at 10 m"):
        predict([wide, picture(9, 47)], Brightness())


@pytest.mark.parametrize(
    ("image", "fact"),
    [
        (np.zeros((SIDE, SIDE), np.uint8), "give reflectance"),
        (np.zeros((5, SIDE, SIDE), np.float32), "give reflectance"),
        (np.zeros((3, SIDE, SIDE), np.int16), "give reflectance"),
        (np.full((3, SIDE, SIDE), np.nan, np.float32), "holds no data in its middle"),
    ],
)
def test_arrays_that_are_no_image_are_refused(image, fact):
    with pytest.raises(TrainingError, match=fact):
        predict([image], Brightness())


def test_bands_are_laid_in_the_order_of_the_card():
    card = replace(CARD, bands=("B04", "B02"), optional_bands=("B12", "B08"))
    image = np.stack([np.full((SIDE, SIDE), v, np.float32) for v in (2, 3, 4, 8, np.nan, 12)])
    chip, _ = to_chip(image, card, "x")
    assert chip[:, 0, 0].tolist() == [4, 2, 12, 8]
    chip, _ = to_chip(image[:3], card, "x")
    np.testing.assert_array_equal(chip[:, 0, 0], [4, 2, np.nan, np.nan])
    with pytest.raises(TrainingError, match="has B02 B03 B04, the classifier needs B11"):
        to_chip(image[:3], replace(card, bands=("B02", "B11")), "x")


# Files


def test_a_folder_is_searched_and_of_twins_the_raster_is_taken(tmp_path):
    save(tmp_path / "b.png", 51)
    save(tmp_path / "deep/a.JPG", 204)
    save(tmp_path / ".hidden.png", 0)
    (tmp_path / "notes.txt").write_text("none")
    save(tmp_path / "c.jpg", 10)
    write_image(tmp_path / "c.tif", np.full((3, SIDE, SIDE), 0.15, np.float32))
    assert [path.name for path in images_in(tmp_path)] == ["b.png", "c.tif", "a.JPG"]
    samples = open_samples(tmp_path)
    assert samples.table.sample_id.tolist() == ["b.png", "c.tif", "deep/a.JPG"]
    found = score(samples, Brightness())
    assert found.scores.tolist() == pytest.approx([0.2, 0.5, 0.8], abs=0.003)


def test_a_corrupt_image_is_named_and_the_others_are_classified(tmp_path, mining_train):
    for number, value in enumerate((20, 120, 220)):
        save(tmp_path / f"in/{number}.png", value)
    broken = tmp_path / "in/1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    save(tmp_path / "in/small.png", 50, 20)
    save(tmp_path / "in/wide.png", 50, 64)
    code, out, err = mining_train(tmp_path / "in")
    assert code == 1
    rows = pd.read_csv(io.StringIO(out))
    assert rows.columns.tolist() == ["image", "probability", "label", "is_mining", "error"]
    assert rows.image.tolist() == ["0.png", "1.png", "2.png", "small.png", "wide.png"]
    assert rows.probability.isna().tolist() == [False, True, False, True, False]
    assert rows.label.isna().tolist() == rows.is_mining.isna().tolist()
    assert rows.label.isna().tolist() == rows.error.notna().tolist()
    assert "1.png: cannot be read as an image" in err
    assert "small.png: 20 x 20 pixels" in err
    assert "2 of 5 images could not be used" in err
    assert "1 images are larger than a chip: their middle counts" in err


def test_one_image_as_json_on_the_screen_or_in_a_file(tmp_path, mining_train):
    path = save(tmp_path / "one.png", 100)
    code, out, err = mining_train(path, "--format", "json", "--threshold", "0")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert row == {
        "image": "one.png",
        "probability": row["probability"],
        "label": "mining",
        "is_mining": True,
        "error": None,
    }
    code, shown, _ = mining_train(path, "--out", tmp_path / "r.json", "--threshold", "0")
    assert (code, shown) == (0, "")
    assert json.loads((tmp_path / "r.json").read_text()) == [row]
    assert mining_train(path, "--out", tmp_path / "r.csv")[0] == 0
    assert (tmp_path / "r.csv").read_text().startswith("image,probability,label,is_mining,error\n")
    assert mining_train(path, "--out", tmp_path / "r.txt")[0] == 2


def test_a_parquet_of_chips(tmp_path, mining_train):
    data = []
    for value in (30, 200):
        stream = io.BytesIO()
        Image.fromarray(picture(value)).save(stream, "WEBP", lossless=True)
        data.append(stream.getvalue())
    pd.DataFrame({"chip_id": [7, 9], "image": data}).to_parquet(tmp_path / "c.parquet")
    code, out, _ = mining_train(tmp_path / "c.parquet", "--prior", "0.01")
    assert code == 0
    assert pd.read_csv(io.StringIO(out)).image.tolist() == [7, 9]


@pytest.mark.parametrize(
    ("args", "fact"),
    [
        (["nowhere.png"], "nowhere.png: does not exist"),
        (["."], "no image"),
        ([__file__], "cannot be read as an image"),
        ([], "Missing argument"),
        ([".", "--prior", "1"], "--prior"),
        ([".", "--threshold", "2"], "threshold 2: not within"),
        ([".", "--threshold", "balanced"], "none by name"),
    ],
)
def test_what_is_refused(args, fact, tmp_path, monkeypatch, mining_train):
    monkeypatch.chdir(tmp_path)
    code, _, err = mining_train(*args)
    assert code == 2
    assert fact in err
    assert "Traceback" not in err
