"""A STAC API on loopback: stac-fastapi with its items in a list.

It searches by collection, area, dates and cloud cover, pages with next links (POST and GET), and
misbehaves on demand: failing pages, wrong counts, endless, empty or overlapping pages.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import attr
import shapely
import shapely.geometry
from fastapi import HTTPException
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import create_get_request_model, create_post_request_model
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import BaseCoreClient

from tests.servers import Served

Raw = dict[str, Any]


@dataclass
class Behaviour:
    """What the API does besides answering; tests change it while it runs."""

    page_items: int = 10
    """Items a page, at most, whatever the client asks for."""
    tells_matched: bool = True
    matched_lie: int = 0
    """Added to the number of matches told."""
    failures: dict[int, list[tuple[int, dict[str, str]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Page number (from 1) -> (status, headers) to answer with, one a request, first to last."""
    endless: bool = False
    """Each page, the last too, leads to the first one again."""
    empty_pages: set[int] = field(default_factory=set)
    """Pages that bring no item but lead on."""
    overlap: int = 0
    """Items that each page but the first repeats from the one before, as when scenes come in while
    a client pages."""
    next_host: str | None = None
    """Host put into next links."""
    ignores_dates_and_cloud: bool = False
    post: bool = True
    """Offers search by POST too."""
    requests: list[Raw] = field(default_factory=list)
    """What was asked: method, page, and the parameters given."""

    def fail(
        self, page: int, status: int, times: int = 1, headers: dict[str, str] | None = None
    ) -> None:
        """Answer the next ``times`` requests for a page with an error; 200 lets one pass."""
        self.failures[page] += [(status, headers or {})] * times


@attr.s
class _Client(BaseCoreClient):
    items: list[Raw] = attr.ib(kw_only=True)
    behaviour: Behaviour = attr.ib(kw_only=True)

    def landing_page(self, **kwargs: Any) -> Any:
        page = super().landing_page(**kwargs)
        if not self.behaviour.post:
            page["links"] = [link for link in page["links"] if link.get("method") != "POST"]
        return page

    def post_search(self, search_request: Any, **kwargs: Any) -> Any:
        asked = search_request.model_dump(mode="json", exclude_none=True)
        return self._search("POST", asked, str(kwargs["request"].url))

    def get_search(self, **kwargs: Any) -> Any:
        request = kwargs.pop("request")
        asked = {k: v for k, v in kwargs.items() if v is not None}
        if "query" in asked:
            asked["query"] = json.loads(asked["query"])
        return self._search("GET", asked, str(request.url))

    def _search(self, method: str, asked: Raw, url: str) -> Raw:
        how = self.behaviour
        start = int(asked.get("token") or 0)
        number = start // how.page_items + 1
        how.requests.append({"method": method, "page": number, **asked})
        if how.failures[number]:
            status, headers = how.failures[number].pop(0)
            if status != 200:
                raise HTTPException(status_code=status, detail="on demand", headers=headers)
        found = [item for item in self.items if self._matches(item, asked)]
        size = min(how.page_items, int(asked.get("limit") or 10))
        first, end = max(0, start - how.overlap), start + size
        page: Raw = {
            "type": "FeatureCollection",
            "features": [] if number in how.empty_pages else found[first:end],
            "links": [],
        }
        if how.tells_matched:
            page["numberMatched"] = len(found) + how.matched_lie
        if end < len(found) or how.endless:
            token = str(end if end < len(found) else 0)
            page["links"].append(self._next(method, asked, url, token))
        return page

    def _matches(self, item: Raw, asked: Raw) -> bool:
        properties = item["properties"]
        if asked.get("collections") and item.get("collection") not in asked["collections"]:
            return False
        footprint = shapely.geometry.shape(item["geometry"])
        area = asked.get("intersects")
        area = shapely.geometry.shape(area) if area else None
        area = shapely.box(*asked["bbox"]) if asked.get("bbox") else area
        if area is not None and not area.intersects(footprint):
            return False
        if self.behaviour.ignores_dates_and_cloud:
            return True
        if interval := asked.get("datetime"):
            low, high = (_moment(part) for part in str(interval).split("/"))
            if not low <= _moment(properties["datetime"]) <= high:
                return False
        for name, test in (asked.get("query") or {}).items():
            if not (name in properties and properties[name] <= test["lte"]):
                return False
        return True

    def _next(self, method: str, asked: Raw, url: str, token: str) -> Raw:
        link: Raw = {"rel": "next", "type": "application/geo+json", "method": method}
        if method == "POST":
            link |= {"href": url, "body": {"token": token}, "merge": True}
        else:
            base, _, query = url.partition("?")
            rest = [part for part in query.split("&") if part and not part.startswith("token=")]
            link["href"] = f"{base}?{'&'.join([*rest, f'token={token}'])}"
        if self.behaviour.next_host:
            link["href"] = link["href"].replace("127.0.0.1", self.behaviour.next_host)
        return link

    def all_collections(self, **kwargs: Any) -> Any:
        return {"collections": [], "links": []}

    def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        raise HTTPException(status_code=404)

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        raise HTTPException(status_code=404)

    def item_collection(self, collection_id: str, **kwargs: Any) -> Any:
        raise HTTPException(status_code=404)


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


class StacServer(Served):
    """The API, running; ``behaviour`` may be changed at any time."""

    def __init__(self, items: list[Raw], *, query: bool = True, **behaviour: Any) -> None:
        self.items = items
        self.behaviour = Behaviour(**behaviour)
        extensions = [TokenPaginationExtension(), *([QueryExtension()] if query else [])]
        post_model = create_post_request_model(extensions)
        api = StacApi(
            settings=ApiSettings(
                stac_fastapi_title="stand-in",
                stac_fastapi_description="stand-in",
                stac_fastapi_landing_id="stand-in",
                stac_fastapi_version="1",
            ),
            client=_Client(items=items, behaviour=self.behaviour, extensions=extensions),
            extensions=extensions,
            search_get_request_model=create_get_request_model(extensions),
            search_post_request_model=post_model,
        )
        super().__init__(api.app)
