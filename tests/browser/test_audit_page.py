"""The audit's page in a real browser: keys, buttons, a reload, the saved file, a loaded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scanner.results.audit import estimate, write_audit
from scanner.results.finished import FinishedRun
from tests.raster_runs import rule_rasters
from tests.results.runs import TILE, Cell, area, cell, make_run

CELLS = {cell(0, col): Cell(0.9) for col in range(30, 36)}
CELLS |= {cell(1, col): Cell(0.2) for col in range(30, 36)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("audited") / "run"
    rasters = {TILE.tile_id: rule_rasters(TILE)}
    return make_run(folder, CELLS, aoi=area((0, 6), (30, 36)), rasters=rasters)


@pytest.fixture(scope="module")
def html(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audit(run, tmp_path_factory.mktemp("audit"), size=12, seed=1, lang="en")


def saved(page: Any, path: Path) -> list[list[str]]:
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "labels.csv"
    download.value.save_as(path)
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]


def test_keys_label_one_cell_after_the_other(page: Any) -> None:
    first = page.get_attribute("#picture", "src")
    for key in ("y", "n", "?", "n"):
        page.keyboard.press(key)
    assert page.text_content("#place") == "5 of 12"
    assert page.text_content("#status") == "1 mining, 2 not, 1 cannot tell, 8 to go"
    assert page.get_attribute("#picture", "src") != first
    assert page.evaluate("document.getElementById('progress').value") == 4


def test_back_shows_and_changes_a_label(page: Any) -> None:
    for key in ("y", "n", "ArrowLeft", "Backspace"):
        page.keyboard.press(key)
    assert page.text_content("#place") == "1 of 12"
    assert page.get_attribute("#mine", "aria-pressed") == "true"
    page.keyboard.press("n")
    assert page.text_content("#status") == "0 mining, 2 not, 0 cannot tell, 10 to go"
    assert page.text_content("#place") == "3 of 12"
    page.keyboard.press("ArrowRight")
    assert page.text_content("#place") == "4 of 12"


def test_labels_survive_a_reload(page: Any, tmp_path: Path) -> None:
    for key in ("y", "n", "n"):
        page.keyboard.press(key)
    page.reload()
    assert page.text_content("#place") == "4 of 12"
    assert page.text_content("#status") == "1 mining, 2 not, 0 cannot tell, 9 to go"
    assert len(saved(page, tmp_path / "labels.csv")) == 1 + 3


def test_all_labelled_is_said_and_the_file_gives_an_estimate(
    page: Any, run: FinishedRun, html: Path, tmp_path: Path
) -> None:
    assert page.is_hidden("#done")
    for key in "ynynynynynyn":
        page.keyboard.press(key)
    assert page.is_visible("#done")
    rows = saved(page, tmp_path / "labels.csv")
    assert rows[0] == ["cell_id", "label", "labelled", "audit"]
    assert [row[2] for row in rows[1:]] == [str(n) for n in range(1, 13)]
    found = estimate(run, html.parent, tmp_path / "labels.csv")
    assert found.labels["mine"] == found.labels["not"] == 6


def test_saved_labels_go_on_in_another_browser(page: Any, html: Path, tmp_path: Path) -> None:
    for key in "yn?":
        page.keyboard.press(key)
    saved(page, tmp_path / "labels.csv")
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.text_content("#place") == "1 of 12"
    page.set_input_files("#load", tmp_path / "labels.csv")
    page.wait_for_function("document.getElementById('message').textContent !== ''")
    assert page.text_content("#message") == "3 labels loaded."
    assert page.text_content("#place") == "4 of 12"
    page.keyboard.press("n")  # keys work again right after
    assert page.text_content("#status") == "1 mining, 2 not, 1 cannot tell, 8 to go"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cell_id,label,audit\nx,mine,0123\n", "Row 2 belongs to another audit"),
        ("cell_id,label\n<b>x</b>,mine\n", "Row 2: cell <b>x</b> is not in this audit"),
        ("a,b\n1,2\n", "no columns cell_id and label"),
    ],
)
def test_a_wrong_file_is_refused_and_changes_nothing(
    page: Any, tmp_path: Path, text: str, told: str
) -> None:
    page.keyboard.press("y")
    (tmp_path / "labels.csv").write_text(text)
    page.set_input_files("#load", tmp_path / "labels.csv")
    page.wait_for_function("document.getElementById('message').textContent !== ''")
    assert told in page.text_content("#message")
    assert page.text_content("#status").startswith("1 mining, 0 not")


def test_picture_can_be_zoomed_brightened_and_bared(page: Any) -> None:
    for key, name in (("z", "zoom"), ("b", "bright"), ("f", "bare")):
        page.keyboard.press(key)
        assert page.get_attribute(f"#{name}", "aria-pressed") == "true"
    assert page.get_attribute("#view", "class") == "view zoom bright bare"
    page.keyboard.press("Control+z")  # a browser's own keys are left alone
    assert page.get_attribute("#zoom", "aria-pressed") == "true"


def test_coordinates_lead_to_a_map_and_no_word_of_what_the_run_says(page: Any) -> None:
    href = page.get_attribute("#about a", "href")
    assert href.startswith("https://www.google.com/maps/@?api=1")
    assert page.get_attribute("#about a", "rel") == "noopener noreferrer"
    assert "0.9" not in page.text_content("body")


def test_works_with_thumbs_on_a_phone(browser: Any, html: Path) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(html.as_uri())
    for name in ("#mine", "#not", "#unsure", "#back"):
        box = page.locator(name).bounding_box()
        assert box["height"] >= 44
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    answers = page.locator("#not").bounding_box()
    assert answers["y"] + answers["height"] <= 740  # no scrolling between picture and answers
    page.tap("#mine")
    page.tap("#not")
    page.tap("#back")
    assert page.text_content("#place") == "2 of 12"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()
