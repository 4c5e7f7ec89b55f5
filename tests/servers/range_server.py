"""A host of files that answers range requests, may ask for tokens, and fails on demand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.servers import Served
from tests.servers.tokens import Mint

Mode = Literal["status", "html", "short", "zeroed", "stall"]


@dataclass
class Fault:
    """What goes wrong for paths that hold ``part``: ``times`` more requests (``None``: always)."""

    part: str
    mode: Mode = "status"
    status: int = 503
    times: int | None = 1

    def strikes(self, path: str) -> bool:
        """Tell whether this request is hit, and count it."""
        if self.part not in path or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


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
    before each answer.
    """

    def __init__(self, folder: Path, *, mint: Mint | None = None, latency_s: float = 0.0) -> None:
        self.folder = folder.resolve()
        self.mint = mint
        self.latency_s = latency_s
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        routes = [Route("/{path:path}", self._answer, methods=["GET", "HEAD"])]
        super().__init__(Starlette(routes=routes))

    def fail(
        self, part: str, mode: Mode = "status", status: int = 503, times: int | None = 1
    ) -> Fault:
        """Make requests fail whose path holds ``part``; returns the fault, to be taken back.

        ``short`` cuts a body in two, ``zeroed`` blanks it, ``html`` is a log-in page with 200,
        ``stall`` waits a minute before the answer; bodies are spoilt, HEAD is answered well.
        """
        fault = Fault(part, mode, status, times)
        self.faults.append(fault)
        return fault

    async def _answer(self, request: Request) -> Response:
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        response = await self._choose(request)
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
            if fault.strikes(request.url.path):
                return await self._fail(fault, path, request)
        return FileResponse(path, media_type="image/tiff")

    async def _fail(self, fault: Fault, path: Path, request: Request) -> Response:
        if fault.mode == "status":
            return PlainTextResponse("on demand", status_code=fault.status)
        if fault.mode == "html":
            return Response(b"<html>please log in</html>" * 20, media_type="text/html")
        if fault.mode == "stall":
            await asyncio.sleep(60)
        if request.method == "HEAD":
            return FileResponse(path, media_type="image/tiff")
        data = path.read_bytes()
        start, end = _range(request.headers.get("range"), len(data))
        part = data[start:end]
        part = bytes(len(part)) if fault.mode == "zeroed" else part[: len(part) // 2]
        headers = {"content-range": f"bytes {start}-{start + len(part) - 1}/{len(data)}"}
        return Response(part, status_code=206, headers=headers, media_type="image/tiff")


def _range(header: str | None, size: int) -> tuple[int, int]:
    """Return (first, after last) byte of a single range."""
    if not header:
        return 0, size
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(first), min(int(last) + 1 if last else size, size)
