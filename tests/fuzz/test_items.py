"""Items: each kept, passed over for a reason told, or dropped by name, in whatever order they come.

``tests/imagery/test_catalog.py`` has each rule by itself; here they meet.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.imagery.choose import Chooser
from scanner.imagery.hrefs import Allowed
from scanner.imagery.item import Item
from scanner.imagery.snapshot import ItemSet, read_items, write_items
from tests.fuzz.changes import change
from tests.fuzz.targets import usable
from tests.servers.items import HOST, polygon, raw, square

REACH = shapely.box(-55.6, -6.6, -55.5, -6.5)
ALLOWED = Allowed(("*.blob.core.windows.net",))
SPAN = (dt.date(2024, 7, 2), dt.date(2024, 7, 9))
HALVES = (
    polygon([-56, -7], [-55.55, -7], [-55.55, -6], [-56, -6]),
    polygon([-55.55, -7], [-55, -7], [-55, -6], [-55.55, -6]),
)
FOOTPRINTS = (square(-56.0, -7.0), square(-70.0, -7.0), *HALVES)
Raw = dict[str, Any]


@st.composite
def items(draw: st.DrawFn) -> Raw:
    """A sound item of July 2024; many are one pass in several versions."""
    day, minute = draw(st.integers(1, 10)), draw(st.integers(0, 1))
    bands = ["B02", "B03", "B04", *draw(st.sampled_from(([], ["SCL"], ["SCL", "B08"])))]
    told = {
        "datetime": f"2024-07-{day:02d}T13:57:{draw(st.integers(0, 59)):02d}Z",
        "eo:cloud_cover": draw(st.sampled_from((None, 0, 30.5, 60, 60.1, 100))),
        "s2:processing_baseline": draw(st.sampled_from((None, "02.12", "05.09", "05.10", "9.9"))),
        "s2:mgrs_tile": draw(st.sampled_from(("21MWR", "21MXR"))),
        "s2:generation_time": draw(st.sampled_from(("2024-07-11", "2024-07-12"))),
        "sat:relative_orbit": 67 + minute,
    }
    assets = {band: {"href": f"{HOST}/{band}.tif?sig=x"} for band in bands}
    one = raw(assets, **{k: v for k, v in told.items() if v is not None})
    return one | {"geometry": draw(st.sampled_from(FOOTPRINTS))}


def lists(one: st.SearchStrategy[Raw], most: int = 8) -> st.SearchStrategy[list[Raw]]:
    return st.lists(one, max_size=most).map(
        lambda found: [item | {"id": f"S2_{n}"} for n, item in enumerate(found)]
    )


def choose(raws: list[Any]) -> tuple[tuple[Item, ...], tuple[Any, ...]]:
    chooser = Chooser(REACH, ALLOWED, SPAN, 60)
    for one in copy.deepcopy(raws):
        chooser.take(one)
    return chooser.result()


def passed_over(one: Raw) -> bool:
    """Tell by hand whether an item is elsewhere, of other days, or too cloudy."""
    told = one["properties"]
    day = dt.date.fromisoformat(told["datetime"][:10])
    elsewhere = one["geometry"] == FOOTPRINTS[1]
    return elsewhere or not SPAN[0] <= day <= SPAN[1] or told.get("eo:cloud_cover", 0) > 60


@given(lists(items()), st.randoms())
def test_each_item_ends_in_one_place_whatever_the_order(raws: list[Raw], rng: Random) -> None:
    kept, dropped = choose(raws)
    assert [(i.datetime, i.id) for i in kept] == sorted((i.datetime, i.id) for i in kept)
    names, left = {item.id for item in kept}, {one.id for one in dropped}
    assert all(one.superseded for one in dropped)
    assert not names & left
    assert names | left == {one["id"] for one in raws if not passed_over(one)}
    rng.shuffle(raws)
    assert choose(raws) == (kept, dropped)


@given(lists(items()))
def test_ground_that_was_seen_is_seen_still(raws: list[Raw]) -> None:
    """Dropping a pass processed twice takes no ground away: of each, the best version stays."""
    kept, dropped = choose(raws)
    by_id = {one["id"]: Item(one) for one in raws}
    for gone in dropped:
        lost = by_id[gone.id]
        same = [
            k for k in kept
            if k.granule == lost.granule
            and abs((k.datetime - lost.datetime).total_seconds()) < 60
            and k.properties["sat:relative_orbit"] == lost.properties["sat:relative_orbit"]
        ]  # fmt: skip
        shared = shapely.union_all([k.footprint for k in same]) & lost.footprint
        assert shared.area >= 0.9 * lost.footprint.area


@settings(max_examples=150)
@given(st.lists(items(), min_size=1, max_size=4), st.integers(0, 2**32), st.randoms())
def test_changed_items_are_kept_or_named(found: list[Raw], seed: int, order: Random) -> None:
    rng = Random(seed)
    raws = [one | {"id": f"S2_{n}"} for n, one in enumerate(found)]
    raws = [change(one, rng) if rng.random() < 0.7 else one for one in raws]
    kept, dropped = choose(raws)
    for item in kept:
        usable(item)
        assert item.raw["id"] in {one.get("id") for one in raws if isinstance(one, dict)}
    for one in dropped:
        assert one.reason
        assert (one.id + one.reason).isprintable()
    assert len(kept) + len(dropped) <= len(raws)
    order.shuffle(raws)
    again = choose(raws)
    assert [item.raw for item in again[0]] == [item.raw for item in kept]
    assert again[1] == dropped


@settings(max_examples=30)
@given(lists(items()))
def test_what_is_kept_survives_the_run_folder(raws: list[Raw]) -> None:
    kept, dropped = choose(raws)
    found = ItemSet(kept, dropped, "2024-07-02/2024-07-09", None if kept else "widen --date")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.json"
        write_items(path, found)
        first = path.read_bytes()
        assert read_items(path) == found
        write_items(path, read_items(path))
        assert path.read_bytes() == first
    assert b"sig=" not in first
    json.loads(first)
