"""From what a catalog returned to the items worth reading: checked, pruned, without duplicates.

Everything in a returned item is untrusted text. An item that cannot be used is never fatal: it is
dropped and named, so that the run's report can tell.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import shapely
import shapely.errors
from pyproj import CRS
from pyproj.exceptions import CRSError

from scanner.errors import ScannerError
from scanner.imagery.bands import COMMON_NAMES
from scanner.imagery.hrefs import Allowed, check_href, strip_secrets, unsigned
from scanner.imagery.item import Item
from scanner.imagery.snapshot import MAX_DEPTH, MAX_ID, Dropped, depth

REQUIRED: Final = ("B02", "B03", "B04")
"""Bands without which an item is of no use (the shipped models run on these alone)."""

SAME_PASS_S: Final = 60.0
"""Items of one granule and orbit sensed less than this apart are one pass, processed twice.

Catalogs round the sensing time differently; the satellite returns after ten days.
"""

SAME_SHARE: Final = 0.9
"""Footprints that share this part of their union show the same ground; below, both are kept."""

YEARS: Final = (1970, 2199)
"""Sensing times outside are no times of a satellite, and some do not fit ``datetime64[ns]``."""

GRID: Final = {"proj:bbox": (4,), "proj:shape": (2,), "proj:transform": (6, 9)}
"""Members that tell an asset's grid, and how many numbers each holds."""

Span = tuple[dt.date, dt.date]


@dataclass
class Chooser:
    """Takes items as they arrive and keeps what passes; ``reach`` is where pixels are wanted."""

    reach: shapely.Geometry
    allowed: Allowed
    span: Span | None
    max_cloud: float
    kept: dict[str, Item] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)

    def __post_init__(self) -> None:
        shapely.prepare(self.reach)

    def take(self, raw: object, locate: Callable[[str], str] = str) -> None:
        """Keep an item, pass over it (elsewhere, other dates, too cloudy) or drop it by name.

        ``locate`` makes its hrefs absolute.
        """
        item = Item(raw if isinstance(raw, dict) else {})
        try:
            if not _meets(item, self.span, self.max_cloud, self.reach):
                return
            item = pruned(item, locate)
            _check(item, self.allowed)
        except ScannerError as error:
            self.drop(item.id, str(error))
        except (
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            ArithmeticError,
            RecursionError,
            shapely.errors.ShapelyError,
        ) as error:
            self.drop(item.id, f"item {item.id}: not a STAC item ({error!r})")
        else:
            self._keep(item)

    def _keep(self, item: Item) -> None:
        known = self.kept.setdefault(item.id, item)
        if known.raw != item.raw:
            self.kept[item.id] = max(known, item, key=_rank_and_text)  # whichever came first
            self.drop(item.id, f"item {item.id}: listed twice and not alike; the later is taken")

    def drop(self, item_id: str, reason: str, *, superseded: bool = False) -> None:
        """Note that an item is left out; texts become one printable line."""
        text = one_line(strip_secrets(reason), 500)
        self.dropped.append(Dropped(one_line(item_id, 300), text, superseded))

    def result(self) -> tuple[tuple[Item, ...], tuple[Dropped, ...]]:
        """Return what is left, sorted by (datetime, id), and what was dropped, by id."""
        items, doubles = without_duplicates(self.kept.values())
        for one in doubles:
            self.drop(one.id, one.reason, superseded=one.superseded)
        dropped = sorted(set(self.dropped), key=lambda one: (one.id, one.reason))
        return tuple(items), tuple(dropped)


def _meets(item: Item, span: Span | None, max_cloud: float, reach: shapely.Geometry) -> bool:
    if span is not None:
        first, last = item.interval
        if last.date() < span[0] or first.date() > span[1]:
            return False
    cloud = item.cloud_cover
    # "not <=" would drop NaN; an item that tells no cloud cover passes
    return not (cloud is not None and cloud > max_cloud) and bool(
        shapely.intersects(reach, item.footprint)
    )


def pruned(item: Item, locate: Callable[[str], str] = str) -> Item:
    """Return a copy with the assets of known bands alone, their hrefs absolute and unsigned.

    A catalog's item brings two dozen assets and links; nothing but bands is ever read, and what
    is not there can neither leak a token nor be opened by mistake.
    """
    assets: dict[str, Any] = {}
    for band in COMMON_NAMES:
        key = item.asset_key(band)
        href = item.href(band)
        if key is not None and href:
            assets[key] = {**item.assets[key], "href": unsigned(locate(href))}
    links = [
        {"rel": "self", "href": unsigned(str(link["href"]))}
        for link in item.raw.get("links") or ()
        if isinstance(link, dict) and link.get("rel") == "self" and "href" in link
    ]
    raw = {**item.raw, "assets": assets, "links": links[:1]}
    raw["properties"] = {k: v for k, v in item.properties.items() if k != "msft:expiry"}
    if depth(raw) > MAX_DEPTH:  # copying and writing it would end the run, not the item
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    json.dumps(raw, allow_nan=False)  # refuses NaN and Infinity, which items.json could not hold
    return Item(raw)


def _check(item: Item, allowed: Allowed) -> None:
    """Raise for an item that a later step could not read."""
    if not isinstance(item.raw.get("id"), str) or not 0 < len(item.id) <= MAX_ID:
        raise ValueError(f"its id is no text of 1 to {MAX_ID} characters")
    item.id.encode()  # half a surrogate pair is JSON, but no file takes it
    missing = [band for band in REQUIRED if not item.href(band)]
    if missing:
        raise ValueError(f"has no asset for {', '.join(missing)}")
    _ = item.footprint, item.granule
    for moment in item.interval:
        if not YEARS[0] <= moment.year <= YEARS[1]:
            raise ValueError(f"its year is {moment.year}")
    if not _is_crs(item.epsg):
        raise ValueError(f"EPSG:{item.epsg} is no CRS")
    for told in (item.properties, *item.assets.values()):
        _check_grid(told)
    for asset in item.assets.values():
        check_href(item.id, asset["href"], allowed)


def _check_grid(told: dict[str, Any]) -> None:
    """Raise where ``proj:`` tells a grid that is none: the engines work with what it says."""
    for name, sizes in GRID.items():
        value = told.get(name)
        listed = isinstance(value, list) and len(value) in sizes and all(map(_is_number, value))
        if value is not None and not listed:
            raise ValueError(f"{name} is not {sizes[0]} numbers")
    if any(v != int(v) or v < 1 for v in told.get("proj:shape") or ()):
        raise ValueError("proj:shape is not two whole numbers above 0")
    if transform := told.get("proj:transform"):
        a, b, _, d, e, _ = transform[:6]
        if a * e == b * d:
            raise ValueError("proj:transform has pixels without area")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9  # type: ignore[arg-type]


@lru_cache(maxsize=256)
def _is_crs(epsg: int) -> bool:
    try:
        return CRS.from_epsg(epsg) is not None
    except (CRSError, OverflowError):
        return False


def without_duplicates(items: Iterable[Item]) -> tuple[list[Item], list[Dropped]]:
    """Keep one of each pass over a granule: the highest baseline, then the latest processing.

    Items of one granule, platform and orbit sensed within a minute are one pass. Both are kept
    when their footprints differ: a pass taken down by two stations is cut in two halves.
    """
    kept: list[Item] = []
    dropped: list[Dropped] = []
    passes: dict[tuple[str, ...], list[Item]] = {}
    for item in sorted(items, key=_rank, reverse=True):
        place = _pass(item)
        better = next((k for k in passes.get(place, ()) if _same(k, item)), None) if place else None
        if better is not None:
            dropped.append(
                Dropped(
                    item.id,
                    f"item {item.id}: the same pass as {better.id}, which is processed later "
                    f"(baseline {better.baseline} against {item.baseline})",
                    superseded=True,
                )
            )
            continue
        kept.append(item)
        if place:
            passes.setdefault(place, []).append(item)
    return sorted(kept, key=lambda item: (item.datetime, item.id)), dropped


def _pass(item: Item) -> tuple[str, ...] | None:
    granule = item.granule
    if granule is None:
        return None
    properties = item.properties
    platform = str(properties.get("platform", "")).lower()
    return granule, platform, str(properties.get("sat:relative_orbit", ""))


def _same(one: Item, other: Item) -> bool:
    if abs((one.datetime - other.datetime).total_seconds()) >= SAME_PASS_S:
        return False
    union = shapely.union(one.footprint, other.footprint).area
    shared = shapely.intersection(one.footprint, other.footprint).area
    return bool(shared >= SAME_SHARE * union)


def _rank_and_text(item: Item) -> tuple[Any, str]:
    return _rank(item), json.dumps(item.raw, sort_keys=True)


def _rank(item: Item) -> tuple[tuple[int, ...], str, str]:
    """Sort key: processing baseline, processing time, id."""
    told = item.baseline or ""
    numbers = re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})*", told)
    baseline = tuple(int(part) for part in told.split(".")) if numbers else ()
    properties = item.properties
    made = properties.get("s2:generation_time") or properties.get("created") or ""
    return baseline, str(made), item.id


def one_line(text: str, size: int) -> str:
    """Return ``text`` as one line of printable characters, at most ``size`` of them."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())[:size]
