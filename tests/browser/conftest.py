"""A real browser, offline; what it complains of fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
Visit = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless; tests that need it are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install it")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium; make test-browser installs it")
    with sync_api.sync_playwright() as playwright:
        # no sandbox: in containers its user namespaces are refused; pages are our own files
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """``visit(path, width, height)`` opens a file and returns the page, scripts done.

    Without a network. At the end the test fails if the console showed an error, a script threw, a
    dialog opened, or anything but the file itself was asked for.
    """
    problems: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1440, height: int = 1000, fragment: str = "") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
            offline=True,
            has_touch=width < 500,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and problems.append(m.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append("a dialog opened"), dialog.dismiss()))
        page.on("request", lambda request: _note(request.url, path, problems))
        page.goto(path.resolve().as_uri() + fragment)
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(browser: Any, html: Path) -> Iterator[Any]:
    """The module's page ``html``, open; fails where it says, asks for or throws anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    opened = context.new_page()
    told: list[str] = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda r: told.append(r.url) if r.url.startswith("http") else None)
    opened.goto(html.as_uri())
    yield opened
    context.close()
    assert told == []


def _note(url: str, path: Path, problems: list[str]) -> None:
    own = path.resolve().as_uri()
    if not url.startswith("data:") and url.partition("#")[0] != own:
        problems.append(f"asked for {url}")
