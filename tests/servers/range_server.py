"""A host of files that answers range requests, may ask for tokens, and fails on demand."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.servers import AsgiApp, Served
from tests.servers.tokens import Mint

Mode = Literal["status", "html", "short", "zeroed", "corrupt", "stall", "drip", "reset"]

PASSING: tuple[Mode, ...] = ("status", "stall", "drip", "reset")
"""Modes that tell themselves apart from pixels, so that GDAL's own retries meet them."""

HEADER_BYTES = 16384
"""What GDAL asks for first; the header of a COG lies in it."""


class Strikes(Protocol):
    """Decides which requests go wrong, and how."""

    mode: Mode
    status: int

    def strikes(self, path: str, span: str | None) -> bool:
        """Tell whether a request for a range of ``path`` is hit, and count it."""


@dataclass
class Fault:
    """What goes wrong for paths that hold ``part``: ``times`` more requests (``None``: always)."""

    part: str
    mode: Mode = "status"
    status: int = 503
    times: int | None = 1
    hits: int = 0
    """Requests hit so far."""

    def strikes(self, path: str, span: str | None) -> bool:
        """Tell whether this request is hit, and count it."""
        if self.part not in path or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        self.hits += 1
        return True


@dataclass
class Weather:
    """Hits a ``share`` of the requests with a random mode of ``modes``.

    What happens to the n-th request for a range of a path depends on ``seed`` alone, not on the
    order in which workers ask; and a path is never hit more than ``at_most`` times in a row.
    """

    share: float
    modes: Sequence[Mode]
    seed: int
    part: str = ""
    at_most: int = 3
    statuses: Sequence[int] = (429, 500, 502, 503, 504)
    mode: Mode = "status"
    status: int = 503
    hits: Counter[str] = field(default_factory=Counter)
    """Requests hit so far, by mode."""
    _asked: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    _row: Counter[str] = field(default_factory=Counter)

    def strikes(self, path: str, span: str | None) -> bool:
        """Draw for this request; what was drawn stands in ``mode`` and ``status``."""
        if self.part not in path:
            return False
        self._asked[path, span] += 1
        draw = random.Random(f"{self.seed} {path} {span} {self._asked[path, span]}")
        if draw.random() >= self.share or self._row[path] >= self.at_most:
            self._row[path] = 0
            return False
        self._row[path] += 1
        self.mode, self.status = draw.choice(list(self.modes)), draw.choice(list(self.statuses))
        self.hits[self.mode] += 1
        return True


@dataclass
class Overload:
    """Answers ``status`` while more than ``above`` requests are being answered at once, or until
    nobody has asked for ``peace_s``: a host that recovers when it is left alone, and not before.
    """

    server: RangeServer
    status: int = 503
    peace_s: float = 0.0
    above: int | None = None
    mode: Mode = "status"
    hits: int = 0
    """Requests hit so far."""
    _last: float = math.inf
    _well: bool = False

    def strikes(self, path: str, span: str | None) -> bool:
        """Tell whether the host has too much to do now, and count it."""
        now = time.monotonic()
        self._well |= now - self._last >= self.peace_s
        self._last = now
        crowded = self.above is not None and self.server.at_once > self.above
        hit = crowded or (self.peace_s > 0 and not self._well)
        self.hits += hit
        return hit


@dataclass(frozen=True)
class Seen:
    """One request that came in."""

    method: str
    path: str
    query: str
    range: str | None
    status: int


class RangeServer(Served):
    """Serves the files below ``folder`` at ``url``/<their path>.

    With a ``mint``, requests without one of its living tokens get 403. ``latency_s`` is waited
    before each answer. ``stall_s`` is how long a stalled answer takes, ``drip_s`` the pause between
    two bytes of a dripping one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mint: Mint | None = None,
        latency_s: float = 0.0,
        stall_s: float = 60.0,
        drip_s: float = 0.2,
    ) -> None:
        self.folder = folder.resolve()
        self.mint = mint
        self.latency_s = latency_s
        self.stall_s = stall_s
        self.drip_s = drip_s
        self.faults: list[Strikes] = []
        self.seen: list[Seen] = []
        self.at_once = 0
        """Requests being answered now; sending the answer is not counted."""
        self.most_at_once = 0
        routes = [Route("/{path:path}", self._answer, methods=["GET", "HEAD"])]
        super().__init__(_with_transport(Starlette(routes=routes)))

    def fail(
        self, part: str, mode: Mode = "status", status: int = 503, times: int | None = 1
    ) -> Fault:
        """Make requests fail whose path holds ``part``; returns the fault, to be taken back.

        ``short`` cuts a body in two, ``zeroed`` blanks it, ``corrupt`` flips bytes of it behind the
        first 16 KiB (a file opens, its blocks are broken), ``html`` is a log-in page with 200,
        ``stall`` waits ``stall_s`` before the answer, ``drip`` sends a byte every ``drip_s``,
        ``reset`` breaks the connection in the middle of the body. Bodies are spoilt; HEAD is
        answered well but for ``status``, ``html``, ``stall`` and ``reset``.
        """
        fault = Fault(part, mode, status, times)
        self.faults.append(fault)
        return fault

    def weather(
        self, share: float, modes: Sequence[Mode], seed: int = 0, part: str = "", at_most: int = 3
    ) -> Weather:
        """Hit a share of all requests (whose path holds ``part``) at random, always the same way.

        For a soak; keep ``stall_s`` short then. Take it back with ``share = 0``.
        """
        fault = Weather(share, modes, seed, part, at_most)
        self.faults.append(fault)
        return fault

    def overload(
        self, *, peace_s: float = 0.0, above: int | None = None, status: int = 503
    ) -> Overload:
        """Be overloaded until nobody asks for ``peace_s``, or by more requests at once."""
        fault = Overload(self, status, peace_s, above)
        self.faults.append(fault)
        return fault

    def statuses(self, part: str = "") -> list[int]:
        """Return what paths holding ``part`` were answered with."""
        return [one.status for one in list(self.seen) if part in one.path]

    async def _answer(self, request: Request) -> Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            response = await self._choose(request)
        finally:
            self.at_once -= 1
        self.seen.append(
            Seen(
                request.method,
                request.url.path,
                request.url.query,
                request.headers.get("range"),
                response.status_code,
            )
        )
        return response

    async def _choose(self, request: Request) -> Response:
        if self.mint is not None and not self.mint.accepts(request.url.query):
            return PlainTextResponse("AuthenticationFailed", status_code=403)
        path = (self.folder / request.path_params["path"]).resolve()
        if not path.is_relative_to(self.folder) or not path.is_file():
            return PlainTextResponse("no such file", status_code=404)
        for fault in self.faults:
            if fault.strikes(request.url.path, request.headers.get("range")):
                return await self._fail(fault.mode, fault.status, path, request)
        return FileResponse(path, media_type="image/tiff")

    async def _fail(self, mode: Mode, status: int, path: Path, request: Request) -> Response:
        if mode == "status":
            return PlainTextResponse("on demand", status_code=status)
        if mode == "html":
            return Response(b"<html>please log in</html>" * 20, media_type="text/html")
        if mode == "stall":
            await asyncio.sleep(self.stall_s)
        if mode == "stall" or (request.method == "HEAD" and mode != "reset"):
            return FileResponse(path, media_type="image/tiff")
        data = path.read_bytes()
        start, end = _range(request.headers.get("range"), len(data))
        body = _spoilt(data[start:end], mode, start)
        headers = {"content-range": f"bytes {start}-{start + len(body) - 1}/{len(data)}"}
        if mode in ("drip", "reset"):
            headers["content-length"] = str(len(body))
            sent = self._drops(body) if mode == "drip" else _broken_off(body, request)
            return StreamingResponse(sent, 206, headers=headers, media_type="image/tiff")
        return Response(body, status_code=206, headers=headers, media_type="image/tiff")

    async def _drops(self, body: bytes) -> AsyncIterator[bytes]:
        for index in range(len(body)):
            yield body[index : index + 1]
            await asyncio.sleep(self.drip_s)


def _spoilt(body: bytes, mode: Mode, start: int) -> bytes:
    if mode == "zeroed":
        return bytes(len(body))
    if mode == "short":
        return body[: len(body) // 2]
    if mode == "corrupt":
        flipped, sound = bytearray(body), max(0, HEADER_BYTES - start)
        flipped[sound::7] = bytes(byte ^ 0xFF for byte in flipped[sound::7])
        return bytes(flipped)
    return body


async def _broken_off(body: bytes, request: Request) -> AsyncIterator[bytes]:
    """Send half of a body, then reset the connection (RST, not an orderly end)."""
    yield body[: len(body) // 2]
    transport = request.scope["transport"]
    link = transport.get_extra_info("socket")
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _with_transport(app: AsgiApp) -> AsgiApp:
    """Tell an app the connection it answers on, which ASGI does not."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        scope["transport"] = send.__self__.transport
        await app(scope, receive, send)

    return wrapped


def _range(header: str | None, size: int) -> tuple[int, int]:
    """Return (first, after last) byte of a single range."""
    if not header:
        return 0, size
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(first), min(int(last) + 1 if last else size, size)
