"""Model directories made to harm: each is refused by one line before a pixel is read, or harmless.

Counted: every entry of a table below is one bad input.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scanner.errors import ModelError
from scanner.models.card import ModelCard
from scanner.models.classifier import load_classifier
from scanner.models.hub import segmenter_card
from scanner.models.segmenter import load_segmenter
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, weights_digest
from tests.models.test_segmenter import LOVEDA, foreign_model

HUGE = 10**9


@pytest.fixture
def segmenter(tiny_models: dict[str, str], tmp_path: Path) -> Path:
    """A copy of a sound segmenter, to be spoilt."""
    return Path(shutil.copytree(tiny_models["segmenter"], tmp_path / "segmenter"))


@pytest.fixture
def classifier(tiny_models: dict[str, str], tmp_path: Path) -> Path:
    """A copy of a sound classifier, to be spoilt."""
    return Path(shutil.copytree(tiny_models["classifier"], tmp_path / "classifier"))


@pytest.fixture(scope="module")
def sound_foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign_model(tmp_path_factory.mktemp("foreign") / "m", LOVEDA)


@pytest.fixture
def foreign(sound_foreign: Path, tmp_path: Path) -> Path:
    """A copy of a sound model in transformers form."""
    return Path(shutil.copytree(sound_foreign, tmp_path / "foreign"))


def change(path: Path, **values: Any) -> None:
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {k.replace("__", ":"): v for k, v in values.items()}))


def refused(folder: Path, told: str) -> None:
    """Reading the card alone must refuse it: that is what the client does first of all."""
    with pytest.raises(ModelError, match=told) as caught:
        segmenter_card(folder)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 1000
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"attn_implementation": "someone/kernel"}, "attn_implementation.*not permitted"),
        ({"_attn_implementation": "someone/kernel@main"}, "not permitted"),
        ({"auto_map": {"AutoModel": "someone/code--model.Net"}}, "auto_map.*not permitted"),
        ({"trust_remote_code": True}, "not permitted"),
        ({"quantization_config": {"quant_method": "x"}}, "not permitted"),
        ({"_name_or_path": "/etc/passwd"}, "not permitted"),
        ({"model_type": "vit"}, "not permitted"),
        ({"torch_dtype": "float64"}, "not permitted"),
        ({"id2label": {"0": "<script>"}}, "not permitted"),
        ({"__class__": "x"}, "not permitted"),
        ({"x" * 100_000: 1}, "not permitted"),
        ({"hidden_act": "os.system"}, "hidden_act"),
        ({"hidden_sizes": [HUGE] * 4}, "less than or equal to 1024"),
        ({"depths": [HUGE] * 4}, "less than or equal to 64"),
        ({"decoder_hidden_size": HUGE}, "less than or equal to 2048"),
        ({"patch_sizes": [HUGE] * 4}, "patch_sizes"),
        ({"mlp_ratios": [HUGE] * 4}, "mlp_ratios"),
        ({"num_encoder_blocks": HUGE}, "num_encoder_blocks"),
        ({"num_labels": HUGE}, "num_labels"),
        ({"num_labels": 6}, "num_labels 6 for 7 classes"),
        ({"num_channels": 4}, "num_channels 4 for 3 bands"),
        ({"hidden_sizes": [-8] * 4}, "greater than or equal to 1"),
        ({"hidden_sizes": [8, 8]}, "at least 4 items"),
        ({"hidden_sizes": [8] * 1000}, "at most 4 items"),
        ({"hidden_sizes": "8888"}, "valid list"),
        ({"hidden_sizes": [[8]] * 4}, "valid integer"),
        ({"num_attention_heads": [0] * 4}, "greater than or equal to 1"),
        ({"num_attention_heads": [3] * 4}, "no multiples"),
        ({"strides": [0] * 4}, "strides"),
        ({"sr_ratios": [True] * 4}, "sr_ratios"),
        ({"drop_path_rate": 7}, "drop_path_rate"),
        ({"layer_norm_eps": 0}, "layer_norm_eps"),
        ({"hidden_dropout_prob": "0.1"}, "hidden_dropout_prob"),
    ],
)
def test_the_settings_of_a_segmenters_network_are_sizes_alone(
    segmenter: Path, config: dict[str, Any], told: str
) -> None:
    raw = json.loads((segmenter / CARD_FILE).read_text())
    change(segmenter / CARD_FILE, mining__config=raw["mining:config"] | config)
    refused(segmenter, told)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"backbone": "os.system"}, "known are narrow"),
        ({"backbone": "get_model"}, "known are narrow"),
        ({"backbone": ["resnet18"]}, "valid string"),
        ({"backbone": None}, "valid string"),
        ({"bands": HUGE}, "less than or equal to 16"),
        ({"bands": 4}, "4 bands for 3"),
        ({"bands": "3"}, "valid integer"),
        ({"flips": 0}, "flips"),
        ({"flips": -1}, "flips"),
        ({"flips": HUGE}, "flips"),
        ({"dropout": 1}, "dropout"),
        ({"relative": "yes"}, "relative"),
        ({"weights": "https://example.org/x.pth"}, "not permitted"),
    ],
)
def test_the_settings_of_a_classifiers_network_are_sizes_alone(
    classifier: Path, config: dict[str, Any], told: str
) -> None:
    raw = json.loads((classifier / CARD_FILE).read_text())
    change(classifier / CARD_FILE, mining__config=raw["mining:config"] | config)
    with pytest.raises(ModelError, match=told) as caught:
        ModelCard.read(classifier)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 1_000_000, "not JSON"),
        ('{"a":' * 100_000, "not JSON"),
        ('{"mining:threshold": 1e999}', "too large a number"),
        ('{"mining:threshold": -1e999}', "too large a number"),
        ('{"mining:threshold": -Infinity}', "no JSON number"),
        ('{"mining:threshold": ' + "9" * 5000 + "}", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ('"text"', "no object"),
        ("{}", "no card of this project"),
        (" " * 1_100_000, "too large"),
    ],
)
def test_a_card_that_is_hard_to_read(segmenter: Path, text: str, told: str) -> None:
    (segmenter / CARD_FILE).write_text(text, encoding="utf-8")
    refused(segmenter, told)


def test_a_card_in_another_encoding(segmenter: Path) -> None:
    for data in (b"\xff\xfe{\x00}\x00", b"\x80\x81", b"\x00" * 100):
        (segmenter / CARD_FILE).write_bytes(data)
        refused(segmenter, "not JSON")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"mlm__name": "\x1b[2J\x1b[1;1Hall is well"}, "a name that cannot be shown"),
        ({"mlm__name": "fine\nmining-scan: done"}, "a name that cannot be shown"),
        ({"mlm__name": "\u202egnp.exe"}, "a name that cannot be shown"),
        ({"mlm__name": "x" * 10_000}, "a name that cannot be shown"),
        ({"mlm__name": ""}, "a name that cannot be shown"),
        ({"mlm__name": {"a": "b" * 100_000}}, "name"),
        ({"mlm__architecture": "\x00"}, "a name that cannot be shown"),
        ({"mlm__tasks": []}, "no card of this project"),
        ({"mlm__tasks": {"0": "classification"}}, "no card of this project"),
        ({"mlm__input": "B02"}, "no card of this project"),
        ({"mlm__total_parameters": "many"}, "parameters"),
        ({"mining__required_bands": ["B02", "B03", "../B04"]}, "bands"),
        ({"mining__required_bands": 3}, "no card of this project"),
        ({"mining__sha256": "../../etc/passwd"}, "sha256 is"),
        ({"mining__sha256": None}, "sha256"),
        ({"mining__clip": [0, 1e300]}, "scaling beyond"),
        ({"mining__input_size": HUGE}, "input_size or chip_size"),
        ({"mining__input_size": -1}, "input_size or chip_size"),
        ({"mining__chip_size": 0}, "input_size or chip_size"),
        ({"mining__style": {"method": ["match"]}}, "style"),
        (
            {"mining__style": {"method": "match", "source": "chip", "target": {"r_p2": "x"}}},
            "style",
        ),
        ({"mining__style": {"method": "stretch", "source": "chip", "bands": [[]]}}, "correct"),
        ({"mining__config": "__import__('os')"}, "config"),
        ({"mining__limits": "one"}, "limits"),
        ({"mining__thresholds": {"balanced": -1}}, "threshold outside"),
    ],
)
def test_cards_with_hostile_values(segmenter: Path, values: dict[str, Any], told: str) -> None:
    change(segmenter / CARD_FILE, **values)
    refused(segmenter, told)


def test_scalings_that_would_make_no_numbers(segmenter: Path) -> None:
    raw = json.loads((segmenter / CARD_FILE).read_text())
    entry = raw["mlm:input"][0]
    for mean, stddev in ((1e300, 1), (0, 1e-300), (0, 0), (0, -1), ("0", "x"), (None, 1)):
        scaling = [{"type": "z-score", "mean": mean, "stddev": stddev}] * 3
        change(segmenter / CARD_FILE, mlm__input=[entry | {"value_scaling": scaling}])
        refused(segmenter, "scaling")


# Weights: numbers in a file whose digest the card gives, and nothing else


def with_weights(folder: Path, data: bytes) -> None:
    """Put other weights there, their digest in the card, as who made the directory would."""
    (folder / WEIGHTS_FILE).write_bytes(data)
    with suppress(ModelError):  # refused at the first look at the file: the test sees that next
        change(folder / CARD_FILE, mining__sha256=weights_digest(folder / WEIGHTS_FILE))


@pytest.mark.parametrize(
    "data",
    [
        (2**62).to_bytes(8, "little") + b"{}",
        (HUGE).to_bytes(8, "little") + b"{" + b"x" * 100,
        (2).to_bytes(8, "little") + b"{}",
        (20).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}' + bytes(8),
        (8).to_bytes(8, "little") + b"{" * 8,
        b"\x80\x05cposix\nsystem\n.",
        b"PK\x03\x04" + bytes(100),
        b"",
        b"{",
    ],
)
def test_weights_that_are_none_are_refused_when_loaded(segmenter: Path, data: bytes) -> None:
    with_weights(segmenter, data)
    with pytest.raises(ModelError, match=r"model\.safetensors") as caught:
        load_segmenter(segmenter)
    assert len(str(caught.value).splitlines()) == 1


def test_a_header_that_lies_about_its_tensors_is_refused(segmenter: Path) -> None:
    for entry in (
        {"dtype": "F32", "shape": [HUGE, HUGE], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, HUGE]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "OBJ", "shape": [2], "data_offsets": [0, 8]},
    ):
        header = json.dumps({"w": entry}).encode()
        with_weights(segmenter, len(header).to_bytes(8, "little") + header + bytes(8))
        with pytest.raises(ModelError, match="not read as safetensors"):
            load_segmenter(segmenter)


def test_a_network_larger_than_its_weights_takes_no_memory(segmenter: Path) -> None:
    """The largest settings there may be would be 20 GB of numbers; the file has a few thousand."""
    raw = json.loads((segmenter / CARD_FILE).read_text())
    sizes = {
        "hidden_sizes": [1024] * 4, "depths": [64] * 4, "mlp_ratios": [8] * 4,
        "decoder_hidden_size": 2048, "num_attention_heads": [1] * 4, "sr_ratios": [1] * 4,
    }  # fmt: skip
    change(segmenter / CARD_FILE, mining__config=raw["mining:config"] | sizes)
    with pytest.raises(ModelError, match="does not fit mining:config"):
        load_segmenter(segmenter)


def test_weights_of_another_shape_or_name_are_refused(classifier: Path) -> None:
    sound = load_file(classifier / WEIGHTS_FILE)
    for tensors in (
        {**sound, "extra": torch.zeros(1)},
        {k: v[:1] if v.ndim == 4 else v for k, v in sound.items()},
        {"__reduce__": torch.zeros(1)},
    ):
        save_file({k: v.contiguous() for k, v in tensors.items()}, classifier / WEIGHTS_FILE)
        change(classifier / CARD_FILE, mining__sha256=weights_digest(classifier / WEIGHTS_FILE))
        with pytest.raises(ModelError, match="does not fit mining:config"):
            load_classifier(classifier)


# Files that are something else, and files nobody asked for


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE])
def test_devices_pipes_and_folders_are_not_read(segmenter: Path, name: str) -> None:
    path = segmenter / name
    path.unlink()
    os.mkfifo(path)  # to open it would wait for ever
    refused(segmenter, "no regular file")
    path.unlink()
    path.symlink_to("/dev/zero")  # to read it would never end
    refused(segmenter, "no regular file")
    path.unlink()
    path.mkdir()
    refused(segmenter, "no regular file")


def test_a_link_to_another_file_tells_nothing_of_it(segmenter: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0:hush")
    for name in (CARD_FILE, WEIGHTS_FILE):
        link = segmenter / name
        kept = link.read_bytes()
        link.unlink()
        link.symlink_to(secret)
        with pytest.raises(ModelError, match=name) as caught:
            segmenter_card(segmenter)
        assert "hush" not in str(caught.value)
        assert "x:0:0" not in str(caught.value)
        link.unlink()
        link.write_bytes(kept)
    loop = segmenter / CARD_FILE
    loop.unlink()
    loop.symlink_to(loop)
    with pytest.raises(ModelError):
        segmenter_card(segmenter)


CODE = "raise SystemExit('this code was run')\n"


def test_files_beside_a_model_are_not_looked_at(segmenter: Path, foreign: Path) -> None:
    """Code and pickles beside the weights would raise, or end the test run, if they were used."""
    for folder in (segmenter, foreign):
        for name in ("modeling_segformer.py", "__init__.py", "configuration.py", "custom.py"):
            (folder / name).write_text(CODE)
        for name in (
            "pytorch_model.bin", "model.pt", "model.safetensors.index.json",
            "adapter_config.json", "adapter_model.bin", "generation_config.json",
        ):  # fmt: skip
            (folder / name).write_bytes(b"cbuiltins\nexit\n(tR.")
    assert load_segmenter(segmenter).card.name == "tiny-semantic-segmentation"
    assert load_segmenter(foreign).card.architecture == "SegFormer"


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoModelForSemanticSegmentation": "custom.Net"}},
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel"},
        {"quantization_config": {"quant_method": "gptq"}},
        {"_name_or_path": "someone/else"},
        {"transformers_weights": "../other.safetensors"},
        {"peft_config": {"base_model": "someone/else"}},
        {"dtype": "complex64"},
    ],
)
def test_a_foreign_config_hands_on_sizes_alone(foreign: Path, values: dict[str, Any]) -> None:
    (foreign / "custom.py").write_text(CODE)
    change(foreign / "config.json", **values)
    loaded = load_segmenter(foreign)
    assert set(loaded.card.config) == {"channels", "order", "network"}
    assert not set(values) & set(loaded.card.config["network"])


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("config.json", {"hidden_sizes": [HUGE] * 4}, "less than or equal"),
        ("config.json", {"hidden_act": "evil"}, "hidden_act"),
        ("config.json", {"num_channels": 12}, "3 channels"),
        ("config.json", {"id2label": {"x": "road"}}, "does not number its labels"),
        ("config.json", {"id2label": {"-1": "road"}}, "does not number its labels"),
        ("config.json", {"id2label": {"999": "road"}}, "does not number its labels"),
        ("config.json", {"id2label": ["road"]}, "needs id2label"),
        ("config.json", {"id2label": {"0": "\x1b[31m" * 9999}}, "not known"),
        ("config.json", {"architectures": ["Evil"]}, "give a SegformerForSemanticSegmentation"),
        ("config.json", {"architectures": "SegformerForSemanticSegmentation"}, "give a Segformer"),
        ("config.json", {"model_type": "evil" * 9999}, "give a SegformerForSemanticSegmentation"),
        ("preprocessor_config.json", {"rescale_factor": 0}, "rescale_factor"),
        ("preprocessor_config.json", {"rescale_factor": "x"}, "image_mean"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "not positive"),
        ("preprocessor_config.json", {"image_std": [1e-300] * 3}, "scaling"),
        ("preprocessor_config.json", {"image_mean": [1e300] * 3}, "scaling beyond"),
        ("preprocessor_config.json", {"image_mean": "abc"}, "image_mean"),
        ("preprocessor_config.json", {"image_mean": [{}] * 3}, "image_mean"),
    ],
)
def test_foreign_files_with_hostile_values(
    foreign: Path, name: str, values: dict[str, Any], told: str
) -> None:
    change(foreign / name, **values)
    refused(foreign, told)


def test_a_foreign_network_is_part_of_the_models_identity(foreign: Path) -> None:
    before = segmenter_card(foreign)[1].digest
    change(foreign / "config.json", layer_norm_eps=0.1)
    assert segmenter_card(foreign)[1].digest != before


def test_weights_are_taken_under_old_names_and_new(foreign: Path) -> None:
    """transformers named its layers anew; it saves under the old names, as hubs have them."""
    now = load_segmenter(foreign)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).numpy()
    expected = now.predict(pixels)
    tensors = load_file(foreign / WEIGHTS_FILE)
    newer = {
        name.replace("attention.self.query", "attention.q_proj"): tensor
        for name, tensor in tensors.items()
    }
    assert newer.keys() != tensors.keys()
    save_file(newer, foreign / WEIGHTS_FILE, metadata={"format": "pt"})
    assert (load_segmenter(foreign).predict(pixels) == expected).all()


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/b/c", "https://example.org/m", "./x/y", "~/m", "a\0b/c",
     "owner/name@", "owner/name@../x y", "owner/-\u202e", "owner/" + "n" * 200, "", "o/n@a@b",
     "owner/..", "../name"],
)  # fmt: skip
def test_names_that_are_no_hub_id_are_not_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ModelError):
        load_segmenter(name)


def test_a_revision_of_a_hub_model_is_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, foreign: Path
) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetch(hub_id: str, revision: str | None = None, **_: Any) -> str:
        asked.append((hub_id, revision))
        return str(foreign)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    for name in ("owner/name", "owner/name@v1.0", "owner/name@0a1b2c3"):
        assert segmenter_card(name)[1].name == name
    assert asked == [("owner/name", None), ("owner/name", "v1.0"), ("owner/name", "0a1b2c3")]


@pytest.mark.parametrize("which", ["sha256", "pickle", "kernel"])
def test_the_command_refuses_before_it_writes_or_asks_anything(
    which: str, segmenter: Path, classifier: Path, seam_aoi: Path, tmp_path: Path, call: Any
) -> None:
    if which == "sha256":
        change(segmenter / CARD_FILE, mining__sha256="0" * 64)
    elif which == "pickle":
        (segmenter / WEIGHTS_FILE).write_bytes(b"\x80\x05cposix\nsystem\n.")
    else:
        raw = json.loads((segmenter / CARD_FILE).read_text())["mining:config"]
        change(segmenter / CARD_FILE, mining__config=raw | {"attn_implementation": "a/kernel"})
    out = tmp_path / "run"
    code, printed, told = call(
        seam_aoi, "--catalog", "http://127.0.0.1:9/never-asked", "--out", out,
        "--segmenter", segmenter, "--classifier", classifier,
    )  # fmt: skip
    assert (code, printed) == (2, "")
    assert told.startswith("mining-scan: ")
    assert len(told.splitlines()) == 1
    assert str(segmenter) in told
    assert not out.exists()
