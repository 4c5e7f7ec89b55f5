"""``mining-train evaluate``: figures against those of scikit-learn, and what it leaves behind."""

from __future__ import annotations

import io
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as sk

from scanner.errors import TrainingError
from scanner.models.calibration import rescale
from tests.synth import make_item, write_collection
from training.calibrate import expected_calibration_error
from training.evaluate.metrics import NAMES, Rules, measure
from training.evaluate.report import grouped
from training.evaluate.samples import draw_rows, open_samples, words_to_labels
from training.pictures import read_image
from training.places import near, read_places, regions

SIDE = 48
FILES = {
    "metrics.json", "validation_results.json", "scores.parquet", "report.md", "pr_curve.png",
    "roc.png", "reliability.png", "worst_mistakes.png",
}  # fmt: skip


@pytest.fixture
def evaluate(call_tiny):
    """``evaluate(*args)`` judges a tiny model: (exit code, stdout, stderr)."""
    return partial(call_tiny, "evaluate")


def read(folder, name="metrics.json"):
    def refuse(name):
        pytest.fail(f"{name} is no JSON number")

    return json.loads((folder / name).read_text(), parse_constant=refuse)


def scored(n=400, seed=0, decimals=4):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    return np.round(1 / (1 + np.exp(1 - rng.normal(2.0 * labels - 1))), decimals), labels


# Figures


@pytest.mark.parametrize("decimals", [1, 4])
def test_figures_are_those_of_scikit_learn(decimals):
    scores, labels = scored(decimals=decimals)
    found = measure(scores, labels, Rules(0.3, 0.1, resamples=0))
    called = scores >= 0.3
    expected = {
        "accuracy": sk.accuracy_score(labels, called),
        "precision": sk.precision_score(labels, called),
        "recall": sk.recall_score(labels, called),
        "false_alarm_rate": called[labels == 0].mean(),
        "f1": sk.f1_score(labels, called),
        "f2": sk.fbeta_score(labels, called, beta=2),
        "roc_auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "calibration_error": expected_calibration_error(scores, labels, 0.1),
    }
    assert set(expected) == set(NAMES)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=6e-5), name
    table = sk.confusion_matrix(labels, called).ravel().tolist()
    names = ("true_negative", "false_positive", "false_negative", "true_positive")
    assert found["confusion_matrix"] == dict(zip(names, table, strict=True))
    assert "confidence" not in found


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 1)), min_size=1, max_size=30))
def test_figures_of_any_chips_are_in_range_or_none_and_inside_their_interval(rows):
    scores, labels = (np.array(one) for one in zip(*rows, strict=True))
    found = measure(scores / 10, labels, Rules(0.5, 0.1, resamples=20))
    json.dumps(found, allow_nan=False)
    both = len(set(labels)) == 2
    for name in NAMES:
        value = found[name]
        assert value is None or 0 <= value <= 1
        ends = found["confidence"][name]
        assert ends is None or 0 <= ends[0] <= ends[1] <= 1
    assert (found["roc_auc"] is not None) == both
    assert (found["recall"] is None) == (found["mines"] == 0)
    assert (found["false_alarm_rate"] is None) == (found["others"] == 0)
    assert (found["precision_at"] is None) == (not both)
    assert sum(found["confusion_matrix"].values()) == len(rows)


def test_intervals_are_about_as_wide_as_theory_says_and_come_again():
    scores, labels = scored(2000)
    rules = Rules(0.3, 0.1, resamples=400, seed=3)
    found = measure(scores, labels, rules)
    assert measure(scores, labels, rules) == found
    assert measure(scores, labels, Rules(0.3, 0.1, 400, 4)) != found
    for name, n in (("recall", found["mines"]), ("false_alarm_rate", found["others"])):
        low, high = found["confidence"][name]
        assert low < found[name] < high
        sigma = math.sqrt(found[name] * (1 - found[name]) / n)
        assert high - low == pytest.approx(2 * 1.96 * sigma, rel=0.2)
    mines, others = scores[labels == 1], scores[labels == 0]
    beaten = (mines[:, None] > others) + (mines[:, None] == others) / 2  # DeLong
    variance = beaten.mean(1).var() / len(mines) + beaten.mean(0).var() / len(others)
    low, high = found["confidence"]["roc_auc"]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.15)


def test_precision_at_a_rarer_share_does_not_trust_that_no_false_alarm_was_seen():
    scores = np.array([0.9] * 20 + [0.1] * 100)
    labels = np.array([1] * 20 + [0] * 100)
    at = measure(scores, labels, Rules(0.5, 0.1, 0))["precision_at"]["0.001"]
    assert at["precision"] == at["high"] == 1
    assert at["low"] < 0.05


def test_a_source_of_one_kind_is_held_against_all_of_the_other():
    scores, labels = scored(60)
    rows = pd.DataFrame(
        {
            "probability": scores,
            "label": labels,
            "source": np.where(labels == 1, "m", "o"),
            "region": None,
            "near_training": None,
        }
    )
    found = grouped(rows, Rules(0.3, 0.1, 10))
    mines = found["by_source"]["m"]
    assert mines["roc_auc"] is None
    assert mines["false_alarm_rate"] is mines["f1"] is None
    assert mines["recall"] == found["overall"]["recall"]
    assert mines["roc_auc_against_all"] == found["overall"]["roc_auc"]
    assert found["by_region"] == {}
    assert "near_training" not in found


# Samples


def test_labels_by_many_names():
    labels, others = words_to_labels(
        ["Mining", "mine ", "positive", 1, "forest", "Not mine", "not-mine", 0, "0.0", "cloud",
         "Cloud", None, float("nan"), ""]
    )  # fmt: skip
    np.testing.assert_array_equal(labels, [1] * 4 + [0] * 5 + [np.nan] * 5)
    assert others == {"(none)": 3, "cloud": 2}


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 100), st.integers(0, 3))
def test_a_drawn_set_keeps_both_kinds_in_their_shares(mines, others, size, seed):
    labels = np.array([1.0] * mines + [0.0] * others)
    size = min(size, len(labels))
    rows = draw_rows(labels, size, seed)
    assert len(set(rows)) == len(rows) == size
    assert (draw_rows(labels, size, seed) == rows).all()
    share = labels[rows].sum() / size
    assert 0 < share < 1
    assert abs(share - mines / len(labels)) <= 1 / size


def test_regions_and_neighbours(tmp_path):
    places = np.array([[-54.2, -7.1], [-54.2, -7.1091], [-54.2, 2.0], [np.nan, 1.0]])
    assert regions(places).tolist() == ["lat-10lon-55", "lat-10lon-55", "lat0lon-55", None]
    (tmp_path / "t.csv").write_text("id,Latitude,LONGITUDE\n1,-7.1,-54.2\n2,x,y\n")
    known = read_places(tmp_path / "t.csv")
    assert near(places, known).tolist() == [True, False, False, None], "the second is 1012 m away"
    pd.DataFrame({"lon": [-54.2, None], "lat": [-7.1, None]}).to_parquet(tmp_path / "t.parquet")
    np.testing.assert_array_equal(read_places(tmp_path / "t.parquet"), known)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(TrainingError, match="no columns lat and lon"):
        read_places(tmp_path / "none.parquet")


# The command, on chips


def encoded(rng, bright):
    image = rng.integers(20, 60, (SIDE, SIDE, 3), dtype=np.uint8)
    if bright:
        image[10:40, 10:40] += 150
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """Forty chips of three sources; one is corrupt, two are labelled otherwise."""
    rng = np.random.default_rng(0)
    rows = [
        (f"c{i}", i % 2, ("north", "south")[i % 4 > 1], -54 - i / 10, -7.0, encoded(rng, i % 2))
        for i in range(40)
    ]
    table = pd.DataFrame(rows, columns=["chip_id", "label", "source", "lon", "lat", "image"])
    table["label"] = table["label"].astype(object)
    table.loc[[4, 5], "label"] = "cloud"
    table["label"] = table["label"].astype(str)
    table.loc[table["label"] == "0", ["lon", "lat"]] = np.nan
    table.loc[7, "image"] = table.loc[7, "image"][:50]
    table.loc[39, "source"] = "alone"
    path = tmp_path_factory.mktemp("chips") / "chips.parquet"
    table.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def training_places(tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "seen.csv"
    path.write_text("lat,lon\n-7.0,-54.1\n-7.003,-54.3\n")
    return path


def test_the_fixed_call_leaves_every_file(chips, training_places, evaluate, tmp_path):
    out = tmp_path / "deep/out"
    code, told, err = evaluate(
        "--chips", chips, "--out", out, "--bootstrap", 50, "--training", training_places
    )
    assert code == 0, err
    assert "37 chips scored, 18 of them mines" in told
    assert "label cloud: 2 rows left out" in err
    assert "chip c7: cannot be read as an image" in err
    assert "1 rows failed" in err
    assert {path.name for path in out.iterdir()} == FILES
    found = read(out)
    assert found["data"] == {
        "kind": "chips",
        "path": "chips.parquet",
        "sample_size": None,
        "rows": 38,
        "scored": 37,
        "failed": 1,
        "cropped": 0,
        "other_labels": {"cloud": 2},
    }
    assert found["overall"]["chips"] == 37
    assert found["scores"]["prevalence"] == 0.5
    assert found["scores"]["prevalence_from"] == "classifier card"
    assert set(found["by_source"]) == {"north", "south", "alone"}
    assert found["by_source"]["alone"]["roc_auc"] is None
    assert found["by_source"]["alone"]["confidence"]["recall"] is None
    assert set(found["by_region"]) == {"lat-10lon-55", "lat-10lon-60"}
    assert found["without_place"] == 19
    assert found["near_training"]["chips"] == 2
    assert found["away_from_training"]["chips"] == 16
    rows = read(out, "validation_results.json")
    assert [row["sample_id"] for row in rows["failed"]] == ["c7"]
    assert len(rows["results"]) == 37
    row = {row["sample_id"]: row for row in rows["results"]}
    assert [name for name in row if row[name]["near_training"]] == ["c1", "c3"]
    assert row["c0"]["near_training"] is row["c0"]["lon"] is row["c0"]["region"] is None
    assert row["c9"]["near_training"] is False
    assert all(
        one["correct"] == (one["is_mining"] == (one["label"] == 1))
        and one["is_mining"] == (one["probability"] >= 0.5)
        for one in rows["results"]
    )
    assert pq.read_table(out / "scores.parquet").to_pylist() == rows["results"]
    page = (out / "report.md").read_text()
    for text in ("| roc auc |", "## By source", "| alone |", "AUC against all chips", "cloud (2)"):
        assert text in page
    with Image.open(out / "worst_mistakes.png") as sheet:
        assert sheet.width == 8 * 144


def test_the_same_call_gives_the_same_files(chips, evaluate, tmp_path):
    for name in ("a", "b"):
        evaluate("--chips", chips, "--out", tmp_path / name, "--bootstrap", 20)
    for name in ("metrics.json", "validation_results.json", "scores.parquet", "report.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_prior_moves_the_scores_and_calls_the_same(chips, evaluate, tmp_path):
    evaluate("--chips", chips, "--out", tmp_path / "a", "--bootstrap", 0)
    code, told, _ = evaluate(
        "--chips", chips, "--out", tmp_path / "b", "--bootstrap", 0, "--prior", 0.01
    )
    assert code == 0
    assert "scores relative to 1 % mines" in told
    plain, moved = read(tmp_path / "a"), read(tmp_path / "b")
    assert moved["overall"]["confusion_matrix"] == plain["overall"]["confusion_matrix"]
    assert moved["overall"]["roc_auc"] == plain["overall"]["roc_auc"]
    assert moved["scores"]["prevalence_from"] == "--prior"
    assert moved["scores"]["threshold"] == rescale(0.5, 0.5, 0.01)
    before, after = (
        [row["probability"] for row in read(tmp_path / n, "validation_results.json")["results"]]
        for n in "ab"
    )
    assert after == [rescale(score, 0.5, 0.01) for score in before]


def test_a_sample_of_one_kind_has_no_curves(chips, evaluate, tmp_path):
    table = pd.read_parquet(chips)
    table[table.label == "1"].to_parquet(tmp_path / "mines.parquet")
    code, told, _ = evaluate("--chips", tmp_path / "mines.parquet", "--out", tmp_path / "out")
    assert code == 0
    assert "recall" in told
    assert "roc auc" not in told
    assert not (tmp_path / "out/roc.png").exists()
    assert read(tmp_path / "out")["overall"]["roc_auc"] is None


def test_sample_size(chips, evaluate, tmp_path):
    code, _, _ = evaluate(
        "--chips", chips, "--out", tmp_path, "--bootstrap", 0, "--sample-size", 10, "--seed", 5
    )
    assert code == 0
    assert read(tmp_path)["data"]["rows"] == 10


def save(path, bright, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(rng, bright))


def test_a_dataset_folder_is_judged_on_its_validation_side(evaluate, tmp_path):
    rng = np.random.default_rng(1)
    for split in ("train", "val"):
        for kind in ("positive", "negative"):
            for i in range(3):
                save(tmp_path / f"d/{split}/{kind}/here__{i}.webp", kind == "positive", rng)
    save(tmp_path / "d/train/positive/here__0__aug1.webp", True, rng)
    code, _, err = evaluate("--dataset", tmp_path / "d", "--out", tmp_path / "o", "--bootstrap", 9)
    assert code == 0, err
    found = read(tmp_path / "o")
    assert (found["overall"]["mines"], found["overall"]["others"]) == (3, 3)
    assert list(found["by_source"]) == ["here"]
    assert len(open_samples(tmp_path / "d", "train").table) == 6, "copies are no samples"


# The command, on coordinates


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """``items.json`` of one scene of 3 km: forest, and bare ground in its middle."""
    folder = tmp_path_factory.mktemp("scene")
    bands = {}
    for name, forest, bare in (("B02", 220, 1100), ("B03", 420, 1500), ("B04", 240, 1900)):
        pixels = np.full((300, 300), forest, np.uint16)
        pixels[130:170, 130:170] = bare
        bands[name] = pixels + 1000
    bands["SCL"] = np.full((150, 150), 4, np.uint8)
    item = make_item(folder, "scene", bands)
    return write_collection(folder / "items.json", [item]), item.raw["bbox"]


def test_known_coordinates_are_fetched_once_saved_and_judged(
    catalog, evaluate, tmp_path, monkeypatch
):
    items, (west, south, east, north) = catalog
    lon, lat = (west + east) / 2, (south + north) / 2
    csv = tmp_path / "known.csv"
    csv.write_text(
        "Longitude,Latitude,Class\n"
        f"{lon},{lat},Mining\n"
        f"{lon + 0.01},{lat},forest\n"
        f"{lon},{lat},village\n"
        "x,y,mine\n"
        "-100.0,40.0,forest\n"
    )
    training = tmp_path / "seen.csv"
    training.write_text(f"lat,lon\n{lat},{lon}\n")
    arguments = (
        "--coordinates", csv, "--catalog", items, "--out", tmp_path / "out", "--workers", 1,
        "--bootstrap", 10, "--training", training,
    )  # fmt: skip
    code, told, err = evaluate(*arguments)
    assert code == 0, err
    assert "2 chips scored, 1 of them mines" in told
    assert "label village: 1 rows left out" in err
    found, rows = read(tmp_path / "out"), read(tmp_path / "out", "validation_results.json")
    assert found["data"]["failed"] == 2
    assert [row["sample_id"] for row in rows["failed"]] == ["line5", "known-line6"]
    assert "'x' is not a decimal number" in rows["failed"][0]["reason"]
    assert {row["near_training"] for row in rows["results"]} == {True, False}
    assert found["near_training"]["mines"] == found["away_from_training"]["others"] == 1
    assert len(list((tmp_path / "out/chips").rglob("*.tif"))) == 2
    bare = read_image(tmp_path / "out/chips/chips/known-line2.tif")
    np.testing.assert_allclose(bare[:, 24, 24], [0.11, 0.15, 0.19], atol=1e-4)
    monkeypatch.setattr("training.collect.fetch.client_of", lambda *_: pytest.fail("fetched again"))
    before = (tmp_path / "out/scores.parquet").read_bytes()
    assert evaluate(*arguments)[0] == 0
    assert (tmp_path / "out/scores.parquet").read_bytes() == before


# What is refused


def test_what_is_refused(chips, evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"label": [1], "photo": [b""]}).to_parquet("other.parquet")
    pd.DataFrame({"label": ["?"], "image": [b""]}).to_parquet("words.parquet")
    pd.DataFrame({"label": [1, 0], "image": [b"x", None]}).to_parquet("broken.parquet")
    Path("text.parquet").write_text("hello")
    Path("nolabel.csv").write_text("lat,lon\n1,2\n")
    Path("nothing.csv").write_text("lat,lon,label\n1,2,village\nx,2,mine\n")
    Path("empty").mkdir()
    for args, fact in (
        ([], "give one of --chips"),
        (["--chips", chips, "--dataset", "empty"], "give one of --chips"),
        (["--chips", chips, "--date", "2024-01-01/2024-02-01"], "--date goes with --coordinates"),
        (["--chips", "nowhere.parquet"], "nowhere.parquet: does not exist"),
        (["--chips", "text.parquet"], "cannot be read as Parquet"),
        (["--chips", "other.parquet"], "it needs image"),
        (["--chips", "words.parquet"], "no row has a label of mine or not, but: ? (1)"),
        (["--chips", "broken.parquet"], "not one of 2 images can be used"),
        (["--dataset", "empty"], "no image"),
        (["--chips", chips, "--threshold", "high-recall"], "none by name"),
        (["--chips", chips, "--threshold", "7"], "threshold 7: not within"),
        (["--chips", chips, "--prior", "0"], "--prior"),
        (["--chips", chips, "--training", "nolabel.parquet"], "nolabel.parquet: cannot be read"),
        (["--coordinates", "nolabel.csv"], "no column label among lat, lon"),
        (["--coordinates", "nothing.csv"], "no row to evaluate: 1 bad, other labels: village (1)"),
    ):
        code, out, err = evaluate(*args, "--out", tmp_path / "out")
        assert (code, out) == (2, ""), args
        assert fact in err, args
        assert err.startswith("mining-train: ")
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
