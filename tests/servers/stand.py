"""The Planetary Computer's way on loopback: API, host of ranges and token endpoint over the demo.

A ``Stand`` is cheap (three servers on free ports), so a test takes one of its own: GDAL remembers
an address that failed, and the workers that tests share live on.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.servers.range_server import RangeServer
from tests.servers.stac_api import StacServer
from tests.servers.tokens import Mint, TokenServer

DATE = "2024-06-01/2024-08-31"
"""What the demo's scenes lie in."""


class Remembering(Mint):
    """Keeps every token it gave, so that a test can look for them where none may be."""

    def __init__(self, uses=None) -> None:
        super().__init__(uses=uses)
        self.tokens: list[str] = []

    def issue(self, container):
        token, end = super().issue(container)
        self.tokens.append(token)
        return token, end

    def found_in(self, text):
        """Return the signatures that stand in a text."""
        return [token for token in self.tokens if token.rpartition("sig=")[2] in text]


class Host(RangeServer):
    """Ends all tokens when paths holding ``ends`` are asked for, one after the other."""

    def __init__(self, folder: Path, mint: Mint, ends=()) -> None:
        self.ends = list(ends)
        super().__init__(folder, mint=mint)

    async def _choose(self, request):
        if self.ends and self.ends[0] in request.url.path:
            self.ends.pop(0)
            self.mint.revoke()
        return await super()._choose(request)


class Stand:
    """API, host and token endpoint over the demo's scenes, and the settings that lead there.

    Tokens end when paths holding ``ends`` are asked for, and each after ``uses`` requests.
    """

    def __init__(self, scenes: Path, ends=(), uses=None) -> None:
        self.mint = Remembering(uses)
        self.files = Host(scenes.parent.parent, self.mint, ends)
        self.tokens = TokenServer(self.mint)
        container = f"{self.files.url}/{scenes.parent.name}"
        items = [as_they_give(raw, container) for raw in json.loads(scenes.read_text())["features"]]
        self.api = StacServer(items, page_items=2)
        self.search = {
            "date": DATE,
            "token_url": f"{self.tokens.url}/token/{{container}}",
            "hosts": ["http://127.0.0.1"],
        }

    def stop(self):
        for server in (self.api, self.tokens, self.files):
            server.stop()


def as_they_give(raw, container):
    """Return a demo item as the Planetary Computer would give it: its hrefs, its other assets."""
    item = json.loads(json.dumps(raw))
    here = f"{container}/{item['id']}"
    for key, asset in item["assets"].items():
        asset["href"] = f"{here}/{key}.tif"
    properties = item["properties"]
    properties.pop("proj:code")
    preview = {"type": "image/png", "roles": ["overview"], "rel": "preview"}
    item["assets"] |= {
        "visual": {
            "href": f"{here}/TCI.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "eo:bands": [{"name": "B04"}, {"name": "B03"}, {"name": "B02"}],
        },
        "preview": {"href": f"{here}/preview.tif", "roles": ["thumbnail"]},
        "safe-manifest": {"href": f"{here}/manifest.safe", "type": "application/xml"},
        "tilejson": {"href": "https://elsewhere.example/tilejson.json?item=1", **preview},
        "rendered_preview": {"href": "https://elsewhere.example/preview.png?item=1", **preview},
    }
    return item
