"""The synthetic scene set behind ``--catalog demo``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.features
import shapely
from rasterio.vrt import WarpedVRT
from rasterio.windows import from_bounds

from scanner.errors import OutputError
from scanner.imagery.bands import CLEAR_SCL, Scl
from scanner.imagery.demo import PLANTED, Scar, aoi, frame, make_scenes, planted, scar_grid
from scanner.imagery.demo.landscape import paint
from scanner.imagery.demo.sky import DAYS
from scanner.imagery.item import Item

ROOT = Path(__file__).resolve().parents[2]
GEOD = pyproj.Geod(ellps="WGS84")


@pytest.fixture(scope="module")
def items_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("demo") / "scenes")


@pytest.fixture(scope="module")
def items(items_file: Path) -> list[Item]:
    return [Item(raw) for raw in json.loads(items_file.read_text(encoding="utf-8"))["features"]]


@pytest.fixture(scope="module")
def scenes(items: list[Item]) -> list[Item]:
    """Every scene once, by date, west before east."""
    return sorted(
        (item for item in items if item.baseline == "05.10"),
        key=lambda item: (item.datetime, item.epsg),
    )


def read(items_file: Path, item: Item, band: str) -> np.ndarray:
    with rasterio.open(items_file.parent / str(item.href(band))) as source:
        return source.read(1)


def under(items_file: Path, item: Item, polygon: shapely.Polygon, band: str = "SCL") -> np.ndarray:
    """Pixels of ``band`` whose centre lies in ``polygon``."""
    with rasterio.open(items_file.parent / str(item.href(band))) as source:
        change = pyproj.Transformer.from_crs(4326, source.crs, always_xy=True)
        there = shapely.transform(
            polygon, lambda p: np.stack(change.transform(p[:, 0], p[:, 1]), axis=-1)
        )
        inside = rasterio.features.rasterize([there], source.shape, transform=source.transform)
        return source.read(1)[inside > 0]


def hectares(polygon: shapely.Polygon) -> float:
    return abs(GEOD.geometry_area_perimeter(polygon)[0]) / 10_000


def mine(name: str) -> shapely.Polygon:
    return next(one.polygon for one in PLANTED if one.name == name)


def digest(folder: Path) -> dict[str, str]:
    sums = {}
    for path in sorted(folder.rglob("*.tif")):
        with rasterio.open(path) as source:
            pixels = source.read(1).tobytes()
        sums[path.relative_to(folder).as_posix()] = hashlib.sha256(pixels).hexdigest()
    return sums


def test_same_pixels_every_time(items_file: Path, tmp_path: Path) -> None:
    again = make_scenes(tmp_path / "again")
    first = digest(items_file.parent)
    assert len(first) == 6 * 5
    assert digest(again.parent) == first
    for name in ("items.json", "planted.geojson", "aoi.geojson"):
        assert (again.parent / name).read_bytes() == (items_file.parent / name).read_bytes()


def test_a_complete_folder_is_used_as_it_is(items_file: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in items_file.parent.rglob("*")}
    assert make_scenes(items_file.parent) == items_file
    assert {path: path.stat().st_mtime_ns for path in items_file.parent.rglob("*")} == before
    assert not [path for path in items_file.parent.parent.iterdir() if path.name != "scenes"]


def test_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match="not a demo scene set"):
        make_scenes(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_items_read_as_catalog_items(items: list[Item], items_file: Path) -> None:
    assert len(items) == 7
    assert len({item.id for item in items}) == 7
    assert {item.epsg for item in items} == {32721, 32722}
    assert {item.granule for item in items} == {"21MZN", "22MAT"}
    assert len({item.solar_day for item in items}) == len(DAYS) == 3
    for item in items:
        assert item.properties["synthetic"] is True
        assert "SYNTHETIC" in item.id
        assert item.cloud_cover is not None
        assert 0 < item.cloud_cover < 60
        assert item.properties["proj:code"] == f"EPSG:{item.epsg}"
        for band in ("B02", "B03", "B04", "B08", "SCL"):
            href = item.href(band)
            assert href is not None
            assert not Path(href).is_absolute()
            assert (items_file.parent / href).is_file()


def test_one_scene_is_listed_under_two_baselines(items: list[Item]) -> None:
    older = [item for item in items if item.baseline == "05.09"]
    assert len(older) == 1
    twins = [item for item in items if (item.granule, item.datetime) ==
             (older[0].granule, older[0].datetime)]  # fmt: skip
    assert sorted(str(item.baseline) for item in twins) == ["05.09", "05.10"]


def test_files_are_what_the_items_say(scenes: list[Item], items_file: Path) -> None:
    for item in scenes:
        for band in ("B02", "B03", "B04", "B08", "SCL"):
            asset = item.raw["assets"][band]
            with rasterio.open(items_file.parent / asset["href"]) as source:
                assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert source.block_shapes == [(512, 512)]
                assert source.compression.name == "deflate"
                assert source.overviews(1), f"{item.id} {band}: no overviews"
                assert source.nodata == 0
                assert source.dtypes[0] == ("uint8" if band == "SCL" else "uint16")
                assert source.crs.to_epsg() == item.epsg
                assert list(source.shape) == asset["proj:shape"]
                assert list(source.transform)[:6] == asset["proj:transform"]
                assert list(source.bounds) == asset["proj:bbox"]
                assert source.tags()["SYNTHETIC"]


def test_dn_carry_the_offset(scenes: list[Item], items_file: Path) -> None:
    for item in scenes:
        classes = read(items_file, item, "SCL").repeat(2, axis=0).repeat(2, axis=1)
        red = read(items_file, item, "B04")
        forest = red[classes == Scl.VEGETATION]
        assert 1130 < np.median(forest) < 1330
        assert forest.min() > 1000


def test_both_granules_show_the_same_ground(scenes: list[Item], items_file: Path) -> None:
    west, east = scenes[4], scenes[5]
    assert west.datetime == east.datetime
    for band in ("B04", "B08"):
        with (
            rasterio.open(items_file.parent / str(west.href(band))) as here,
            rasterio.open(items_file.parent / str(east.href(band))) as there,
            WarpedVRT(
                there,
                crs=here.crs,
                transform=here.transform,
                width=here.width,
                height=here.height,
                resampling=rasterio.enums.Resampling.bilinear,
            ) as warped,
        ):
            window = from_bounds(829_000, 9_217_000, 834_000, 9_231_000, here.transform)
            a, b = here.read(1, window=window), warped.read(1, window=window)
        both = (a > 0) & (b > 0)
        assert both.mean() > 0.99
        assert np.corrcoef(a[both], b[both])[0, 1] > 0.9


def test_a_swath_edge_leaves_nodata(scenes: list[Item], items_file: Path) -> None:
    shares = [item.properties["s2:nodata_pixel_percentage"] for item in scenes]
    assert [share > 0 for share in shares] == [False, False, True, False, False, False]
    cut = scenes[2]
    pixels, classes = read(items_file, cut, "B02"), read(items_file, cut, "SCL")
    assert np.array_equal(pixels == 0, (classes == 0).repeat(2, axis=0).repeat(2, axis=1))
    assert shares[2] == pytest.approx(100 * (pixels == 0).mean(), abs=0.01)
    assert cut.footprint.area < scenes[0].footprint.area


def test_scl_has_clouds_shadows_and_ground(scenes: list[Item], items_file: Path) -> None:
    found = set()
    for item in scenes:
        found |= set(np.unique(read(items_file, item, "SCL")).tolist())
    wanted = set(Scl) - {Scl.SATURATED, Scl.SNOW}
    assert {int(one) for one in wanted} <= found
    item = scenes[2]
    classes = read(items_file, item, "SCL")
    blue = read(items_file, item, "B02")[::2, ::2].astype(float)
    assert np.median(blue[classes == Scl.CLOUD_HIGH]) > 4000
    assert np.median(blue[classes == Scl.CLOUD_SHADOW]) < np.median(blue[classes == Scl.VEGETATION])


def test_scl_has_the_known_errors(scenes: list[Item], items_file: Path) -> None:
    def cloudy(item: Item) -> float:
        seen = under(items_file, item, mine("bright-2ha"))
        return float(np.isin(seen, (Scl.CLOUD_MEDIUM, Scl.CLOUD_HIGH)).mean())

    eastern = scenes[1::2]
    assert [round(cloudy(item)) for item in eastern] == [1, 1, 0]
    strip = mine("strip-0.5ha")
    assert all((under(items_file, item, strip) == Scl.VEGETATION).all() for item in eastern[1:])
    ponds = under(items_file, scenes[0], mine("valley-15ha"))
    assert {Scl.VEGETATION, Scl.DARK, Scl.WATER, Scl.UNCLASSIFIED} <= set(ponds.tolist())


def test_every_mine_is_clear_on_two_dates(scenes: list[Item], items_file: Path) -> None:
    for one in PLANTED:
        dates = set()
        for item in scenes:
            seen = under(items_file, item, one.polygon)
            if len(seen) and np.isin(seen, CLEAR_SCL).mean() > 0.9:
                dates.add(item.solar_day)
        assert len(dates) >= (1 if one.name == "bright-2ha" else 2), one.name


def test_mines_stand_out_as_bare_ground(scenes: list[Item], items_file: Path) -> None:
    for one in PLANTED:
        sees = [
            item for item in scenes[4:] if len(under(items_file, item, one.polygon, "B04")) > 20
        ]
        red = under(items_file, sees[0], one.polygon, "B04").astype(float) - 1000
        assert 1000 < np.median(red) < 3800, one.name


def test_truth_has_the_areas_it_states(items_file: Path) -> None:
    assert sorted(one.area_ha for one in PLANTED) == [0.3, 0.5, 0.8, 1, 1, 2, 3, 5, 8, 15]
    for one in PLANTED:
        assert one.polygon.is_valid
        assert hectares(one.polygon) == pytest.approx(one.area_ha, rel=0.05)
    truth = json.loads((items_file.parent / "planted.geojson").read_text(encoding="utf-8"))
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in truth["features"]]
    assert [s.equals_exact(p.polygon, 1e-7) for s, p in zip(shapes, PLANTED, strict=True)] == (
        [True] * len(PLANTED)
    )


def test_mines_lie_across_the_seams() -> None:
    west, _, east, _ = mine("zone-seam-3ha").bounds
    assert west < -54 < east
    assert min(-54 - west, east + 54) > 0.0003
    to_utm = pyproj.Transformer.from_crs(4326, 32721, always_xy=True)
    x, y = to_utm.transform(*shapely.get_coordinates(mine("tile-seam-5ha")).T)
    columns, rows = np.floor(x / 20_160), np.floor((10_000_000 - y) / 20_160)
    assert set(columns) == {40, 41}
    assert set(rows) == {38}


def test_aoi_holds_the_mines_and_the_scenes_hold_the_aoi(scenes: list[Item]) -> None:
    feature = json.loads((ROOT / "aois" / "demo.geojson").read_text(encoding="utf-8"))
    area = shapely.geometry.shape(feature["geometry"])
    assert area.equals(aoi())
    assert area.is_valid
    assert feature["properties"]["name"] == "Demo (synthetic)"
    assert feature["properties"]["synthetic"] is True
    assert 250 < hectares(area) / 100 < 350
    assert area.bounds[0] < -54 < area.bounds[2]
    assert all(area.contains(one.polygon) for one in PLANTED)
    covered = shapely.union_all([item.footprint for item in scenes[:2]])
    assert covered.contains(area.buffer(700 / 110_000))


def test_other_scars_can_be_planted(tmp_path: Path) -> None:
    scars = scar_grid(sizes_ha=(0.3, 1.0), shapes=("square", "strip"), replicates=3)
    assert len(scars) == 12
    for one in planted(scars):
        assert hectares(one.polygon) == pytest.approx(one.area_ha, rel=0.01)
        assert aoi().contains(one.polygon)
    strip = next(scar for scar in scars if scar.shape == "strip" and scar.area_ha == 1.0)
    polygon = planted([strip])[0].polygon
    assert GEOD.geometry_length(polygon) == pytest.approx(2 * (30 + 10_000 / 30), rel=0.01)
    items = make_scenes(tmp_path / "s", scars, ground="forest", clouds=False, scl_errors=False)
    first = Item(json.loads(items.read_text(encoding="utf-8"))["features"][0])
    assert first.cloud_cover == 0
    truth = json.loads((items.parent / "planted.geojson").read_text(encoding="utf-8"))
    assert [feature["id"] for feature in truth["features"]] == [scar.name for scar in scars]


def test_a_scar_keeps_its_pixels_wherever_it_stands_in_the_list() -> None:
    a = Scar("a", -54.02, -7.02, 1.0)
    b = Scar("b", -53.98, -7.03, 2.0)
    assert np.array_equal(paint([a, b], "forest").dn, paint([b, a], "forest").dn)


def test_frame_pixels_are_exact() -> None:
    for granule in frame.granules():
        column, row = granule.frame_pixels()
        for r, c in ((0, 0), (granule.height - 1, granule.width - 1), (333, 700)):
            x, y = frame.to_frame(
                np.array([granule.left + 10 * (c + 0.5)]),
                np.array([granule.top - 10 * (r + 0.5)]),
                granule.epsg,
            )[0]
            assert column[r, c] * 10 + 5 - frame.HALF_WIDTH == pytest.approx(x, abs=0.02)
            assert frame.HALF_HEIGHT - row[r, c] * 10 - 5 == pytest.approx(y, abs=0.02)
