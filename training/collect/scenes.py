"""Which items show a place: one search for all places that share tiles, at a polite pace.

Places are asked for in groups that lie in one tile of the scan's grid, so the catalog is asked
far less often than there are chips, and the items found are those a scan of that tile would find.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import shapely

from scanner.area.aoi import Aoi
from scanner.area.grid import TILE_M, Zone, from_geographic
from scanner.config import SearchConfig
from scanner.errors import CatalogError
from scanner.imagery.catalog import search_items
from scanner.imagery.hrefs import api_url, strip_secrets
from scanner.imagery.item import Item
from training.collect.places import Place
from training.collect.settings import ChipConfig
from training.collect.window import window_at

GROUP: Final = 200
"""Places asked for at once, at most: it bounds the outline that is sent."""

GIVE_UP: Final = 3
"""Searches that fail one after the other before the catalog is taken to be down."""


@dataclass
class Pacer:
    """Keeps ``wait`` seconds between one request and the next."""

    wait: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _next: float = float("-inf")

    def pace(self) -> None:
        """Return when the next request may be sent."""
        if (left := self._next - self.clock()) > 0:
            self.sleep(left)
        self._next = self.clock() + self.wait


class Scenes:
    """Searches a catalog for places.

    Args:
        search: which items of which catalog.
        chip: how large the ground around a place is.
        out: the chip folder, where the demo makes its scenes.
        pacer: keeps the pace, where the catalog is an API; files are read as they are.
    """

    def __init__(self, search: SearchConfig, chip: ChipConfig, out: Path, pacer: Pacer) -> None:
        self._search, self._chip, self._out, self._pacer = search, chip, out, pacer
        self._remote = api_url(search) is not None

    def of(self, places: Sequence[Place]) -> Iterator[tuple[Place, tuple[Item, ...], str]]:
        """Yield each place with the items around it and, where there are none, why.

        A search that fails fails the places of its group; ``CatalogError`` is raised when it was
        the third in a row.
        """
        failed = 0
        for _, group in groupby(sorted(places, key=_tile_of), key=_tile_of):
            members = list(group)
            for start in range(0, len(members), GROUP):
                part = members[start : start + GROUP]
                try:
                    items, why = self._ask(part)
                    failed = 0
                except CatalogError as error:
                    failed += 1
                    if failed == GIVE_UP:
                        raise
                    items, why = (), str(error)
                for place in part:
                    yield place, items, why

    def _ask(self, places: Sequence[Place]) -> tuple[tuple[Item, ...], str]:
        if self._remote:
            self._pacer.pace()
        squares = [window_at(p.lon, p.lat, self._chip).footprint for p in places]
        ground: Any = shapely.union_all(squares)
        found = search_items(Aoi("chips", ground), self._search, self._out)
        name = strip_secrets(self._search.catalog)
        return found.items, found.advice or f"{name}: no scene over it in {found.date}"


def _tile_of(place: Place) -> tuple[int, int, int]:
    """Return zone and position of the tile that holds a place, the key of its group."""
    zone = Zone(int((place.lon + 180) // 6) % 60 + 1, south=place.lat < 0)
    col, row = zone.locate(*from_geographic(zone.epsg, place.lon, place.lat), TILE_M)
    return zone.epsg, int(row), int(col)
