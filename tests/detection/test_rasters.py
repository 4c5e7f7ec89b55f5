"""The rasters of a tile: on its grid, exact classes, true colour with opacity."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.io import MemoryFile

from scanner.area.grid import CORE_PX, HALO_PX, Tile, Zone
from scanner.detection.rasters import GAMMA, RASTERS, WHITE, shown, tile_rasters
from scanner.detection.segment import APRON, NOT_SEGMENTED

TILE = Tile(Zone(21, True), 40, 38)
BANDS = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def made():
    """A tile whose classes, marks and colours differ from corner to corner."""
    size = CORE_PX + 2 * HALO_PX
    image = np.full((len(BANDS) + 1, size, size), 0.05, np.float32)
    image[BANDS.index("B04"), : size // 2] = 0.2  # red in the north
    image[:, :, : HALO_PX + 100] = np.nan
    classes = np.zeros((CORE_PX + 2 * APRON,) * 2, np.uint8)
    classes[APRON : APRON + 50, APRON + 200 : APRON + 260] = 4
    classes[-500:] = NOT_SEGMENTED
    marked = np.zeros((CORE_PX, CORE_PX), bool)
    marked[:50, 200:260] = True
    return classes, tile_rasters(image, classes, marked, TILE, BANDS)


def opened(made, name):
    with MemoryFile(made[1][name]) as memory, memory.open(driver="GTiff") as file:
        pixels = file.read()
        if name == "quicklook":
            pixels = np.concatenate([pixels, file.dataset_mask()[None]])
        return pixels, file.profile, file.transform


def test_they_lie_on_the_tiles_grid(made):
    assert tuple(made[1]) == RASTERS
    for name in RASTERS:
        _, profile, transform = opened(made, name)
        assert profile["crs"].to_epsg() == TILE.epsg
        assert transform == TILE.core_geobox.affine
        assert (profile["height"], profile["width"]) == (CORE_PX, CORE_PX)


def test_classes_and_marks_are_exact(made):
    classes, profile, _ = opened(made, "classes")
    assert profile["nodata"] == NOT_SEGMENTED
    assert (classes[0, :, 100:] == made[0][APRON:-APRON, APRON:-APRON][:, 100:]).all()
    assert (classes[0, :, :100] == NOT_SEGMENTED).all()  # no scene has data there
    marks = opened(made, "suspicious")[0][0]
    assert (marks[:50, 200:260] == 1).all()
    assert (marks == 1).sum() == 3000
    assert ((marks == NOT_SEGMENTED) == (classes[0] == NOT_SEGMENTED)).all()


def test_true_colour_keeps_what_is_bright_and_what_is_absent(made):
    picture = opened(made, "quicklook")[0].astype(int)
    assert (picture[3, :, :100] == 0).all()
    assert (picture[3, :, 101:] == 255).all()
    north, south = picture[:3, 200, 1000], picture[:3, 1800, 1000]
    wanted = [round((value / WHITE) ** GAMMA * 255) for value in (0.2, 0.05, 0.05)]
    assert np.abs(north - wanted).max() <= 8  # lossy
    assert north[0] > south[0] + 50


def test_a_stretch_depends_on_no_surroundings():
    rgb = np.random.default_rng(0).uniform(0, 0.4, (3, 8, 8)).astype(np.float32)
    rgb[0, 0, 0] = np.nan
    whole = shown(rgb)
    assert (shown(rgb[:, :4]) == whole[:, :4]).all()
    assert whole[:, 0, 0].tolist() == [0, 0, 0, 0]
    assert whole[:3][:, (rgb >= WHITE).all(axis=0)].min(initial=255) == 255


def test_models_without_visible_bands_have_no_quicklook(made):
    image = np.zeros((2, CORE_PX + 2 * HALO_PX, CORE_PX + 2 * HALO_PX), np.float32)
    marked = np.zeros((CORE_PX, CORE_PX), bool)
    assert set(tile_rasters(image, made[0], marked, TILE, ["B08"])) == {"classes", "suspicious"}
