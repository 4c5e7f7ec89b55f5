"""Windows tile the core exactly, skipped ones leave no trace, seams agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.area.grid import CHUNK_PX, CORE_PX, TILE_CELLS
from scanner.detection.segment import (
    APRON,
    NOT_SEGMENTED,
    SIDE,
    STRIDE,
    WINDOW,
    areas_of,
    cells_of,
    class_map,
    windows_of,
)

ALL = np.ones((SIDE, SIDE), bool)


class Pixelwise:
    """A segmenter that sees one pixel at a time: its map must not show any window."""

    at_once = 1

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
    out = class_map(chunk, ALL, model)
    assert model.windows == [(1, 1, WINDOW, WINDOW)] * 9
    edge = (CHUNK_PX - CORE_PX) // 2 - APRON
    truth = (chunk[0, edge:-edge, edge:-edge] * 7).astype(np.uint8)
    np.testing.assert_array_equal(out, truth)


def test_windows_without_a_cell_are_skipped_and_the_others_do_not_move(chunk):
    everywhere = class_map(chunk, ALL, Pixelwise())
    mask = np.zeros((TILE_CELLS, TILE_CELLS), bool)
    mask[20, 20] = True
    model = Pixelwise()
    out = class_map(chunk, windows_of(mask), model)
    assert len(model.windows) == 1
    middle = slice(STRIDE, STRIDE + 2 * APRON + STRIDE)
    np.testing.assert_array_equal(out[middle, middle], everywhere[middle, middle])
    out[middle, middle] = NOT_SEGMENTED
    assert (out == NOT_SEGMENTED).all()


def test_a_window_without_data_is_not_run(chunk):
    model = Pixelwise()
    empty = np.full_like(chunk, np.nan)
    out = class_map(empty, ALL, model)
    assert not model.windows
    assert (out == NOT_SEGMENTED).all()


some_windows = st.lists(st.booleans(), min_size=9, max_size=9).map(
    lambda flags: np.array(flags).reshape(SIDE, SIDE)
)


@given(some_windows, st.booleans())
def test_areas_are_what_the_windows_see_and_nothing_twice(windows, joined):
    seen = np.zeros((CHUNK_PX, CHUNK_PX), np.int32)
    for i, j in np.argwhere(windows):
        seen[i * STRIDE : i * STRIDE + WINDOW, j * STRIDE : j * STRIDE + WINDOW] = 1
    read = np.zeros_like(seen)
    for top, left, bottom, right in areas_of(windows, joined):
        read[top:bottom, left:right] += 1
    np.testing.assert_array_equal(read, seen)


@given(some_windows)
def test_pieces_that_are_not_joined_are_the_same_whatever_is_wanted(windows):
    assert set(areas_of(windows, joined=False)) <= set(areas_of(ALL, joined=False))


def test_a_whole_chunk_is_read_at_once():
    assert areas_of(ALL) == ((0, 0, CHUNK_PX, CHUNK_PX),)
    assert areas_of(~ALL) == ()


@given(some_windows)
def test_cells_and_windows_go_together(windows):
    np.testing.assert_array_equal(windows_of(cells_of(windows)), windows)
    assert cells_of(windows).shape == (TILE_CELLS, TILE_CELLS)
