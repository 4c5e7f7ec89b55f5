"""The page of evidence in a real browser: whole without a network, on a phone, on paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from scanner.results.evidence import write_evidence
from scanner.results.finished import FinishedRun
from tests.evidence_runs import CLOUDY, DAYS, FIRST_MINED, SITE, scene, with_items
from tests.raster_runs import rule_rasters
from tests.results.runs import TILE, area, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run that kept its rasters, five scenes over its site, one of which is gone."""
    folder = tmp_path_factory.mktemp("page")
    items = [
        scene(folder, day, mined=n >= FIRST_MINED, cloudy=n == CLOUDY) for n, day in enumerate(DAYS)
    ]
    (folder / items[1].id / "B02.tif").unlink()
    rasters = {TILE.tile_id: rule_rasters(TILE)}
    made = make_run(folder / "run", SITE, aoi=area(name="<i>Área</i>"), days=DAYS, rasters=rasters)
    return with_items(made, items)


@pytest.fixture(scope="module", params=["en", "pt", "es"])
def html(run: FinishedRun, request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evidence") / "out"
    folder = write_evidence(run, run.sites.detection_id[0], out, lang=request.param)
    return folder / "evidence.html"


def test_all_it_shows_is_in_it(page: Any) -> None:
    widths = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) == 6
    assert min(widths) > 100
    colour = page.eval_on_selector(".k-forest", "one => getComputedStyle(one).backgroundColor")
    assert colour == "rgb(0, 158, 115)"
    assert "<i>Área</i>" in page.inner_text("header")


@pytest.mark.parametrize("width", [320, 390, 800])
def test_it_fits_a_phone(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_on_one_page(page: Any) -> None:
    paper = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page[^s]", paper)) == 1
