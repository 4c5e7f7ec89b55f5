"""A token endpoint in the Planetary Computer's form, and the mint that a file host asks."""

from __future__ import annotations

import datetime as dt
import secrets
from collections import Counter
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.servers import Served


class Mint:
    """Issues tokens and knows which of them are good; tests end them with :meth:`revoke`.

    ``lifetime_s`` is what a token says of itself and, by this machine's clock, how long it lasts;
    with ``uses``, it ends after that many requests already.
    """

    def __init__(self, lifetime_s: float = 3600, uses: int | None = None) -> None:
        self.lifetime_s = lifetime_s
        self.uses = uses
        self.issued: list[str] = []
        """Containers that a token was asked for, in order."""
        self._good: dict[str, dt.datetime] = {}
        self._used: Counter[str] = Counter()

    def issue(self, container: str) -> tuple[str, dt.datetime]:
        """Return a new token (a query string) and its end."""
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.lifetime_s)
        signature = secrets.token_hex(8)
        self._good[signature] = end
        self.issued.append(container)
        return f"se={end:%Y-%m-%dT%H:%M:%SZ}&sp=rl&sig={signature}", end

    def accepts(self, query: str) -> bool:
        """Tell whether a query holds a token that has not ended, and count its use."""
        signature = (parse_qs(query).get("sig") or [""])[0]
        end = self._good.get(signature)
        self._used[signature] += 1
        if self.uses is not None and self._used[signature] > self.uses:
            return False
        return end is not None and dt.datetime.now(dt.UTC) < end

    def revoke(self) -> None:
        """End every token issued so far, as if its time were over."""
        self._good.clear()


class TokenServer(Served):
    """``GET /token/{account}/{container}`` or ``/token/{container}``."""

    def __init__(self, mint: Mint | None = None) -> None:
        self.mint = mint or Mint()
        self.failures: list[int] = []
        """Statuses to answer with, one a request, before tokens are given."""
        routes = [
            Route("/token/{container}", self._token),
            Route("/token/{account}/{container}", self._token),
        ]
        super().__init__(Starlette(routes=routes))

    def _token(self, request: Request) -> Response:
        if self.failures:
            return JSONResponse({"detail": "on demand"}, status_code=self.failures.pop(0))
        token, end = self.mint.issue(request.path_params["container"])
        return JSONResponse({"token": token, "msft:expiry": f"{end:%Y-%m-%dT%H:%M:%SZ}"})
