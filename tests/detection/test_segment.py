"""Windows tile the core exactly, skipped ones leave no trace, seams agree."""

from __future__ import annotations

import numpy as np
import pytest

from scanner.area.grid import CHUNK_PX, CORE_PX, TILE_CELLS
from scanner.detection.segment import APRON, NOT_SEGMENTED, STRIDE, WINDOW, class_map


class Pixelwise:
    """A segmenter that sees one pixel at a time: its map must not show any window."""

    def __init__(self):
        self.windows = []

    def class_map(self, reflectance):
        self.windows.append(reflectance.shape)
        return (np.nan_to_num(reflectance[:, 0]) * 7).astype(np.uint8)


@pytest.fixture(scope="module")
def chunk():
    rng = np.random.default_rng(0)
    return rng.uniform(0, 0.99, (1, CHUNK_PX, CHUNK_PX)).astype(np.float32)


def test_windows_tile_the_core(chunk):
    model = Pixelwise()
    out = class_map(chunk, np.ones((TILE_CELLS, TILE_CELLS), bool), model)
    assert model.windows == [(1, 1, WINDOW, WINDOW)] * 9
    edge = (CHUNK_PX - CORE_PX) // 2 - APRON
    truth = (chunk[0, edge:-edge, edge:-edge] * 7).astype(np.uint8)
    np.testing.assert_array_equal(out, truth)


def test_windows_without_a_cell_are_skipped_and_the_others_do_not_move(chunk):
    everywhere = class_map(chunk, np.ones((TILE_CELLS, TILE_CELLS), bool), Pixelwise())
    mask = np.zeros((TILE_CELLS, TILE_CELLS), bool)
    mask[20, 20] = True
    model = Pixelwise()
    out = class_map(chunk, mask, model)
    assert len(model.windows) == 1
    middle = slice(STRIDE, STRIDE + 2 * APRON + STRIDE)
    np.testing.assert_array_equal(out[middle, middle], everywhere[middle, middle])
    out[middle, middle] = NOT_SEGMENTED
    assert (out == NOT_SEGMENTED).all()


def test_a_window_without_data_is_not_run(chunk):
    model = Pixelwise()
    empty = np.full_like(chunk, np.nan)
    out = class_map(empty, np.ones((TILE_CELLS, TILE_CELLS), bool), model)
    assert not model.windows
    assert (out == NOT_SEGMENTED).all()
