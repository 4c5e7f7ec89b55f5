"""Rasters of a run: whole as COGs, and as pictures cut across the seams of tiles and zones."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from rio_cogeo import cog_validate

from scanner.area.grid import CORE_PX, Tile, Zone, from_geographic, to_geographic
from scanner.detection.detections import STATUSES
from scanner.detection.rasters import RASTERS
from scanner.errors import OutputError, RunError
from scanner.models.card import SEGMENTER_CLASSES
from scanner.results.finished import FinishedRun
from scanner.results.maps import cogs, mosaic
from scanner.results.maps.grids import Grid
from scanner.results.maps.layers import zone_layers
from scanner.results.maps.overviews import Block, blocks_of, write_overviews
from scanner.results.maps.rasters import assemble, credit, mosaic_grid, picture, warped
from scanner.results.palette import (
    CLASS_COLOURS,
    NOT_SUSPICIOUS,
    STATUS_COLOURS,
    SUSPICIOUS,
    as_hex,
    colour_table,
)
from tests.raster_runs import BARREN, RUN_ID, WATER, by_zone, rule_run

CORNER_X, CORNER_Y = 31 * 20_160, 10_000_000 - 35 * 20_160
"""Where four tiles of zone 21S meet."""
CORNER = ("21S_0030_0034", "21S_0031_0034", "21S_0030_0035", "21S_0031_0035")
"""Those tiles: north-west, north-east, south-west, south-east."""
SEAM = (-54.01, -6.79, -53.99, -6.77)
"""An area over the seam of zones 21S and 22S."""


@pytest.fixture(scope="session")
def one_zone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiles of a zone, of which the fourth failed."""
    lon, lat = (float(v) for v in to_geographic(32721, CORNER_X, CORNER_Y))
    folder = tmp_path_factory.mktemp("one") / "run"
    rule_run(folder, (lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01), without=CORNER[3:])
    return folder


@pytest.fixture(scope="session")
def assembled(one_zone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with its mosaics."""
    folder = tmp_path_factory.mktemp("assembled") / "run"
    assemble(opened(one_zone, folder))
    return folder


@pytest.fixture(scope="session")
def two_zones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Barren ground in the western zone, water in the eastern one."""
    folder = tmp_path_factory.mktemp("two") / "run"
    rule_run(folder, SEAM, rule=by_zone)
    return folder


@pytest.fixture(scope="session")
def assembled_two(two_zones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with its mosaics."""
    folder = tmp_path_factory.mktemp("assembled") / "run"
    assemble(opened(two_zones, folder))
    return folder


def opened(folder: Path, copy: Path | None = None) -> FinishedRun:
    """Return a run anew, or a copy of it."""
    if copy is not None:
        folder = Path(shutil.copytree(folder, copy))
    failed = [{"tile_id": CORNER[3], "reason": "a test"}]
    return FinishedRun(folder, {"run_id": RUN_ID, "tiles": {"failed": failed}})


def pixels(path: Path) -> NDArray[np.uint8]:
    """Return a tile's raster, a picture with its opacity."""
    with rasterio.open(path, driver="GTiff") as source:
        found = source.read()
        return found if len(found) == 1 else np.concatenate([found, source.dataset_mask()[None]])


def levels(path: Path, level: int) -> NDArray[np.uint8]:
    """Return the bands of an overview, 0 the raster itself, and its mask."""
    which = {"overview_level": level - 1} if level else {}
    with rasterio.open(path, driver="GTiff", **which) as source:
        return np.concatenate([source.read(), source.dataset_mask()[None]])


def squares(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return each square of four pixels, (y / 2, x / 2, 4)."""
    rows, cols = (side // 2 for side in pixels.shape)
    return pixels.reshape(rows, 2, cols, 2).transpose(0, 2, 1, 3).reshape(rows, cols, 4)


def square(x: float, y: float, side: float, epsg: int = 32721) -> shapely.Polygon:
    """Return a square north-east of a place in metres, in degrees."""
    ring = np.asarray(shapely.box(x, y, x + side, y + side).exterior.coords)
    return shapely.Polygon(np.column_stack(to_geographic(epsg, *ring.T)))


def expected(run: FinishedRun, name: str) -> NDArray[np.uint8]:
    """Return the tiles' own pixels side by side, the failed tile empty."""
    planes = 4 if name == "quicklook" else 1
    whole = np.full((planes, 2 * CORE_PX, 2 * CORE_PX), 0 if planes == 4 else 255, np.uint8)
    for index, tile_id in enumerate(CORNER[:3]):
        path = run.raster(tile_id, name)
        assert path is not None
        row, col = (CORE_PX * turn for turn in divmod(index, 2))
        whole[:, row : row + CORE_PX, col : col + CORE_PX] = pixels(path)
    return whole


class TestOneZone:
    def test_pixels_are_the_tiles_own_and_the_failed_tile_is_empty(self, assembled: Path) -> None:
        run = opened(assembled)
        made = assemble(run)
        assert list(made) == list(RASTERS)
        for name in ("classes", "suspicious"):
            assert np.array_equal(pixels(made[name]), expected(run, name))
        own = expected(run, "quicklook")
        with rasterio.open(made["quicklook"], driver="GTiff") as source:
            assert np.array_equal(source.dataset_mask(), own[3])
            error = np.abs(source.read().astype(int) - own[:3])[:, own[3] > 0]
        assert error.mean() < 3  # JPEG

    def test_files_tell_what_they_hold(self, assembled: Path) -> None:
        made = assemble(opened(assembled))
        for name, path in made.items():
            valid, errors, warnings = cog_validate(path, strict=True)
            assert valid, (errors, warnings)
            with rasterio.open(path, driver="GTiff") as source:
                assert source.crs.to_epsg() == 32721
                assert source.transform[:6] == (10, 0, CORNER_X - 20_160, 0, -10, CORNER_Y + 20_160)
                assert source.overviews(1) == [2, 4, 8]
                tags = source.tags()
                assert tags["RUN_ID"] == RUN_ID
                assert (
                    tags["TIFFTAG_COPYRIGHT"] == "contains modified Copernicus Sentinel data 2024"
                )
                assert tags["TIFFTAG_SOFTWARE"].startswith("mining-scan ")
                if name == "quicklook":
                    assert source.descriptions == ("red", "green", "blue")
                    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
                    assert source.colorinterp == wanted
                    continue
                assert source.nodata == 255
                assert source.descriptions == (tags["TIFFTAG_IMAGEDESCRIPTION"],)
                shown = source.colormap(1)
                for value, colour in colour_table(name).items():
                    assert shown[value][:3] == colour[:3]
                if name == "classes":
                    assert tags["CLASSES"].startswith("0=background, 1=building, 2=road, 3=water")

    def test_an_overview_is_what_lies_below_it(self, assembled: Path) -> None:
        made = assemble(opened(assembled))
        for level in range(3):
            whole, half = (levels(made["classes"], at)[0] for at in (level, level + 1))
            four, there = squares(whole), (squares(whole) != 255).any(axis=-1)
            assert np.array_equal(half != 255, there)
            counts = (four[..., None] == four[..., None, :]).sum(axis=-1) * (four != 255)
            most = (four == half[..., None]) & (counts == counts.max(axis=-1, keepdims=True))
            assert most.any(axis=-1)[there].all()
            whole, half = (levels(made["suspicious"], at)[0] for at in (level, level + 1))
            assert (squares(whole) == half[..., None]).any(axis=-1).all()
            whole, half = (levels(made["quicklook"], at) for at in (level, level + 1))
            four = squares(whole[3]) > 0
            assert np.array_equal(half[3] > 0, four.any(axis=-1))
            off = (half[0] - squares(whole[0]).mean(axis=-1))[four.all(axis=-1)]
            assert abs(off.mean()) < 1
            assert np.abs(off).mean() < 8  # JPEG at the edges of squares of two colours

    def test_the_same_tiles_give_the_same_bytes(
        self, one_zone: Path, assembled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mosaic, "THREADS", 1)
        monkeypatch.setitem(cogs._COG, "num_threads", "1")
        made = assemble(opened(one_zone, tmp_path / "elsewhere"))
        for name in RASTERS:
            assert made[name].read_bytes() == (assembled / f"{name}.tif").read_bytes()
        assert not list(made["classes"].parent.glob(".*"))

    def test_unchanged_is_not_written_again(self, assembled: Path) -> None:
        before = {name: (assembled / f"{name}.tif").stat() for name in RASTERS}
        assemble(opened(assembled))
        assert {name: (assembled / f"{name}.tif").stat() for name in RASTERS} == before

    def test_a_mosaic_edited_by_others_or_of_other_tiles_is_made_anew(
        self, assembled: Path, tmp_path: Path
    ) -> None:
        run = opened(assembled, tmp_path / "run")
        made = assemble(run)
        whole = made["classes"].read_bytes()
        made["classes"].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assemble(opened(run.path))
        assert made["classes"].read_bytes() == whole
        (run.path / "parts" / f"{CORNER[0]}.json").unlink()  # that tile is to be done again
        failed = [{"tile_id": one, "reason": "a test"} for one in (CORNER[0], CORNER[3])]
        fewer = FinishedRun(run.path, {"run_id": RUN_ID, "tiles": {"failed": failed}})
        assert (pixels(assemble(fewer)["classes"])[0, :CORE_PX, :CORE_PX] == 255).all()

    def test_a_changed_raster_is_refused_by_name(self, one_zone: Path, tmp_path: Path) -> None:
        run = opened(one_zone, tmp_path / "run")
        path = run.parts.raster_path(CORNER[1], "suspicious")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(RunError, match=f"{path.name}: was changed"):
            assemble(run)
        assert not (run.path / "suspicious.tif").exists()
        with pytest.raises(RunError, match=path.name):
            picture(opened(run.path), square(CORNER_X, CORNER_Y, 480), 48, name="suspicious")

    def test_a_disk_that_refuses_is_told(self, assembled: Path, tmp_path: Path) -> None:
        run = opened(assembled, tmp_path / "run")
        (run.path / "classes.tif").unlink()
        (run.path / "classes.tif").mkdir()
        with pytest.raises(OutputError, match=r"classes\.tif: cannot be written"):
            assemble(run)


def test_of_a_window_only_blocks_with_pixels_that_are_shown_count() -> None:
    shown = np.zeros((1024, 1500), dtype=bool)
    assert blocks_of(Window(512, 1024, 1500, 1024), shown) == set()
    shown[511, 1023] = shown[512, 1499] = True
    assert blocks_of(Window(512, 1024, 1500, 1024), shown) == {(2, 2), (3, 3)}


def test_overviews_of_islands_far_apart_hold_nothing_else(tmp_path: Path) -> None:
    path, side = tmp_path / "wide.tif", 100_000
    options = cogs._SCRATCH | {"width": side, "height": side, "count": 1, "nodata": 255}
    options |= {"crs": "EPSG:32721", "transform": Affine(10, 0, 0, 0, -10, 9e6)}
    islands = [Window(0, 0, 700, 300), Window(side - 100, side - 40, 100, 40)]
    with rasterio.open(path, "w", **options) as out:
        for window in islands:
            shape = (1, window.height, window.width)
            out.write(np.full(shape, WATER, dtype=np.uint8), window=window)
    blocks = [Window(0, 0, 1024, 512), Window(195 * 512, 195 * 512, 160, 160)]
    shown = [np.zeros((512, 1024), dtype=bool), np.ones((160, 160), dtype=bool)]
    shown[0][:300, :700] = True
    touched = set[Block]().union(*map(blocks_of, blocks, shown))
    assert touched == {(0, 0), (0, 1), (195, 195)}
    write_overviews(path, options, touched, Resampling.mode)
    with rasterio.open(path, driver="GTiff") as source:
        assert source.overviews(1) == [2**level for level in range(1, 9)]
        small = source.read(1, out_shape=(391, 391))  # the last level
    rows, cols = np.nonzero(small != 255)
    assert {(0, 0), (390, 390)} <= set(zip(rows.tolist(), cols.tolist(), strict=True))
    assert (small[rows, cols] == WATER).all()
    assert len(rows) <= 3 * 2 + 1
    first = path.with_name("wide.tif.ovr").stat()
    assert first.st_blocks * 512 < 1e6  # of 2.5e9 pixels, an index of their blocks and two of them


class TestPicture:
    def test_a_cells_pixels_are_its_own(self, one_zone: Path) -> None:
        run = opened(one_zone)
        x, y = CORNER_X - 3 * 480, CORNER_Y + 2 * 480
        shown = picture(run, square(x, y, 480), 48)
        whole = expected(run, "quicklook")
        rows = slice(CORE_PX - 3 * 48, CORE_PX - 2 * 48)
        cols = slice(CORE_PX - 3 * 48, CORE_PX - 2 * 48)
        assert np.array_equal(np.moveaxis(shown, -1, 0), whole[:, rows, cols])

    def test_goes_over_the_seam_of_tiles(self, one_zone: Path) -> None:
        run = opened(one_zone)
        centre = square(CORNER_X - 240, CORNER_Y - 240, 480)
        shown = picture(run, centre, 96, margin_m=240)
        cut = slice(CORE_PX - 48, CORE_PX + 48)
        assert np.array_equal(np.moveaxis(shown, -1, 0), expected(run, "quicklook")[:, cut, cut])
        assert (shown[48:, 48:, 3] == 0).all()  # the failed tile
        assert (shown[:48, :, 3] == 255).all()

    def test_classes_are_coloured(self, one_zone: Path) -> None:
        run = opened(one_zone)
        cell = square(CORNER_X - 480, CORNER_Y, 480)
        own = expected(run, "classes")[0, CORE_PX - 48 : CORE_PX, CORE_PX - 48 : CORE_PX]
        shown = picture(run, cell, 48, name="classes")
        lookup = np.array([*CLASS_COLOURS.values()], dtype=np.uint8)
        assert np.array_equal(shown[..., :3], lookup[own])
        marked = picture(run, cell, 48, name="suspicious")[..., :3]
        wanted = np.where((own == BARREN)[..., None], np.uint8(SUSPICIOUS), NOT_SUSPICIOUS)
        assert np.array_equal(marked, wanted)

    def test_far_from_any_tile_there_is_nothing(self, one_zone: Path) -> None:
        assert not picture(opened(one_zone), shapely.Point(10, 50), 16, margin_m=100).any()


class TestTwoZones:
    def test_each_cell_shows_its_own_zone(self, assembled_two: Path) -> None:
        run = opened(assembled_two)
        made = assemble(run)["classes"]
        with rasterio.open(made, driver="GTiff") as source:
            assert source.crs.to_epsg() == 4326
            dx, dy = source.transform.a, -source.transform.e
            centres = shapely.get_coordinates(shapely.centroid(run.cells.geometry.to_numpy()))
            found = [int(value[0]) for value in source.sample(centres)]
        lat = np.radians(SEAM[1])
        assert dy * 111_320 == pytest.approx(10)
        assert dx * 111_320 * np.cos(lat) == pytest.approx(10, rel=0.01)
        zones = [int(cell[:2]) for cell in run.cells.cell_id]
        assert {21, 22} == set(zones)
        sure = _alone(run)
        assert sum(sure) > len(sure) / 2
        for value, zone, alone in zip(found, zones, sure, strict=True):
            assert value in (BARREN, WATER)  # no gap at the seam
            if alone:
                assert value == (BARREN if zone == 21 else WATER)

    def test_no_gap_at_the_seam(self, two_zones: Path) -> None:
        run = opened(two_zones)
        for cell in run.cells.geometry:
            assert picture(run, cell, 48)[..., 3].all()

    def test_a_view_from_the_mosaic_is_that_from_the_tiles(
        self, two_zones: Path, assembled_two: Path
    ) -> None:
        bounds = transform_bounds("EPSG:4326", "EPSG:3857", -54.15, -6.9, -53.85, -6.6)
        views = {}
        for turn, folder in (("tiles", two_zones), ("mosaic", assembled_two)):
            for name in RASTERS:
                view = warped(opened(folder), name, "EPSG:3857", bounds, (200, 300))
                assert view.shape == (4, 200, 300)
                views[turn, name] = view
        for name in RASTERS:
            apart = np.abs(views["tiles", name].astype(int) - views["mosaic", name]).max(axis=0)
            assert (apart > 20).mean() < 0.02, name  # an edge may lie a pixel aside
            assert 0.3 < (views["mosaic", name][3] == 255).mean() < 1


def _alone(run: FinishedRun) -> list[bool]:
    """Tell which cells overlap no cell of the other zone: at a seam two may share ground."""
    cells = run.cells
    zones = cells.cell_id.str[:3]
    tree = shapely.STRtree(cells.geometry.to_numpy())
    alone = []
    for zone, cell in zip(zones, cells.geometry, strict=True):
        hits = tree.query(cell, predicate="intersects")
        alone.append(all(zones.iloc[hit] == zone for hit in hits))
    return alone


class TestWithoutRasters:
    def test_nothing_is_made_and_what_is_stale_goes(self, tmp_path: Path) -> None:
        run = rule_run(tmp_path / "run", SEAM, rule=None)
        for name in RASTERS:
            (run.path / f"{name}.tif").write_bytes(b"stale")
        assert assemble(run) == {}
        assert not list(run.path.glob("*.tif"))
        assert mosaic_grid(run, "classes") is None
        assert not picture(run, square(CORNER_X, CORNER_Y, 480), 48).any()
        assert not warped(run, "classes", "EPSG:4326", SEAM, (10, 20)).any()

    def test_no_quicklook_without_visible_bands(self, one_zone: Path, tmp_path: Path) -> None:
        lon, lat = (float(v) for v in to_geographic(32721, CORNER_X + 3000, CORNER_Y + 3000))
        area = (lon, lat, lon + 0.004, lat + 0.004)
        run = rule_run(tmp_path / "run", area, bands=("B08", "B11"))
        assert set(assemble(run)) == {"classes", "suspicious"}
        assert not picture(run, shapely.box(*area), 16).any()
        assert picture(run, shapely.box(*area), 16, name="classes").any()


def test_both_hemispheres_of_a_zone_share_a_grid() -> None:
    """The cells of both meet at the equator, so its pixels need not be warped."""
    north, south = Tile(Zone(21, False), 31, 0), Tile(Zone(21, True), 31, 0)
    (layer,) = zone_layers([(north, Path), (south, Path)], 1)
    assert layer.grid.crs == "EPSG:32721"
    assert [(piece.col, piece.row) for piece in layer.pieces] == [(0, 0), (0, CORE_PX)]
    assert layer.grid.bounds == (31 * 20_160, 10_000_000 - 20_160, 32 * 20_160, 10_020_160)


def test_a_tile_across_the_180th_meridian_is_found() -> None:
    x, y = from_geographic(32760, 179.97, -17.0)
    col, row = Zone(60, True).locate(x, y, 20_160)
    tile = Tile(Zone(60, True), int(col), int(row))
    assert tile.footprint.bounds[2] > 180
    (layer,) = zone_layers([(tile, Path)], 1)
    for crs, bounds in (
        ("EPSG:4326", (179.95, -17.05, 180.0, -16.95)),
        ("EPSG:3857", transform_bounds("EPSG:4326", "EPSG:3857", 179.95, -17.05, 180, -16.95)),
    ):
        view = layer.window(Grid.over(crs, bounds, (64, 64)))
        assert view is not None
        (left, top, right, bottom), shrink = view
        assert shrink >= 8
        assert 0 <= left < right <= CORE_PX
        assert 0 <= top < bottom <= CORE_PX


def test_synthetic_scenes_are_called_so(tmp_path: Path) -> None:
    run = rule_run(tmp_path / "run", SEAM, rule=None, properties={"synthetic": True})
    assert "synthetic" in credit(run)
    assert "Copernicus" not in credit(run)


class TestPalette:
    KINDS = {  # noqa: RUF012 - Machado et al. 2009, severity 1
        "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }

    def test_order(self) -> None:
        assert tuple(CLASS_COLOURS) == SEGMENTER_CLASSES
        assert tuple(STATUS_COLOURS) == STATUSES
        assert as_hex((0, 158, 115)) == "#009e73"

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("colours", "apart"), [(CLASS_COLOURS, 15), (STATUS_COLOURS, 25)])
    def test_colours_stay_apart_for_colour_blind_readers(
        self, kind: str, colours: dict[str, tuple[int, int, int]], apart: float
    ) -> None:
        seen = {name: self.lab(rgb, kind) for name, rgb in colours.items()}
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(seen[one] - seen[other]) > apart, (one, other)

    def lab(self, rgb: tuple[int, int, int], kind: str) -> NDArray[np.float64]:
        """Return CIELAB of a colour as a reader of that kind sees it."""
        share = np.array(rgb) / 255
        light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        light = (np.array(self.KINDS[kind]) @ light).clip(0, 1)
        to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        xyz = np.array(to_xyz) @ light / (0.95047, 1, 1.08883)
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
