"""Asking a STAC API: every page, or an error; never a part taken for all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import shapely
import shapely.geometry
from pystac.link import Link
from pystac_client import Client
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning
from requests import Request

from scanner.errors import CatalogError
from scanner.imagery.choose import Span, one_line
from scanner.imagery.hrefs import strip_secrets
from scanner.imagery.signing import TIMEOUT_S, retry_policy

RETRIES: Final = 6
"""Tries after the first, of a request that was answered 429, 502, 503 or 504."""

BACKOFF_S: float = 0.5
"""First pause; it doubles with each retry."""

PAGE_ITEMS: Final = 100
"""Items asked for a page: larger pages end in 502 on some servers."""

MAX_ITEMS: Final = 50_000
"""Items from which a search is refused: the whole Amazon has about that many in half a year."""

MAX_PAGES: Final = 5_000
"""Pages from which paging is taken to be endless."""

MAX_VERTICES: Final = 300
"""Corners of the outline sent; servers limit the size of a request."""


class StacSearch:
    """One collection of one API over one area (a geometry in EPSG:4326)."""

    def __init__(self, url: str, collection: str, reach: Any) -> None:
        self.url = url
        self.collection = collection
        self.area = superset(reach)
        self._io = _PageIO(url)
        self._client: Client | None = None

    def items(self, span: Span, max_cloud: float) -> Iterator[dict[str, Any]]:
        """Yield the raw JSON of all items; ``CatalogError`` if any page fails or items lack."""
        seen: set[str] = set()
        for number, page in enumerate(self._pages(span, max_cloud, PAGE_ITEMS), start=1):
            before = len(seen)
            for raw in page["features"]:
                seen.add(str(raw.get("id")) if isinstance(raw, dict) else f"?{len(seen)}")
                yield raw
            if max(len(seen), self._io.matched or 0) > MAX_ITEMS:
                raise CatalogError(
                    f"{self._name}: more than {MAX_ITEMS} items; take a shorter --date, a lower "
                    "--max-cloud, or cut the area into parts"
                )
            if number > MAX_PAGES or (page["features"] and len(seen) == before):
                raise CatalogError(
                    f"{self._name}: page {number} brings nothing new, its paging has no end; "
                    "tell the catalog's maintainers, or use another --catalog"
                )
        if self._io.matched is not None and len(seen) < self._io.matched:
            raise CatalogError(
                f"{self._name}: says {self._io.matched} items match but sent {len(seen)}; "
                "run it again"
            )

    def count(self, span: Span | None, max_cloud: float) -> int | None:
        """Return how many items match (at least), ``None`` if the catalog does not answer."""
        try:
            for page in self._pages(span, max_cloud, 1):
                return _matched(page) or len(page["features"])
        except CatalogError:
            return None
        return 0

    @property
    def _name(self) -> str:
        return f"{strip_secrets(self.url)} ({self.collection})"

    def _pages(self, span: Span | None, max_cloud: float, limit: int) -> Iterator[dict[str, Any]]:
        """Yield pages; whatever fails below, in foreign code on foreign text, is one error."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PystacClientWarning)
                client = self._open()
                parameters = self._parameters(client, span, max_cloud)
                search = client.search(limit=limit, **parameters)
            yield from search.pages_as_dicts()
        except CatalogError:
            raise
        except Exception as error:
            text = one_line(strip_secrets(str(error)) or repr(error), 300)
            raise CatalogError(
                f"{self._name}: the search was not answered completely ({text}); try again "
                "later, or use another --catalog"
            ) from error

    def _open(self) -> Client:
        if self._client is None:
            io = self._io
            client = Client.open(
                self.url, stac_io=io, timeout=TIMEOUT_S, request_modifier=io.same_host
            )
            if not client.conforms_to("ITEM_SEARCH"):
                raise CatalogError(
                    f"{strip_secrets(self.url)}: has no item search; give the root of a STAC API "
                    "(its page lists conformsTo), or an ItemCollection file"
                )
            self._client = client
        return self._client

    def _parameters(self, client: Client, span: Span | None, max_cloud: float) -> dict[str, Any]:
        asked: dict[str, Any] = {"collections": [self.collection], "method": "POST"}
        if span is not None:
            asked["datetime"] = f"{span[0]}T00:00:00Z/{span[1]}T23:59:59Z"
        if max_cloud < 100 and client.conforms_to("QUERY"):
            asked["query"] = {"eo:cloud_cover": {"lte": max_cloud}}
        methods = {link.extra_fields.get("method") for link in client.get_links("search")}
        if methods and "POST" not in methods and methods != {None}:
            return asked | {"method": "GET", "bbox": self.area.bounds}
        return asked | {"intersects": shapely.geometry.mapping(self.area)}


class _PageIO(StacApiIO):
    """pystac-client's reader, with retries, page checks, and the API's own host alone.

    The library ends a search silently at a page without items, and follows a next link anywhere.
    """

    def __init__(self, url: str) -> None:
        super().__init__(max_retries=retry_policy(RETRIES, BACKOFF_S), timeout=TIMEOUT_S)
        self._host = urlsplit(url).hostname
        self.matched: int | None = None

    def same_host(self, request: Request) -> None:
        """Refuse a request to any host but the API's (a link in its answer led there)."""
        host = urlsplit(str(request.url)).hostname
        if host != self._host:
            raise CatalogError(f"a link leads to {host}, another host than {self._host}")

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the pages of a search; ``ValueError`` for one that is no FeatureCollection."""
        page = _checked(self.read_json(url, method=method, parameters=parameters))
        for number in range(MAX_PAGES + 1):
            if number == 0:
                self.matched = _matched(page)
            if page["features"]:
                yield page
            links = page.get("links") or []
            following = next((link for link in links if link.get("rel") == "next"), None)
            if following is None:
                return
            page = _checked(
                self.read_json(Link.from_dict(following), parameters=parameters), number + 2
            )
        raise ValueError(f"no end after {MAX_PAGES} pages")


def _checked(page: Any, number: int = 1) -> dict[str, Any]:
    if not isinstance(page, dict) or not isinstance(page.get("features"), list):
        raise ValueError(f"page {number} is no FeatureCollection")
    return page


def _matched(page: dict[str, Any]) -> int | None:
    """Return how many items match in all, where the API tells it."""
    context = page.get("context")
    told = page.get("numberMatched", context.get("matched") if isinstance(context, dict) else None)
    return told if isinstance(told, int) else None


def superset(area: Any) -> Any:
    """Return a geometry of few corners that holds ``area``: widened, then simplified by as much."""
    step = 0.01
    outline = area
    while shapely.get_num_coordinates(outline) > MAX_VERTICES:
        outline = area.buffer(step, quad_segs=2).simplify(step)
        step *= 2
        if step > 2:
            return (
                area.convex_hull if len(area.convex_hull.exterior.coords) < 200 else area.envelope
            )
    return outline
