"""Every cell ends as exactly one status, and hectares add up to the AOI's cells."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from scanner.area.grid import Tile, Zone
from scanner.detection.detections import CELL_HA, STATUSES
from scanner.results.coverage import Coverage, TileReport, tile_cells, work_done
from scanner.results.outputs import PART_SCHEMA

TILE = Tile(Zone(21, True), 31, 34, tuple((r, c) for r in range(3) for c in range(2)))


def part():
    rows, cols = np.array(TILE.cells).T
    return pa.table(
        {
            "cell_id": [TILE.cell_id(r, c) for r, c in TILE.cells],
            "row": rows,
            "col": cols,
            "clear_fraction": [1.0, 0.1, 0.9, 0.2, 1.0, 0.6],
            "suspicious_fraction": [0.5, 0.5, 0.2, 0.0, 0.0, 0.0],
            "score": [0.9, 0.8, 0.3, None, None, None],
            "days": [3, 1, 1, 0, 7, 1],
            "screened": [False] * 4 + [True, False],
            "pieces": [[]] * 6,
        },
        schema=PART_SCHEMA,
    )


def test_statuses_and_sums():
    cells = tile_cells(TILE, part(), threshold=0.5, min_clear=0.5)
    assert cells.status.tolist() == [
        "mining", "mining", "not_mining", "unseen", "not_suspicious", "not_suspicious",
    ]  # fmt: skip
    assert set(cells.status) <= set(STATUSES)
    assert cells.clear_observations.tolist() == [2, 1, 1, 0, 3, 1]
    assert cells.screened.tolist() == [False, False, False, False, True, False]
    coverage = Coverage()
    coverage.add(TILE, TileReport(TILE.tile_id, "done", item_ids=(("a", "b"),)), cells)
    summary = coverage.summary()
    assert summary["area"] == pytest.approx(6 * CELL_HA)
    assert summary["clear"] == pytest.approx(3.8 * CELL_HA, abs=0.01)
    assert summary["unseen"] == pytest.approx(CELL_HA)
    assert sum(summary["cells"].values()) == len(TILE.cells)
    (row,) = coverage.table().itertuples()
    assert row.n_items == 2
    assert row.area_ha == pytest.approx(138.24)


def test_a_failed_tile_counts_as_failed_and_nothing_else():
    cells = tile_cells(TILE, None, threshold=0.5, min_clear=0.5)
    assert set(cells.status) == {"failed"}
    assert cells.score.isna().all()
    coverage = Coverage()
    coverage.add(TILE, TileReport(TILE.tile_id, "failed", "why"), cells)
    assert coverage.summary()["failed"] == coverage.summary()["area"] == pytest.approx(138.24)
    assert coverage.summary()["clear"] == 0


def test_threshold_and_min_clear_need_no_pixels():
    strict = tile_cells(TILE, part(), threshold=0.85, min_clear=0.95)
    assert strict.status.tolist() == [
        "mining", "unseen", "unseen", "unseen", "not_suspicious", "unseen",
    ]  # fmt: skip


def test_report_survives_json():
    import json

    report = TileReport(
        "t",
        "done",
        days=("2024-06-12",),
        item_ids=(("a",),),
        dropped=(("b", "why"),),
        without_scl=("c",),
        mining=2,
    )
    assert TileReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert report
    assert not TileReport("t", "failed")


def test_work_is_told_of_what_was_read():
    seen = {"days": ("2024-06-12",), "cells": 10}
    reports = [
        TileReport("a", "done", screened=6, suspicious=1, bytes_read=100, **seen),
        TileReport("b", "done", screened=10, bytes_read=5, **seen),
        TileReport("c", "done", cells=10),  # no scene
        TileReport("d", "failed", "why", **seen),
    ]
    assert work_done(reports) == {
        "screened_ha": pytest.approx(16 * CELL_HA),
        "segmented_ha": pytest.approx(4 * CELL_HA),
        "classified_ha": pytest.approx(CELL_HA),
        "bytes_read": 105,
    }
