"""Training end to end on pixels made here, a few steps each; and the parts it is made of."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from scanner.models.classifier import load_classifier
from scanner.models.segmenter import load_segmenter
from training import classifier, judge_classifier, judge_segmenter, segmenter
from training.augment import atmosphere, random_air, random_heading
from training.chips import Chips, read_chips
from training.labels import AGRICULTURE, BACKGROUND, BARREN, FOREST, IGNORE, WATER, spectral_labels
from training.pairs import Mosaics, Patches

QUIET = [
    "ignore:.*treespec.*",
    "ignore:.*litlogger.*",
    "ignore:.*does not have many workers.*",
    "ignore:.*Checkpoint directory.*",
    "ignore:.*number of training batches.*",
    "ignore:.*lr_scheduler.step.*",
]
SPECTRA = {
    FOREST: (0.022, 0.042, 0.024, 0.30, 0.15, 0.06),
    AGRICULTURE: (0.05, 0.08, 0.08, 0.28, 0.25, 0.15),
    BARREN: (0.11, 0.15, 0.19, 0.26, 0.33, 0.28),
    WATER: (0.06, 0.09, 0.08, 0.05, 0.02, 0.01),
    BACKGROUND: (0.30, 0.30, 0.31, 0.40, 0.30, 0.20),
}


def spectrum(kind: int) -> NDArray[np.float32]:
    """One pixel of a kind, (6, 1, 1)."""
    return np.array(SPECTRA[kind], np.float32)[:, None, None]


def field(*kinds: int) -> NDArray[np.float32]:
    """Columns of 24 pixels of each kind, (6, 48, 24 * n)."""
    columns = [np.broadcast_to(spectrum(k), (6, 48, 24)) for k in kinds]
    return np.concatenate(columns, 2, dtype=np.float32)


@pytest.mark.parametrize("kind", sorted(SPECTRA))
def test_rules_know_typical_spectra(kind: int) -> None:
    assert (spectral_labels(field(kind, kind))[10:38, 10:38] == kind).all()


def test_rules_leave_out_nodata_and_shadow() -> None:
    pixels = field(FOREST, FOREST)
    pixels[:, :4] = 0
    pixels[:, 20:30] = np.array((0.01, 0.02, 0.012, 0.06, 0.02, 0.01), np.float32)[:, None, None]
    labels = spectral_labels(pixels)
    assert (labels[:4] == IGNORE).all()
    assert not (labels[20:30] == WATER).any()


def test_rules_keep_a_scar_three_pixels_wide() -> None:
    pixels = field(FOREST, FOREST)
    pixels[:, 20:23, 10:22] = spectrum(BARREN)
    assert (spectral_labels(pixels)[20:23, 10:22] == BARREN).all()


def test_air_goes_both_ways_and_spares_what_is_saturated() -> None:
    pixels = torch.full((1, 3, 4, 4), 0.1)
    pixels[..., 0] = 0.3
    clear = atmosphere(pixels, torch.ones(1), torch.ones(1, 3))
    assert clear[0, 0, 0, 1] == pytest.approx(0.1 - 0.0675)
    assert (clear[..., 0] == 0.3).all()
    hazy = atmosphere(clear, -torch.ones(1), torch.ones(1, 3))
    torch.testing.assert_close(hazy[..., 1:], pixels[..., 1:])


def test_random_changes_keep_range_and_content() -> None:
    pixels = torch.rand(16, 3, 48, 48) * 0.3
    changed = random_air(pixels, -0.2, 1.2)
    assert changed.min() >= 0
    assert changed.max() <= 1
    turned = random_heading(pixels)
    assert turned.shape == pixels.shape
    torch.testing.assert_close(turned.flatten(2).sort().values, pixels.flatten(2).sort().values)


def chip_table(path: Path, n: int = 48) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(n):
        image = rng.integers(40, 60, (48, 48, 3), dtype=np.uint8)
        if index % 2:
            image[20:30, 15:35] = (220, 200, 160)
        data = io.BytesIO()
        Image.fromarray(image).save(data, "WEBP", lossless=True)
        source = f"{'held' if index % 6 < 2 else 'kept'}_{index % 2}"
        place = (float(index), 0.0) if index % 2 else (None, None)
        rows.append((index % 2, source, *place, data.getvalue()))
    columns = ["label", "source", "lat", "lon", "image"]
    pd.DataFrame(rows, columns=columns).to_parquet(path)


def test_chips_are_split_by_source_and_place(tmp_path: Path) -> None:
    chip_table(tmp_path / "chips.parquet")
    table = pd.read_parquet(tmp_path / "chips.parquet")
    assert table.loc[1, "lat"] == 1
    table.loc[3, "lat"] = 1.005  # 550 m from a held-out mine
    table.to_parquet(tmp_path / "chips.parquet")
    kept, held = read_chips(tmp_path / "chips.parquet", ["held_0", "held_1"])
    assert set(held.sources) == {"held_0", "held_1"}
    assert (len(kept.labels), len(held.labels)) == (31, 16)
    assert kept.pixels.max() <= 0.3
    bright = held.pixels[held.labels == 1][0][:, 25, 25]
    np.testing.assert_allclose(bright, np.array([160, 200, 220]) / 255 * 0.3, rtol=1e-5)
    with pytest.raises(ValueError, match="held-out sources"):
        read_chips(tmp_path / "chips.parquet", ["no such campaign"])


def test_draws_are_half_mines() -> None:
    labels = np.array([1] * 5 + [0] * 45)
    chips = Chips(np.zeros((50, 3, 1, 1), np.float32), labels, np.array(["a"] * 20 + ["b"] * 30))
    weights = classifier.draw_weights(chips)
    assert weights[labels == 1].sum() == pytest.approx(0.5)
    assert weights.sum() == pytest.approx(1)


def test_mosaics_are_the_same_every_time_and_hold_the_labels() -> None:
    kinds = np.array([FOREST, BARREN, WATER], np.uint8)
    labels = np.broadcast_to(kinds[:, None, None], (3, 48, 48))
    pixels: NDArray[np.float32] = np.broadcast_to(
        kinds[:, None, None, None] * np.full(1, 0.1, np.float32), (3, 3, 48, 48)
    )
    patches = Patches(pixels, labels, np.array(["a"] * 3))
    first, second = Mosaics(patches, None, 4, 7)[2], Mosaics(patches, None, 4, 7)[2]
    torch.testing.assert_close(first, second)
    assert first[0].shape == (3, 240, 240)
    torch.testing.assert_close(first[0][0] * 10, first[1].float())


@pytest.mark.filterwarnings(*QUIET)
def test_a_classifier_is_trained_to_a_model_that_loads(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "mine-chips").mkdir(parents=True)
    chip_table(data / "mine-chips/chips.parquet")
    options = tomllib.loads(classifier.CONFIG.read_text())
    options |= {"epochs": 2, "samples": 32, "batch": 8, "flips": 1, "check_every": 1, "ema": 0.5}
    options["held_out"] = ["held_0", "held_1"]
    kept, held = read_chips(data / "mine-chips/chips.parquet", options["held_out"])
    network = classifier.train(kept, held, options, tmp_path / "runs")
    assert (tmp_path / "runs/last.ckpt").exists()
    again = classifier.train(kept, held, options, tmp_path / "runs")  # through: read, not trained
    torch.testing.assert_close(again.state_dict(), network.state_dict())
    card = classifier.draft_card(options, network)
    done = judge_classifier.finish(network, card, kept, held, options, data, tmp_path / "out")
    model = load_classifier(tmp_path / "out")
    assert model.card == done
    assert done.metrics is not None
    assert done.metrics["held-out sources, L1C"]["mines"] == 8
    assert model.predict(held.pixels).shape == (16,)


@pytest.mark.filterwarnings(*QUIET)
def test_a_segmenter_is_trained_to_a_model_that_loads(tmp_path: Path) -> None:
    six = np.stack([field(FOREST, BARREN), field(WATER, AGRICULTURE)] * 2)
    patches = Patches(
        six[:, :3], np.stack([spectral_labels(s) for s in six]), np.array(["a", "b"] * 2)
    )
    options: dict[str, Any] = tomllib.loads(segmenter.CONFIG.read_text())
    options |= {"batch": 1, "check_every": 2, "ema": 0.5}
    options["rounds"] = [options["rounds"][0] | {"steps": 2}] * 2
    options["network"] |= {"depths": [1] * 4, "hidden_sizes": [8] * 4, "decoder_hidden_size": 8}
    options["network"]["num_attention_heads"] = [1] * 4
    network = segmenter.train(patches, patches, None, options, tmp_path / "runs")
    assert (tmp_path / "runs/round-1/last.ckpt").exists()
    card = segmenter.draft_card(options, network)
    done = judge_segmenter.finish(network, card, patches, tmp_path, tmp_path / "out")
    model = load_segmenter(tmp_path / "out")
    assert model.card == done
    assert model.class_map(six[:1, :3]).shape == (1, 48, 48)


def test_small_scars_are_counted_as_seen_or_not() -> None:
    labels = np.full((100, 100), FOREST, np.uint8)
    labels[10:16, 10:18] = BARREN
    labels[60:66, 60:68] = BARREN
    labels[30, 30] = BARREN
    got = np.zeros(labels.shape, bool)
    got[10:16, 10:14] = True
    counts = judge_segmenter.small_scars(labels == BARREN, got, labels)
    assert counts == {"seen": 1, "all": 2}
