"""Training on folders: from images to a model that loads; a killed run ends as an unbroken one."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from scanner.config import ScanConfig
from scanner.errors import ModelError, TrainingError
from scanner.models.card import SEGMENTER_CLASSES
from scanner.models.chip_networks import build_network
from scanner.models.classifier import load_classifier
from scanner.models.segmenter import load_segmenter
from scanner.run.pipeline import load_models
from tests.models_tiny import tiny_segmenter
from tests.training.quiet import QUIET
from training.checkpoints import newest_whole
from training.dataset.folder import Sample
from training.finetune import networks
from training.finetune.change import change_both, change_of
from training.finetune.classifier import even_sampler, train_classifier
from training.finetune.masks import UNKNOWN, Pair, find_pairs, read_pair
from training.finetune.pretext import pretrain
from training.finetune.scaling import SCALING, filled, scaled
from training.finetune.segformer import begin as begin_segmenter
from training.finetune.segmenter import CoverModule, train_segmenter
from training.loop import DONE
from training.recipe import ClassifierRecipe, SegmenterRecipe, make_recipe

pytestmark = pytest.mark.filterwarnings(*QUIET, "ignore:.*module.s. in eval mode.*")
ROOT = Path(__file__).resolve().parents[2]
STYLE = {"method": "landsat"}


def chip_folder(folder: Path, train: int = 8, val: int = 4, size: int = 32) -> Path:
    """Write a dataset folder: mines have a bright square in their middle."""
    rng = np.random.default_rng(0)
    for side, n in (("train", train), ("val", val)):
        for name in ("positive", "negative"):
            (folder / side / name).mkdir(parents=True)
            for index in range(n):
                image = rng.integers(20, 60, (size, size, 3), dtype=np.uint8)
                if name == "positive":
                    image[8:22, 8:22] = (200, 170, 120)
                path = folder / side / name / f"s{index % 2}__{name}{index}.png"
                Image.fromarray(image).save(path)
                path.with_suffix(".json").write_text('{"resolution_m": 9.75}')
    (folder / "dataset_metadata.json").write_text(json.dumps({"style": STYLE}))
    return folder


def small(**values: object) -> ClassifierRecipe:
    base = {
        "backbone": "narrow", "pretrained": "no", "epochs": 2, "batch": 4, "input_size": 24,
        "rate": 0.002, "augment": "light", "seed": 1,
    }  # fmt: skip
    return make_recipe(ClassifierRecipe, None, base | values)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on two threads, and far slower where others compute too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chip_folder(tmp_path_factory.mktemp("data") / "chips")


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    train_classifier(folder, out, small(ema=0.5, balance="sample"))
    return out


def test_a_folder_becomes_a_model_that_loads(trained: Path) -> None:
    model = load_classifier(trained)
    card = model.card
    assert (card.chip_size, card.input_size, card.resolution) == (32, 24, 9.75)
    assert card.bands == ("B02", "B03", "B04")
    assert card.scaling.mean == pytest.approx((0.3 * 0.406, 0.3 * 0.456, 0.3 * 0.485))
    assert (card.style, card.threshold) == (STYLE, 0.5)
    assert card.calibration is not None
    assert card.calibration.prevalence == 0.5
    assert card.metrics is not None
    assert card.metrics["validation"]["chips"] == 8
    assert set(card.metrics["validation by source"]) == {"s0", "s1"}
    scores = model.predict(np.full((2, 3, 32, 32), 0.05, np.float32))
    assert ((scores >= 0) & (scores <= 1)).all()
    with pytest.raises(ModelError, match="32, 32"):
        model.predict(np.zeros((1, 3, 48, 48), np.float32))


def test_a_run_leaves_its_history_and_what_was_asked(trained: Path) -> None:
    with (trained / "run/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"train_loss", "val_loss", "val_auc", "val_f1", "rate"} <= set(rows[0])
    config = json.loads((trained / "run/config.json").read_text())
    assert (config["backbone"], config["epochs"], config["ema"]) == ("narrow", 2, 0.5)
    assert list((trained / "run/tensorboard").glob("events*"))
    assert all((trained / "run" / name).exists() for name in ("best.ckpt", "last.ckpt", DONE))


def test_a_folder_of_another_run_is_refused(folder: Path, trained: Path) -> None:
    with pytest.raises(TrainingError, match=r"config\.json.*epochs = 2, now it is 3"):
        train_classifier(folder, trained, small(ema=0.5, balance="sample", epochs=3))


def test_a_scan_refuses_chips_of_another_size(trained: Path) -> None:
    with pytest.raises(ModelError, match="chips of 32 pixels, a scan cuts cells of 48"):
        load_models(ScanConfig().with_values(classifier=str(trained)))


def test_a_killed_run_ends_as_an_unbroken_one(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "tests.training.finetune_run", str(folder),
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    history = broken / "run/history.csv"
    first = subprocess.Popen([*command, str(broken)], env=env, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not history.exists() or len(history.read_text().splitlines()) < 3:
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (broken / "run" / DONE).exists()
    for out in (broken, whole):
        subprocess.run([*command, str(out)], env=env, cwd=ROOT, check=True, capture_output=True)
    assert history.read_text() == (whole / "run/history.csv").read_text()
    weights = [load_file(out / "run" / DONE) for out in (broken, whole)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_a_checkpoint_cut_short_is_not_gone_on_from(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        data = (trained / "run" / name).read_bytes()
        (tmp_path / name).write_bytes(data)
    assert newest_whole(tmp_path) == tmp_path / "last.ckpt"
    data = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(data[: len(data) // 2])
    assert newest_whole(tmp_path) == tmp_path / "best.ckpt"
    assert "last.ckpt: damaged" in caplog.text
    (tmp_path / "best.ckpt").write_bytes(b"")
    assert newest_whole(tmp_path) is None


def test_a_corrupt_image_is_named_and_counted(tmp_path: Path) -> None:
    folder = chip_folder(tmp_path / "chips", train=4, val=2)
    broken = folder / "train/positive/s0__positive0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(TrainingError, match=r"1 of 8 images .*s0__positive0\.png.*--skip-corrupt"):
        train_classifier(folder, tmp_path / "out", small())
    train_classifier(folder, tmp_path / "out", small(epochs=1, skip_corrupt=True))
    told = json.loads((tmp_path / "out/run/corrupt.json").read_text())
    assert told["count"] == 1
    assert str(broken) in told["images"][0]


def test_both_classes_are_needed(tmp_path: Path) -> None:
    folder = chip_folder(tmp_path / "chips", train=2, val=1)
    for path in (folder / "val/positive").iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match="val/positive: no image"):
        train_classifier(folder, tmp_path / "out", small())


def test_imagenet_weights_are_required_or_given_up_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # tests reach no network, nor a cache
    recipe = small(backbone="resnet18", pretrained="required")
    with pytest.raises(TrainingError, match="ImageNet weights of resnet18: not fetched"):
        networks.begin(recipe, None)
    _, told = networks.begin(small(backbone="resnet18", pretrained="auto"), None)
    assert told.startswith("random weights")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_b0"])
def test_imagenet_weights_are_turned_to_our_bands(backbone: str) -> None:
    from torchvision import models

    torch.manual_seed(0)
    given = getattr(models, backbone)(weights=None)
    network = build_network({"backbone": backbone, "bands": 3, "relative": False})
    networks._load_imagenet(network, given.state_dict())
    first = next(iter(given.state_dict()))
    torch.testing.assert_close(network.net.state_dict()[first], given.state_dict()[first].flip(1))
    assert network.eval()(torch.zeros(2, 3, 64, 64)).shape == (2,)


def test_a_self_supervised_start_leaves_the_head_new(folder: Path, tmp_path: Path) -> None:
    recipe = small(init_epochs=1, batch=4)
    change = change_of("strong")
    assert change is not None
    weights = pretrain(folder / "train", recipe, change, tmp_path / "pretext")
    network, told = networks.begin(recipe, weights)
    assert "self-supervised" in told
    kept, own = load_file(weights), network.state_dict()
    assert 0 < len(own) - len(kept) <= 2
    assert all(torch.equal(own[name], value) for name, value in kept.items())
    with pytest.raises(TrainingError, match="another network"):
        networks.begin(small(backbone="resnet18"), weights)
    save_file({"odd": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(TrainingError, match="another network"):
        networks.begin(recipe, tmp_path / "odd.safetensors")
    with pytest.raises(TrainingError, match="needs 128"):
        pretrain(folder / "train", small(batch=64), change, tmp_path / "few")


def test_classes_of_unlike_numbers_weigh_alike() -> None:
    assert networks.pos_weight([1, 0, 0, 0]).item() == 3
    samples = [Sample(Path(str(i)), int(i == 0), "s", None, None, None) for i in range(5)]
    weights = even_sampler(samples).weights
    assert weights[0] == pytest.approx(float(weights[1:].sum()))


def test_nodata_is_scaled_to_nothing() -> None:
    pixels = torch.full((3, 4, 4), float("nan"))
    pixels[:, 0] = 0.6
    out = scaled(filled(pixels)[None])
    assert (out[0, :, 1:].abs() < 1e-6).all()
    same = SCALING.apply(pixels[None].numpy())
    np.testing.assert_allclose(out.numpy(), same, atol=1e-6)


def mask_folder(folder: Path, n: int = 3) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(n):
        image = rng.integers(20, 60, (48, 40, 3), dtype=np.uint8)
        mask = np.full((48, 40), 5, np.uint8)
        image[10:30, 10:30], mask[10:30, 10:30], mask[:5] = (200, 170, 120), 4, UNKNOWN
        Image.fromarray(image).save(folder / f"images/{index}.png")
        Image.fromarray(mask).save(folder / f"masks/{index}.png")
    return folder / "images", folder / "masks"


def test_masks_become_a_segmenter_that_loads(tmp_path: Path) -> None:
    images, masks = mask_folder(tmp_path / "data")
    start = tiny_segmenter(tmp_path / "start")
    recipe = make_recipe(
        SegmenterRecipe, None, {"start": str(start), "epochs": 1, "batch": 2, "crop": 64}
    )
    card = train_segmenter(images, masks, tmp_path / "out", recipe)
    model = load_segmenter(tmp_path / "out")
    assert model.card == card
    assert model.class_map(np.zeros((1, 3, 48, 40), np.float32)).shape == (1, 48, 40)
    assert card.metrics is not None
    figures = card.metrics["validation images"]
    assert figures["forest"]["pixels"] == 48 * 40 - 5 * 40 - 20 * 20
    assert figures["road"] == "no evidence"
    assert "road" in card.limits[0]


def test_a_foreign_segformer_is_turned_to_our_bands_and_classes(tmp_path: Path) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    labels = dict(enumerate(["no-data", *SEGMENTER_CLASSES[::-1]]))
    config = SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8,
        id2label=labels, label2id={name: index for index, name in labels.items()},
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    told = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    theirs = load_segmenter(tmp_path)
    start = begin_segmenter(str(tmp_path))
    module = CoverModule(start.network, start.scaling, SegmenterRecipe(), 1).eval()
    pixels = torch.rand(1, 3, 32, 32) * 0.3
    with torch.inference_mode():
        ours = module.logits(pixels).softmax(1).numpy()
    np.testing.assert_allclose(ours, theirs.predict(pixels.numpy()), atol=1e-5)


def test_unknown_ground_counts_for_nothing(tmp_path: Path) -> None:
    start = begin_segmenter(str(tiny_segmenter(tmp_path / "start")))
    module = CoverModule(start.network, start.scaling, SegmenterRecipe(), 1)
    logits = torch.randn(1, 7, 8, 8, requires_grad=True)
    labels = torch.full((1, 8, 8), UNKNOWN)
    loss = module.mean_loss(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_masks_that_do_not_fit_are_named(tmp_path: Path) -> None:
    images, masks = mask_folder(tmp_path, 2)
    Image.fromarray(np.full((48, 40), 9, np.uint8)).save(masks / "0.png")
    with pytest.raises(TrainingError, match=r"0\.png: class 9"):
        read_pair(Pair(images / "0.png", masks / "0.png"))
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(masks / "0.png")
    with pytest.raises(TrainingError, match=r"0\.png: shape \(5, 5\)"):
        read_pair(Pair(images / "0.png", masks / "0.png"))
    (masks / "1.png").unlink()
    with pytest.raises(TrainingError, match=r"1\.png: no mask"):
        find_pairs(images, masks)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_an_image_and_its_mask_turn_alike(seed: int) -> None:
    torch.manual_seed(seed)
    labels = torch.randint(0, 7, (12, 12))
    pixels = (labels.float() * 0.03 + 0.05).expand(3, 12, 12)
    for change in (None, change_of("light")):
        changed, turned = change_both(change, pixels, labels)
        ranks = np.corrcoef(changed.mean(0).flatten(), turned.flatten().float())[0, 1]
        assert ranks > 0.95
