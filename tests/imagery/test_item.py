"""Items as catalogs really write them: bands by name, CRS, times, footprints."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from scanner.errors import CatalogError
from scanner.imagery.item import Item
from tests.servers.items import polygon, raw


def recorded_items(folder: Path) -> list[dict[str, Any]]:
    items = []
    for path in sorted(folder.glob("*.*json")):
        document = json.loads(path.read_text())
        if document["type"] != "Collection":
            items += document.get("features", [document])
    return items


@pytest.mark.data
def test_every_recorded_item_is_understood(shared_data: Path) -> None:
    items = [Item(one) for one in recorded_items(shared_data / "stac-items")]
    assert len(items) == 57
    for item in items:
        assert item.epsg // 100 in (326, 327)
        assert item.granule is not None
        assert item.epsg % 100 == int(item.granule[:2])
        assert item.footprint.area > 0
        assert item.datetime.tzinfo == dt.UTC
        assert abs((item.solar_day - item.datetime.date()).days) <= 1
        assert item.baseline == "02.12"
        assert item.cloud_cover is not None
        assert 0 <= item.cloud_cover <= 100
        for band in ("B01", "B02", "B03", "B04", "B05", "B08", "B8A", "B11", "B12", "SCL"):
            assert item.asset_key(band) == band
            assert (item.href(band) or "").endswith(".tif")


def test_planetary_computer_form() -> None:
    item = Item(raw())
    assert item.href("B02") == (
        "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/21/M/WR/B02_10m.tif"
    )
    assert item.href("B08") is None
    assert item.datetime == dt.datetime(2024, 7, 1, 13, 57, 9, 24000, tzinfo=dt.UTC)
    assert item.interval == (item.datetime, item.datetime)


def test_earth_search_form() -> None:
    keys = ("blue", "green", "red", "nir", "nir08", "rededge1", "swir16", "scl", "blue-jp2")
    assets = {key: {"href": f"https://host/{key}.tif", "roles": ["data"]} for key in keys}
    assets["visual"] = {
        "href": "https://host/TCI.tif",
        "eo:bands": [{"name": "red"}, {"name": "green"}, {"name": "blue"}],
    }
    one = raw(assets, **{"s2:mgrs_tile": None, "proj:epsg": None})
    one["properties"] |= {"grid:code": "MGRS-21MWR", "proj:code": "EPSG:32721"}
    item = Item(one)
    found = {b: item.asset_key(b) for b in ("B02", "B03", "B04", "B08", "B8A", "B05", "B11", "SCL")}
    assert list(found.values()) == [
        *("blue", "green", "red", "nir"),
        *("nir08", "rededge1", "swir16", "scl"),
    ]
    assert item.epsg == 32721
    assert item.granule == "21MWR"


@pytest.mark.parametrize(
    ("assets", "band", "key"),
    [
        ({"a": {"href": "x", "eo:bands": [{"name": "B04", "common_name": "red"}]}}, "B04", "a"),
        ({"a": {"href": "x", "bands": [{"name": "r", "eo:common_name": "red"}]}}, "B04", "a"),
        (
            {
                "B02_60m": {"href": "x", "gsd": 60, "bands": [{"name": "B02"}]},
                "B02_10m": {"href": "y", "gsd": 10, "bands": [{"name": "B02"}]},
            },
            "B02",
            "B02_10m",
        ),
        # B06 too is called "rededge" by some: it must not stand in for B05
        ({"a": {"href": "x", "bands": [{"name": "B06", "common_name": "rededge"}]}}, "B05", None),
        ({"thumb": {"href": "x", "roles": ["overview"], "bands": [{"name": "B02"}]}}, "B02", None),
        ({"rgb": {"href": "x", "bands": [{"name": "B04"}, {"name": "B03"}]}}, "B04", None),
        ({"odd": None, "odder": {"href": "x", "eo:bands": ["B02"]}}, "B02", None),
    ],
)  # fmt: skip
def test_a_band_is_found_by_what_the_asset_says(
    assets: dict[str, Any], band: str, key: str | None
) -> None:
    assert Item(raw(assets)).asset_key(band) == key


@pytest.mark.parametrize(
    ("granule", "epsg"), [("21MWR", 32721), ("20NQF", 32620), ("01CAB", 32701), ("2", None)]
)
def test_the_crs_can_come_from_the_granule(granule: str, epsg: int | None) -> None:
    item = Item(raw(**{"proj:epsg": None, "s2:mgrs_tile": granule}))
    if epsg is None:
        with pytest.raises(CatalogError, match="its CRS is unknown"):
            _ = item.epsg
    else:
        assert item.epsg == epsg


def test_solar_day_is_local() -> None:
    late = Item(raw(datetime="2024-07-02T01:00:00Z"))
    assert late.solar_day == dt.date(2024, 7, 1)


@pytest.mark.parametrize(
    ("change", "attribute"),
    [
        ({"properties": {"datetime": "yesterday"}}, "datetime"),
        ({"properties": {"datetime": None}}, "datetime"),
        ({"properties": {"datetime": "0001-01-01T00:00:00+12:00"}}, "datetime"),
        ({"properties": None}, "datetime"),
        ({"properties": {"eo:cloud_cover": "much"}}, "cloud_cover"),
        ({"geometry": None}, "footprint"),
        ({"geometry": {"type": "Blob", "coordinates": []}}, "footprint"),
        ({"geometry": {"type": "Point", "coordinates": [0, 0]}}, "footprint"),
        ({"geometry": polygon([0, 0], [1e999, 0], [1, 1])}, "footprint"),
        ({"geometry": polygon([0, 0], [500, 0], [0, 9])}, "footprint"),
        ({"geometry": {"type": "Polygon", "coordinates": "abc"}}, "footprint"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(change: dict[str, Any], attribute: str) -> None:
    item = Item({**raw(), **change, "id": "S2_X"})
    with pytest.raises(CatalogError, match=r"^item S2_X: .+"):
        getattr(item, attribute)


def test_with_hrefs_leaves_the_item_as_it_was() -> None:
    item = Item(raw())
    changed = item.with_hrefs(lambda href: f"{href}?sig=1")
    assert (changed.href("B02") or "").endswith("?sig=1")
    assert "?" not in json.dumps(item.raw)
