"""Collecting chips end to end on the demo's scenes: same pixels as the scan, killed, resumed."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner, Result
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scanner.area.aoi import square_aoi
from scanner.area.grid import CELL_PX, HALO_PX, tiles
from scanner.config import SearchConfig
from scanner.errors import CatalogError, OutputError, TrainingError
from scanner.imagery.access import gdal_env
from scanner.imagery.catalog import search_items
from scanner.imagery.composite import composite
from scanner.imagery.cube import load_cube
from scanner.imagery.demo import PLANTED
from scanner.imagery.reflectance import resolve_offset
from scanner.results.chip_files import from_dn, to_dn
from tests.models_tiny import tiny_classifier
from tests.servers.fixtures import ServeStac
from tests.synth import make_item, write_aoi, write_collection
from training.collect.command import command
from training.collect.fetch import Access, counts, fetch_chips
from training.collect.images import collect_images
from training.collect.manifest import Manifest, Sample, read_manifest
from training.collect.pixels import resampled
from training.collect.places import Place
from training.collect.review import cut_cells
from training.collect.scenes import Pacer, Scenes
from training.collect.settings import ChipConfig, chip_config, read_settings
from training.collect.store import read_index
from training.collect.window import window_at
from training.pictures import read_image

MINES = [m.polygon.centroid for m in PLANTED]
HERE = Place(MINES[0].x, MINES[0].y, 1, "mines")


@pytest.fixture(scope="module")
def client(scheduler: str) -> Iterator[Client]:
    with Client(scheduler, set_as_default=False) as client:
        yield client


def collect(*args: object) -> Result:
    """Run ``mining-train collect`` here; errors come through."""
    return CliRunner().invoke(
        command, [str(a) for a in args], standalone_mode=False, catch_exceptions=False
    )


def write_csv(path: Path, points: list[Any]) -> Path:
    lines = [f"{p.y:.7f},{p.x:.7f}" for p in points]
    path.write_text("\n".join(["lat,lon", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def mines(tmp_path_factory: pytest.TempPathFactory, scheduler: str) -> tuple[Path, Result]:
    """A chip folder of all planted mines, from the command, the demo made in it."""
    out = tmp_path_factory.mktemp("mines") / "chips"
    table = write_csv(out.parent / "mines.csv", MINES)
    with table.open("a") as file:
        file.write('"-7,1",-54\n10,10\n')
    told = collect(
        "mines", "--csv", table, "--bounds=-75,-35,-35,5", "--catalog", "demo",
        "--scheduler", scheduler, "--out", out,
    )  # fmt: skip
    return out, told


@pytest.fixture(scope="module")
def scenes(mines: tuple[Path, Result]) -> SearchConfig:
    return SearchConfig(catalog=str(mines[0] / "scenes" / "items.json"))


def files(out: Path) -> dict[str, bytes]:
    """Every chip file and the index, byte for byte."""
    paths = [out / "index.parquet", *sorted((out / "chips").iterdir())]
    return {path.name: path.read_bytes() for path in paths}


def test_mines_become_a_chip_folder(mines: tuple[Path, Result]) -> None:
    out, told = mines
    assert told.return_value == 0
    assert "10 places, 1 outside the bounds skipped, 1 bad" in told.stderr
    assert "line 12: lat '-7,1' has a decimal comma; write -7.1" in told.stderr
    index = read_index(out)
    assert len(index) == 10
    assert index.crs.to_epsg() == 4326
    assert (index.label == 1).all()
    assert set(index.source) == {"mines"}
    assert index.brightness.between(20, 230).all()
    assert (index.clear_fraction > 0.5).all()
    assert set(index["crs"]) == {"EPSG:32721", "EPSG:32722"}
    for row in index.itertuples():
        assert list(row.bands) == ["B02", "B03", "B04"]
        assert len(row.dates) == len(set(row.dates)) <= len(row.item_ids)
        assert all("SYNTHETIC" in item for item in row.item_ids)
        assert 0 < row.cloud_cover < 60
        with rasterio.open(out / row.path) as file:
            assert file.descriptions == ("B02", "B03", "B04")
            assert (file.width, file.height, file.nodata) == (48, 48, 0)
            assert list(file.transform)[:6] == list(row.transform)
            x, y = file.transform * (24, 24)
        window = window_at(row.lon, row.lat, ChipConfig())
        assert (x, y) == window.keep.affine * (24, 24)
        with Image.open((out / row.path).with_suffix(".jpg")) as picture:
            assert picture.size == (48, 48)


def test_a_chip_holds_the_pixels_of_the_scan(
    mines: tuple[Path, Result], scenes: SearchConfig, client: Client, tmp_path: Path
) -> None:
    """A chip laid on a cell is that cell of the composite the scan makes of the whole tile."""
    mine = next(m for m in PLANTED if m.name == "valley-15ha").polygon.centroid
    aoi = square_aoi(mine.y, mine.x, 0.2)
    tile = next(t for t in tiles(aoi) if t.epsg == 32721)
    r, c = tile.cells[0]
    west, south, east, north = tile.cell_bounds(r, c)
    items = [i for i in search_items(aoi, scenes).items if i.epsg == 32721]
    catalog = write_collection(tmp_path / "items.json", items)
    for item in items:  # beside the file, as its assets must lie
        shutil.copytree(Path(item.href("B02") or "").parent, tmp_path / item.id)
    raw = json.loads(catalog.read_text().replace(str(mines[0] / "scenes"), str(tmp_path)))
    catalog.write_text(json.dumps(raw))

    env = gdal_env(scenes)
    scl = load_cube(items, tile.geobox.zoom_out(2), ("SCL",), env=env)
    bands = ("B02", "B03", "B04")
    whole = composite(
        load_cube(items, tile.geobox, bands, env=env), scl,
        offsets=[resolve_offset(i) for i in items], has_scl=[True] * len(items),
        clear_scl=(2, 4, 5, 6, 7),
    ).data.compute(scheduler="sync")  # fmt: skip
    top, left = HALO_PX + r * CELL_PX, HALO_PX + c * CELL_PX
    wanted = to_dn(whole[:3, top : top + CELL_PX, left : left + CELL_PX])

    lon, lat = rasterio.warp.transform(
        "EPSG:32721", "EPSG:4326", [(west + east) / 2], [(south + north) / 2]
    )
    for engine in ("odc", "stackstac"):
        index = fetch_chips(
            [Place(lon[0], lat[0], 1, "cell")], SearchConfig(catalog=str(catalog)),
            tmp_path / engine, engine=engine, access=Access(client=client),
        )  # fmt: skip
        [row] = index.itertuples()
        assert (row.transform[2], row.transform[5]) == (west, north)
        with rasterio.open(tmp_path / engine / row.path) as file:
            np.testing.assert_array_equal(file.read(), wanted)
        np.testing.assert_allclose(read_image(tmp_path / engine / row.path), from_dn(wanted))


def test_any_size_and_number_of_pixels(
    scenes: SearchConfig, client: Client, tmp_path: Path
) -> None:
    places = [HERE]
    how = Access(client=client)
    wide = fetch_chips(
        places, scenes, tmp_path / "w", size_m=1000, pixels=128, bands=("B08", "B04", "B03", "B02"),
        max_scenes=2, look_at=3, access=how,
    )  # fmt: skip
    [row] = wide.itertuples()
    assert (row.width, row.size_m, row.resolution_m) == (128, 1000, 1000 / 128)
    assert len(row.dates) == 2
    with rasterio.open(tmp_path / "w" / row.path) as file:
        fine = file.read([4, 3, 2])
    least = fetch_chips(places, scenes, tmp_path / "l", size_m=1000, max_scenes=2, access=how)
    with rasterio.open(tmp_path / "l" / least.path[0]) as file:
        coarse = file.read()
    assert coarse.shape == (3, 100, 100)
    assert fine.mean() == pytest.approx(coarse.mean(), rel=0.01)
    with pytest.raises(TrainingError, match=r"pixels = 128, not 64; use the same"):
        fetch_chips(
            places, scenes, tmp_path / "w", size_m=1000, pixels=64, max_scenes=2, look_at=3,
            bands=("B08", "B04", "B03", "B02"), access=how,
        )  # fmt: skip


def test_killed_and_run_again_gives_the_same_chips(
    mines: tuple[Path, Result], scenes: SearchConfig, scheduler: str, tmp_path: Path
) -> None:
    """Killed before the first chip, then after some; the third run ends what the others began."""
    out = tmp_path / "chips"
    args = [
        "mines", "--csv", str(mines[0].parent / "mines.csv"), "--bounds=-75,-35,-35,5",
        "--catalog", scenes.catalog, "--scheduler", scheduler, "--out", str(out),
    ]  # fmt: skip
    code = "import sys; from training.collect.command import command; command(sys.argv[1:])"
    for wait_for in (0, 3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *args],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not _done(out, wait_for):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        state = counts(out)
        assert state["done"] >= wait_for
        assert state["pending"] > 0
        assert state["failed"] == 0
    assert collect(*args).return_value == 0
    for left in (out / "chips").glob(".*"):  # of a chip that was being written
        left.unlink()
    assert files(out) == files(mines[0])
    assert counts(out) == {"pending": 0, "done": 10, "failed": 0}
    assert list(read_manifest(out).tries) == [1] * 10


def _done(out: Path, count: int) -> bool:
    """Whether the manifest knows all samples and at least so many are done."""
    path = out / "manifest.sqlite"
    if not path.is_file():
        return False
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            states = [row[0] for row in db.execute("SELECT status FROM samples")]
        except sqlite3.OperationalError:  # no table yet
            return False
    return len(states) == 10 and states.count("done") >= count


def test_a_lost_file_is_fetched_again_and_nothing_else(
    mines: tuple[Path, Result], scenes: SearchConfig, client: Client, tmp_path: Path
) -> None:
    out = tmp_path / "chips"
    shutil.copytree(mines[0], out, ignore=shutil.ignore_patterns("scenes"))
    (out / "scenes").symlink_to(mines[0] / "scenes")
    index = read_index(out)
    (out / index.path[3]).unlink()
    told: list[str] = []
    places = [Place(round(p.x, 7), round(p.y, 7), 1, "mines") for p in MINES]
    fetch_chips(
        places, SearchConfig(catalog="demo"), out,
        access=Access(client=client), tell=lambda name, why: told.append(name),
    )  # fmt: skip
    assert told == [index.chip_id[3]]
    assert files(out) == files(mines[0])


def test_what_failed_says_why_and_is_tried_again_when_asked(client: Client, tmp_path: Path) -> None:
    bands = {
        b: np.full((60, 60), v, np.uint16) for b, v in (("B02", 1300), ("B03", 1500), ("B04", 1400))
    }
    bands["B04"][:, 40:] = 0
    item = make_item(tmp_path, "one", {**bands, "SCL": np.full((30, 30), 4, np.uint8)})
    search = SearchConfig(catalog=str(write_collection(tmp_path / "items.json", [item])))
    lon, lat = shapely.get_coordinates(item.footprint.centroid)[0]
    places = [Place(lon, lat, 0, "here"), Place(lon + 1, lat, 0, "there")]
    out, how = tmp_path / "out", Access(client=client)
    red = Path(item.href("B04") or "")
    whole = red.read_bytes()
    red.write_bytes(whole[:300])
    assert len(fetch_chips(places, search, out, size_m=200, access=how)) == 0
    reasons = dict(zip(read_manifest(out).source, read_manifest(out).reason, strict=True))
    assert "none of its scenes could be read" in reasons["here"]
    assert "B04.tif" in reasons["here"]
    assert "no scene over it" in reasons["there"] or "no usable item" in reasons["there"]
    red.write_bytes(whole)
    assert len(fetch_chips(places, search, out, size_m=200, access=how)) == 0
    again = Access(client=client, retry_failed=True)
    index = fetch_chips(places, search, out, size_m=200, access=again)
    assert list(index.source) == ["here"]
    assert index.brightness[0] == pytest.approx((0.03 + 0.04 + 0.05) / 0.9 * 255, abs=1)
    assert list(read_manifest(out).tries) == [2, 2]
    # of two scenes the one that cannot be read is left out by name, the other makes the chip
    two = make_item(tmp_path, "two", bands, datetime="2024-07-11T13:50:00Z")
    both = SearchConfig(catalog=str(write_collection(tmp_path / "both.json", [item, two])))
    red.write_bytes(whole[:300])
    index = fetch_chips(places[:1], both, tmp_path / "both", size_m=200, access=how)
    assert [list(ids) for ids in index.item_ids] == [["two"]]
    red.write_bytes(whole)
    # too dark, too little seen
    for values, why in (
        ({"brightness": (50, 230)}, "brightness 33.7 is not within 50..230"),
        ({"min_clear": 0.9, "size_m": 400}, "seen clear on"),
    ):
        other = tmp_path / why[:5]
        assert (
            len(fetch_chips(places[:1], search, other, **{"size_m": 200, **values}, access=how))
            == 0
        )
        assert why in read_manifest(other).reason[0]


def test_forest_samples_are_drawn_away_from_mines_and_reviewed(
    mines: tuple[Path, Result], scenes: SearchConfig, scheduler: str, tmp_path: Path
) -> None:
    box = write_aoi(tmp_path / "park.geojson", (-54.04, -7.06, -53.96, -6.96))
    towns = write_csv(tmp_path / "towns.csv", [shapely.Point(-54.04, -7.06)])
    model = tiny_classifier(tmp_path / "model")
    args = [
        "forest", "--polygons", box, "--samples", 3, "--attempts", 4, "--spacing-km", 2,
        "--away-from", mines[0] / "scenes" / "planted.geojson", "--away-km", 1,
        "--towns", towns, "--towns-km", 3, "--catalog", scenes.catalog, "--classifier", model,
        "--review-from", 0, "--brightness", "21,230", "--scheduler", scheduler,
    ]  # fmt: skip
    told = collect(*args, "--out", tmp_path / "a")
    index = read_index(tmp_path / "a")
    assert told.return_value == 0
    assert 0 < len(index) <= 3
    assert set(index.source) == {"square"}
    assert (index.label == 0).all()
    metres = index.to_crs(32721)
    planted = gpd.GeoSeries([m.polygon for m in PLANTED], crs=4326).to_crs(32721).union_all()
    away = metres.distance(planted)
    assert (away > 970).all()
    with (tmp_path / "a" / "review.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["chip_id"] for row in rows} == set(index.chip_id)
    assert [float(row["score"]) for row in rows] == sorted(index.review_score, reverse=True)
    assert index.review.str.startswith("likely mine in a forest sample: score 0.").all()
    before = files(tmp_path / "a")
    assert collect(*args, "--out", tmp_path / "a").return_value == 0
    assert files(tmp_path / "a") == before, "the same call draws the same samples"


def test_places_that_share_a_tile_share_a_search(serve_stac: ServeStac, tmp_path: Path) -> None:
    item = make_item(
        tmp_path, "one", {b: np.ones((8, 8), np.uint16) for b in ("B02", "B03", "B04")}
    )
    api = serve_stac([])
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pacer = Pacer(0.5, clock=lambda: now[0], sleep=sleep)
    lon, lat = shapely.get_coordinates(item.footprint.centroid)[0]
    places = [Place(lon + 0.001 * k, lat, 1, "near") for k in range(5)]
    places += [Place(lon + 2 * k, lat, 1, "far") for k in (1, 2)]
    search = SearchConfig(catalog=api.url, date="2024-01-01/2024-12-31")
    scenes = Scenes(search, ChipConfig(), tmp_path, pacer)
    answers = list(scenes.of(places))
    assert [place for place, _, _ in answers] == sorted(places, key=lambda p: p.lon)
    assert all(not items and "no usable item" in why for _, items, why in answers)
    assert slept == [0.5, 0.5]
    api.behaviour.fail(1, 400, times=99)
    failing = scenes.of(places)
    told = [why for _, (_, _, why) in zip(range(6), failing, strict=False)]
    assert all("not answered completely" in why for why in told)
    with pytest.raises(CatalogError):
        list(failing)


def test_local_pictures(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a_512.jpg", "deep/a_512.jpg", "b.png", "c.JPG", "dark.png"):
        pixels = rng.integers(0, 4 if name == "dark.png" else 200, (32, 32, 3), dtype=np.uint8)
        with (folder / name).open("wb") as file:
            Image.fromarray(pixels).save(file, "PNG" if name.endswith("png") else "JPEG")
    done = collect_images(folder, out, label=1, source="field work")
    assert (done.taken, done.failed) == (2, ())
    for path in folder.rglob("*_512.jpg"):
        path.unlink()
    (folder / "cut.jpg").write_bytes((folder / "c.JPG").read_bytes()[:700])
    (folder / "text.png").write_text("no picture")
    told = collect("images", folder, "--label", "mine", "--source", "all", "--out", out)
    assert told.return_value == 0
    assert "2 pictures taken, 3 left out" in told.stdout
    for name, why in (
        ("cut.jpg", "truncated"), ("text.png", "cannot be read"), ("dark.png", "brightness"),
    ):  # fmt: skip
        assert any(name in line and why in line for line in told.stderr.splitlines())
    index = read_index(out)
    assert len(index) == 4
    assert index.lon.isna().all()
    assert index.geometry.isna().all()
    path = next(out / p for p in index.path if p.endswith(".png"))
    assert path.read_bytes() == (folder / "b.png").read_bytes()
    assert read_image(path).shape == (3, 32, 32)
    assert counts(out) == {"pending": 0, "done": 4, "failed": 3}
    with pytest.raises(TrainingError, match="labelled 1 there and 0 now"):
        collect_images(folder, out, label=0, source="all")
    (out / "nothing").mkdir()
    with pytest.raises(TrainingError, match="holds no jpg or png"):
        collect_images(out / "nothing", out, label=1)


def test_settings_hold_once_there_are_chips(tmp_path: Path) -> None:
    for wrong in ({"size_m": 5}, {"bands": ("B02", "B03", "B08")}, {"pixel": 3}, {"max_scenes": 0}):
        with pytest.raises(TrainingError, match="chip settings"):
            chip_config(**wrong)
    assert read_settings(tmp_path) is None
    (tmp_path / "manifest.sqlite").write_bytes(b"not a database, but long enough to be one" * 30)
    with pytest.raises(OutputError, match=r"manifest\.sqlite: cannot be used"):
        Manifest(tmp_path)
    with pytest.raises(TrainingError, match="no such file"):
        read_index(tmp_path)


def test_the_manifest_knows_every_state(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.plan([Sample(name, 1, "s", 1.0, 2.0) for name in "abc"])
        (tmp_path / "b.tif").touch()
        manifest.done("b", {"path": "b.tif", "chip_id": "b"})
        manifest.failed("c", "too\n dark")
    table = read_manifest(tmp_path)
    assert list(table.status) == ["pending", "done", "failed"]
    assert list(table.tries) == [0, 1, 1]
    assert table.reason[2] == "too dark"


@given(lon=st.floats(-179.9, 179.9), lat=st.floats(-80, 80), size=st.floats(20, 6000),
       pixels=st.one_of(st.none(), st.integers(8, 700)))  # fmt: skip
def test_windows_lie_on_the_grid_around_their_place(
    lon: float, lat: float, size: float, pixels: int | None
) -> None:
    window = window_at(lon, lat, ChipConfig(size_m=size, pixels=pixels))
    assert all(side % 2 == 0 for side in window.read.shape)
    assert window.read.affine.c % 20 == window.read.affine.f % 20 == 0
    assert abs(window.keep.affine.a) * window.keep.shape.x == pytest.approx(size, abs=5.01)
    inner, outer = window.keep.boundingbox, window.read.boundingbox
    assert outer.left <= inner.left
    assert outer.bottom <= inner.bottom + 1e-6
    assert inner.right <= outer.right + 1e-6
    assert inner.top <= outer.top
    [x], [y] = rasterio.warp.transform("EPSG:4326", str(window.keep.crs), [lon], [lat])
    middle = (inner.left + inner.right) / 2, (inner.bottom + inner.top) / 2
    assert max(abs(middle[0] - x), abs(middle[1] - y)) <= 12.6


def test_resampling_keeps_a_slope() -> None:
    window = window_at(-54.5, -7, ChipConfig(size_m=1000, pixels=160))
    x, y = (window.read.coordinates[name].values for name in ("x", "y"))
    slope = ((x - x[0]) / 2000 + (y[:, None] - y[0]) / 8000)[None].astype(np.float32)
    fine = resampled(slope, window)
    x1, y1 = (window.keep.coordinates[name].values for name in ("x", "y"))
    wanted = (x1 - x[0]) / 2000 + (y1[:, None] - y[0]) / 8000
    np.testing.assert_allclose(fine[0], wanted, atol=1e-4)


@given(height=st.integers(1, 130), width=st.integers(1, 130))
def test_cells_cover_a_chip(height: int, width: int) -> None:
    image = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    cells = cut_cells(image, 48)
    assert cells.shape[1:] == (1, 48, 48)
    assert set(cells[np.isfinite(cells)].astype(int)) == set(range(height * width))


def test_dn_of_dark_ground_is_not_nodata() -> None:
    dn = to_dn(np.array([0, np.nan, 0.12344, 1], np.float32))
    assert dn.tolist() == [1, 0, 1234, 10000]
