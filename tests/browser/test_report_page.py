"""``report.html`` in a real browser: clicks, keys, a phone's width, and what must never run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanner.results.finished import FinishedRun, open_run
from scanner.results.outputs import sha256
from scanner.results.report import write_report
from tests.results.big_run import make_pictured_run
from tests.results.runs import UNSEEN, Cell, area, cell, make_run

Visit = Callable[..., Any]

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u2028\"'{{7*7}}"


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run of one tile with rasters, eleven sites and some clouds."""
    return make_pictured_run(tmp_path_factory.mktemp("pictured") / "run")


@pytest.fixture(scope="session")
def report(pictured: FinishedRun) -> Path:
    return write_report(pictured)


def layer(page: Any, name: str) -> Any:
    return page.locator(f"input[data-layer={name}]")


def chosen(page: Any) -> str:
    """The site the detail shows, after checking that the table agrees."""
    told = page.locator("#detail .id").first.inner_text()
    row = page.locator("#sites tr[aria-current=true]")
    assert row.count() == 1
    assert told.removeprefix("site_") == row.locator(".k-id").inner_text()
    return told


def view(page: Any) -> str:
    return page.locator("#map .leaflet-control-scale-line").inner_text()


def test_opens_with_the_best_site_shown(visit: Visit, report: Path, pictured: FinishedRun) -> None:
    page = visit(report)
    best = pictured.sites.sort_values("score").iloc[-1]
    assert chosen(page) == best.detection_id
    assert page.locator("h1").inner_text() == pictured.aoi.name
    assert page.locator("#sites tbody tr").count() == len(pictured.sites)
    assert page.locator("#map path.dot").count() == len(pictured.sites) + 1  # and the chosen ring
    picture = page.locator("#detail img")
    assert picture.evaluate("node => node.complete && node.naturalWidth") >= 90
    assert page.locator("#detail .chip path").first.get_attribute("d").startswith("M")


def test_a_row_zooms_the_map_and_shows_the_site(visit: Visit, report: Path) -> None:
    page = visit(report)
    before = view(page)
    row = page.locator("#sites tbody tr").nth(3)
    row.click()
    assert chosen(page) == "site_" + row.locator(".k-id").inner_text()
    assert view(page) != before
    assert page.locator("#map path.site").count() >= 1  # outlines, now that it is close
    assert page.evaluate("location.hash") == "#" + chosen(page)
    page.get_by_role("button", name="Show the whole area").click()
    page.wait_for_function("document.querySelectorAll('#map path.dot').length > 3")
    assert view(page) == before


def test_a_site_on_the_map_shows_its_row(visit: Visit, report: Path) -> None:
    page = visit(report)
    before = chosen(page)
    page.locator("#map path.dot").nth(2).click(force=True)
    after = chosen(page)
    assert after != before
    box, row = (
        page.locator(name).bounding_box() for name in ("#list", "#sites tr[aria-current=true]")
    )
    assert box["y"] <= row["y"]
    assert row["y"] + row["height"] <= box["y"] + box["height"] + 1


def test_layers_switch_on_and_off(visit: Visit, report: Path) -> None:
    page = visit(report)
    for name, shown in {
        "quicklook": ".p-quicklook",
        "classes": ".p-classes",
        "suspicious": ".p-suspicious",
        "cells": ".p-status",
        "missing": ".p-missing",
        "sites": "#map path.dot.leaflet-interactive",
        "area": ".leaflet-area-pane path",
    }.items():
        box = layer(page, name)
        for _ in range(2):
            on = box.is_checked()
            assert (page.locator(shown).count() > 0) == on, name
            box.click()
    layer(page, "classes").check()
    page.locator("#opacity").fill("30")
    assert page.locator(".p-classes").evaluate("node => node.style.opacity") == "0.3"


def test_cells_and_tiles_tell_what_they_are(visit: Visit, report: Path) -> None:
    page = visit(report)
    layer(page, "sites").uncheck()
    layer(page, "cells").check()
    page.locator("#sites tbody tr").first.click()
    box = page.locator("#map").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*middle)
    told = page.locator(".leaflet-popup-content").inner_text()
    assert "Mining" in told
    assert "Seen clear" in told
    layer(page, "cells").uncheck()
    layer(page, "tiles").check()
    page.mouse.click(middle[0] + 20, middle[1] + 120)
    assert "Scenes read" in page.locator(".leaflet-popup-content").inner_text()


def test_sorting_by_area_and_back(visit: Visit, report: Path) -> None:
    page = visit(report)

    def column(name: str) -> list[float]:
        return [float(text) for text in page.locator(f"td.k-{name}").all_inner_texts()]

    page.locator("th.k-ha button").click()
    assert column("ha") == sorted(column("ha"), reverse=True)
    assert page.locator("th.k-ha").get_attribute("aria-sort") == "descending"
    page.locator("th.k-ha button").click()
    assert column("ha") == sorted(column("ha"))
    page.locator("th.k-score button").click()
    assert column("rank") == sorted(column("rank"))
    first = page.locator("#sites tbody tr").first
    page.locator("th.k-last button").click()
    assert first.is_visible()


def test_the_keyboard_is_enough(visit: Visit, report: Path) -> None:
    page = visit(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    pick = page.locator(".pick[tabindex='0']")
    assert pick.count() == 1  # the table is one stop
    pick.focus()
    start = chosen(page)
    page.keyboard.press("ArrowDown")
    assert chosen(page) != start
    page.keyboard.press("End")
    last = page.locator("#sites tbody tr").last.locator(".k-id").inner_text()
    assert chosen(page) == f"site_{last}"
    assert page.evaluate("document.activeElement.className") == "pick"
    page.keyboard.press("Home")
    assert chosen(page) == start
    page.get_by_role("button", name="Next site in the list").press("Enter")
    assert chosen(page) != start
    page.keyboard.press("Enter")  # the focus stays, so one can go on
    layer(page, "classes").press("Space")
    assert page.locator(".p-classes").count() == 1


def test_a_link_to_a_site_opens_it(visit: Visit, report: Path, pictured: FinishedRun) -> None:
    last = pictured.sites.sort_values("score").iloc[0].detection_id
    assert chosen(visit(report, fragment=f"#{last}")) == last


def test_on_a_phone(visit: Visit, report: Path) -> None:
    page = visit(report, 375, 700)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    summary = page.locator("#layers > summary")
    summary.scroll_into_view_if_needed()
    assert not layer(page, "classes").is_visible()
    summary.tap()
    layer(page, "classes").tap()
    assert page.locator(".p-classes").count() == 1
    summary.tap()
    page.locator("#sites tbody tr").nth(1).tap()
    shown = page.locator("#map").bounding_box()
    assert shown["y"] < 700
    assert shown["y"] + shown["height"] > 0
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    for button in page.locator(".step, #sites .pick, .go").all()[:4]:
        assert button.bounding_box()["height"] >= 20


@pytest.mark.parametrize("lang", ["pt", "es"])
def test_other_languages(visit: Visit, pictured: FinishedRun, tmp_path: Path, lang: str) -> None:
    run = open_run(shutil.copytree(pictured.path, tmp_path / "run"))
    page = visit(write_report(run, lang), 375, 700)
    assert page.locator("html").get_attribute("lang").startswith(lang)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.set_viewport_size({"width": 1300, "height": 800})
    page.locator("#sites tbody tr").nth(1).click()
    assert "{" not in page.locator("body").inner_text()


def test_the_online_map_asks_only_when_switched_on(browser: Any, report: Path) -> None:
    asked: list[str] = []
    context = browser.new_context()
    page = context.new_page()
    page.route("**/*", lambda route: _answer(route, asked))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert asked == []
    layer(page, "base").check()
    page.wait_for_selector("#base-problem:not([hidden])")  # no network: it says so
    assert asked
    assert all(url.startswith("https://tile.openstreetmap.org/") for url in asked)
    assert "OpenStreetMap" in page.locator(".leaflet-control-attribution").inner_text()
    layer(page, "base").uncheck()
    assert page.locator("#base-problem").is_hidden()
    context.close()


def _answer(route: Any, asked: list[str]) -> None:
    if route.request.url.startswith(("file:", "data:")):
        route.continue_()
        return
    asked.append(route.request.url)
    route.abort()


def test_hostile_names_stay_text(visit: Visit, tmp_path: Path) -> None:
    """Everything from outside is shown as it is written; nothing of it runs or becomes an element.

    ``visit`` fails the test if a dialog opens or anything is asked for.
    """
    run = make_run(tmp_path / "run", {cell(3, 3): Cell(0.9, barren_ha=3)}, aoi=area(name=HOSTILE))
    page = visit(write_report(tampered(run)))
    assert page.locator("h1").text_content() == run.aoi.name  # the AOI's reader took out U+2028
    assert "<script>alert(1)</script>" in run.aoi.name
    assert page.title().startswith("<script>alert(1)</script>")
    page.locator("#detail .scenes summary").click()
    assert "<script>" in page.locator("#detail .scenes").inner_text()
    layer(page, "tiles").check()
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.8)
    assert "<script>" in page.locator(".leaflet-popup-content").inner_text()
    page.locator("#map path.dot.leaflet-interactive").first.hover(force=True)
    assert page.locator("script").count() == 3
    assert page.locator("img[src=x], [onerror]").count() == 0


def tampered(run: FinishedRun) -> FinishedRun:
    """Put hostile text wherever text comes from outside, signed as if it had always been there."""
    sites = run.sites.assign(item_ids=[[HOSTILE]] * len(run.sites))
    sites.to_parquet(run.path / "detections.parquet")
    cover = run.coverage.assign(reason=HOSTILE, unseen_ha=23.04)
    cover.to_parquet(run.path / "coverage.parquet")
    summary = dict(run.summary)
    summary["dropped_items"] = [{"id": HOSTILE, "reason": HOSTILE}]
    summary["advice"] = HOSTILE
    summary["models"] = {"segmenter": HOSTILE, "classifier": HOSTILE}
    for name in ("detections.parquet", "coverage.parquet"):
        summary["files"][name] = sha256(run.path / name)
    (run.path / "run.json").write_text(json.dumps(summary), encoding="utf-8")
    return open_run(run.path)


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"every": UNSEEN}, "Nothing could be seen"),
        ({}, "No site was found"),
        ({"failed": ["21S_0031_0034"]}, "Tiles failed: 1 of 1"),
    ],
)
def test_empty_runs_say_so(
    visit: Visit, tmp_path: Path, settings: dict[str, Any], title: str
) -> None:
    page = visit(write_report(make_run(tmp_path / "run", **settings)))
    assert title in page.locator(".notices").inner_text()
    assert page.locator("#sites").count() == 0
    assert page.locator("#map").is_visible()
    layer(page, "cells").check()
    assert page.locator(".p-status").count() == 1
    assert layer(page, "quicklook").is_disabled()
