"""The segmenter: shapes, nodata, batches, and models of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from scanner.errors import ModelError
from scanner.models.card import SEGMENTER_CLASSES, ModelCard, Scaling
from scanner.models.cover_networks import build_network
from scanner.models.ref import segmenter_ref
from scanner.models.segmenter import load_segmenter
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, shipped, weights_digest

TINY: dict[str, Any] = {
    "num_channels": 3,
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 8, 8, 8],
    "num_attention_heads": [1, 1, 1, 1],
    "decoder_hidden_size": 16,
    "num_labels": 7,
}
LOVEDA = ["background", "building", "road", "water", "barren", "forest", "agricultural"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def own_model(folder: Path) -> Path:
    torch.manual_seed(0)
    folder.mkdir()
    network = build_network(TINY)
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()},
        folder / WEIGHTS_FILE,
    )
    ModelCard(
        name="tiny",
        task="semantic-segmentation",
        architecture="SegFormer",
        bands=("B02", "B03", "B04"),
        scaling=Scaling((0.1, 0.1, 0.1), (0.1, 0.1, 0.1)),
        sha256="",
        config=TINY,
        classes=SEGMENTER_CLASSES,
    ).write(folder)
    return folder


def foreign_model(folder: Path, labels: list[str]) -> Path:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    names = dict(enumerate(labels))
    config = SegformerConfig(
        **TINY | {"num_labels": len(labels)},
        id2label=names,
        label2id={v: k for k, v in names.items()},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255})
    )
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_model(tmp_path_factory.mktemp("own") / "m")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign_model(tmp_path_factory.mktemp("foreign") / "m", LOVEDA)


@pytest.fixture
def pixels() -> NDArray[np.float32]:
    pixels = np.random.default_rng(1).random((3, 3, 96, 64), dtype=np.float32) * 0.3
    pixels[0, :, 10:20, 10:20] = np.nan
    pixels[1] = np.nan
    return pixels


def test_probabilities(own: Path, pixels: NDArray[np.float32]) -> None:
    out = load_segmenter(own).predict(pixels)
    assert out.shape == (3, 7, 96, 64)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out.min() >= 0
    np.testing.assert_allclose(out.sum(1), 1, atol=1e-5)


def test_class_map_is_the_most_probable_class(own: Path, pixels: NDArray[np.float32]) -> None:
    model = load_segmenter(own)
    found = model.class_map(pixels)
    assert found.dtype == np.uint8
    assert (found == model.predict(pixels).argmax(1)).mean() > 0.999


def test_a_window_does_not_depend_on_its_neighbours(own: Path, pixels: NDArray[np.float32]) -> None:
    model = load_segmenter(own)
    np.testing.assert_array_equal(model.predict(pixels)[2:], model.predict(pixels[2:]))
    assert model.predict(pixels[:0]).shape == (0, 7, 96, 64)


def test_a_model_is_loaded_once(own: Path) -> None:
    assert load_segmenter(own) is load_segmenter(str(own))
    assert segmenter_ref(own).load() is load_segmenter(own)


def test_weights_that_do_not_fit_are_refused(own: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(own, folder)
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors.popitem()
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(ModelError, match="sha256"):
        load_segmenter(folder)
    raw = json.loads((folder / CARD_FILE).read_text())
    raw["mining:sha256"] = weights_digest(folder / WEIGHTS_FILE)
    (folder / CARD_FILE).write_text(json.dumps(raw))
    with pytest.raises(ModelError, match="does not fit mining:config"):
        load_segmenter(folder)


def test_a_classifier_is_no_segmenter() -> None:
    with pytest.raises(ModelError, match="give a segmenter"):
        load_segmenter(shipped("classifier"))


def test_a_model_of_others_sees_what_its_preprocessor_says(foreign: Path) -> None:
    from transformers import SegformerForSemanticSegmentation

    rgb = np.random.default_rng(2).integers(0, 256, (64, 64, 3))
    reflectance = (rgb[..., ::-1] / 255 * 0.3).astype(np.float32).transpose(2, 0, 1)[None]
    theirs = SegformerForSemanticSegmentation.from_pretrained(foreign).eval()
    picture = torch.tensor(((rgb / 255 - MEAN) / STD).transpose(2, 0, 1)[None], dtype=torch.float32)
    with torch.inference_mode():
        logits = torch.nn.functional.interpolate(
            theirs(pixel_values=picture).logits, (64, 64), mode="bilinear"
        )
    model = load_segmenter(foreign)
    np.testing.assert_allclose(model.predict(reflectance), logits.softmax(1).numpy(), atol=1e-4)
    assert model.card.classes == SEGMENTER_CLASSES
    assert model.card.sha256 == weights_digest(foreign / WEIGHTS_FILE)
    assert any("0..255" in limit for limit in model.card.limits)


def test_classes_are_mapped_by_name_not_by_place(
    tmp_path: Path, pixels: NDArray[np.float32]
) -> None:
    straight = load_segmenter(foreign_model(tmp_path / "a", LOVEDA)).predict(pixels)
    turned = load_segmenter(foreign_model(tmp_path / "b", LOVEDA[::-1])).predict(pixels)
    np.testing.assert_allclose(straight, turned[:, ::-1], atol=1e-5)


def test_an_output_for_nodata_is_left_out(tmp_path: Path, pixels: NDArray[np.float32]) -> None:
    model = load_segmenter(foreign_model(tmp_path / "m", ["no-data", *LOVEDA]))
    np.testing.assert_allclose(model.predict(pixels).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LOVEDA[:-1], "no label for agriculture"),
        ([*LOVEDA, "vegetation"], "'vegetation' is not known"),
        ([*LOVEDA, "agriculture"], "'agriculture' is there twice"),
        (["LABEL_0", *LOVEDA[1:]], "'LABEL_0' is not known"),
    ],
)
def test_other_classes_are_refused(tmp_path: Path, labels: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_segmenter(foreign_model(tmp_path / "m", labels))


def test_incomplete_models_of_others_are_refused(foreign: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(foreign, folder)
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors.pop("decode_head.classifier.weight")
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="1 weights missing"):
        load_segmenter(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        load_segmenter(folder)
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="give a SegformerForSemanticSegmentation"):
        load_segmenter(folder)


def test_a_name_that_is_neither_directory_nor_hub_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        load_segmenter(tmp_path / "nowhere")


def test_a_hub_that_is_not_reached_is_no_reason_for_another_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ModelError, match=r"somebody/some-model: .* not fetched from the hub"):
        load_segmenter("somebody/some-model")


def test_a_hub_id_takes_the_fetched_directory(
    monkeypatch: pytest.MonkeyPatch, foreign: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(foreign))
    assert load_segmenter("somebody/segformer").card.name == "somebody/segformer"


def test_the_shipped_segmenter_loads() -> None:
    model = load_segmenter()
    assert model.card.bands == ("B02", "B03", "B04")
    assert model.card.metrics
    assert (shipped("segmenter") / WEIGHTS_FILE).stat().st_size < 60e6


@pytest.mark.parametrize("air", [(0.0, 0.0, 0.0), (0.0675, 0.0395, 0.0265)])
def test_the_shipped_segmenter_sees_bare_ground_in_forest(air: tuple[float, ...]) -> None:
    """Typical spectra (B02 B03 B04) of L2A, and with the air of L1C; scars 12 and 3 pixels wide."""
    rng = np.random.default_rng(0)
    crowns = rng.normal(1, 0.15, (1, 160, 160)).astype(np.float32)
    picture = np.array([0.022, 0.040, 0.022], np.float32)[:, None, None] * crowns
    bare = np.array([0.13, 0.19, 0.23], np.float32)[:, None, None]
    picture[:, 40:52, 40:52] = bare
    picture[:, 100:103, 30:60] = bare
    picture += np.array(air, np.float32)[:, None, None]
    suspicious = np.isin(load_segmenter().class_map(picture[None])[0], (1, 2, 3, 4))
    assert suspicious[42:50, 42:50].mean() > 0.9
    assert suspicious[100:103, 32:58].mean() > 0.5
    assert suspicious[115:].mean() < 0.02
