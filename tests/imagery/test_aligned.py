"""What is read without a warp holds the same pixels as GDAL's warp gives."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from scanner.imagery.aligned import Alignment

EPSG = 32721
SIZE = 24
"""Pixels a side of the grid that is read on; assets are of 12."""


def written(
    memory: MemoryFile,
    dtype: str,
    nodata: float | None,
    transform: Affine,
    mask: np.ndarray | None = None,
) -> None:
    pixels = np.random.default_rng(3).integers(0, 5, (12, 12)).astype(dtype)
    with memory.open(
        driver="GTiff", dtype=dtype, count=1, height=12, width=12, nodata=nodata,
        crs=f"EPSG:{EPSG}", transform=transform,
    ) as out:  # fmt: skip
        out.write(pixels, 1)
        if mask is not None:
            out.write_mask(mask)


def warped(asset: rasterio.DatasetReader, grid: Affine, window: Window) -> np.ndarray:
    """Return what stackstac's own reader gives."""
    with WarpedVRT(
        asset, crs=f"EPSG:{EPSG}", transform=grid, width=SIZE, height=SIZE, sharing=False,
        resampling=Resampling.nearest, add_alpha=asset.nodata is None,
    ) as vrt:  # fmt: skip
        found = vrt.read(window=window, masked=True, out_dtype="uint16")
    if len(found) == 2:
        found = np.ma.masked_array(found[:1], mask=found[1:] == 0)
    return np.ma.filled(found, 0)[0]


@given(
    step=st.integers(1, 3),
    down=st.integers(-30, 40),
    right=st.integers(-30, 40),
    nodata=st.sampled_from([None, 0, 3]),
    dtype=st.sampled_from(["uint16", "int16"]),
    rows=st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)),
    cols=st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)),
)
def test_pixels_are_those_of_a_warp(step, down, right, nodata, dtype, rows, cols):
    grid = Affine(10, 0, 600_000, 0, -10, 9_300_000)
    own = Affine(
        10 * step, 0, grid.c - 10 * right, 0, -10 * step, grid.f + 10 * down
    )  # the grid begins so many pixels within it
    window = Window(cols[0], rows[0], min(cols[1], SIZE - cols[0]), min(rows[1], SIZE - rows[0]))
    with MemoryFile() as memory:
        written(memory, dtype, nodata, own)
        with memory.open() as asset:
            aligned = Alignment.of(asset, EPSG, grid)
            assert aligned is not None
            found = aligned.pixels(
                lambda part: asset.read(window=part, out_dtype="uint16"),
                window,
                np.dtype("uint16"),
            )
            np.testing.assert_array_equal(found, warped(asset, grid, window))


@pytest.mark.parametrize(
    ("own", "epsg"),
    [
        (Affine(10, 0, 600_004, 0, -10, 9_300_000), EPSG),  # between the pixels
        (Affine(15, 0, 600_000, 0, -15, 9_300_000), EPSG),
        (Affine(5, 0, 600_000, 0, -5, 9_300_000), EPSG),  # finer: one of several is to be chosen
        (Affine(10, 1, 600_000, 1, -10, 9_300_000), EPSG),  # turned
        (Affine(10, 0, 600_000, 0, 10, 9_300_000), EPSG),  # from south to north
        (Affine(10, 0, 600_000, 0, -10, 9_300_000), EPSG + 1),
    ],
)
def test_what_lies_otherwise_is_left_to_the_warp(own, epsg):
    with MemoryFile() as memory:
        written(memory, "uint16", 0, own)
        with memory.open() as asset:
            assert Alignment.of(asset, epsg, Affine(10, 0, 600_000, 0, -10, 9_300_000)) is None


def test_an_asset_with_a_mask_of_its_own_is_left_to_the_warp():
    grid = Affine(10, 0, 600_000, 0, -10, 9_300_000)
    with MemoryFile() as memory, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        written(memory, "uint16", None, grid, mask=np.eye(12, dtype=bool))
        with memory.open() as asset:
            assert Alignment.of(asset, EPSG, grid) is None
