"""From what a catalog returned to the items worth reading: checked, pruned, without duplicates.

Everything in a returned item is untrusted text. An item that cannot be used is never fatal: it is
dropped and named, so that the run's report can tell.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import shapely

from scanner.errors import ScannerError
from scanner.imagery.bands import COMMON_NAMES
from scanner.imagery.hrefs import Allowed, check_href, strip_secrets, unsigned
from scanner.imagery.item import Item
from scanner.imagery.snapshot import Dropped

REQUIRED: Final = ("B02", "B03", "B04")
"""Bands without which an item is of no use (the shipped models run on these alone)."""

SAME_PASS_S: Final = 60.0
"""Items of one granule and orbit sensed less than this apart are one pass, processed twice.

Catalogs round the sensing time differently; the satellite returns after ten days.
"""

SAME_SHARE: Final = 0.9
"""Footprints that share this part of their union show the same ground; below, both are kept."""

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
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            self.drop(item.id, f"item {item.id}: not a STAC item ({error!r})")
        else:
            self._keep(item)

    def _keep(self, item: Item) -> None:
        known = self.kept.get(item.id)
        if known is None:
            self.kept[item.id] = item
        elif known.raw != item.raw:
            self.drop(item.id, f"item {item.id}: listed twice and not alike; the first is taken")

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
    json.dumps(raw, allow_nan=False)  # refuses NaN and Infinity, which items.json could not hold
    return Item(raw)


def _check(item: Item, allowed: Allowed) -> None:
    """Raise for an item that a later step could not read."""
    if not isinstance(item.raw.get("id"), str) or not 0 < len(item.id) <= 300:
        raise ValueError("its id is no text of 1 to 300 characters")
    item.id.encode()  # half a surrogate pair is JSON, but no file takes it
    missing = [band for band in REQUIRED if not item.href(band)]
    if missing:
        raise ValueError(f"has no asset for {', '.join(missing)}")
    _ = item.epsg, item.datetime, item.footprint
    for asset in item.assets.values():
        check_href(item.id, asset["href"], allowed)


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


def _rank(item: Item) -> tuple[tuple[int, ...], str, str]:
    """Sort key: processing baseline, processing time, id."""
    digits = (item.baseline or "").split(".")
    baseline = tuple(int(part) for part in digits) if all(d.isdigit() for d in digits) else ()
    properties = item.properties
    made = properties.get("s2:generation_time") or properties.get("created") or ""
    return baseline, str(made), item.id


def one_line(text: str, size: int) -> str:
    """Return ``text`` as one line of printable characters, at most ``size`` of them."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())[:size]
