"""Fixtures that start the stand-in servers and end them with the test.

A test module takes them with ``pytest_plugins = ["tests.servers.fixtures"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Served
from tests.servers.range_server import RangeServer
from tests.servers.stac_api import StacServer
from tests.servers.tokens import Mint, TokenServer

ServeStac = Callable[..., StacServer]
ServeFiles = Callable[..., RangeServer]
ServeTokens = Callable[..., TokenServer]


@pytest.fixture
def running() -> Iterator[list[Served]]:
    """Servers to be stopped when the test ends."""
    servers: list[Served] = []
    yield servers
    for server in reversed(servers):
        server.stop()


@pytest.fixture
def serve_stac(running: list[Served]) -> ServeStac:
    """Start a STAC API: ``serve_stac(items, query=True, page_items=10, ...)``."""

    def start(items: list[dict[str, Any]], **options: Any) -> StacServer:
        server = StacServer(items, **options)
        running.append(server)
        return server

    return start


@pytest.fixture
def serve_files(running: list[Served]) -> ServeFiles:
    """Start a file host: ``serve_files(folder, mint=None, latency_s=0)``."""

    def start(folder: Path, **options: Any) -> RangeServer:
        server = RangeServer(folder, **options)
        running.append(server)
        return server

    return start


@pytest.fixture
def serve_tokens(running: list[Served]) -> ServeTokens:
    """Start a token endpoint: ``serve_tokens(mint=None)``."""

    def start(mint: Mint | None = None) -> TokenServer:
        server = TokenServer(mint)
        running.append(server)
        return server

    return start
