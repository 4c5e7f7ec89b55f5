"""Same bytes for the same question: nothing about how a run was done may reach a row.

Not repeated here: two and eight workers, a remote scheduler, both engines, and one tile of two
resumed are in ``flow/test_scan.py``; kills in ``test_kills.py``.

Tolerances, on a CPU. How many chips or windows go through a model together, in which order and in
what company: none, the same bits. Threads torch may use: ``THREADS_TOLERANCE`` for probabilities
and scores before they are rounded to 4 decimals, none for classes; a run fixes the threads, so its
rows do not move at all.
"""

from __future__ import annotations

import os
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
import torch

from scanner.area.grid import CELL_PX, CHUNK_PX, HALO_PX, Tile, Zone
from scanner.config import PixelConfig
from scanner.detection.cells import cell_pieces, suspicious_cells
from scanner.detection.classify import DECIMALS, score_cells
from scanner.detection.segment import STRIDE, class_map, windows_of
from scanner.models.classifier import load_classifier
from scanner.models.segmenter import load_segmenter, set_threads
from scanner.run.pipeline import prepare, scan
from tests.faults.test_kills import SCANNING
from tests.faults.two_tiles import CELL_M, TwoTiles, area, make_two_tiles, reports, rows
from tests.processes import COMMAND

THREADS_TOLERANCE = 1e-5
"""Measured: 4e-7 (segmenter), 0 (classifier)."""


@pytest.fixture(scope="module")
def two_tiles(scheduler, tiny_models, tmp_path_factory):
    """An unbroken run over two tiles."""
    return make_two_tiles(tmp_path_factory, tiny_models, scheduler)


@pytest.fixture
def one_thread():
    """Torch with a worker's threads, and whatever was there before afterwards."""
    before = torch.get_num_threads()
    set_threads(1)
    yield
    set_threads(before)


# Order, workers, environment


def test_the_order_of_tiles_does_not_matter(two_tiles: TwoTiles, tmp_path):
    config = two_tiles.config.with_values(out=tmp_path / "run")
    run = prepare(config)
    with run.alone():
        todo = run.todo()[::-1]
        assert [tile.tile_id for tile in todo] == ["21S_0031_0040", "21S_0030_0040"]
        assert all(list(run.scan(todo)))
        run.finish()
    assert rows(tmp_path / "run") == rows(two_tiles.out)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_of_its_own_give_the_same_bytes(workers, two_tiles, tmp_path):
    config = two_tiles.config.with_values(out=tmp_path / "run", scheduler=None, workers=workers)
    assert all(list(scan(config)))
    assert rows(tmp_path / "run") == rows(two_tiles.out)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_in_pieces_under_other_threads_gives_the_same_bytes(two_tiles, tmp_path):
    """The first tile by one process, the second by another that was offered four threads.

    The unbroken run had both on the workers of a cluster, each with OMP_NUM_THREADS=1.
    """
    out = tmp_path / "run"
    command = [*two_tiles.arguments, "--out", str(out)]
    scheduler = two_tiles.config.run.scheduler
    SCANNING["one tile of two done"].run(*command, "--scheduler", scheduler)
    assert len(reports(out)) == 1
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    done = subprocess.run(
        [*COMMAND, *command, "--workers", "1"],
        env={**os.environ, **dict.fromkeys(names, "4"), "PYTHONHASHSEED": "7", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr
    assert "resuming: 1 of 2 tiles are done" in done.stdout
    assert rows(out) == rows(two_tiles.out)


# Another outline over the same tiles


def test_another_outline_gives_the_cells_it_shares_the_same_rows(two_tiles, tmp_path):
    wider = area(tmp_path / "l.geojson", -3.1 * CELL_M, -0.6 * CELL_M, 0.4 * CELL_M, 3.1 * CELL_M)
    config = two_tiles.config.with_values(aoi=wider, out=tmp_path / "run")
    assert all(list(scan(config)))
    before, after = (
        gpd.read_parquet(folder / "cells.parquet").set_index("cell_id")
        for folder in (two_tiles.out, tmp_path / "run")
    )
    shared = before.index.intersection(after.index)
    assert 4 <= len(shared) < min(len(before), len(after))
    assert before.loc[shared].score.notna().all()
    assert after.loc[shared].equals(before.loc[shared])


def striped_ground(seed):
    """Return a composite of a chunk: forest, and bare patches along the edge of a window."""
    rng = np.random.default_rng(seed)
    image = np.full((4, CHUNK_PX, CHUNK_PX), 3, dtype=np.float32)  # the last plane: two clear days
    y, x = np.indices((CHUNK_PX, CHUNK_PX))
    image[:3] = rng.normal([[[0.025]], [[0.045]], [[0.03]]], 0.008, (3, CHUNK_PX, CHUNK_PX))
    for cell in range(STRIDE // CELL_PX):
        at = HALO_PX + STRIDE + rng.integers(-30, 30), HALO_PX + cell * CELL_PX + rng.integers(48)
        bare = np.hypot(y - at[0], x - at[1]) < rng.integers(5, 40)
        level = rng.uniform(0.3, 1)
        for band, value in enumerate((0.1, 0.15, 0.2)):
            image[band][bare] = rng.normal(value * level, 0.02, bare.sum())
    image[:3] = image[:3].clip(0.001, 1)
    return image


def looked_at(image, cells):
    """Return what a scan of these cells of a tile measures in each, with the shipped models."""
    tile = Tile(Zone(21, True), 30, 40, tuple(sorted(cells)))
    classes = class_map(image[:3], windows_of(tile.mask), load_segmenter())
    stats = suspicious_cells(image, classes, tile.mask, 2, PixelConfig())
    chosen = [(int(row), int(col)) for row, col in np.argwhere(stats.suspicious)]
    scores = score_cells(image, chosen, stats.mask, [0, 1, 2], load_classifier())
    score_of = dict(zip(chosen, scores.tolist(), strict=True))
    pieces = cell_pieces(classes, stats, tile)
    return {
        cell: (
            float(stats.suspicious_fraction[cell]),
            score_of.get(cell),
            len(pieces.get(cell, [])),
        )
        for cell in tile.cells
    }


def test_cells_at_the_edge_of_a_window_do_not_ask_whether_the_next_one_was_run(one_thread):
    """Windows without an AOI cell are skipped; smoothing reaches over their edges."""
    edge = STRIDE // CELL_PX
    image = striped_ground(0)
    narrow = [(row, col) for row in (edge, edge + 1) for col in range(edge)]
    alone = looked_at(image, narrow)
    among = looked_at(image, [*narrow, *((edge - 1, col) for col in range(edge))])
    assert sum(share > 0 for share, _, _ in alone.values()) >= 10
    assert any(score is not None for _, score, _ in alone.values())
    assert {cell: among[cell] for cell in narrow} == alone


# The shape of a batch, and threads


def chips(count):
    """Return chips of forest, half of them with a bare patch, one with nodata."""
    rng = np.random.default_rng(0)
    found = rng.uniform(0.02, 0.2, (count, 3, 1, 1)) + rng.normal(0, 0.02, (count, 3, 48, 48))
    y, x = np.indices((48, 48))
    for index in range(0, count, 2):
        found[index][:, np.hypot(y - 24, x - 20) < rng.integers(4, 20)] += 0.1
    found[3, :, :10] = np.nan
    return found.clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def many_chips():
    """Chips, and their scores."""
    found = chips(40)
    before = torch.get_num_threads()
    set_threads(1)
    scores = load_classifier().predict(found)
    set_threads(before)
    assert np.unique(np.round(scores, DECIMALS)).size > 10
    return found, scores


@pytest.mark.parametrize("count", [1, 7, 32])
def test_a_score_is_the_same_bits_in_any_batch(count, many_chips, one_thread):
    """Whatever its place among them and whatever else there is."""
    found, scores = many_chips
    for first in (0, 5):
        here = slice(first, first + count)
        np.testing.assert_array_equal(load_classifier().predict(found[here]), scores[here])


def test_a_score_is_the_same_bits_in_any_order(many_chips, one_thread):
    found, scores = many_chips
    order = np.random.default_rng(1).permutation(len(found))
    np.testing.assert_array_equal(load_classifier().predict(found[order]), scores[order])


def windows():
    """Return three small windows: forest, with a bare square, with nodata."""
    rng = np.random.default_rng(2)
    found = rng.normal([[[[0.025]], [[0.045]], [[0.03]]]], 0.01, (3, 3, 128, 128)).clip(0.001, 1)
    found[1, :, 40:80, 40:80] += 0.15
    found[2, :, :30] = np.nan
    return found.astype(np.float32)


def test_a_window_is_the_same_bits_in_any_batch(one_thread):
    model, found = load_segmenter(), windows()
    whole, classes = model.predict(found), model.class_map(found)
    assert np.unique(classes).size > 1
    for count in (1, 2, 3):
        np.testing.assert_array_equal(model.predict(found[:count]), whole[:count])
        np.testing.assert_array_equal(model.class_map(found[-count:]), classes[-count:])


def test_threads_move_probabilities_by_less_than_is_told(many_chips, one_thread):
    found, scores = many_chips
    pixels = windows()
    model = load_segmenter()
    one, classes = model.predict(pixels), model.class_map(pixels)
    for threads in (2, 4):
        set_threads(threads)
        assert np.abs(model.predict(pixels) - one).max() < THREADS_TOLERANCE
        np.testing.assert_array_equal(model.class_map(pixels), classes)
        assert np.abs(load_classifier().predict(found) - scores).max() < THREADS_TOLERANCE


@pytest.mark.slow
def test_a_worker_fixes_torchs_threads(two_tiles, tmp_path):
    """So that the tolerance above is never used up: asked of real workers, in a bare process."""
    script = (
        "import torch\n"
        "from scanner.config import RunConfig\n"
        "from scanner.run.cluster import open_client\n"
        "if __name__ == '__main__':\n"
        "    with open_client(RunConfig(workers=1)) as client:\n"
        "        print(set(client.run(torch.get_num_threads).values()))\n"
    )
    (tmp_path / "threads.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "threads.py"],
        env={**os.environ, "OMP_NUM_THREADS": "4"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.strip() == "{1}", done.stderr
