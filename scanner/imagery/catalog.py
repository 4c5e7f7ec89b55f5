"""Which scenes exist: the Planetary Computer, Earth Search, any STAC API, a file, the demo.

:func:`search_items` returns all items or raises: half an answer would read as "no mine there".
An empty answer is none of both: it comes back with advice on what to widen.
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import shapely

from scanner.area.grid import Tile, tiles, to_geographic
from scanner.config import SearchConfig
from scanner.errors import ConfigError
from scanner.imagery.choose import Chooser, Span
from scanner.imagery.hrefs import absolute, allowed_for, api_url, strip_secrets
from scanner.imagery.item import Item
from scanner.imagery.snapshot import Dropped as Dropped
from scanner.imagery.snapshot import ItemSet as ItemSet
from scanner.imagery.snapshot import read_items as read_items
from scanner.imagery.snapshot import read_json
from scanner.imagery.snapshot import write_items as write_items

if TYPE_CHECKING:
    from scanner.area.aoi import Aoi

DEFAULT_COLLECTION: Final = "sentinel-2-l2a"
"""Collection asked of an API; Planetary Computer and Earth Search both name it so."""

DEFAULT_MONTHS: Final = 6
"""Months up to today that are searched where no date is given."""

WIDER_YEARS: Final = 2
"""Years before and after the dates in which an empty search looks for something to advise."""

_EVER: Final = (dt.date.min, dt.date.max)


def search_items(
    aoi: Aoi,
    search: SearchConfig,
    out: Path | None = None,
    ground: Sequence[Tile] | None = None,
) -> ItemSet:
    """Return every usable item whose footprint meets a tile of ``aoi``.

    Not the outline decides but its tiles with their halos: a tile's result must not depend on
    which AOI asked for it. ``out`` is the run folder; the demo makes its scenes in ``out/scenes``.
    ``ground`` are the tiles of ``aoi`` where they are known already (a river basin's take seconds).

    Raises ``ConfigError`` for a refused date, catalog or host, ``CatalogError`` where the catalog
    did not answer completely.
    """
    span = parse_dates(search.date) if search.date is not None else None
    url = api_url(search)
    reach = reach_of(tiles(aoi) if ground is None else ground)
    if url is not None:
        return _search_api(aoi, search, url, span or last_months(), reach)
    if search.catalog == "demo":
        from scanner.imagery.demo import make_scenes

        path = make_scenes((out or Path("runs") / "demo") / "scenes")
    else:
        path = Path(search.catalog)
    return _search_file(aoi, search, path, span, reach)


def _search_file(
    aoi: Aoi, search: SearchConfig, path: Path, span: Span | None, reach: Any
) -> ItemSet:
    """Filter the items of an ItemCollection file (or a single item's)."""
    document = read_json(path)
    features = document.get("features", [document] if document.get("type") == "Feature" else None)
    if not isinstance(features, list):
        raise ConfigError(f"{path}: holds no items; give an ItemCollection (FeatureCollection)")
    folder = path.resolve().parent
    wanted = [raw for raw in features if _of_collection(raw, search.collection)]

    allowed = allowed_for(search, folder)

    def choose(ground: Any, span: Span | None, cloud: float) -> Chooser:
        chooser = Chooser(ground, allowed, span, cloud)
        for raw in wanted:
            chooser.take(raw, lambda href: absolute(href, folder))
        return chooser

    return _answer(
        aoi,
        search,
        span,
        choose(reach, span, search.max_cloud),
        lambda wide, cloud: len(choose(aoi.geometry, wide, cloud).kept),
    )


def _of_collection(raw: object, collection: str | None) -> bool:
    return collection is None or (isinstance(raw, dict) and raw.get("collection") == collection)


def _search_api(aoi: Aoi, search: SearchConfig, url: str, span: Span, reach: Any) -> ItemSet:
    """Ask a STAC API, all pages of it."""
    from scanner.imagery.stac_api import StacSearch

    collection = search.collection or DEFAULT_COLLECTION
    chooser = Chooser(reach, allowed_for(search), span, search.max_cloud)
    for raw in StacSearch(url, collection, reach).items(span, search.max_cloud):
        chooser.take(raw, lambda href: absolute(href, None))
    return _answer(aoi, search, span, chooser, StacSearch(url, collection, aoi.geometry).count)


def _answer(
    aoi: Aoi,
    search: SearchConfig,
    span: Span | None,
    chooser: Chooser,
    count: Callable[[Span | None, float], int | None],
) -> ItemSet:
    items, dropped = chooser.result()
    if not any(shapely.intersects(aoi.geometry, item.footprint) for item in items):
        items = ()
    days = [item.datetime.date() for item in items]
    resolved = span or ((min(days), max(days)) if days else None)
    date = f"{resolved[0]}/{resolved[1]}" if resolved else "../.."
    advice = None if items else advise(search, span, dropped, count)
    return ItemSet(items, dropped, date, advice)


def advise(
    search: SearchConfig,
    span: Span | None,
    dropped: tuple[Dropped, ...],
    count: Callable[[Span | None, float], int | None],
) -> str:
    """Return one line telling which of dates, cloud limit and area left nothing over.

    ``count(span, cloud)`` tells how many items over the area a wider search would find, ``None``
    if unknown; those ``dropped`` may be among them.
    """
    known = len(dropped)
    name = strip_secrets(search.catalog)
    where = f"{name}: no usable item over the area{f' in {span[0]}/{span[1]}' if span else ''}"
    refused = f"; {known} refused, first {dropped[0].reason}" if dropped else ""
    if search.max_cloud < 100 and (count(span, 100) or 0) > known:
        return (
            f"{where} with cloud up to {search.max_cloud:g} %, but some with more: "
            f"raise --max-cloud, or widen --date{refused}"
        )
    wide = (_years(span[0], -WIDER_YEARS), _years(span[1], WIDER_YEARS)) if span else None
    if wide and (count(wide, 100) or 0) > known:
        cloud = "" if (count(wide, search.max_cloud) or 0) > known else " and raise --max-cloud"
        return f"{where}, but some in {wide[0]}/{wide[1]}: widen --date{cloud}{refused}"
    if refused:
        return f"{where}{refused}"
    return (
        f"{where}, nor near it in time: check the area (latitude and longitude swapped?), "
        "or choose another --catalog or --collection"
    )


def parse_dates(text: str) -> Span:
    """Return (first, last) day of ``START/END``, both included; ``ConfigError`` with the fix."""
    parts = text.split("/")
    fix = "give --date START/END, as in 2026-01-01/2026-06-30"
    if len(parts) != 2 or not all(parts) or ".." in parts:
        raise ConfigError(f"--date {text[:80]!r}: needs a first and a last day; {fix}")
    try:
        start, end = (dt.datetime.strptime(part, "%Y-%m-%d").date() for part in parts)
    except ValueError as error:
        raise ConfigError(f"--date {text[:80]!r}: {error}; {fix}") from error
    if start > end:
        raise ConfigError(f"--date {text}: ends before it starts; swap them: --date {end}/{start}")
    return start, end


def last_months(today: dt.date | None = None, months: int = DEFAULT_MONTHS) -> Span:
    """Return the last ``months`` months up to today (UTC)."""
    end = today or dt.datetime.now(dt.UTC).date()
    year, month = divmod(end.year * 12 + end.month - 1 - months, 12)
    day = min(end.day, calendar.monthrange(year, month + 1)[1])
    return dt.date(year, month + 1, day), end


def _years(day: dt.date, years: int) -> dt.date:
    """Return ``day`` some years later, kept inside what dates can hold."""
    year = min(max(day.year + years, _EVER[0].year), _EVER[1].year)
    return day.replace(year=year, day=min(day.day, calendar.monthrange(year, day.month)[1]))


def chunk_footprint(tile: Tile) -> shapely.Polygon:
    """Return core + halo of a tile as a polygon in EPSG:4326, with three points a side."""
    xmin, ymin, xmax, ymax = tile.bounds
    x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
    ring_x = np.array([xmin, x, xmax, xmax, xmax, x, xmin, xmin])
    ring_y = np.array([ymin, ymin, ymin, y, ymax, ymax, ymax, y])
    lon, lat = to_geographic(tile.epsg, ring_x, ring_y)
    return shapely.Polygon(np.column_stack((lon, lat)))


def reach_of(ground: Iterable[Tile]) -> Any:
    """Return the ground whose pixels may matter: all of these tiles with their halos."""
    return shapely.union_all([chunk_footprint(tile) for tile in ground])


class ItemIndex:
    """Items by where they have data: a tree of their footprints, built once for all tiles of a run.

    Asking each item for each tile would take the time of a river basin's items times its tiles.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = list(items)
        self._tree = shapely.STRtree([item.footprint for item in self._items])

    def of_tile(self, tile: Tile) -> list[Item]:
        """Return the items whose footprint meets the tile's chunk (core + halo), in their order."""
        places = self._tree.query(chunk_footprint(tile), predicate="intersects")
        return [self._items[place] for place in np.sort(places).tolist()]


def items_of_tile(items: Iterable[Item], tile: Tile) -> list[Item]:
    """Return the items of one tile; for many tiles of the same items keep an :class:`ItemIndex`."""
    return ItemIndex(items).of_tile(tile)
