"""Suspicious cells, chips and pieces from class maps of a known truth."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from scanner.area.grid import CELL_PX, CHUNK_PX, CORE_PX, HALO_PX, TILE_CELLS, Tile, Zone
from scanner.config import PixelConfig
from scanner.detection.cells import (
    BARREN,
    WATER,
    cell_pieces,
    centring_shifts,
    cut_chips,
    suspicious_cells,
    suspicious_mask,
)
from scanner.detection.segment import APRON
from scanner.imagery.composite import STEADY_BIT

FOREST = 5
TILE = Tile(Zone(21, True), 31, 34)
PIXELS = PixelConfig(
    smoothing_close=0, smoothing_open=0, suspicious_share=0.02, suspicious_pixels=20
)


def classes_with(*boxes):
    """Forest but for (row, col, height, width, class) in core pixels."""
    size = CORE_PX + 2 * APRON
    out = np.full((size, size), FOREST, np.uint8)
    for row, col, height, width, value in boxes:
        out[APRON + row : APRON + row + height, APRON + col : APRON + col + width] = value
    return out


def clear_image(days=0b1):
    image = np.full((4, CHUNK_PX, CHUNK_PX), 0.05, np.float32)
    image[3] = days
    return image


def stats(classes, image=None, tile=TILE, n_days=1, pixels=PIXELS):
    return suspicious_cells(
        clear_image() if image is None else image, classes, tile.mask, n_days, pixels
    )


@pytest.mark.parametrize(
    ("height", "width", "chosen"), [(4, 5, True), (4, 4, False), (3, 7, True), (1, 19, False)]
)
def test_the_pixel_limit(height, width, chosen):
    got = stats(classes_with((100, 100, height, width, BARREN)))
    assert got.suspicious.any() == chosen
    assert got.suspicious_fraction[2, 2] == height * width / CELL_PX**2


def test_share_counts_clear_pixels_alone():
    """19 suspicious pixels are few in a whole cell, but many where 100 pixels are clear."""
    classes = classes_with((96, 96, 1, 19, BARREN))
    image = clear_image()
    core = image[3, HALO_PX : HALO_PX + CORE_PX, HALO_PX : HALO_PX + CORE_PX]
    core[96:144, 96:144] = 0
    core[96:98, 96:146] = 1
    assert stats(classes, image).suspicious[2, 2]
    assert not stats(classes).suspicious.any()


def test_unclear_pixels_do_not_count_unless_they_are_steady():
    classes = classes_with((96, 96, 48, 48, BARREN))
    image = clear_image()
    cell = image[3, HALO_PX + 96 : HALO_PX + 144, HALO_PX + 96 : HALO_PX + 144]
    cell[:] = 0
    assert not stats(classes, image).suspicious.any()
    # bright ground called cloud on every day is looked at, and still counts as not clear
    cell[:] = 2.0**STEADY_BIT
    got = stats(classes, image, n_days=3)
    assert got.suspicious[2, 2]
    assert got.clear_fraction[2, 2] == 0
    assert got.days[2, 2] == 0


def test_only_cells_of_the_aoi():
    one = Tile(TILE.zone, TILE.col, TILE.row, ((5, 5),))
    got = stats(classes_with((0, 0, CORE_PX, CORE_PX, BARREN)), tile=one)
    assert np.argwhere(got.suspicious).tolist() == [[5, 5]]


def test_days_that_saw_half_of_the_cell():
    image = clear_image(0b01)
    row = HALO_PX + 96
    image[3, row : row + 24, HALO_PX : HALO_PX + 48] += 0b10
    image[3, row : row + 23, HALO_PX + 48 : HALO_PX + 96] += 0b10
    got = stats(classes_with(), image, n_days=2)
    assert got.days[2, 0] == 0b11
    assert got.days[2, 1] == 0b01


def test_opening_erases_a_scar_30_m_wide_and_closing_does_not():
    strip = classes_with((200, 200, 3, 40, BARREN))
    assert suspicious_mask(strip, 0, 5).sum() == 0
    assert suspicious_mask(strip, 5, 0).sum() >= 120
    gap = classes_with((200, 200, 3, 10, BARREN), (200, 212, 3, 10, BARREN))
    assert suspicious_mask(gap, 5, 0)[201, 211]


def test_smoothing_does_not_see_the_tile_edge():
    """A scar over the edge is smoothed as if the tile went on: the apron holds its other half."""
    classes = classes_with((300, -10, 20, 30, BARREN))
    mask = suspicious_mask(classes, 0, 5)
    assert mask[302:318, 0].all()


def test_chips_are_the_cells_pixels():
    image = np.random.default_rng(0).random((4, CHUNK_PX, CHUNK_PX)).astype(np.float32)
    chips = cut_chips(image, [(0, 0), (41, 41)], [2, 0])
    assert chips.shape == (2, 2, CELL_PX, CELL_PX)
    np.testing.assert_array_equal(chips[0, 0], image[2, 64:112, 64:112])
    np.testing.assert_array_equal(chips[1, 1], image[0, -112:-64, -112:-64])
    assert cut_chips(image, [], [0]).shape == (0, 1, CELL_PX, CELL_PX)


def test_a_shifted_chip_has_the_scar_in_its_middle():
    classes = classes_with((100, 130, 6, 8, BARREN))
    got = stats(classes)
    cells = [(2, 2)]
    (shift,) = centring_shifts(got.mask, cells)
    assert centring_shifts(got.mask, [(9, 9)]) == [(0, 0)]
    assert shift == (-17, 14)
    image = clear_image()
    image[0, HALO_PX + 100 : HALO_PX + 106, HALO_PX + 130 : HALO_PX + 138] = 0.3
    (chip,) = cut_chips(image, cells, [0], [shift])
    rows, cols = np.nonzero(chip[0] > 0.2)
    assert len(rows) == 48
    assert abs(rows.mean() - 23.5) <= 0.5
    assert abs(cols.mean() - 23.5) <= 0.5


def test_pieces_lie_where_the_pixels_do():
    classes = classes_with((96, 96, 10, 10, BARREN), (110, 110, 5, 80, WATER))
    got = cell_pieces(classes, stats(classes), TILE)
    assert set(got) == {(2, 2), (2, 3)}
    kinds = {piece["kind"]: piece for piece in got[2, 2]}
    west, _, _, north = TILE.core_bounds
    barren = shapely.from_wkb(kinds["barren"]["geometry"])
    assert barren.bounds == (west + 960, north - 1060, west + 1060, north - 960)
    assert barren.area == kinds["barren"]["px"] * 100 == 10_000
    # the pond knows its whole body, also the part in the next cell
    assert kinds["water"]["px"] == 34 * 5
    assert kinds["water"]["component_px"] == 80 * 5
    (next_cell,) = [p for p in got[2, 3] if p["kind"] == "water"]
    assert next_cell["component"] == kinds["water"]["component"]
    assert kinds["suspicious"]["px"] == 100 + 170


def test_every_cell_of_the_tile_is_counted_once():
    got = stats(classes_with((0, 0, CORE_PX, CORE_PX, WATER)))
    assert got.suspicious.shape == (TILE_CELLS, TILE_CELLS)
    assert (got.suspicious_fraction == 1).all()
    assert (got.clear_fraction == 1).all()
