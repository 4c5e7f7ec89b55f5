"""What ``--plan`` foretells, against what a scan then does."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanner.area.aoi import Aoi
from scanner.area.grid import CELL_M, TILE_CELLS, Tile, Zone, cell_polygons, tiles, to_geographic
from scanner.config import PixelConfig, ScanConfig
from scanner.detection.detections import CELL_HA
from scanner.imagery.catalog import items_of_tile
from scanner.imagery.item import Item
from scanner.run.costs import GPU_MPX_S, MANY, READ_BYTES_S
from scanner.run.outlook import ENOUGH, Outlooks, days_until, expected_clear, sample_points
from scanner.run.pipeline import prepare
from scanner.run.plan import plan, tell_plan, write_plan
from tests.servers.range_server import RangeServer
from tests.synth import make_item, write_collection

TILE = Tile(Zone(21, True), 30, 40)
CELLS = tuple((row, col) for row in range(3, 9) for col in range(4, 10))
NOWHERE = "http://127.0.0.1:9"
"""A host that nobody answers at."""

WEST, NORTH = TILE.core_bounds[0], TILE.core_bounds[3]


def ground(west, south, east, north, epsg=TILE.epsg):
    """Return a rectangle in metres as a polygon in EPSG:4326."""
    square = shapely.segmentize(shapely.box(west, south, east, north), 1000)
    return shapely.transform(square, lambda c: np.column_stack(to_geographic(epsg, *c.T)))


def scene(folder: Path, name: str, width: int, height: int, day: int, **properties) -> Item:
    """Write a clear granule with texture, its north-west corner off the tile's; 3 bands and SCL."""
    rng = np.random.default_rng(day)
    bands = {
        band: rng.normal(level, 60, (height, width)).clip(1).astype(np.uint16)
        for band, level in (("B02", 1250), ("B03", 1450), ("B04", 1300))
    }
    bands["SCL"] = np.full((height // 2, width // 2), 4, dtype=np.uint8)
    west, north = WEST - 400, NORTH + 400
    stamp = f"2024-07-{day:02d}T13:50:00Z"
    item = make_item(
        folder, name, bands, epsg=TILE.epsg, west=west, north=north, datetime=stamp, **properties
    )
    outline = ground(west, north - 10 * height, west + 10 * width, north)
    return Item({**item.raw, "geometry": shapely.geometry.mapping(outline)})


def pretended(name, outline, day, cloud=10.0, **assets):
    """Return an item whose pixels do not exist."""
    return Item(
        {
            "type": "Feature",
            "id": name,
            "geometry": shapely.geometry.mapping(outline),
            "properties": {
                "datetime": f"{dt.date(2024, 1, 1) + dt.timedelta(day)}T13:50:00Z",
                "eo:cloud_cover": cloud,
                "proj:epsg": TILE.epsg,
            },
            "assets": {
                band: {"href": f"{NOWHERE}/{name}/{band}.tif"}
                for band in ("B02", "B03", "B04", "SCL")
            }
            | assets,
            "links": [],
        }
    )


@pytest.fixture(scope="session")
def area(tmp_path_factory):
    """The 6 x 6 cells of ``CELLS``, as a file; cut a hair inside, so that no neighbour joins in."""
    shape = shapely.union_all(cell_polygons(Tile(TILE.zone, TILE.col, TILE.row, CELLS)))
    path = tmp_path_factory.mktemp("area") / "cells.geojson"
    geometry = shapely.geometry.mapping(shapely.buffer(shape, -1e-6, join_style="mitre"))
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": geometry}))
    return path


@pytest.fixture
def prepared(area, tiny_models, tmp_path):
    """``prepared(items)`` is a run over the area and these items, ready to scan."""

    def make(items, **values):
        catalog = write_collection(tmp_path / "items.json", list(items))
        return prepare(
            ScanConfig().with_values(
                aoi=area,
                catalog=str(catalog),
                out=tmp_path / "run",
                hosts=["http://127.0.0.1"],
                **tiny_models,
                **values,
            )
        )

    return make


@pytest.fixture(scope="module")
def told_and_done(area, tiny_models, tmp_path_factory):
    """A plan, then the scan over HTTP: the run, the plan made before it, and the bytes served."""
    folder = tmp_path_factory.mktemp("planned")
    items = [
        scene(folder / "scenes", "first", 500, 500, 1),
        scene(folder / "scenes", "second", 360, 700, 2),
    ]
    server = RangeServer(folder / "scenes")
    raws = [
        item.with_hrefs(lambda href: href.replace(str(folder / "scenes"), server.url))
        for item in items
    ]
    run = prepare(
        ScanConfig().with_values(
            aoi=area,
            catalog=str(write_collection(folder / "items.json", raws)),
            out=folder / "run",
            workers=1,
            hosts=["http://127.0.0.1"],
            screen="off",
            **tiny_models,
        )
    )
    try:
        made = plan(run)
        assert server.seen == [], "a plan asks for nothing"
        assert all(list(run.scan()))
    finally:
        server.stop()
    return run, made, server


def served(server: RangeServer) -> int:
    """Return the bytes of all bodies a host of ranges sent."""
    total = 0
    for one in server.seen:
        size = (server.folder / one.path.lstrip("/")).stat().st_size
        first, _, last = (one.range or f"bytes=0-{size}").removeprefix("bytes=").partition("-")
        total += (min(int(last), size - 1) - int(first) + 1) if one.method == "GET" else 0
    return total


def test_gigabytes_are_those_that_were_read(told_and_done):
    _, made, server = told_and_done
    assert made.bytes_to_read == pytest.approx(served(server), rel=0.5)
    requests = sum(tile.requests for tile in made.tiles)
    assert requests == pytest.approx(len(server.seen), rel=0.5)


def test_ground_without_a_scene_is_what_the_scan_does_not_see(told_and_done):
    run, made, _ = told_and_done
    (tile,) = run.tiles
    part = run.parts.table(tile.tile_id)
    clear = np.array(part["clear_fraction"])
    assert 0 < clear.mean() < 1, "the scenes show a part of the area"
    frame = gpd.GeoSeries(cell_polygons(tile))
    inside = shapely.area(shapely.intersection(frame, made.unseen)) / shapely.area(frame)
    np.testing.assert_allclose(inside, 1 - clear, atol=0.002)
    assert made.unseen_ha == pytest.approx(CELL_HA * (1 - clear).sum(), rel=0.005)
    assert made.expected_clear <= clear.mean() + 0.1


def test_what_is_done_is_not_read_again(told_and_done):
    run, before, _ = told_and_done
    after = plan(run)
    assert [tile.done for tile in before.tiles] == [False]
    assert [tile.done for tile in after.tiles] == [True]
    assert after.bytes_to_read == 0
    assert after.pace.window_s is None, "no model is timed for nothing"
    assert "to read: nothing, all tiles are done" in tell_plan(after)
    assert after.unseen.equals(before.unseen)


def test_no_pixel_is_needed(prepared, tmp_path):
    whole = ground(WEST - 5000, NORTH - 30_000, WEST + 30_000, NORTH + 5000)
    made = plan(prepared([pretended("a", whole, 0), pretended("b", whole, 5)]))
    (tile,) = made.tiles
    assert (tile.scenes, tile.days, tile.days_read, tile.cells) == (2, 2, 2, len(CELLS))
    assert tile.expected_clear == pytest.approx(0.99)
    assert made.unseen is None
    assert made.bands == ("B02", "B03", "B04")
    told = tell_plan(made)
    assert "without any scene: no part of the area" in told
    assert re.search(r"reading [\d.]+ s at 20 MB/s", told)
    assert "from this machine's disks" in tell_plan(replace(made, local=True))
    assert len(told.splitlines()) <= 15

    made_again = replace(made, pace=replace(made.pace, window_s=99.0, workers=64))
    path = write_plan(made, tmp_path / "out")
    first = path.read_bytes()
    assert write_plan(made_again, tmp_path / "out").read_bytes() == first
    assert str(tmp_path) not in first.decode()
    assert json.loads(first)["bytes_to_read"] == made.bytes_to_read
    assert not (tmp_path / "out" / "plan_unseen.geojson").exists()


def test_a_plan_tells_what_screening_saves_at_most(prepared):
    whole = ground(WEST - 5000, NORTH - 30_000, WEST + 30_000, NORTH + 5000)
    items = [pretended(f"i{day}", whole, day) for day in range(9)]
    made = plan(prepared(items, workers=2))
    (tile,) = made.tiles
    assert (tile.days_read, tile.days_most, tile.screened) == (5, 6, True)  # of 5, 99 % have 3
    assert made.bytes_at_least == tile.scl_bytes < made.bytes_to_read < made.bytes_at_most
    band = (made.bytes_to_read - tile.scl_bytes) / 5
    assert made.bytes_at_most == pytest.approx(tile.scl_bytes + 6 * band, abs=10)
    told = tell_plan(made)
    assert re.search(r"at most, if clouds ask for all days; \S+ \w+ at least, the SCL alone", told)
    assert "days read 5 (until 3 clear views are expected, at most 6)" in told

    off = replace(made, screen=False, tiles=(replace(tile, screened=False),))
    assert off.bytes_at_least == off.bytes_to_read == made.bytes_to_read
    assert off.here.least == off.here.most == made.here.most
    assert "dense forest" not in tell_plan(off)


def test_ground_without_scl_is_never_passed_over(prepared):
    whole = ground(WEST - 5000, NORTH - 30_000, WEST + 30_000, NORTH + 5000)
    blind = pretended("blind", whole, 0)
    del blind.raw["assets"]["SCL"]
    (tile,) = plan(prepared([blind, pretended("told", whole, 5)])).tiles
    assert not tile.screened
    assert tile.least_bytes == tile.scl_bytes + tile.band_bytes


def test_the_slower_of_reading_and_computing_counts(prepared):
    whole = ground(WEST - 5000, NORTH - 30_000, WEST + 30_000, NORTH + 5000)
    made = plan(prepared([pretended("a", whole, 0)]))
    (tile,) = made.tiles
    tiles = tuple(replace(tile, tile_id=str(number), windows=9) for number in range(32))
    pace = replace(made.pace, at_once=2, window_s=2.0, chip_s=0.0)
    near = replace(made, tiles=tiles, pace=pace, local=True)
    core_s = 32 * (9 * 2.0 + tile.rest_s)
    assert near.here.most == pytest.approx(core_s / 2)
    assert near.on_many.most == pytest.approx(core_s / MANY)
    assert near.here.least == pytest.approx(32 * tile.scl_s / 2)
    segmenting = 32 * 9 * 0.64 / GPU_MPX_S
    assert near.on_gpu.most == pytest.approx(max(segmenting, 32 * tile.rest_s / MANY))

    far = replace(near, local=False, tiles=tuple(replace(t, band_bytes=10**9) for t in tiles))
    assert far.on_many.most == far.on_gpu.most == far.bytes_to_read / READ_BYTES_S
    assert far.compute_seconds == near.here.most < far.here.most
    assert "Mpx/s, assumed and not measured)" in tell_plan(far)


def test_the_outline_of_unseen_ground_comes_and_goes(prepared, tmp_path):
    west_half = ground(WEST - 5000, NORTH - 30_000, WEST + 7 * CELL_M, NORTH + 5000)
    half = plan(prepared([pretended("a", west_half, 0)]))
    assert half.unseen_ha == pytest.approx(half.area_ha / 2, rel=0.01)
    assert "no scene shows about 50 % of the area: widen --date" in tell_plan(half)
    write_plan(half, tmp_path / "out")
    outline = tmp_path / "out" / "plan_unseen.geojson"
    (feature,) = gpd.read_file(outline).itertuples()
    assert feature.area_ha == pytest.approx(half.unseen_ha, abs=0.01)
    assert not shapely.intersects(feature.geometry, shapely.buffer(west_half, -1e-6))
    write_plan(replace(half, unseen=None, unseen_ha=0.0), tmp_path / "out")
    assert not outline.exists()


def test_no_scene_at_all_is_said_plainly(prepared):
    far = ground(WEST + 200_000, NORTH, WEST + 210_000, NORTH + 9000)
    made = plan(prepared([pretended("far", far, 0)]))
    assert made.scenes == 0
    assert made.unseen_ha == pytest.approx(made.area_ha, rel=1e-3)
    told = tell_plan(made)
    assert "scenes: none; a scan would read nothing and call all of the area unseen" in told
    assert "advice: " in told


def test_what_is_off_is_told_with_advice(prepared):
    whole = ground(WEST - 5000, NORTH - 30_000, WEST + 30_000, NORTH + 5000)
    cloudy = [pretended(f"c{day}", whole, day, cloud=60.0) for day in range(3)]
    cloudy.append(pretended("untold", whole, 3, cloud=None))
    cloudy[0].raw["assets"].pop("SCL")
    run = prepared(cloudy, max_scenes=1)
    made = plan(run)
    assert made.tiles[0].expected_clear == 0.5
    pace = replace(made.pace, note="--workers 9 need 22.5 GiB, 3.0 GiB are free; starting 1")
    told = tell_plan(replace(made, pace=pace)).splitlines()
    advice = [line.removeprefix("advice: ") for line in told if line.startswith("advice: ")]
    assert advice[0].startswith("--workers 9 need")
    assert advice[1].startswith("few clear views over 1 of 1 tile (less than 90 % expected clear)")
    assert "raise --max-scenes" in advice[1]
    assert advice[2].startswith("scenes that tell no cloud cover: 1; 50 % was taken")
    assert advice[3].startswith("scenes without SCL: 1;")


def test_plan_of_the_command_reads_and_scans_nothing(call, area, tiny_models, tmp_path):
    whole = ground(WEST - 5000, NORTH - 30_000, WEST + 30_000, NORTH + 5000)
    catalog = write_collection(tmp_path / "items.json", [pretended("a", whole, 0)])
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    out = tmp_path / "run"
    settings = tmp_path / "hosts.toml"
    settings.write_text('[search]\nhosts = ["http://127.0.0.1"]\n')
    asked = ["--catalog", catalog, "--config", settings, "--out", out, "--plan"]
    code, told, _ = call(area, *asked, *models)
    assert code == 0
    assert "plan of cells: " in told
    assert (out / "plan.json").is_file()
    assert not (out / "parts").exists()
    assert not (out / "run.json").exists()


# The parts it is made of

looks = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        hnp.arrays(bool, (n, 5)),
        hnp.arrays(np.int64, n, elements=st.integers(0, 6)),
        hnp.arrays(np.float64, n, elements=st.floats(0, 1)),
        hnp.arrays(np.float64, 5, elements=st.floats(1, 36)),
    )
)


@given(looks, st.integers(1, 6))
def test_expected_clear_is_a_share_and_more_items_never_lower_it(look, max_scenes):
    seen, days, cloud, weight = look
    shares = [
        expected_clear(seen[:n], days[:n], cloud[:n], weight, max_scenes)
        for n in range(len(days) + 1)
    ]
    assert shares[0] == 0
    assert all(0 <= share <= 1 for share in shares)
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(shares))


@given(looks)
def test_expected_clear_by_hand(look):
    """Place by place, day by day, in plain words."""
    seen, days, cloud, weight = look
    clear = 0.0
    for place in range(5):
        missed = 1.0
        for day in set(days.tolist()):
            missed *= min([1.0, *cloud[(days == day) & seen[:, place]].tolist()])
        clear += weight[place] * (1 - missed)
    assert expected_clear(seen, days, cloud, weight, 7) == pytest.approx(clear / weight.sum())


chances = st.sampled_from((0.0, 0.0137, 0.137, 0.613, 1.0))


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(3)), elements=chances),
    hnp.arrays(np.float64, 3, elements=st.sampled_from((1.0, 7.0, 36.0))),
    st.integers(1, 4),
)
def test_days_until_clear_views_by_hand(missed, weight, clear_views):
    """Every way the days may turn out, in plain words."""
    enough = len(missed)
    for count in range(len(missed), 0, -1):
        short = 0.0
        for place in range(3):
            wanted = min(clear_views, int((missed[:, place] < 1).sum()))
            for seen in itertools.product((False, True), repeat=count):
                so = np.where(seen, 1 - missed[:count, place], missed[:count, place])
                short += weight[place] * so.prod() * (sum(seen) < wanted)
        if short <= (1 - ENOUGH) * weight.sum():
            enough = count
    assert days_until(missed, weight, clear_views) == enough


@given(hnp.arrays(bool, (TILE_CELLS, TILE_CELLS), elements=st.booleans()))
def test_sample_points_stand_for_all_cells(mask):
    mask[0, 0] = True
    tile = Tile(TILE.zone, TILE.col, TILE.row, tuple(map(tuple, np.argwhere(mask).tolist())))
    lon, lat, weight = sample_points(tile)
    assert weight.sum() == len(tile.cells)
    assert len(lon) <= 49
    assert shapely.contains_xy(shapely.buffer(tile.footprint, 1e-4), lon, lat).all()


def test_candidates_are_those_a_scan_looks_at():
    """Also at a seam of zones, and for a scene that meets the halo alone."""
    lon, lat = to_geographic(TILE.epsg, WEST, NORTH)
    area = Aoi("three zones", shapely.box(lon - 0.3, lat - 0.2, lon + 0.3, lat + 0.2))
    rng = np.random.default_rng(3)
    items = []
    for number in range(60):
        x, y = rng.uniform(-0.5, 0.5, 2)
        size = rng.uniform(0.02, 0.6)
        outline = shapely.Point(lon + x, lat + y).buffer(size, quad_segs=3)
        items.append(pretended(f"i{number}", outline, number % 9, cloud=rng.uniform(0, 60)))
    found = tiles(area)
    for tile, outlook in zip(found, Outlooks(items, PixelConfig()).of(found), strict=True):
        wanted = [item.id for item in items_of_tile(items, tile)]
        assert [items[index].id for index in outlook.items] == wanted
        assert outlook.days_read <= outlook.days_most <= min(6, outlook.days)
        assert not (outlook.chosen & ~outlook.most).any()
        shown = shapely.union_all([items[index].footprint for index in outlook.items])
        left = shapely.difference(tile.footprint, shown)
        assert outlook.gap.area == pytest.approx(left.area, abs=1e-12)


def test_half_a_tile_is_half_the_pixels():
    x0, y0, x1, y1 = TILE.bounds
    east = ground((x0 + x1) / 2, y0 - 40_000, x1 + 40_000, y1 + 40_000)
    (outlook,) = Outlooks([pretended("half", east, 0)], PixelConfig()).of([TILE])
    assert outlook.share_10.tolist() == [0.5]
    assert outlook.share_20.tolist() == [0.5]
    assert outlook.clear == pytest.approx(0.9 * 24 / 49, abs=0.06)


def test_tiles_without_items_have_no_outlook():
    (outlook,) = Outlooks([], PixelConfig()).of([TILE])
    assert (len(outlook.items), outlook.days, outlook.days_read, outlook.clear) == (0, 0, 0, 0.0)
    assert outlook.gap.equals(TILE.footprint)
