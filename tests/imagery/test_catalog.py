"""All the items or an error; what is left out is named; nothing found comes with advice."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from scanner.area.aoi import Aoi, read_aoi
from scanner.area.grid import Tile, Zone, tiles
from scanner.config import SearchConfig
from scanner.errors import CatalogError, ConfigError, OutputError
from scanner.imagery import snapshot, stac_api
from scanner.imagery.catalog import (
    Dropped,
    ItemIndex,
    ItemSet,
    chunk_footprint,
    items_of_tile,
    last_months,
    parse_dates,
    read_items,
    search_items,
    write_items,
)
from scanner.imagery.choose import pruned, without_duplicates
from scanner.imagery.item import Item
from scanner.imagery.stac_api import superset
from tests.servers.fixtures import ServeStac
from tests.servers.items import HOST, polygon, raw, square

Raw = dict[str, Any]
AOI = Aoi("box", shapely.box(-55.6, -6.6, -55.5, -6.5))
FAR = Aoi("far", shapely.box(-70.6, -6.6, -70.5, -6.5))
JULY = "2024-07-01/2024-07-31"


def item(day: int = 1, name: str | None = None, **changes: Any) -> Raw:
    """An item of July 2024 over the AOI; ``changes`` go to its properties, or replace members."""
    members = {k: changes.pop(k) for k in ("geometry", "assets", "properties") if k in changes}
    one = raw(**({"datetime": f"2024-07-{day:02d}T13:57:09Z"} | changes))
    return one | {"id": name or f"S2_{day:02d}"} | members


def ids(found: ItemSet) -> list[str]:
    return [one.id for one in found.items]


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., SearchConfig]:
    """Write items to a file and return the search that reads it."""

    def write(items: list[Any], **search: Any) -> SearchConfig:
        path = tmp_path / "list" / "items.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return SearchConfig(catalog=str(path), **search)

    return write


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_api, "BACKOFF_S", 0.0)


# --- files ------------------------------------------------------------------------------------


def test_a_file_gives_every_item_over_the_area(listed: Callable[..., SearchConfig]) -> None:
    elsewhere = item(5, geometry=square(-70, -7))
    search = listed([item(9), item(3), elsewhere, item(3, "A", **{"s2:mgrs_tile": "21MWS"})])
    found = search_items(AOI, search)
    assert ids(found) == ["A", "S2_03", "S2_09"]
    assert found.date == "2024-07-03/2024-07-09"
    assert found.dropped == ()
    assert found.advice is None


def test_tiles_decide_not_the_outline(listed: Callable[..., SearchConfig]) -> None:
    west, _, east, _ = chunk_footprint(tiles(AOI)[0]).bounds
    assert west < -55.6
    beside = item(2, geometry=square(west - 0.98, -7))  # meets the tile, not the AOI
    assert ids(search_items(AOI, listed([item(1), beside]))) == ["S2_01", "S2_02"]
    alone = search_items(AOI, listed([beside]))
    assert ids(alone) == []
    assert alone.advice
    assert east < -55.0


def test_dates_and_clouds_filter_a_file(listed: Callable[..., SearchConfig]) -> None:
    many = [item(day, **{"eo:cloud_cover": day * 3}) for day in range(1, 32)]
    many.append(item(31, name="silent", **{"eo:cloud_cover": None}))
    found = search_items(AOI, listed(many, date="2024-07-05/2024-07-31", max_cloud=30))
    assert ids(found) == [f"S2_{day:02d}" for day in range(5, 11)] + ["silent"]
    assert found.date == "2024-07-05/2024-07-31"


def test_dates_include_both_days_and_intervals_count(listed: Callable[..., SearchConfig]) -> None:
    year = {"datetime": None, "start_datetime": "2024-01-01T00:00:00Z"}
    many = [
        item(1, name="first", datetime="2024-07-01T00:00:00Z"),
        item(1, name="last", datetime="2024-07-31T23:59:59.999Z"),
        item(1, name="after", datetime="2024-08-01T00:00:00Z"),
        item(1, name="year", **year, end_datetime="2024-12-31T00:00:00Z"),
        item(1, name="spring", **year, end_datetime="2024-06-30T00:00:00Z"),
    ]
    assert set(ids(search_items(AOI, listed(many, date=JULY)))) == {"first", "last", "year"}


def test_hrefs_become_absolute_and_stay_below_the_file(
    listed: Callable[..., SearchConfig], tmp_path: Path
) -> None:
    (tmp_path / "list" / "sub").mkdir(parents=True)
    for place in ("list/sub/ok.tif", "list/sub/with space.tif", "outside.tif"):
        (tmp_path / place).touch()

    def bands(href: str) -> Raw:
        return {band: {"href": href} for band in ("B02", "B03", "B04")}

    inside = (tmp_path / "list" / "sub" / "ok.tif").resolve()
    found = search_items(
        AOI,
        listed(
            [
                item(1, name="relative", assets=bands("./sub/ok.tif")),
                item(2, name="file-url", assets=bands(f"file://{inside.parent}/with%20space.tif")),
                item(3, name="absolute", assets=bands(str(inside))),
                item(4, name="signed", assets=bands(f"{HOST}/a/B.tif?se=1&sig=abc")),
                item(5, name="up", assets=bands("../outside.tif")),
                item(6, name="stranger", assets=bands("https://evil.example.org/B.tif")),
                item(7, name="gone", assets=bands("sub/gone.tif")),
                item(8, name="etc", assets=bands("file:///etc/hosts")),
            ]
        ),
    )
    assert ids(found) == ["relative", "file-url", "absolute", "signed"]
    assert Path(found.items[0].href("B02") or "") == inside
    assert (found.items[1].href("B02") or "").endswith("/sub/with space.tif")
    assert found.items[3].href("B02") == f"{HOST}/a/B.tif"
    reasons = {one.id: one.reason for one in found.dropped}
    assert "lies outside" in reasons["up"]
    assert 'add "evil.example.org" to the setting hosts' in reasons["stranger"]
    assert "is not there" in reasons["gone"]
    assert "lies outside" in reasons["etc"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (item(assets={"B02": {"href": f"{HOST}/a.tif"}}), "no asset for B03, B04"),
        (item(assets={b: {} for b in ("B02", "B03", "B04")}), "no asset for B02, B03, B04"),
        (item(**{"proj:epsg": None, "s2:mgrs_tile": None}), "its CRS is unknown"),
        (item(geometry=None), "no usable geometry"),
        (item(geometry=polygon([0, 0], [999, 0], [0, 9])), "beyond 180/90"),
        (item(datetime="soon"), "is not ISO 8601"),
        (item(**{"eo:cloud_cover": "some"}), "is no number"),
        (item(properties=[]), "has no properties"),
        (item(odd=float("nan")), "not JSON compliant"),
        (item(name="x" * 400), "its id is no text"),
        (item(name="half \ud800"), "surrogates not allowed"),
        ({"type": "Feature"}, "has no properties"),
        ("text", "has no properties"),
        (None, "has no properties"),
    ],
)
def test_an_unusable_item_is_named_and_not_fatal(
    bad: Any, reason: str, serve_stac: ServeStac, listed: Callable[..., SearchConfig]
) -> None:
    if reason != "not JSON compliant":  # a file with NaN is refused as a whole
        found = search_items(AOI, listed([bad, item(2)]))
        assert ids(found) == ["S2_02"]
        assert len(found.dropped) == 1
        assert reason in found.dropped[0].reason


def test_ids_are_text_and_nothing_else(listed: Callable[..., SearchConfig]) -> None:
    names = ["../../etc/passwd", "a\nb", "C:\\x", "-rf", "ä" * 100]
    found = search_items(AOI, listed([item(i + 1, name=n) for i, n in enumerate(names)]))
    assert ids(found) == names
    hostile = search_items(AOI, listed([item(name="a\nb\x1b[2J", geometry=None), item(2)]))
    (dropped,) = hostile.dropped
    assert dropped.id.isprintable()
    assert dropped.reason.isprintable()


def test_one_id_listed_twice(listed: Callable[..., SearchConfig]) -> None:
    assert search_items(AOI, listed([item(1), item(1)])).dropped == ()
    pair = [item(1, name="A"), item(2, name="A", **{"s2:processing_baseline": "05.11"})]
    for order in (pair, pair[::-1]):
        found = search_items(AOI, listed(order))
        assert [one.datetime.day for one in found.items] == [2]
        assert "listed twice" in found.dropped[0].reason


def test_a_single_item_and_a_collection_of_choice(
    listed: Callable[..., SearchConfig], tmp_path: Path
) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(item(4)))
    assert ids(search_items(AOI, SearchConfig(catalog=str(path)))) == ["S2_04"]
    other = item(5) | {"collection": "sentinel-2-c1-l2a"}
    search = listed([item(4), other], collection="sentinel-2-c1-l2a")
    assert ids(search_items(AOI, search)) == ["S2_05"]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (None, "no such file"),
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ('{"type": "FeatureCollection", "features": [NaN]}', "holds NaN"),
        ('{"type": "FeatureCollection", "features": {}}', "holds no items"),
        ('{"type": "Catalog"}', "holds no items"),
        ("[" * 100_000, "not JSON"),
        ("\udcff", "not JSON"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, content: str | None, fact: str) -> None:
    path = tmp_path / "list.json"
    if content is not None:
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError, match=f"list.json: .*{fact}") as caught:
        search_items(AOI, SearchConfig(catalog=str(path)))
    assert "\n" not in str(caught.value)


def test_a_host_that_is_none_is_told_at_once(listed: Callable[..., SearchConfig]) -> None:
    with pytest.raises(ConfigError, match=r"^hosts: '\*' is no host"):
        search_items(AOI, listed([item(1)], hosts=("*",)))


def test_a_file_is_not_read_beyond_its_limit(
    listed: Callable[..., SearchConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = listed([item(1)])
    monkeypatch.setattr(snapshot, "MAX_BYTES", 100)
    with pytest.raises(ConfigError, match="cut it into parts"):
        search_items(AOI, search)


def test_advice_for_a_file(listed: Callable[..., SearchConfig]) -> None:
    cloudy = [item(day, **{"eo:cloud_cover": 90}) for day in (1, 2)]
    advice = search_items(AOI, listed(cloudy, date=JULY)).advice or ""
    assert "up to 60 %, but some with more: raise --max-cloud" in advice
    advice = search_items(AOI, listed([item(1)], date="2025-01-01/2025-02-01")).advice or ""
    assert "but some in 2023-01-01/2027-02-01: widen --date" in advice
    assert "raise --max-cloud" not in advice
    advice = search_items(AOI, listed(cloudy, date="2025-01-01/2025-02-01")).advice or ""
    assert "widen --date and raise --max-cloud" in advice
    advice = search_items(FAR, listed([item(1)])).advice or ""
    assert "check the area" in advice
    no_red = item(1, assets={"B02": {"href": f"{HOST}/a.tif"}})
    advice = search_items(AOI, listed([no_red])).advice or ""
    assert "1 refused, first item S2_01: " in advice
    advice = search_items(AOI, listed([no_red, *cloudy])).advice or ""
    assert "but some with more: raise --max-cloud, or widen --date; 1 refused, first" in advice
    empty = search_items(AOI, listed([]))
    assert (empty.items, empty.date) == ((), "../..")


@pytest.mark.data
def test_recorded_items_through_an_api(shared_data: Path, serve_stac: ServeStac) -> None:
    recorded: dict[str, Raw] = {}  # one item stands in both files
    for path in sorted((shared_data / "stac-items").glob("site*.geojson")):
        recorded |= {one["id"]: one for one in json.loads(path.read_text())["features"]}
    many = list(recorded.values())
    granule = shapely.geometry.shape(many[0]["geometry"]).centroid.buffer(0.1)
    search = {"date": "2020-06-01/2020-07-31", "max_cloud": 10}
    found = search_items(Aoi("35MNM", granule), api(serve_stac(many), **search))
    assert {one.granule for one in found.items} >= {"35MNM"}
    assert len([one for one in found.items if one.granule == "35MNM"]) == 11
    assert found.dropped == ()
    assert all(len(one.assets) == 12 for one in found.items)


@pytest.mark.data
def test_scenes_at_hand(shared_data: Path) -> None:
    folder = shared_data / "scenes"
    aoi = read_aoi(folder / "aoi_juruti_pa.geojson")
    found = search_items(aoi, SearchConfig(catalog=str(folder / "items.json")))
    assert ids(found) == ["S2L1C_2021MEDIAN_JURUTI"]
    assert found.dropped == ()
    assert items_of_tile(found.items, tiles(aoi)[0]) == list(found.items)


# --- dates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("2024-07-01", "needs a first and a last day"),
        ("2024-07-01/..", "needs a first and a last day"),
        ("../2024-07-01", "needs a first and a last day"),
        ("2024-07-01/", "needs a first and a last day"),
        ("", "needs a first and a last day"),
        ("2024-07-01/2024-08-01/2024-09-01", "needs a first and a last day"),
        ("2024-02-30/2024-03-01", "give --date START/END"),
        ("01.07.2024/02.07.2024", "give --date START/END"),
        ("2024-07/2024-08", "give --date START/END"),
        ("2024-07-01T00:00:00Z/2024-08-01", "give --date START/END"),
        ("2024-08-01/2024-07-01", "swap them: --date 2024-07-01/2024-08-01"),
    ],
)
def test_dates_that_are_refused(text: str, fact: str) -> None:
    with pytest.raises(ConfigError, match=fact) as caught:
        search_items(AOI, SearchConfig(date=text))  # before anything is asked of the network
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("today", "start"),
    [
        ("2026-11-21", "2026-05-21"),
        ("2026-08-31", "2026-02-28"),
        ("2024-08-31", "2024-02-29"),
        ("2026-03-15", "2025-09-15"),
        ("2026-06-30", "2025-12-30"),
    ],
)
def test_six_months(today: str, start: str) -> None:
    day = dt.date.fromisoformat
    assert last_months(day(today)) == (day(start), day(today))
    assert parse_dates(f"{start}/{today}") == (day(start), day(today))
    assert parse_dates(f"{today}/{today}") == (day(today), day(today))


# --- duplicates -------------------------------------------------------------------------------

HALF = polygon([-56, -7], [-55.5, -7], [-55.5, -6], [-56, -6])
MOST = polygon([-56, -7], [-55.05, -7], [-55.05, -6], [-56, -6])


@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        # reprocessed: the higher baseline, as a number
        ({"s2:processing_baseline": "02.12"}, {"s2:processing_baseline": "05.10"}, ["b"]),
        ({"s2:processing_baseline": "05.10"}, {"s2:processing_baseline": "05.09"}, ["a"]),
        ({"s2:processing_baseline": "10.00"}, {"s2:processing_baseline": "9.9"}, ["a"]),
        ({"s2:processing_baseline": None}, {"s2:processing_baseline": "02.12"}, ["b"]),
        # the same baseline: the later processing
        ({"s2:generation_time": "2024-07-09"}, {"s2:generation_time": "2024-07-08"}, ["a"]),
        ({"created": "2024-07-08"}, {"created": "2024-07-09"}, ["b"]),
        ({}, {}, ["b"]),
        # sensing times rounded otherwise are one pass; half an hour is not
        ({}, {"datetime": "2024-07-01T13:57:29Z"}, ["b"]),
        ({}, {"datetime": "2024-07-01T14:27:09Z"}, ["a", "b"]),
        # another granule, orbit or satellite
        ({}, {"s2:mgrs_tile": "21MXR"}, ["a", "b"]),
        ({"sat:relative_orbit": 67}, {"sat:relative_orbit": 110}, ["a", "b"]),
        ({"platform": "Sentinel-2A"}, {"platform": "Sentinel-2B"}, ["a", "b"]),
        ({"platform": "Sentinel-2A"}, {"platform": "sentinel-2a"}, ["b"]),
        ({"s2:mgrs_tile": None}, {"s2:mgrs_tile": None}, ["a", "b"]),
        # footprints: two halves of a pass are both kept, slightly different outlines are not
        ({"geometry": HALF}, {}, ["a", "b"]),
        ({"geometry": MOST}, {}, ["b"]),
    ],
)
def test_duplicates(one: Raw, other: Raw, kept: list[str]) -> None:
    pair = [Item(item(1, name=name, **change)) for name, change in (("a", one), ("b", other))]
    for order in (pair, pair[::-1]):
        left, dropped = without_duplicates(order)
        assert sorted(i.id for i in left) == kept
        assert [d.id for d in dropped] == sorted({"a", "b"} - set(kept))
        assert all("the same pass as" in d.reason for d in dropped)


def test_duplicates_are_dropped_from_a_search(listed: Callable[..., SearchConfig]) -> None:
    old = item(1, name="old", **{"s2:processing_baseline": "02.12"})
    found = search_items(AOI, listed([old, item(1, name="new"), item(6)]))
    assert ids(found) == ["new", "S2_06"]
    assert [one.id for one in found.dropped] == ["old"]


# --- items.json -------------------------------------------------------------------------------


def test_round_trip_is_unsigned(tmp_path: Path) -> None:
    here = item(1, place="\u00e4 \ud800")  # text that JSON takes and UTF-8 does not
    signed = Item(here).with_hrefs(lambda href: f"{href}?se=1&sig=abc")
    found = ItemSet((signed,), (Dropped("x", "item x: no red"),), JULY, None)
    path = tmp_path / "deep" / "items.json"
    write_items(path, found)
    assert "sig" not in path.read_text()
    again = read_items(path)
    assert again == ItemSet((Item(here),), found.dropped, JULY, None)
    write_items(path, again)
    assert read_items(path) == again
    assert [p.name for p in path.parent.iterdir()] == ["items.json"]
    nothing = ItemSet((), (), JULY, "widen --date")
    write_items(path, nothing)
    assert read_items(path) == nothing


def test_a_snapshot_is_a_catalog_too(listed: Callable[..., SearchConfig], tmp_path: Path) -> None:
    found = search_items(AOI, listed([item(1), item(2)]))
    write_items(tmp_path / "items.json", found)
    again = search_items(AOI, SearchConfig(catalog=str(tmp_path / "items.json")))
    assert again.items == found.items


def test_a_snapshot_that_cannot_be_written_or_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "items.json"
    for content in ("", "{}", "[]", '{"features": [], "mining_scan": {}}', '{"features": 1}'):
        path.write_text(content)
        with pytest.raises(OutputError, match=r"items\.json: .*--fresh"):
            read_items(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path.write_text("old")
    monkeypatch.setattr("scanner.files.os.fsync", full)
    with pytest.raises(OutputError, match=r"items\.json: .*No space left"):
        write_items(path, ItemSet(()))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("items.json", "old")]


def test_pruning_keeps_bands_alone() -> None:
    full = item(1)
    full["assets"] |= {
        "visual": {"href": "s3://x/TCI.jp2"},
        "B02-jp2": {"href": "s3://x/B02.jp2"},
        "preview": {"href": "https://evil.example.org/p.png"},
    }
    full["links"] = [
        {"rel": "self", "href": "https://h/items/1?sig=2"},
        {"rel": "root", "href": "https://h"},
        "odd",
    ]
    full["properties"]["msft:expiry"] = "2024-07-01"
    small = pruned(Item(full)).raw
    assert set(small["assets"]) == {"B02", "B03", "B04", "SCL"}
    assert small["links"] == [{"rel": "self", "href": "https://h/items/1"}]
    assert "msft:expiry" not in small["properties"]
    assert "msft:expiry" in full["properties"]


def test_items_of_a_tile() -> None:
    (tile,) = tiles(Aoi("dot", shapely.box(-55.56, -6.56, -55.55, -6.55)))
    west, south, east, north = chunk_footprint(tile).bounds
    near = Item(item(1, name="near", geometry=square(east - 0.001, south)))
    far = Item(item(1, name="far", geometry=square(east + 0.001, south)))
    assert [one.id for one in items_of_tile([far, near], tile)] == ["near"]
    assert items_of_tile([], tile) == []
    assert west < east
    assert south < north


@st.composite
def footprints(draw: st.DrawFn, ground: shapely.Polygon) -> shapely.Geometry:
    """A box about a tile's ground: often at its very corners, sometimes a sliver or two parts."""
    west, south, east, north = ground.bounds
    lon = st.one_of(st.floats(west - 1, east + 1), st.sampled_from((west, east)))
    lat = st.one_of(st.floats(south - 1, north + 1), st.sampled_from((south, north)))
    size = st.sampled_from((1e-9, 0.01, 0.2, 1.5))
    boxes = [
        shapely.box(x, y, x + draw(size), y + draw(size))
        for x, y in draw(st.lists(st.tuples(lon, lat), min_size=1, max_size=2))
    ]
    return shapely.union_all(boxes)


@given(st.data())
def test_the_index_finds_what_asking_each_item_finds(data: st.DataObject) -> None:
    """In the same order: the linear way stands here."""
    ground = [Tile(Zone(21, True), 30 + col, 40 + row) for col in range(2) for row in range(2)]
    drawn = data.draw(st.lists(footprints(chunk_footprint(ground[0])), max_size=12))
    items = [
        Item(item(1, name=f"i{number}", geometry=shapely.geometry.mapping(shape)))
        for number, shape in enumerate(drawn)
    ]
    index = ItemIndex(items)
    for tile in data.draw(st.permutations(ground)):
        wanted = [one for one in items if shapely.intersects(chunk_footprint(tile), one.footprint)]
        assert index.of_tile(tile) == wanted
        assert items_of_tile(iter(items), tile) == wanted


# --- STAC APIs --------------------------------------------------------------------------------


def api(server: Any, **search: Any) -> SearchConfig:
    return SearchConfig(catalog=server.url, **({"date": JULY, "hosts": ["*.windows.net"]} | search))


def test_an_api_gives_all_pages(serve_stac: ServeStac) -> None:
    many = [item(day) for day in range(1, 31)]
    many += [item(2, name="far", geometry=square(-70, -7)), item(3) | {"collection": "other"}]
    server = serve_stac(many, page_items=7)
    found = search_items(AOI, api(server))
    assert ids(found) == [f"S2_{day:02d}" for day in range(1, 31)]
    assert found.date == JULY
    asked = server.behaviour.requests
    assert [one["page"] for one in asked] == [1, 2, 3, 4, 5]
    assert {one["method"] for one in asked} == {"POST"}
    assert asked[0]["collections"] == ["sentinel-2-l2a"]
    assert asked[0]["datetime"] == "2024-07-01T00:00:00Z/2024-07-31T23:59:59Z"
    assert asked[0]["query"] == {"eo:cloud_cover": {"lte": 60}}
    assert "proj:epsg" in found.items[0].properties  # pystac would have moved it to proj:code


def test_an_api_that_cannot_filter_is_filtered_here(serve_stac: ServeStac) -> None:
    many = [item(day, **{"eo:cloud_cover": day * 3}) for day in range(1, 31)]
    many.append(item(31, name="silent", **{"eo:cloud_cover": None}))
    many.append(item(1, name="august", datetime="2024-08-01T00:00:00Z"))
    server = serve_stac(many, query=False, ignores_dates_and_cloud=True)
    found = search_items(AOI, api(server, max_cloud=30))
    assert set(ids(found)) == {f"S2_{day:02d}" for day in range(1, 11)} | {"silent"}
    assert "query" not in server.behaviour.requests[0]


def test_an_api_that_knows_get_alone(serve_stac: ServeStac) -> None:
    server = serve_stac([item(day) for day in range(1, 31)], post=False)
    assert len(search_items(AOI, api(server)).items) == 30
    assert {one["method"] for one in server.behaviour.requests} == {"GET"}
    assert [one["page"] for one in server.behaviour.requests] == [1, 2, 3]


def test_an_api_without_dates_is_asked_for_six_months(serve_stac: ServeStac) -> None:
    server = serve_stac([])
    found = search_items(AOI, api(server, date=None, collection="sentinel-2-c1-l2a"))
    start, end = parse_dates(found.date)
    assert 180 <= (end - start).days <= 185
    first = server.behaviour.requests[0]
    assert first["datetime"] == f"{start}T00:00:00Z/{end}T23:59:59Z"
    assert first["collections"] == ["sentinel-2-c1-l2a"]


def test_errors_that_pass_are_waited_for(serve_stac: ServeStac) -> None:
    server = serve_stac([item(day) for day in range(1, 31)])
    server.behaviour.fail(1, 503, times=2)
    server.behaviour.fail(2, 502)
    server.behaviour.fail(2, 504)
    server.behaviour.fail(3, 429, headers={"Retry-After": "0"})
    assert len(search_items(AOI, api(server)).items) == 30
    assert [one["page"] for one in server.behaviour.requests] == [1, 1, 1, 2, 2, 2, 3, 3]


def test_retry_after_is_obeyed(serve_stac: ServeStac, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib3.util.retry as urllib3_retry

    pauses: list[float] = []
    monkeypatch.setattr(urllib3_retry.time, "sleep", pauses.append)
    server = serve_stac([item(1)])
    server.behaviour.fail(1, 429, headers={"Retry-After": "7"})
    assert len(search_items(AOI, api(server)).items) == 1
    assert 7 in pauses


def test_a_page_that_never_comes_is_an_error(serve_stac: ServeStac) -> None:
    server = serve_stac([item(day) for day in range(1, 31)])
    server.behaviour.fail(3, 503, times=100)
    with pytest.raises(CatalogError, match="was not answered completely") as caught:
        search_items(AOI, api(server))
    assert caught.value.exit_code == 3
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_answer_that_retrying_does_not_heal(serve_stac: ServeStac, status: int) -> None:
    server = serve_stac([item(1)])
    server.behaviour.fail(1, status)
    with pytest.raises(CatalogError, match="was not answered completely"):
        search_items(AOI, api(server))
    assert len(server.behaviour.requests) == 1


def test_fewer_items_than_told_is_an_error(serve_stac: ServeStac) -> None:
    server = serve_stac([item(day) for day in range(1, 31)], matched_lie=2)
    with pytest.raises(CatalogError, match="says 32 items match but sent 30"):
        search_items(AOI, api(server))
    assert ids(search_items(FAR, api(serve_stac([], matched_lie=0)))) == []
    with pytest.raises(CatalogError, match="says 1 items match but sent 0"):
        search_items(AOI, api(serve_stac([], matched_lie=1)))


def test_an_api_that_tells_no_count(serve_stac: ServeStac) -> None:
    server = serve_stac([item(day) for day in range(1, 31)], tells_matched=False)
    assert len(search_items(AOI, api(server)).items) == 30


def test_an_empty_page_is_not_the_end(serve_stac: ServeStac) -> None:
    server = serve_stac([item(d) for d in range(1, 31)], tells_matched=False, empty_pages={2})
    assert len(search_items(AOI, api(server)).items) == 20
    server.behaviour.tells_matched = True
    with pytest.raises(CatalogError, match="says 30 items match but sent 20"):
        search_items(AOI, api(server))


def test_endless_paging_ends(serve_stac: ServeStac, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve_stac([item(day) for day in range(1, 31)], endless=True)
    with pytest.raises(CatalogError, match="its paging has no end"):
        search_items(AOI, api(server))
    assert len(server.behaviour.requests) == 4
    monkeypatch.setattr(stac_api, "MAX_PAGES", 5)
    nothing = serve_stac([item(1)], endless=True, empty_pages={1}, tells_matched=False)
    with pytest.raises(CatalogError, match="no end after 5 pages"):
        search_items(AOI, api(nothing))


def test_more_items_than_a_run_can_hold(
    serve_stac: ServeStac, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stac_api, "MAX_ITEMS", 25)
    server = serve_stac([item(day) for day in range(1, 31)])
    with pytest.raises(CatalogError, match="more than 25 items; take a shorter --date"):
        search_items(AOI, api(server))
    assert len(server.behaviour.requests) == 1


def test_a_next_link_to_another_host_is_not_followed(serve_stac: ServeStac) -> None:
    server = serve_stac([item(day) for day in range(1, 31)], next_host="localhost")
    with pytest.raises(CatalogError, match="a link leads to localhost, another host"):
        search_items(AOI, api(server))


def test_what_is_no_api(serve_stac: ServeStac, serve_files: Any, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<html>log in</html>")
    (tmp_path / "catalog.json").write_text(
        json.dumps({"type": "Catalog", "id": "x", "stac_version": "1.0.0", "description": "x",
                    "links": []})
    )  # fmt: skip
    host = serve_files(tmp_path)
    with pytest.raises(CatalogError, match="was not answered completely"):
        search_items(AOI, SearchConfig(catalog=f"{host.url}/page"))
    with pytest.raises(CatalogError, match="has no item search"):
        search_items(AOI, SearchConfig(catalog=f"{host.url}/catalog.json"))
    server = serve_stac([])
    server.stop()
    with pytest.raises(CatalogError, match="was not answered completely"):
        search_items(AOI, SearchConfig(catalog=server.url))


def test_advice_from_an_api(serve_stac: ServeStac) -> None:
    cloudy = [item(day, **{"eo:cloud_cover": 90}) for day in (1, 2)]
    found = search_items(AOI, api(serve_stac(cloudy)))
    assert found.items == ()
    assert "up to 60 %, but some with more: raise --max-cloud" in (found.advice or "")
    silent = search_items(AOI, api(serve_stac(cloudy, tells_matched=False)))
    assert "but some with more: raise --max-cloud" in (silent.advice or "")
    later = search_items(AOI, api(serve_stac([item(1)]), date="2025-01-01/2025-02-01"))
    assert "but some in 2023-01-01/2027-02-01: widen --date" in (later.advice or "")
    nothing = search_items(FAR, api(serve_stac([item(1)])))
    assert "check the area" in (nothing.advice or "")
    refused = search_items(AOI, api(serve_stac([item(1)]), hosts=()))
    assert refused.items
    stranger = {b: {"href": "https://evil.org/B.tif"} for b in ("B02", "B03", "B04")}
    refused = search_items(AOI, api(serve_stac([item(1, assets=stranger)])))
    assert "1 refused, first item S2_01: " in (refused.advice or "")


def test_advice_survives_a_catalog_that_breaks_off(serve_stac: ServeStac) -> None:
    server = serve_stac([])
    server.behaviour.fail(1, 200)
    server.behaviour.fail(1, 500, times=9)
    found = search_items(AOI, api(server))
    assert found.items == ()
    assert "check the area" in (found.advice or "")
    assert len(server.behaviour.requests) > 1


def test_the_outline_sent_is_small_and_holds_the_area() -> None:
    rough = shapely.union_all(
        [shapely.Point(-55 + i / 50, -6 + (i * 7 % 11) / 40).buffer(0.05) for i in range(200)]
    )
    assert shapely.get_num_coordinates(rough) > stac_api.MAX_VERTICES
    sent = superset(rough)
    assert shapely.get_num_coordinates(sent) <= stac_api.MAX_VERTICES
    assert sent.covers(rough)
    assert sent.area < 3 * rough.area
    assert superset(AOI.geometry) == AOI.geometry


def test_the_demo_is_a_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import scanner.imagery.demo as demo

    made: list[Path] = []

    def make_scenes(folder: Path) -> Path:
        made.append(folder)
        folder.mkdir(parents=True)
        (folder / "B.tif").touch()
        local = {b: {"href": "B.tif"} for b in ("B02", "B03", "B04")}
        path = folder / "items.json"
        path.write_text(
            json.dumps({"type": "FeatureCollection", "features": [item(1, assets=local)]})
        )
        return path

    monkeypatch.setattr(demo, "make_scenes", make_scenes)
    assert ids(search_items(AOI, SearchConfig(catalog="demo"), tmp_path)) == ["S2_01"]
    assert made == [tmp_path / "scenes"]
