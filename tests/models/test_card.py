"""Model directories: what a card keeps, and everything that is refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from scanner.errors import ConfigError, ModelError
from scanner.models import store
from scanner.models.calibration import rescale
from scanner.models.card import CLASSIFIER_CLASSES, Calibration, ModelCard, Scaling
from scanner.models.ref import ModelRef, classifier_ref

CARD = ModelCard(
    name="test chips",
    task="classification",
    architecture="ResNet-18",
    bands=("B02", "B03", "B04"),
    optional_bands=("B08",),
    scaling=Scaling(mean=(0.1, 0.1, 0.1, 0.2), std=(0.05, 0.05, 0.1, 0.1), high=0.3),
    sha256="",
    config={"backbone": "resnet18", "bands": 4},
    classes=CLASSIFIER_CLASSES,
    chip_size=48,
    threshold=0.4,
    calibration=Calibration(a=1.5, b=-0.2, prevalence=0.1),
    metrics={"auc": 0.9},
    limits=("none known",),
)

ISOTONIC = Calibration(1.0, 0.0, 0.1, "isotonic", ((-2.0, 0.1), (1.0, 0.8)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"w": torch.zeros(3)}, tmp_path / store.WEIGHTS_FILE)
    CARD.write(tmp_path)
    return tmp_path


def change(folder: Path, **values: Any) -> None:
    path = folder / store.CARD_FILE
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {k.replace("__", ":"): v for k, v in values.items()}))


def test_card_comes_back_as_written(folder: Path) -> None:
    card = ModelCard.read(folder)
    assert card == replace(CARD, sha256=store.weights_digest(folder / store.WEIGHTS_FILE))
    assert len(card.sha256) == 64


def test_card_speaks_mlm(folder: Path) -> None:
    raw = json.loads((folder / store.CARD_FILE).read_text())
    assert raw["mlm:name"] == "test chips"
    assert raw["mlm:tasks"] == ["classification"]
    assert raw["mlm:input"][0]["bands"] == ["B02", "B03", "B04", "B08"]
    assert raw["mlm:input"][0]["value_scaling"][2]["stddev"] == 0.1
    classes = raw["mlm:output"][0]["classification:classes"]
    assert [c["name"] for c in classes] == list(CLASSIFIER_CLASSES)


def test_keys_of_later_versions_are_left_alone(folder: Path) -> None:
    change(folder, mining__something_new=1)
    assert ModelCard.read(folder).name == "test chips"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mining__required_bands": ["B02", "B03"]}, "mlm:input has bands"),
        ({"mining__sha256": "0" * 64}, "sha256 is"),
        ({"mining__threshold": None}, "without threshold"),
        ({"mining__calibration": {"a": "x", "b": 0, "prevalence": 0.1}}, "calibration.a"),
        ({"mining__calibration": {"a": 1, "b": 0, "prevalence": 0}}, "calibration.prevalence"),
        ({"mining__thresholds": {"balanced": "x"}}, "thresholds.balanced"),
        ({"mining__clip": [0.3, 0.3]}, "not positive"),
        ({"mining__clip": 3}, "no card of this project"),
        ({"mining__style": {"method": "melt"}}, "style: method 'melt', known are match"),
        ({"mining__style": {"method": "landsat", "run": "x"}}, "'run' is no entry"),
        ({"mlm__tasks": ["object-detection"]}, "task"),
        ({"mlm__name": None}, "name"),
        ({"mlm__output": []}, "no card of this project"),
    ],
)
def test_wrong_cards_are_refused(folder: Path, values: dict[str, Any], message: str) -> None:
    change(folder, **values)
    with pytest.raises(ModelError, match=message):
        ModelCard.read(folder)


def test_wrong_classes_and_unknown_bands_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="classes"):
        replace(CARD, classes=("mine", "not_mine")).write(folder)
    with pytest.raises(ModelError, match="known are"):
        replace(CARD, bands=("B02", "B03", "red")).write(folder)
    with pytest.raises(ModelError, match="scaling for"):
        replace(CARD, optional_bands=()).write(folder)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.card\.json: cannot be read"):
        ModelCard.read(tmp_path / "nowhere")
    (folder / store.WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be read"):
        ModelCard.read(folder)


def test_text_that_is_no_json_is_refused(folder: Path) -> None:
    for text in ("{", "[1]", '{"mining:threshold": NaN}', "\x00"):
        (folder / store.CARD_FILE).write_text(text)
        with pytest.raises(ModelError, match=r"card\.json: "):
            ModelCard.read(folder)


def test_a_renamed_pickle_is_never_opened(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("the pickle ran",))

    for data in (pickle.dumps(Bomb()), b"", b"PK\x03\x04" + b"0" * 50):
        (folder / store.WEIGHTS_FILE).write_bytes(data)
        with pytest.raises(ModelError, match="no safetensors file"):
            ModelCard.read(folder)


def test_size_caps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_WEIGHTS_BYTES", 10)
    with pytest.raises(ModelError, match="at most 10"):
        ModelCard.read(folder)
    monkeypatch.setattr(store, "MAX_CARD_BYTES", 10)
    with pytest.raises(ModelError, match="at most 10"):
        ModelCard.read(folder)


def test_inputs_are_scaled_filled_and_clipped() -> None:
    pixels = np.full((1, 3, 48, 48), 0.9, np.float32)
    pixels[0, 0, 0, 0] = np.nan
    scaled = CARD.inputs(pixels)
    assert scaled.shape == (1, 4, 48, 48)
    assert scaled.dtype == np.float32
    assert scaled[0, 0, 0, 0] == 0
    assert scaled[0, 2, 5, 5] == pytest.approx((0.3 - 0.1) / 0.1)
    assert not scaled[0, 3].any()  # an optional band left out counts as nodata
    assert np.isnan(pixels[0, 0, 0, 0])  # the caller's pixels stay as they were


def test_the_digest_is_of_what_predict_depends_on() -> None:
    assert replace(CARD, threshold=0.9, metrics=None, name="x").digest == CARD.digest
    assert replace(CARD, calibration=Calibration(1, 0, 0.1)).digest != CARD.digest
    assert replace(CARD, sha256="1" * 64).digest != CARD.digest
    others = [
        replace(CARD, style={"match": "x"}),
        replace(CARD, style={"match": "y"}),
        replace(CARD, input_size=96),
        replace(CARD, calibration=ISOTONIC),
        replace(CARD, calibration=replace(ISOTONIC, knots=((-2.0, 0.1), (1.0, 0.9)))),
    ]
    assert len({CARD.digest, *(card.digest for card in others)}) == 6
    assert replace(CARD, input_size=48, thresholds={"balanced": 0.3}).digest == CARD.digest


def test_a_card_of_the_first_version_loads_and_keeps_its_digest(folder: Path) -> None:
    """Runs name their models by digest: one begun before an update must be resumable after."""
    path = folder / store.CARD_FILE
    raw = json.loads(path.read_text())
    for later in ("mining:thresholds", "mining:style"):
        del raw[later]
    assert raw["mining:calibration"] == {"a": 1.5, "b": -0.2, "prevalence": 0.1, "method": "platt"}
    path.write_text(json.dumps(raw))
    card = ModelCard.read(folder)
    assert (card.thresholds, card.style) == ({}, None)
    assert card.digest == "b3b5e762703da98e6bac0d6b395a03be4d33ffe93d78ca2fc8a02497d560a54e"


def test_later_fields_come_back_as_written(folder: Path) -> None:
    card = replace(
        CARD,
        calibration=ISOTONIC,
        thresholds={"balanced": 0.3, "high_recall": 0.05},
        style={"method": "landsat"},
    ).write(folder)
    assert ModelCard.read(folder) == card


def test_a_cut_is_a_score_or_a_name_and_moves_with_the_prior() -> None:
    card = replace(CARD, thresholds={"balanced": 0.3, "high_recall": 0.05})
    assert card.prevalence == 0.1
    assert card.cut() == 0.4
    assert card.cut(0.7) == card.cut(0.7, prior=0.01) == 0.7
    assert card.cut("high-recall") == card.cut("high_recall") == 0.05
    moved = card.cut(None, prior=0.01)
    assert moved == pytest.approx(0.4 / 11 / (0.4 / 11 + 0.6))
    assert rescale(moved, 0.01, 0.1) == pytest.approx(0.4)
    for wrong in ("high-precision", "nonsense"):
        with pytest.raises(ConfigError, match="has balanced, high-recall"):
            card.cut(wrong)
    with pytest.raises(ConfigError, match="none by name"):
        CARD.cut("balanced")
    with pytest.raises(ConfigError, match=r"within 0\.\.1"):
        CARD.cut(float("nan"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"thresholds": {"medium": 0.5}}, "threshold 'medium', known are balanced"),
        ({"thresholds": {"balanced": 1.5}}, "outside 0"),
        ({"threshold": -0.1}, "outside 0"),
    ],
)
def test_thresholds_that_are_none_are_refused(
    folder: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        replace(CARD, **values).write(folder)


@pytest.mark.parametrize("shape", [(3, 48, 48), (1, 2, 48, 48), (1, 5, 48, 48), (1, 3, 40, 48)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="cut it so"):
        CARD.inputs(np.zeros(shape, np.float32))


def test_a_reference_is_small_and_checks_the_model_it_finds(folder: Path) -> None:
    ref = classifier_ref(folder)
    assert pickle.loads(pickle.dumps(ref)) == ref  # noqa: S301
    assert len(pickle.dumps(ref)) < 1000
    assert ref.sha256 == ModelCard.read(folder).digest
    with pytest.raises(ModelError, match="does not fit"):
        ModelRef("classifier", str(folder), "0" * 64).load()
