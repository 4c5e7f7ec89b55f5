"""Training end to end on pixels made here, a few steps each; and the parts it is made of."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from scanner.models.classifier import load_classifier
from scanner.models.segmenter import load_segmenter
from tests.training.quiet import QUIET
from training import classifier, judge_segmenter, segmenter
from training.augment import (
    atmosphere,
    random_air,
    random_heading,
    random_infrared,
    random_view,
)
from training.chips import BY_EYE, LEAST_OPEN, open_share
from training.folds import deal, fold_of, trained_on
from training.labels import AGRICULTURE, BACKGROUND, BARREN, FOREST, IGNORE, WATER, spectral_labels
from training.pairs import Mosaics, Patches

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
    """Write mines (odd rows, bright in the middle) and others of two campaigns each."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(n):
        image = rng.integers(40, 60, (48, 48, 3), dtype=np.uint8)
        if index % 2:
            image[20:30, 15:35] = (220, 200, 160)
        data = io.BytesIO()
        Image.fromarray(image).save(data, "WEBP", lossless=True)
        source = f"{'one' if index % 6 < 2 else 'two'}_{index % 2}"
        place = (float(index), 0.0) if index % 2 else (None, None)
        rows.append((index % 2, source, *place, data.getvalue()))
    columns = ["label", "source", "lat", "lon", "image"]
    pd.DataFrame(rows, columns=columns).to_parquet(path)


def pair_table(folder: Path) -> None:
    """Write four pairs that our own labels call mine or not at both dates, two kinds of ground."""
    told = pd.read_csv(BY_EYE)
    known = [told[(told["t0"] == kind) & (told["t1"] == kind)][:2] for kind in ("mine", "not")]
    ids = pd.concat(known)["sample_id"].to_list()
    ground = np.concatenate([[field(FOREST, BARREN)] * 2, [field(FOREST, WATER)] * 2])
    dn = (ground.transpose(0, 2, 3, 1) * 1e4).astype(np.int16)
    np.savez(folder / "pairs.npz", t0=dn, t1=dn)
    pd.DataFrame(
        {
            "sample_id": ids,
            "change_type": ["mining", "mining", "natural", "human_non_mining"],
            "lat_center": [-11.0, -4.0, -11.0, -4.0],
            "lon_center": [-60.0, -70.0, -61.0, -71.0],
            "near_chip_m": [5000.0, 9000.0, 9000.0, 9000.0],
        }
    ).to_csv(folder / "pairs.csv", index=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder as the shared data: mine-chips and mine-pairs."""
    for name in ("mine-chips", "mine-pairs"):
        (tmp_path / "data" / name).mkdir(parents=True)
    chip_table(tmp_path / "data/mine-chips/chips.parquet")
    pair_table(tmp_path / "data/mine-pairs")
    return tmp_path / "data"


def test_chips_keep_their_bands_levels_and_places(data: Path) -> None:
    chips = classifier.read_all(data)
    assert len(chips) == 48 + 8
    assert chips.surface.tolist() == [False] * 48 + [True] * 8
    assert np.isnan(chips.pixels[:48, 3:]).all()
    assert np.isfinite(chips.pixels[48:]).all()
    bright = chips.pixels[1, :3, 25, 25]
    np.testing.assert_allclose(bright, np.array([160, 200, 220]) / 255 * 0.3, rtol=1e-5)
    assert chips.labels[48:].tolist() == [1, 1, 0, 0] * 2
    assert chips.places[48].tolist() == [-60, -11]


def test_closed_forest_is_left_unlabelled() -> None:
    forest, scar = field(FOREST, FOREST), field(FOREST, FOREST)
    scar[:, 20:30, 10:25] = spectrum(BARREN)
    shares = open_share(np.stack([forest, scar]))
    assert shares[0] == 0
    assert shares[1] > LEAST_OPEN


def test_folds_hold_out_whole_campaigns_and_regions(data: Path) -> None:
    chips = classifier.read_all(data)
    folds = fold_of(chips, 2)
    for source in np.unique(chips.sources[~chips.surface]):
        assert len(np.unique(folds[chips.sources == source])) == 1
    regions = chips.places[chips.surface][:, 1]
    assert len(np.unique(folds[chips.surface][regions == -11])) == 1
    for fold in (0, 1):
        held = chips.labels[(folds == fold) & ~chips.surface]
        assert set(held) == {0, 1}
    chips.places[3] = chips.places[1] + 0.005  # 780 m apart, of two campaigns
    held = folds == folds[1]
    assert folds[3] != folds[1]
    assert 3 not in trained_on(chips, held)
    assert 5 in trained_on(chips, held) or held[5]
    chips.labels[55] = -1
    assert 55 not in trained_on(chips, np.zeros(len(chips), bool))


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_a_group_is_never_dealt_to_two_folds(rows: list[tuple[int, int]], folds: int) -> None:
    groups, kinds = np.array(rows).T
    dealt = deal(groups, kinds, folds)
    assert all(len(np.unique(dealt[groups == group])) == 1 for group in groups)
    assert set(dealt) <= set(range(folds))


def test_draws_are_half_mines_of_each_level(data: Path) -> None:
    chips = classifier.read_all(data)
    rows = np.flatnonzero(chips.labels >= 0)
    weights = classifier.draw_weights(chips, rows, 0.2)
    assert weights.sum() == pytest.approx(1)
    assert weights[chips.labels[rows] == 1].sum() == pytest.approx(0.5)
    assert weights[chips.surface[rows]].sum() == pytest.approx(0.2)


def test_a_moved_view_keeps_absent_bands_absent() -> None:
    pixels = torch.rand(8, 6, 48, 48)
    pixels[::2, 3:] = torch.nan
    seen = random_view(pixels, 1.0, 0.2, 6.0)
    assert torch.isnan(seen[::2, 3:]).all()
    assert torch.isfinite(seen[:, :3]).all()
    assert torch.isfinite(seen[1::2]).all()
    assert not torch.equal(seen[:, :3], pixels[:, :3])
    assert torch.equal(random_view(pixels[:, :3], 0.0, 0.2, 6.0), pixels[:, :3])


def test_infrared_is_lost_as_often_as_asked() -> None:
    pixels = torch.full((400, 3, 4, 4), 0.2)
    lost = torch.isnan(random_infrared(pixels, 0.5)).flatten(1).all(1).float().mean()
    assert 0.35 < lost < 0.65
    assert torch.isnan(random_infrared(pixels, 1.0)).all()


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
def test_a_classifier_is_trained_and_judged_to_a_model_that_loads(
    data: Path, tmp_path: Path
) -> None:
    options = tomllib.loads(classifier.CONFIG.read_text())
    options |= {"epochs": 1, "samples": 32, "batch": 8, "flips": 1, "check_every": 1, "folds": 2}
    options |= {"processes": 1, "compile": False, "ema": 0.5}
    config = tmp_path / "classifier.toml"
    config.write_text(tomli_w.dumps(options))
    args = ["--data", data, "--out", tmp_path / "out", "--runs", tmp_path / "runs"]
    classifier.main([*map(str, args), "--config", str(config)])
    assert (tmp_path / "runs/fold-1/last.ckpt").exists()
    model = load_classifier(tmp_path / "out")
    card = model.card
    assert card.optional_bands == ("B08", "B11", "B12")
    assert card.metrics is not None
    assert card.metrics["cross-validated, mine-chips (L1C)"]["mines"] == 24
    pairs = [name for name in card.metrics if name.startswith("cross-validated, mine-pairs")]
    assert (
        len(pairs) == 2 * (3 * 2 + 1) + 3
    )  # bands by grounds by others, our labels; regions by ground
    assert "data sha256" in card.training_data
    pixels = classifier.read_all(data).pixels
    plain, six = model.predict(pixels[-4:, :3]), model.predict(pixels[-4:])
    assert plain.shape == six.shape == (4,)
    assert not np.array_equal(plain, six)
    weights = (tmp_path / "out/model.safetensors").read_bytes()
    classifier.main([*map(str, args), "--config", str(config)])  # through: read, not trained
    assert (tmp_path / "out/model.safetensors").read_bytes() == weights


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
