"""Engines: the networks are those of torch, on each of them, and all agree.

Tolerances: ``AGREE`` of all pixels have the same class on torch and on OpenVINO, and scores differ
by less than ``SCORES``. Of one engine, results are the same bits whatever its company is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from scanner.errors import ConfigError, ModelError
from scanner.models.backends import choose
from scanner.models.backends.chipnet import chipnet, relative
from scanner.models.backends.choose import using
from scanner.models.backends.cuda import CudaChips, CudaWindows
from scanner.models.backends.engines import chips_engine, module_engine, windows_engine
from scanner.models.backends.runners import check_fits
from scanner.models.backends.segformer import segformer
from scanner.models.backends.weights import Weights
from scanner.models.card import ModelCard
from scanner.models.chip_networks import build_network
from scanner.models.class_map import class_map
from scanner.models.classifier import load_classifier
from scanner.models.cover_networks import build_network as build_segformer
from scanner.models.ref import segmenter_ref
from scanner.models.segmenter import load_segmenter
from scanner.models.store import WEIGHTS_FILE, shipped
from scanner.run.worker import TORCH_THREADS, PrepareWorker

AGREE = 0.999
"""Measured on the three real scenes: all of 1,011,712 pixels, and the same as transformers."""
SCORES = 1e-4
"""Measured on chips of real scenes: 3e-8, before scores are rounded to 4 decimals."""
HALF_AGREE = 0.99
"""Of a GPU's half precision, on the CPU."""

TINY: dict[str, Any] = {
    "depths": [1, 2, 1, 1],
    "hidden_sizes": [8, 16, 24, 32],
    "num_attention_heads": [1, 2, 3, 4],
    "decoder_hidden_size": 16,
    "num_labels": 7,
}


@pytest.fixture(params=["torch", "openvino"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The engine models are loaded on within a test."""
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="mining-scan[fast] is not installed")
    with using(request.param, TORCH_THREADS):
        yield request.param


def arrays(network: torch.nn.Module) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    """Give norms and biases values that are not those of a new network."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.normal_(0.5, 0.5)
    return network.eval()


def windows(n: int = 2, side: int = 128) -> NDArray[np.float32]:
    """Return scaled windows: noise over steps of a few pixels."""
    rng = np.random.default_rng(0)
    steps = np.kron(rng.normal(size=(n, 3, side // 16, side // 16)), np.ones((16, 16)))
    return (steps + rng.normal(0, 0.2, (n, 3, side, side))).astype(np.float32)


# The networks are those that were trained


@pytest.mark.parametrize(
    "changes",
    [{}, {"hidden_act": "relu"}, {"hidden_act": "silu", "mlp_ratios": [2, 2, 2, 2]}],
    ids=str,
)
def test_logits_are_those_of_transformers(changes: dict[str, Any], engine: str) -> None:
    config = TINY | changes
    network = stirred(build_segformer(config))
    weights = Weights(arrays(network))
    run = windows_engine(lambda ops, x: segformer(ops, weights, config, x))
    assert run.name.startswith(engine)
    for pixels in (windows(), windows(side=96)):
        with torch.inference_mode():
            expected = network(pixel_values=torch.from_numpy(pixels)).logits.numpy()
        np.testing.assert_allclose(run.logits(pixels), expected, atol=2e-4, rtol=1e-4)
        classes = [class_map(logits, *pixels.shape[2:]) for logits in expected]
        assert (run.class_map(pixels) == classes).mean() > AGREE
    weights.check_all_used()


@pytest.mark.parametrize("backbone", ["narrow", "resnet18", "resnet34"])
@pytest.mark.parametrize("with_relative", [True, False])
def test_chips_are_those_of_the_trained_module(
    backbone: str, with_relative: bool, engine: str
) -> None:
    config = {"backbone": backbone, "bands": 3, "relative": with_relative}
    module = stirred(build_network(config))
    weights = Weights(arrays(module))
    run = chips_engine(lambda ops, x: chipnet(ops, weights, config, x), 8, with_relative)
    chips = windows(3, 48)
    expected = module_engine(module, 8).logits(chips, range(8))
    np.testing.assert_allclose(run.logits(chips, range(8)), expected, atol=1e-4, rtol=1e-4)
    weights.check_all_used()


@pytest.mark.parametrize("count", range(1, 10))
def test_a_glance_at_several_chips_at_once_sees_what_all_views_of_one_see(
    count: int, engine: str
) -> None:
    """The last batch holds any number of chips, and is filled up with copies."""
    config = {"backbone": "narrow", "bands": 3}
    weights = Weights(arrays(stirred(build_network(config))))
    run = chips_engine(lambda ops, x: chipnet(ops, weights, config, x), 8, True)
    assert run.name.startswith(engine)
    chips = windows(count, 48)
    whole = run.logits(chips, range(8))
    for views in (range(2), range(2, 8)):
        found = run.logits(chips, views)
        assert found.shape == (count, len(views))
        np.testing.assert_allclose(found, whole[:, views.start : views.stop], atol=1e-5)
    order = np.random.default_rng(0).permutation(count)
    np.testing.assert_array_equal(
        run.logits(chips[order], range(2)), run.logits(chips, range(2))[order]
    )


def test_relative_bands_are_those_of_training() -> None:
    seen: list[torch.Tensor] = []
    module = build_network({"backbone": "narrow", "bands": 3}).eval()
    module.net[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    chips = windows(2, 48)
    chips[1] = 0.3  # plain
    with torch.inference_mode():
        module(torch.from_numpy(chips))
    np.testing.assert_allclose(relative(chips), seen[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("spoil", ["missing", "shape", "extra", "channels"])
def test_weights_of_another_network_are_refused(spoil: str) -> None:
    found = arrays(build_segformer(TINY))
    name = "segformer.stages.1.blocks.1.mlp.fc1.weight"
    if spoil == "missing":
        del found[name]
    elif spoil == "shape":
        found[name] = found[name][:-1]
    elif spoil == "extra":
        found["more"] = np.zeros(1, np.float32)
    weights = Weights(found)
    channels = 4 if spoil == "channels" else 3
    with pytest.raises((LookupError, ValueError), match=r"needed|missing|is no weight"):
        check_fits(lambda ops, x: segformer(ops, weights, TINY, x), channels)
        weights.check_all_used()


# What is no number


@pytest.mark.parametrize(
    "name", ["segformer.stages.0.patch_embeddings.proj.bias", "decode_head.batch_norm.bias"]
)
def test_a_window_without_numbers_is_no_class(
    name: str, engine: str, tiny_models: dict[str, str], tmp_path: Path
) -> None:
    """Early in the network or just before its last ReLU, which would hide it in OpenVINO."""
    card = ModelCard.read(tiny_models["segmenter"])
    tensors = load_file(Path(tiny_models["segmenter"]) / WEIGHTS_FILE)
    tensors[name][0] = float("nan")
    save_file(tensors, tmp_path / WEIGHTS_FILE)
    card.write(tmp_path)
    model = load_segmenter(tmp_path)
    for call in (model.class_map, model.predict):
        with pytest.raises(ModelError, match="logits are not numbers"):
            call(np.full((1, 3, 64, 64), 0.1, np.float32))


@pytest.mark.parametrize("name", ["net.bn1.bias", "net.layer2.0.bn1.bias"])
def test_a_chip_without_numbers_has_no_score(
    name: str, engine: str, tiny_models: dict[str, str], tmp_path: Path
) -> None:
    card = ModelCard.read(tiny_models["classifier"])
    tensors = load_file(Path(tiny_models["classifier"]) / WEIGHTS_FILE)
    tensors[name][0] = float("nan")
    save_file(tensors, tmp_path / WEIGHTS_FILE)
    card.write(tmp_path)
    with pytest.raises(ModelError, match="scores are not numbers"):
        load_classifier(tmp_path).predict(np.full((2, 3, 48, 48), 0.1, np.float32))


# Same bits


def test_threads_of_a_process_get_the_bits_of_one(engine: str, tiny_models: dict[str, str]) -> None:
    model = load_segmenter(tiny_models["segmenter"])
    pixels = np.abs(windows(6)) * 0.1
    alone = model.predict(pixels)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda i: model.predict(pixels[i : i + 1]), range(6)))
    np.testing.assert_array_equal(np.concatenate(found), alone)


def test_processes_side_by_side_get_the_bits_of_one(
    engine: str, tiny_models: dict[str, str]
) -> None:
    script = (
        "import hashlib, sys, numpy as np\n"
        "from scanner.models.backends.choose import use\n"
        "from scanner.models.segmenter import load_segmenter\n"
        "use(sys.argv[1], 1)\n"
        "pixels = np.random.default_rng(0).random((1, 3, 96, 96), dtype=np.float32) * 0.3\n"
        "found = load_segmenter(sys.argv[2]).predict(pixels)\n"
        "print(hashlib.sha256(found.tobytes()).hexdigest())\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, engine, tiny_models["segmenter"]],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = {process.communicate(timeout=300)[0] for process in started}
    assert len(told) == 1
    assert told != {""}


# Which engine


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without mining-scan[fast], and without a GPU."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(choose, "has_gpu", lambda: False)
    choose.has_openvino.cache_clear()
    yield
    choose.has_openvino.cache_clear()


def test_auto_takes_torch_where_openvino_is_not_installed(
    no_openvino: None, tiny_models: dict[str, str]
) -> None:
    with using("auto", 1):
        assert choose.kind() == "torch"
        model: Any = load_segmenter(tiny_models["segmenter"])
        assert model.backend == f"torch {torch.__version__.partition('+')[0]} f32 cpu"


def test_openvino_asked_for_and_not_installed(
    no_openvino: None, call: Any, tiny_models: dict[str, str], seam_aoi: Path, tmp_path: Path
) -> None:
    with using("openvino", 1), pytest.raises(ConfigError, match="pip install"):
        choose.kind()
    code, _, err = call(
        seam_aoi, "--catalog", "demo", "--out", tmp_path / "run", "--backend", "openvino",
        "--segmenter", tiny_models["segmenter"], "--classifier", tiny_models["classifier"],
    )  # fmt: skip
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "pip install mining-scan[fast]" in err
    assert not (tmp_path / "run").exists()


def test_auto_takes_openvino_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tiny_models: dict[str, str]
) -> None:
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(choose, "has_gpu", lambda: False)
    with using("auto", 1):
        model: Any = load_segmenter(tiny_models["segmenter"])
        assert model.backend == f"openvino {openvino.__version__.partition('-')[0]} f32"
        chips: Any = load_classifier(tiny_models["classifier"])
        assert chips.backend == model.backend


def test_a_gpu_goes_before_openvino_but_not_where_openvino_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choose, "has_gpu", lambda: True)
    monkeypatch.setattr(choose, "has_openvino", lambda: True)
    for wanted, found in (("auto", "cuda"), ("torch", "cuda"), ("openvino", "openvino")):
        with using(wanted, 1):
            assert choose.kind() == found


def test_a_worker_takes_the_engine_of_its_run(
    tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a test before this one may have warped, which brings the VRT driver back into this process
    monkeypatch.setattr("scanner.run.worker._check_gdal", lambda: None)
    ref = segmenter_ref(tiny_models["segmenter"])
    with using("auto", None):
        PrepareWorker([ref], "torch").setup(None)
        assert choose.setup() == choose.Setup("torch", TORCH_THREADS)
        assert torch.get_num_threads() == TORCH_THREADS
        assert ref.load().backend.startswith("torch")
        torch_model = ref.load()
        worker = PrepareWorker([ref], "auto")
        worker.setup(None)
        assert ref.load() is not torch_model
        worker.teardown(None)


def test_a_worker_with_openvino_needs_no_torch_and_tells_nobody() -> None:
    """torch takes seconds to import; OpenVINO's own telemetry is kept from being imported."""
    pytest.importorskip("openvino")
    script = (
        "import sys, numpy as np\n"
        "from scanner.models.backends.choose import use\n"
        "from scanner.models.ref import classifier_ref, segmenter_ref\n"
        "use('openvino', 1)\n"
        "segmenter_ref().load().class_map(np.full((1, 3, 64, 64), 0.1, np.float32))\n"
        "classifier_ref().load().predict(np.full((1, 3, 48, 48), 0.1, np.float32))\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules,\n"
        "      [name for name in sys.modules if name.startswith('openvino_telemetry.')],\n"
        "      sys.modules['openvino_telemetry'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.strip() == "False False [] None", done.stderr


# Engines agree


@pytest.fixture(scope="module")
def both() -> dict[str, tuple[Any, Any]]:
    """The shipped pair on each engine."""
    pytest.importorskip("openvino")
    found = {}
    for name in ("torch", "openvino"):
        with using(name, TORCH_THREADS):  # type: ignore[arg-type]
            found[name] = load_segmenter(), load_classifier()
    return found


def ground(side: int = 320) -> NDArray[np.float32]:
    """Return reflectance of forest with bare ground, water and cloud in it, and a corner empty."""
    rng = np.random.default_rng(3)
    image = rng.normal([[[0.025]], [[0.045]], [[0.03]]], 0.006, (3, side, side))
    y, x = np.indices((side, side))
    for level in (0.3, 0.6, 1.0, 1.0, 2.5):
        at = rng.integers(0, side, 2)
        spot = np.hypot(y - at[0], x - at[1]) < rng.integers(3, side // 6)
        image[:, spot] = rng.normal([[0.11], [0.16], [0.2]], 0.02, (3, spot.sum())) * level
    image[:, np.abs(y - x) < 4] = [[0.03], [0.04], [0.02]]
    image[:, :20, :30] = np.nan
    return image.clip(0.001, 1).astype(np.float32)


def test_classes_and_scores_of_the_engines_agree(both: dict[str, tuple[Any, Any]]) -> None:
    image = ground()
    classes = {name: model.class_map(image[None])[0] for name, (model, _) in both.items()}
    assert np.unique(classes["torch"]).size >= 3
    assert (classes["torch"] == classes["openvino"]).mean() >= AGREE
    chips = np.stack([image[:, r : r + 48, c : c + 48] for r, c in ((0, 0), (50, 90), (200, 30))])
    scores = [model.predict(chips) for _, model in both.values()]
    np.testing.assert_allclose(*scores, atol=SCORES)


@pytest.mark.data
def test_engines_agree_on_real_scenes(both: dict[str, tuple[Any, Any]], shared_data: Path) -> None:
    import rasterio

    seen = same = 0
    for folder in sorted((shared_data / "scenes").glob("S2L1C_*")):
        bands = [rasterio.open(folder / f"{band}.tif").read(1) for band in ("B02", "B03", "B04")]
        image = np.stack(bands)[:, :448, :448].astype(np.float32) / 10000
        image[:, image[0] == 0] = np.nan
        one, other = (model.class_map(image[None])[0] for model, _ in both.values())
        seen += one.size
        same += int((one == other).sum())
        chips = np.stack([image[:, r : r + 48, r : r + 48] for r in range(0, 240, 48)])
        scores = [model.predict(chips) for _, model in both.values()]
        np.testing.assert_allclose(*scores, atol=SCORES)
    assert seen == 3 * 448 * 448
    assert same / seen >= AGREE


# What a GPU does, as far as a CPU can show it


def test_the_code_for_gpus_gives_nearly_the_same_classes(tiny_models: dict[str, str]) -> None:
    card = ModelCard.read(shipped("segmenter"))
    weights = Weights(arrays_of(shipped("segmenter")))

    def network(ops: Any, x: Any) -> Any:
        return segformer(ops, weights, card.config, x)

    with using("torch", TORCH_THREADS):
        plain = windows_engine(network)
        half = CudaWindows(network, device="cpu", most=2)
        scaled = card.inputs(ground(224)[None])
        assert (half.class_map(scaled) == plain.class_map(scaled)).mean() >= HALF_AGREE
        np.testing.assert_allclose(half.logits(scaled), plain.logits(scaled), atol=0.3)
        scaled[:] = np.nan
        with pytest.raises(FloatingPointError):
            half.class_map(scaled)


def test_chips_on_the_code_for_gpus_have_the_same_scores(tiny_models: dict[str, str]) -> None:
    folder = shipped("classifier")
    card = ModelCard.read(folder)
    weights = Weights(arrays_of(folder))

    def network(ops: Any, x: Any) -> Any:
        return chipnet(ops, weights, card.config, x)

    chips = np.random.default_rng(0).normal(size=(3, 6, 48, 48)).astype(np.float32)
    with using("torch", TORCH_THREADS):
        plain = chips_engine(network, 8, with_relative=True)
        other = CudaChips(network, 8, with_relative=True, device="cpu")
        for views in (range(2), range(2, 8)):
            expected = plain.logits(chips, views)
            assert expected.shape == (3, len(views))
            np.testing.assert_allclose(other.logits(chips, views), expected, atol=1e-4)
        assert other.logits(chips[:0], range(2)).shape == (0, 2)


def arrays_of(folder: Path) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
