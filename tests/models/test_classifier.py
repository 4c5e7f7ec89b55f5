"""The classifier: scores, nodata, batches, calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from scanner.errors import ModelError
from scanner.models.card import CLASSIFIER_CLASSES, Calibration, ModelCard, Scaling
from scanner.models.chip_networks import ChipNet, build_network
from scanner.models.classifier import (
    ResnetClassifier,
    calibrate,
    classifier_of,
    load_classifier,
)
from scanner.models.ref import classifier_ref
from scanner.models.segmenter import set_threads
from scanner.models.store import WEIGHTS_FILE, shipped

MANY = 37
"""Chips of a test."""
CONFIG = {"backbone": "resnet18", "bands": 3, "dropout": 0.1, "flips": 2}


def card() -> ModelCard:
    return ModelCard(
        name="chips",
        task="classification",
        architecture="ResNet-18",
        bands=("B02", "B03", "B04"),
        scaling=Scaling((0.1, 0.1, 0.1), (0.1, 0.1, 0.1), high=0.3),
        sha256="",
        config=CONFIG,
        classes=CLASSIFIER_CLASSES,
        chip_size=48,
        threshold=0.5,
        calibration=Calibration(1.0, 0.0, 0.5),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    save_file(build_network(CONFIG).state_dict(), folder / WEIGHTS_FILE)
    card().write(folder)
    return folder


@pytest.fixture
def chips() -> NDArray[np.float32]:
    chips = np.random.default_rng(0).random((MANY, 3, 48, 48), dtype=np.float32) * 0.3
    chips[0, :, :20] = np.nan
    chips[1] = np.nan
    chips[2] = 0.1  # flat
    return chips


def test_scores(folder: Path, chips: NDArray[np.float32]) -> None:
    scores = load_classifier(folder).predict(chips)
    assert scores.shape == (MANY,)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_score_does_not_depend_on_how_many_chips_there_are(
    folder: Path, chips: NDArray[np.float32]
) -> None:
    model = load_classifier(folder)
    scores = model.predict(chips)
    for rows in (slice(0, 1), slice(0, 7), slice(5, MANY)):
        np.testing.assert_array_equal(model.predict(chips[rows]), scores[rows])
    assert model.predict(chips[:0]).shape == (0,)


class Viewed:
    """An engine that gives made-up logits, a row of eight views a chip, and notes what it ran."""

    flips = 8
    name = "made up"

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.given, self.ran = logits, 0

    def logits(self, scaled: NDArray[np.float32], views: range) -> NDArray[np.float32]:
        rows = scaled[:, 0, 0, 0].astype(int)  # chips are numbered by their pixels
        self.ran += len(rows) * len(views)
        return self.given[rows][:, views.start : views.stop]


def test_only_chips_that_are_surely_no_mine_in_two_views_are_done_with() -> None:
    plain = replace(
        card(), threshold=0.2, thresholds={"high_recall": 0.02},
        calibration=Calibration(1, 0, 0.1), scaling=Scaling((0,) * 3, (1,) * 3, 0, 9),
    )  # fmt: skip
    logits = np.full((4, 8), 3, np.float32)
    logits[0, :2] = -4.7, -4.7  # 0.009: below half of 0.02
    logits[1, :2] = -9, -4.5  # one of them above
    logits[2, :2] = -4.5, -9
    engine = Viewed(logits)
    numbered = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 48, 48))
    model = ResnetClassifier(engine, plain)
    scores = model.predict(numbered.astype(np.float32))
    assert engine.ran == 4 * 2 + 3 * 6
    assert scores[0] == pytest.approx(1 / (1 + np.exp(4.7)), abs=1e-5)
    np.testing.assert_allclose(scores[1:], 1 / (1 + np.exp(-logits[1:].mean(1))), rtol=1e-5)
    np.testing.assert_allclose(model.logits(numbered.astype(np.float32)), logits.mean(1))
    logits[3, 0] = np.nan
    with pytest.raises(ModelError, match="1 of 4 scores are not numbers"):
        model.predict(numbered.astype(np.float32))
    unnamed = ResnetClassifier(engine, replace(plain, threshold=None, thresholds={}))
    engine.ran = 0
    unnamed.predict(numbered[:3].astype(np.float32))
    assert engine.ran == 3 * 8, "without a threshold nothing is sure"


def test_a_glance_changes_no_verdict_on_ground_that_is_nearly_one() -> None:
    """Real spectra with something bright in the middle, from nothing to a mine."""
    rng = np.random.default_rng(1)
    forest = np.array((0.022, 0.042, 0.024), np.float32)[:, None, None]
    bare = np.array((0.09, 0.12, 0.16), np.float32)[:, None, None]
    chips = []
    for share in np.linspace(0, 1, 40):
        side = round(20 * share)
        chip = forest * rng.normal(1, 0.08, (3, 48, 48))
        chip[:, 24 - side : 24 + side, 24 - side : 24 + side] = bare
        chips.append(chip.astype(np.float32))
    model = load_classifier()
    assert model.card.calibration is not None
    found, exact = model.predict(np.stack(chips)), calibrate(
        model.logits(np.stack(chips)), model.card.calibration
    )  # fmt: skip
    for threshold in (model.card.threshold, *model.card.thresholds.values()):
        assert ((found >= threshold) == (exact >= threshold)).all()
    open_ = exact > 0.1
    assert open_.any()
    np.testing.assert_allclose(found[open_], exact[open_], rtol=1e-4)


def test_scores_that_are_no_numbers_are_refused(chips: NDArray[np.float32]) -> None:
    network = build_network(CONFIG)
    torch.nn.init.constant_(network.net.fc[1].weight, float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        classifier_of(network, card()).predict(chips)


def test_the_relative_copy_does_not_change_with_haze() -> None:
    seen: list[torch.Tensor] = []
    network = ChipNet(3).eval()
    network.net.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    chip = torch.rand(1, 3, 48, 48)
    with torch.inference_mode():
        network(chip * 3)
        network(chip * 3 + 5)
    torch.testing.assert_close(seen[0][:, 3:], seen[1][:, 3:], atol=1e-3, rtol=1e-3)


def test_calibration() -> None:
    scores = calibrate(np.array([-1e4, -1, 0, 1, 1e4], np.float32), Calibration(2, -1, 0.1))
    np.testing.assert_allclose(scores, [0, 0.047426, 0.268941, 0.731059, 1], atol=1e-5)


def test_wrong_models_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="give a classifier"):
        load_classifier(shipped("segmenter"))
    (tmp_path / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes())
    with pytest.raises(ModelError, match="known are narrow, resnet18"):
        replace(card(), config=CONFIG | {"backbone": "vgg"}).write(tmp_path)
    replace(card(), config=CONFIG | {"backbone": "resnet34"}).write(tmp_path)
    with pytest.raises(ModelError, match="does not fit mining:config"):
        load_classifier(tmp_path)


def test_the_shipped_classifier_loads() -> None:
    model = load_classifier()
    assert classifier_ref().load() is model
    assert model.card.chip_size == 48
    assert model.card.threshold is not None
    assert 0 < model.card.threshold < 1
    assert model.card.metrics
    assert (shipped("classifier") / WEIGHTS_FILE).stat().st_size < 60e6


def test_the_shipped_classifier_leaves_plain_forest_alone() -> None:
    """Typical spectra of L2A and L1C forest, in B02 B03 B04."""
    rng = np.random.default_rng(0)
    for spectrum in ((0.022, 0.042, 0.024), (0.089, 0.081, 0.05)):
        ground = np.array(spectrum, np.float32)[:, None, None]
        chips = ground * rng.normal(1, 0.08, (4, 3, 48, 48)).astype(np.float32)
        model = load_classifier()
        assert model.predict(chips).max() < (model.card.threshold or 0)


def test_threads_are_set_once_asked_for() -> None:
    before = torch.get_num_threads()
    set_threads(1)
    assert torch.get_num_threads() == 1
    set_threads(before)
