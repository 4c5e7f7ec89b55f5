"""From parts to files: what a threshold and a prior change, without a pixel being read."""

from __future__ import annotations

import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pytest
import shapely

from scanner.area.aoi import Aoi
from scanner.area.grid import tiles
from scanner.config import ScanConfig
from scanner.errors import ConfigError
from scanner.imagery.catalog import ItemSet
from scanner.models.calibration import odds, rescale
from scanner.models.card import ModelCard
from scanner.models.ref import classifier_ref, segmenter_ref
from scanner.results.coverage import TileReport
from scanner.results.outputs import PART_SCHEMA
from scanner.run.folder import RunFolder
from scanner.run.identity import Identity
from scanner.run.merge import merge_parts
from scanner.run.pipeline import Run, prepare
from scanner.run.tile import Models

AOI = Aoi("here", shapely.box(-55, -7, -54.98, -6.98))
IDENTITY = Identity("id", {"segmenter": "a", "classifier": "b"}, "items")
PREVALENCE = 0.2


@pytest.fixture(scope="module")
def models(tiny_models):
    """Tiny models; the classifier's card at a prevalence of 20 %, with thresholds."""
    folder = tiny_models["classifier"]
    card = ModelCard.read(folder)
    card = replace(
        card,
        threshold=0.5,
        thresholds={"balanced": 0.45, "high_recall": 0.1},
        calibration=replace(card.calibration, prevalence=PREVALENCE),
    )
    segmenter = ModelCard.read(tiny_models["segmenter"])
    refs = segmenter_ref(tiny_models["segmenter"]), classifier_ref(folder)
    return Models(*refs, segmenter, card)


@pytest.fixture
def run(models, tmp_path):
    """A run whose tiles are done: one cell in three was never classified."""
    every = tiles(AOI)
    made = Run(
        ScanConfig(), AOI, every, ItemSet((), ()), models, RunFolder(tmp_path / "run"), IDENTITY
    )
    made.folder.freeze(made.config, AOI, made.found, IDENTITY.models)
    for tile in every:
        rows, cols = np.array(tile.cells).T
        n = len(rows)
        scores = [None if i % 3 == 0 else round(i / n, 4) for i in range(n)]
        scores[1], scores[2] = 0.5, 0.4999  # right at the card's threshold
        table = pa.table(
            {
                "cell_id": [tile.cell_id(r, c) for r, c in tile.cells],
                "row": rows,
                "col": cols,
                "clear_fraction": np.ones(n),
                "suspicious_fraction": np.ones(n),
                "score": scores,
                "days": np.ones(n, np.uint32),
                "screened": np.zeros(n, dtype=bool),
                "pieces": [[]] * n,
            },
            schema=PART_SCHEMA,
        )
        report = TileReport(tile.tile_id, "done", days=("2024-07-01",), item_ids=((),))
        made.parts.write(tile.tile_id, table, report.to_json())
    return made


def merged(run, **report):
    """Merge with other report settings; returns run.json, cells and sites."""
    again = replace(run, config=run.config.with_values(also=(), **report))
    merge_parts(again)
    folder = run.folder.path
    return (
        json.loads((folder / "run.json").read_text()),
        gpd.read_parquet(folder / "cells.parquet"),
        gpd.read_parquet(folder / "detections.parquet"),
    )


@pytest.mark.parametrize("prior", [0.5, 0.01, 1e-6])
def test_a_prior_moves_every_score_and_no_site(run, prior):
    plain, cells, sites = merged(run)
    told, moved, moved_sites = merged(run, prior=prior)
    assert plain["scores"] == {
        "prevalence": PREVALENCE,
        "prevalence_from": "classifier card",
        "calibrated_at": PREVALENCE,
        "threshold": 0.5,
    }
    assert told["scores"]["prevalence"] == prior
    assert told["scores"]["prevalence_from"] == "--prior"
    assert told["scores"]["calibrated_at"] == PREVALENCE
    assert told["config"]["threshold"] == told["scores"]["threshold"] != 0.5
    assert told["run_id"] == plain["run_id"]
    assert 0 < (cells.status == "mining").sum() < cells.score.notna().sum()
    assert (moved.status == cells.status).all()
    assert (moved.score.isna() == cells.score.isna()).all()
    ratio = odds(moved.score) / odds(cells.score)
    inside = cells.score.between(0.001, 0.999)
    np.testing.assert_allclose(ratio[inside], odds(prior) / odds(PREVALENCE), rtol=1e-6)
    assert (moved_sites.detection_id == sites.detection_id).all()
    assert moved_sites.geometry.equals(sites.geometry)
    expected = [rescale(score, PREVALENCE, prior) for score in sites.score]
    assert moved_sites.score.tolist() == expected


def test_without_a_prior_all_is_as_before(run):
    merged(run)
    files = ("cells.parquet", "detections.parquet", "coverage.parquet")
    before = [(run.folder.path / name).read_bytes() for name in files]
    merged(run, prior=0.01)
    merged(run, prior=None)
    assert [(run.folder.path / name).read_bytes() for name in files] == before


def test_a_threshold_given_is_meant_at_the_prior(run):
    told, cells, _ = merged(run, prior=0.01, threshold=0.05)
    assert told["scores"]["threshold"] == 0.05
    assert ((cells.score >= 0.05) == (cells.status == "mining")).all()
    assert (cells.status == "mining").sum() > 0


def test_a_threshold_by_name_comes_from_the_card_and_moves_too(run):
    told, cells, _ = merged(run, threshold="high-recall")
    assert told["scores"]["threshold"] == 0.1
    moved, others, _ = merged(run, threshold="high-recall", prior=0.001)
    assert moved["scores"]["threshold"] == rescale(0.1, PREVALENCE, 0.001)
    assert (others.status == cells.status).all()
    with pytest.raises(ConfigError, match="has balanced, high-recall"):
        merged(run, threshold="high-precision")


def test_a_tile_counts_its_mining_cells_at_the_prior(run):
    table = run.parts.table(run.tiles[0].tile_id)
    there = replace(run, config=run.config.with_values(prior=0.01))
    assert there._mining(table) == run._mining(table) > 0


def test_a_name_the_card_lacks_is_refused_before_anything_is_done(tiny_models, tmp_path):
    config = ScanConfig().with_values(
        center=(-7, -55), radius_km=1, out=tmp_path / "run", threshold="balanced", **tiny_models
    )
    with pytest.raises(ConfigError, match="none by name; give one of these, or a score"):
        prepare(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"prior": 0.0}, "report.prior = 0.0"),
        ({"prior": 1}, "report.prior = 1"),
        ({"prior": float("nan")}, "report.prior"),
        ({"threshold": 1.2}, "report.threshold = 1.2"),
        ({"threshold": "sharp"}, "report.threshold = 'sharp'.*balanced, high-recall"),
        ({"threshold": [0.5]}, "report.threshold"),
    ],
)
def test_report_settings_that_are_refused(values, named):
    with pytest.raises(ConfigError, match=named):
        ScanConfig().with_values(**values)


def test_a_name_and_a_prior_survive_toml(tmp_path):
    config = ScanConfig().with_values(threshold="high-recall", prior=0.01)
    (tmp_path / "c.toml").write_text(config.to_toml())
    assert ScanConfig.from_toml(tmp_path / "c.toml") == config
