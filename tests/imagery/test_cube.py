"""Cubes: pixels come back unchanged on an item's own grid, from both engines, warped from other
zones.
"""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import numpy as np
import pytest
import rasterio
import stackstac
from affine import Affine
from distributed.protocol import pickle
from odc.geo.geobox import GeoBox

from scanner.area.grid import from_geographic, to_geographic
from scanner.config import SearchConfig
from scanner.errors import ReadError
from scanner.imagery import readers
from scanner.imagery.access import culprit, failure_text, gdal_env, guard_logs
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.signing import TokenSigner, signed
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


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
@pytest.mark.parametrize("told", [[603_000, 9_297_000, 605_000, 9_299_000], [0, 0, 10, 10]])
def test_where_pixels_lie_the_file_says_not_the_item(item, engine, told):
    """stackstac leaves out what by its ``proj:`` members lies elsewhere, and then names no item."""
    one, bands = item
    one.raw["properties"]["proj:bbox"] = told
    for asset in one.raw["assets"].values():
        del asset["proj:shape"], asset["proj:transform"]
    cube = load_cube([one], box(600_000, 9_300_000, 50, 50), ("B04",), engine=engine, env=ENV)
    np.testing.assert_array_equal(cube.compute().values[0, 0], bands["B04"][:50, :50])


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


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_a_broken_file_names_itself_and_is_never_nodata(item, tmp_path, engine):
    one, _ = item
    bad = tmp_path / "one" / "B04.tif"
    bad.write_bytes(bad.read_bytes()[:2000])
    grid = box(600_000, 9_300_000, SIZE, SIZE)
    cube = load_cube([one], grid, ("B02", "B04"), engine=engine, env=ENV)
    with pytest.raises(ReadError, match=r"\S") as caught:
        cube.compute(scheduler="synchronous")
    assert caught.value.href == str(bad)
    assert str(bad) in failure_text(caught.value)
    back = pickle.loads(pickle.dumps(caught.value))  # as it comes from a worker, with its context
    assert type(back) is ReadError
    assert culprit(back, [one]) is one


def test_a_jpeg2000_is_read_and_a_cut_one_is_refused(tmp_path):
    """Cut JPEG 2000 files could be decoded in part, without an error."""
    pixels = RNG.integers(1, 4000, (SIZE, SIZE)).astype(np.uint16)
    whole = make_item(tmp_path, "one", {"B04": pixels})
    path = tmp_path / "one" / "B04.jp2"
    shape = {"height": SIZE, "width": SIZE, "count": 1, "dtype": "uint16"}
    place = {"crs": "EPSG:32721", "transform": Affine(10, 0, 600_000, 0, -10, 9_300_000)}
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(path, "w", driver="JP2OpenJPEG", **shape, **place, **lossless) as out:
        out.write(pixels, 1)
    item = whole.with_hrefs(lambda _: str(path))
    grid = box(600_000, 9_300_000, SIZE, SIZE)
    for engine in ("stackstac", "odc"):
        cube = load_cube([item], grid, ("B04",), engine=engine, env=ENV, count="blocks")
        np.testing.assert_array_equal(cube.compute().values[0, 0], pixels)
        assert readers.take_count("blocks") == 0, "the format does not tell their sizes"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    for engine in ("stackstac", "odc"):
        with pytest.raises(ReadError) as caught:
            load_cube([item], grid, ("B04",), engine=engine, env=ENV).compute()
        assert caught.value.href == str(path)


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
@pytest.mark.parametrize(
    ("dtype", "band", "fact"),
    [
        ("float32", "B03", "no band of uint16 DN.* 1 band.* float32"),
        ("uint8", "B03", "no band of uint16 DN.* uint8"),
        ("float32", "SCL", "no band of uint8 DN.* float32"),
    ],
)
def test_other_pixels_than_dn_are_refused(tmp_path, engine, dtype, band, fact):
    """Reflectance as float would be cut to 0, and so taken for ground nobody saw."""
    size = SIZE if band == "B03" else SIZE // 2
    one = make_item(tmp_path, "one", {band: np.ones((size, size), dtype)})
    grid = box(600_000, 9_300_000, SIZE, SIZE)
    cube = load_cube([one], grid, (band,), engine=engine, env=ENV)
    with pytest.raises(ReadError, match=fact) as caught:
        cube.compute(scheduler="synchronous")
    assert caught.value.href == one.href(band)


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
@pytest.mark.parametrize("wrong", [{"count": 2}, {"crs": None, "count": 1}])
def test_a_picture_of_several_bands_or_of_nowhere_is_refused(tmp_path, engine, wrong):
    one = make_item(tmp_path, "one", {"B04": np.ones((SIZE, SIZE), np.uint16)})
    shape = {"height": SIZE, "width": SIZE, "dtype": "uint16", "crs": "EPSG:32721"} | wrong
    place = Affine(10, 0, 600_000, 0, -10, 9_300_000)
    with rasterio.open(one.href("B04"), "w", driver="GTiff", transform=place, **shape) as out:
        out.write(np.ones((shape["count"], SIZE, SIZE), np.uint16))
    cube = load_cube([one], box(600_000, 9_300_000, SIZE, SIZE), ("B04",), engine=engine, env=ENV)
    with pytest.raises(ReadError, match=r"no band of uint16 DN on a map"):
        cube.compute(scheduler="synchronous")


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_want_of_memory_is_no_fault_of_a_scene(item, monkeypatch, engine):
    def full(*_args, **_options):
        raise MemoryError("no more")

    one, _ = item
    grid = box(600_000, 9_300_000, SIZE, SIZE)
    cube = load_cube([one], grid, ("B04",), engine=engine, env=ENV)
    monkeypatch.setattr(readers.SelfCleaningDatasetReader, "read", full)
    monkeypatch.setattr("odc.loader._rio._do_read", full)
    with pytest.raises(MemoryError):
        cube.compute(scheduler="synchronous")


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_no_signature_stands_in_a_graph_error_or_log(
    item, tmp_path, engine, serve_files, serve_tokens, caplog
):
    """Keys of tasks are shown on Dask's dashboard and travel in every log of it."""
    one, bands = item
    tokens = serve_tokens()
    host = serve_files(tmp_path, mint=tokens.mint)
    there = one.with_hrefs(lambda href: f"{host.url}/{Path(href).relative_to(tmp_path)}")
    signer = TokenSigner(f"{tokens.url}/token/{{container}}")
    (signed_item,) = signed([there], signer)
    secret = signed_item.href("B04").rpartition("sig=")[2]
    assert len(secret) == 16
    grid = box(600_000, 9_300_000, SIZE, SIZE)
    cube = load_cube([signed_item], grid, ("B02", "B04"), engine=engine, env=ENV)
    assert cube.compute().values[0, 1].sum() == bands["B04"].sum()
    assert not [key for key in cube.__dask_graph__() if secret in str(key)]
    assert secret not in repr(cube) + cube.data.name

    guard_logs()
    env = gdal_env(SearchConfig(), retry=True)  # a new open is a new request
    host.fail("B04.tif", status=404, times=None)
    cube = load_cube([signed_item], grid, ("B02", "B04"), engine=engine, env=env)
    with caplog.at_level("DEBUG"), pytest.raises(ReadError) as caught:
        cube.compute(scheduler="synchronous")
    error = caught.value
    assert error.href == there.href("B04")
    assert culprit(error, [there]) is there
    told = "".join(traceback.format_exception(error)) + repr(error) + failure_text(error)
    assert secret not in told
    assert secret not in caplog.text
    assert str(pickle.dumps(error)).count(secret) == 0


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_a_retry_makes_no_later_read_ask_for_more(item, tmp_path, engine, serve_files):
    """What a second try switches off, GDAL's memory of an address, is on again after it."""
    one, _ = item
    asked = []
    for retry in (False, True, False):
        host = serve_files(tmp_path)
        there = one.with_hrefs(lambda href: f"{host.url}/{Path(href).relative_to(tmp_path)}")  # noqa: B023
        env = gdal_env(SearchConfig(), retry=retry)
        grid = box(600_000, 9_300_000, SIZE, SIZE)
        for _ in range(2):
            load_cube([there], grid, ("B02", "B04"), engine=engine, env=env).compute()
        asked.append(len(host.seen))
    assert asked[2] == asked[0] < asked[1]


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_a_vrt_named_tif_is_refused_even_after_a_warp(item, tmp_path, engine):
    """Warping brings GDAL's VRT driver back; what it could read must stay closed all the same."""
    one, _ = item
    shifted = box(600_005, 9_300_005, 50, 50)
    load_cube([one], shifted, ("B04",), engine=engine, env=ENV).compute()
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
    grid = box(600_000, 9_300_000, 100, 100)
    cube = load_cube([one], grid, ("B03",), engine=engine, env=ENV)
    with pytest.raises(ReadError, match="not a GeoTIFF") as caught:
        cube.compute(scheduler="synchronous")
    assert caught.value.href == str(evil)


AREAS = ((0, 0, 40, 100), (40, 60, 100, 100))


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_only_the_areas_are_read_and_the_rest_is_nodata(item, engine):
    one, _ = item
    grid = box(600_000, 9_300_000, 100, 100)
    whole = load_cube([one], grid, ("B02", "B04"), engine=engine, env=ENV).compute().values
    some = load_cube([one], grid, ("B02", "B04"), engine=engine, env=ENV, areas=AREAS)
    expected = np.zeros_like(whole)
    for top, left, bottom, right in AREAS:
        expected[..., top:bottom, left:right] = whole[..., top:bottom, left:right]
    np.testing.assert_array_equal(some.compute().values, expected)
    assert (expected > 0).any()


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_an_area_of_another_zone_has_the_same_pixels_whatever_else_is_read(tmp_path, engine):
    """GDAL warps by approximation within each read, so a piece is read by itself each time."""
    x, y = from_geographic(32722, -53.995, -7.0)
    west, north = round(float(x), -1), round(float(y), -1)
    noise = np.random.default_rng(0).integers(1, 9999, (400, 400)).astype(np.uint16)
    item = make_item(tmp_path, "east", {"B04": noise}, epsg=32722, west=west, north=north)
    lon, lat = to_geographic(32722, west + 2000, north - 2000)
    x21, y21 = from_geographic(32721, lon, lat)
    grid = box(round(float(x21), -1) - 1000, round(float(y21), -1) + 1000, 200, 200)
    pieces = ((0, 0, 120, 120), (0, 120, 120, 200), (120, 0, 200, 200))

    def read(areas):
        cube = load_cube([item], grid, ("B04",), engine=engine, env=ENV, areas=areas)
        return cube.compute().values[0, 0]

    whole = read(pieces)
    for top, left, bottom, right in pieces:
        alone = read(((top, left, bottom, right),))[top:bottom, left:right]
        np.testing.assert_array_equal(alone, whole[top:bottom, left:right])
        assert (alone > 0).all()


def test_nothing_is_opened_where_nothing_is_wanted(item):
    one, _ = item
    gone = one.with_hrefs(lambda href: href + ".gone.tif")
    cube = load_cube([gone], box(600_000, 9_300_000, 50, 50), ("B04",), env=ENV, areas=())
    assert not cube.compute().values.any()


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_bytes_are_those_of_the_blocks_that_hold_the_areas(engine, tmp_path):
    noise = np.random.default_rng(0).integers(1, 9999, (1500, 1500)).astype(np.uint16)
    item = make_item(tmp_path, "large", {"B04": noise})  # 3 x 3 blocks of 512
    grid = box(600_000, 9_300_000, 1500, 1500)
    with rasterio.open(item.href("B04")) as file:
        size = {
            (row, col): int(file.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1))
            for row in range(3)
            for col in range(3)
        }

    def counted(areas):
        load_cube(
            [item], grid, ("B04",), engine=engine, env=ENV, areas=areas, count="here"
        ).compute()
        return readers.take_count("here")

    assert counted(None) == sum(size.values())
    assert counted(((0, 0, 512, 512),)) == size[0, 0]
    assert counted(((500, 500, 513, 1024),)) == sum(size[r, c] for r in (0, 1) for c in (0, 1))
    assert readers.take_count("here") == 0
