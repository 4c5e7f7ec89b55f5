"""Cubes: pixels come back unchanged on an item's own grid, from both engines, warped from other
zones.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import stackstac
from affine import Affine
from odc.geo.geobox import GeoBox

from scanner.area.grid import from_geographic, to_geographic
from scanner.config import SearchConfig
from scanner.errors import ReadError
from scanner.imagery.access import gdal_env
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from tests.synth import make_item

RNG = np.random.default_rng(3)
ENV = gdal_env(SearchConfig())
SIZE = 200


def box(west, north, height, width, epsg=32721, size=10):
    return GeoBox((height, width), Affine(size, 0, west, 0, -size, north), f"EPSG:{epsg}")


@pytest.fixture
def item(tmp_path):
    bands = {
        b: RNG.integers(1, 9000, (SIZE, SIZE)).astype(np.uint16) for b in ("B02", "B03", "B04")
    }
    bands["SCL"] = RNG.integers(1, 12, (SIZE // 2, SIZE // 2)).astype(np.uint8)
    return make_item(tmp_path, "one", bands), bands


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_own_grid_gives_the_pixels_unchanged(item, engine):
    one, bands = item
    cube = load_cube(
        [one], box(600_000, 9_300_000, SIZE, SIZE), ("B04", "B02"), engine=engine, env=ENV
    )
    assert cube.dims == ("time", "band", "y", "x")
    assert cube.dtype == np.uint16
    got = cube.compute().values[0]
    np.testing.assert_array_equal(got[0], bands["B04"])
    np.testing.assert_array_equal(got[1], bands["B02"])


def test_the_trap_is_real_without_proj_epsg(item):
    """What this module guards against: without ``proj:epsg`` stackstac takes another extent."""
    one, bands = item
    raw = json.loads(json.dumps(one.raw))
    assert "proj:epsg" not in raw["properties"]
    wrong = stackstac.stack(
        [raw],
        assets=["B04"],
        epsg=32721,
        resolution=10,
        dtype="uint16",
        fill_value=np.uint16(0),
        rescale=False,
        properties=False,
        band_coords=False,
    )
    assert wrong.shape[2:] != bands["B04"].shape


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_outside_the_item_is_nodata(item, engine):
    one, bands = item
    grid = box(600_000 - 640, 9_300_000 + 640, SIZE + 128, SIZE + 128)
    got = load_cube([one], grid, ("B04",), engine=engine, env=ENV).compute().values[0, 0]
    np.testing.assert_array_equal(got[64:-64, 64:-64], bands["B04"])
    assert got[:64].max() == 0
    assert got[:, -64:].max() == 0


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_a_band_an_item_lacks_is_nodata(tmp_path, item, engine):
    one, bands = item
    other = make_item(tmp_path, "two", {"B04": bands["B04"]}, datetime="2024-07-06T13:50:00Z")
    cube = load_cube(
        [one, other], box(600_000, 9_300_000, SIZE, SIZE), ("B02", "B04"), engine=engine, env=ENV
    ).compute()
    assert cube.values[1, 0].max() == 0
    np.testing.assert_array_equal(cube.values[1, 1], bands["B04"])


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_a_band_no_item_has_is_nodata_in_its_place(item, engine):
    one, bands = item
    grid = box(600_000, 9_300_000, SIZE, SIZE)
    cube = load_cube([one], grid, ("B08", "B04", "B12", "B02"), engine=engine, env=ENV)
    assert cube.data.numblocks == (1, 1, 1, 1)
    values = cube.compute().values[0]
    assert values.dtype == np.uint16
    assert values[[0, 2]].max() == 0
    np.testing.assert_array_equal(values[1], bands["B04"])
    np.testing.assert_array_equal(values[3], bands["B02"])


def test_an_item_with_none_of_the_bands_is_refused_by_name(item):
    one, _ = item
    with pytest.raises(ReadError, match="one: has none of B08"):
        load_cube([one], box(600_000, 9_300_000, SIZE, SIZE), ("B08",), env=ENV)


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_items_keep_their_order_whatever_their_dates(tmp_path, engine):
    items = [
        make_item(
            tmp_path,
            f"i{k}",
            {"B04": np.full((SIZE, SIZE), 100 + k, np.uint16)},
            datetime=f"2024-07-{day:02d}T13:50:00Z",
        )
        for k, day in enumerate((20, 1, 10))
    ]
    grid = box(600_000, 9_300_000, 50, 50)
    cube = load_cube(items, grid, ("B04",), engine=engine, env=ENV).compute()
    assert [int(v) for v in cube.values[:, 0, 0, 0]] == [100, 101, 102]
    assert cube.id.values.tolist() == ["i0", "i1", "i2"]


def test_both_engines_warp_another_zone_the_same(tmp_path):
    """An item of zone 22 on a grid of zone 21: nearest neighbour, so at most a pixel apart."""
    x, y = from_geographic(32722, -53.995, -7.0)
    west, north = round(float(x), -1), round(float(y), -1)
    smooth = np.add.outer(np.arange(400), 2 * np.arange(400)).astype(np.uint16) + 100
    item = make_item(tmp_path, "east", {"B04": smooth}, epsg=32722, west=west, north=north)
    lon, lat = to_geographic(32722, west + 2000, north - 2000)
    x21, y21 = from_geographic(32721, lon, lat)
    grid = box(round(float(x21), -1) - 1000, round(float(y21), -1) + 1000, 200, 200)
    one, two = (
        load_cube([item], grid, ("B04",), engine=e, env=ENV).compute().values[0, 0].astype(int)
        for e in ("stackstac", "odc")
    )
    assert (one > 0).all()
    assert np.abs(one - two).max() <= 3  # the ramp rises by 2 + 1 a pixel
    rows, cols = np.mgrid[0:200, 0:200] + 0.5
    lon, lat = to_geographic(32721, grid.transform.c + 10 * cols, grid.transform.f - 10 * rows)
    east, up = from_geographic(32722, lon, lat)
    truth = smooth[((north - up) // 10).astype(int), ((east - west) // 10).astype(int)].astype(int)
    assert np.abs(one - truth).max() <= 3


def test_scl_comes_as_uint8_at_20_m(item):
    one, bands = item
    grid = box(600_000, 9_300_000, SIZE, SIZE).zoom_out(2)
    cube = load_cube([one], grid, ("SCL",), env=ENV)
    assert cube.dtype == np.uint8
    np.testing.assert_array_equal(cube.compute().values[0, 0], bands["SCL"])


def test_real_scenes_on_their_own_grid(shared_data):
    folder = shared_data / "scenes"
    for raw in json.loads((folder / "items.json").read_text())["features"]:
        item = Item(raw).with_hrefs(lambda href: str((folder / href).resolve()))
        with rasterio.open(item.href("B04")) as src:
            truth = src.read(1)
            grid = GeoBox(src.shape, src.transform, f"EPSG:{src.crs.to_epsg()}")
        for engine in ("stackstac", "odc"):
            got = load_cube([item], grid, ("B04",), engine=engine, env=ENV).compute().values[0, 0]
            np.testing.assert_array_equal(got, truth)


def test_a_broken_file_names_itself_and_is_never_nodata(item, tmp_path):
    one, _ = item
    bad = tmp_path / "one" / "B04.tif"
    bad.write_bytes(bad.read_bytes()[:2000])
    cube = load_cube([one], box(600_000, 9_300_000, SIZE, SIZE), ("B04",), env=ENV)
    with pytest.raises(ReadError, match=r"B04\.tif") as caught:
        cube.compute(scheduler="synchronous")
    assert caught.value.href == str(bad)


def test_a_vrt_named_tif_is_refused_even_after_a_warp(item, tmp_path):
    """Warping brings GDAL's VRT driver back; what it could read must stay closed all the same."""
    one, _ = item
    load_cube([one], box(600_005, 9_300_005, 50, 50), ("B04",), env=ENV).compute()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(range(100)) * 100)
    evil = tmp_path / "one" / "B03.tif"
    evil.write_text(
        f"""<VRTDataset rasterXSize="100" rasterYSize="100"><VRTRasterBand dataType="Byte" band="1"
        subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="0">{secret}</SourceFilename>
        <ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>100</LineOffset>
        </VRTRasterBand></VRTDataset>""",
        encoding="utf-8",
    )
    cube = load_cube([one], box(600_000, 9_300_000, 100, 100), ("B03",), env=ENV)
    with pytest.raises(ReadError, match=r"B03\.tif"):
        cube.compute(scheduler="synchronous")


def test_a_chain_over_one_chunk_is_two_tasks(item):
    one, _ = item
    cube = load_cube([one], box(600_000, 9_300_000, SIZE, SIZE), ("B04", "B03"), env=ENV)
    import dask

    chain = cube.data.map_blocks(lambda b: b[0] + 1, drop_axis=0).map_blocks(lambda b: b * 2)
    (best,) = dask.optimize(chain)
    assert len(dict(best.__dask_graph__())) <= 3
