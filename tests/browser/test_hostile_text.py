"""Every page of a run full of hostile text, in a real browser: shown as text, and nothing runs.

Names of areas, scenes and overlays, reasons and models carry fifteen attacks at once; each page is
opened, scrolled and clicked through with a network that would answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.results.audit import write_audit
from scanner.results.evidence import write_evidence
from scanner.results.finished import FinishedRun
from scanner.results.report import write_report
from tests.security.hostile_run import PIECES, hostile_run

HANDLERS = """() => [...document.querySelectorAll('*')].filter(node =>
    [...node.attributes].some(one => one.name.startsWith('on'))).length"""
ADDRESSES = """() => [...document.querySelectorAll('[href], [src], [action]')].map(node => new URL(
    node.href?.baseVal || node.href || node.src || node.action || 'x:', location).protocol)"""
FOREIGN = "iframe, object, embed, base, form, meta[http-equiv=refresh], link[rel=stylesheet], frame"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return hostile_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def pages(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every page there is, by its name."""
    out = tmp_path_factory.mktemp("pages")
    site = str(run.sites.detection_id[0])
    found = {"report": run.path / "report.html"}
    found["evidence"] = write_evidence(run, site, out / "evidence", lang="en") / "evidence.html"
    found["audit"] = write_audit(run, out / "audit", size=12, seed=1, lang="en")
    return found


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[[Path], Any]]:
    """``visit(path)`` opens a page online; at the end nothing may have run, asked or complained."""
    told: list[str] = []
    contexts = []

    def opened(path: Path) -> Any:
        context = browser.new_context(viewport={"width": 1300, "height": 900})
        contexts.append(context)
        context.route("**/*", lambda route: _answered(route, told))
        page = context.new_page()
        page.on("console", lambda m: told.append(m.text))  # a broken content policy is told here
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: (told.append("a dialog opened"), dialog.dismiss()))
        page.on("popup", lambda _: told.append("a window opened"))
        page.on("framenavigated", lambda frame: told.append(frame.url) if frame.parent_frame else 0)
        page.goto(path.as_uri())
        page.wait_for_load_state("load")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert told == []


def _answered(route: Any, told: list[str]) -> None:
    if route.request.url.startswith(("file:", "data:", "blob:")):
        route.continue_()
        return
    told.append(f"asked for {route.request.url}")
    route.fulfill(status=200, body="")


def looked_through(page: Any) -> None:
    """Nothing ran, nothing foreign became an element, and what can be pressed does no harm."""
    for _ in range(3):
        page.mouse.wheel(0, 4000)
    for fold in page.locator("summary").all():
        if fold.is_visible():
            fold.click()
    for place in page.locator("button:not([disabled]):visible, [tabindex]:visible").all()[:40]:
        place.hover(force=True, timeout=2000)
        place.focus()
    assert page.evaluate("window.__ran") is None
    assert page.evaluate(HANDLERS) == 0
    assert page.locator(FOREIGN).count() == 0
    assert set(page.evaluate(ADDRESSES)) <= {"file:", "data:", "https:", "geo:", "x:", "blob:"}
    assert page.locator("img[src=x], svg[onload], a[href^=javascript]").count() == 0
    assert page.locator("h1").first.is_visible()  # no style from outside hid the page


@pytest.mark.parametrize("name", ["report", "evidence", "audit"])
def test_a_page_shows_hostile_text_and_runs_none(
    pages: dict[str, Path], visit: Callable[[Path], Any], name: str
) -> None:
    page = visit(pages[name])
    looked_through(page)
    text = page.locator("body").text_content()
    for title in ("script", "template"):  # these stand first: a name is cut after some
        assert PIECES[title].split(" ")[0] in text, title
    assert "49" not in page.locator("h1").first.text_content()
    page.emulate_media(media="print")
    assert page.evaluate("window.__ran") is None


def test_the_map_tells_of_tiles_and_scenes_in_plain_text(
    pages: dict[str, Path], visit: Callable[[Path], Any]
) -> None:
    page = visit(pages["report"])
    page.wait_for_selector("html[data-ready=yes]")
    page.locator("#detail .scenes summary").click()
    assert "<script>" in page.locator("#detail .scenes").inner_text()
    for box in page.locator("input[data-layer]:not([data-layer=base])").all():
        if box.is_enabled():
            box.check()
    shape = page.locator("#map").bounding_box()
    for across in (0.2, 0.5, 0.8):
        page.mouse.click(shape["x"] + shape["width"] * across, shape["y"] + shape["height"] * 0.7)
        page.mouse.move(shape["x"] + shape["width"] * across, shape["y"] + shape["height"] * 0.4)
    looked_through(page)


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["pt", "es"])
def test_other_languages_escape_as_well(
    run: FinishedRun, visit: Callable[[Path], Any], tmp_path: Path, lang: str
) -> None:
    site = str(run.sites.detection_id[0])
    folder = write_evidence(run, site, tmp_path / "evidence", lang=lang)
    looked_through(visit(folder / "evidence.html"))
    looked_through(visit(write_audit(run, tmp_path / "audit", size=12, seed=1, lang=lang)))
    kept = (run.path / "report.html").read_bytes()
    try:
        looked_through(visit(write_report(run, lang)))
    finally:
        (run.path / "report.html").write_bytes(kept)


def test_a_script_put_into_a_page_is_stopped_by_its_own_policy(
    pages: dict[str, Path], browser: Any, tmp_path: Path
) -> None:
    """Were escaping ever to fail, the content policy of each page would still stop what it let in.

    This also shows that what the other tests look for would be seen.
    """
    for name, path in pages.items():
        text = path.read_text(encoding="utf-8")
        spoilt = tmp_path / f"{name}.html"
        attack = PIECES["script"] + PIECES["image"]
        spoilt.write_text(text.replace("</body>", f"{attack}</body>"), encoding="utf-8")
        context = browser.new_context(offline=True)
        page = context.new_page()
        told: list[str] = []
        page.on("console", lambda message, told=told: told.append(message.text))
        page.goto(spoilt.as_uri())
        page.wait_for_load_state("load")
        assert page.evaluate("window.__ran") is None, name
        assert any("Content Security Policy" in line for line in told), name
        assert page.evaluate(HANDLERS) == 1
        context.close()
