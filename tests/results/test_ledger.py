"""Sites from month to month: one id each, whatever merges, parts or hides; nothing told twice."""

from __future__ import annotations

import datetime as dt
import shutil
from copy import deepcopy
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.errors import ConfigError
from scanner.results.changes.cells import ChangeCell
from scanner.results.changes.compare import write_changes
from scanner.results.changes.ledger import Ledger
from scanner.results.changes.ledger_table import Pair
from scanner.results.changes.sites import group_cells, site_row
from scanner.results.changes.views import CLEAR, HIDDEN, MINING, View
from tests.results.runs import TILE, UNSEEN, Cell, area, cell, make_run, piece

JUNE = {"days": ("2024-06-12", "2024-06-22"), "date": "2024-06-01/2024-06-30"}
JULY = {"days": ("2024-07-12", "2024-07-22"), "date": "2024-07-01/2024-07-31"}
MINE = Cell(0.9, barren_ha=4)

GRID = 5
MONTHS = [dt.date(2024, month, 10) for month in range(1, 9)]


def _view(letter, month, ha):
    day = MONTHS[month]
    if letter == "?":
        return View(HIDDEN, reason="cloud")
    if letter == ".":
        return View(CLEAR, sure=day, last=day)
    return View(MINING, True, None, 0.9, day, day, ha)


def _strip(name, ha):
    xmin, ymin, xmax, _ = TILE.zone.bounds(*(int(part) for part in name.split("_")[1:]))
    return [piece("barren", shapely.box(xmin, ymin, xmax, ymin + ha * 10_000 / 480))]


class Months:
    """A ledger fed by hand: a text a month, ``x`` mined, ``.`` clear, ``?`` hidden, row by row."""

    def __init__(self, width=GRID):
        self.width, self.ledger, self.months = width, Ledger(), []

    def step(self, text, ha=4):
        """Compare a month with the one before; returns the rows by their smallest cell."""
        self.months.append(text)
        if len(self.months) > 1:
            return self.again(len(self.months) - 1, ha)
        return None

    def again(self, month, ha=4, ledger=None):
        ledger = ledger or self.ledger
        pair = Pair(f"run{month - 1}", f"run{month}", "settings", MONTHS[month])
        ledger.check(pair)
        known = ledger.known(pair)
        cells = []
        for n, (old, new) in enumerate(zip(*self.months[month - 1 : month + 1], strict=True)):
            name = cell(n // self.width, n % self.width)
            if "x" in (old, new) or name in known:
                views = [
                    _view(old, month - 1, _strip(name, ha)),
                    _view(new, month, _strip(name, ha)),
                ]
                cells.append(ChangeCell(name, TILE, *views, name in known))
        square = {f"site_{c.cell_id}": (shapely.box(0, 0, 1, 1), 4.0) for c in cells}
        rows = [site_row(group, square, square) for group in group_cells(cells)]
        return ledger.apply(rows, pair, known)


def _ids(rows):
    return [row["site_id"].removeprefix("site_") for row in rows]


def test_a_site_keeps_its_id_when_it_merges_and_parts(tmp_path):
    months = Months(width=3)
    a, b, c = cell(0, 0), cell(0, 1), cell(0, 2)
    months.step("...")
    assert _ids(months.step("x..")) == [a]
    (first, second) = months.step("x.x")
    assert _ids([first, second]) == [a, c]
    (row,) = months.step("xxx")
    assert (row["site_id"], row["merged"]) == (f"site_{a}", [f"site_{c}"])
    assert months.ledger.sites[f"site_{c}"].merged_into == f"site_{a}"
    assert months.ledger.sites[f"site_{c}"].status == "merged"
    (row,) = months.step("x.x")
    assert row["change"] == "shrinking"
    (first, second) = months.step("x.x")
    assert _ids([first, second]) == [a, c]
    assert months.ledger.sites[f"site_{c}"].merged_into is None
    assert months.ledger.sites[f"site_{c}"].first_seen_by == MONTHS[2]
    assert months.ledger.sites[f"site_{a}"].cells == [a, b]
    assert [s["change"] for s in months.ledger.sites[f"site_{c}"].history] == [
        "new",
        "merged",
        "stable",
    ]


def test_a_site_that_comes_back_owns_only_what_it_comes_back_with():
    months = Months(width=5)
    for text in (".....", "x.xx.", "xxxx.", "x.x..", "x.x.."):
        months.step(text)
    sites = months.ledger.sites
    assert sites[f"site_{cell(0, 2)}"].cells == [cell(0, 2)]
    assert sites[f"site_{cell(0, 0)}"].cells == [cell(0, n) for n in (0, 1, 3)]


def test_a_month_left_out_makes_no_known_mine_new():
    """The ledger saw it mined in March; April and May were never compared."""
    months = Months(width=3)
    months.step("...")
    months.step("x..")
    months.months.append("...")
    months.months.append("x..")
    (row,) = months.again(3)
    assert (row["site_id"], row["change"]) == (f"site_{cell(0, 0)}", "growing")
    assert (row["first_seen_after"], row["first_seen_by"]) == (MONTHS[0], MONTHS[1])


def test_the_oldest_stays_even_if_its_id_is_not_the_smallest():
    months = Months(width=3)
    months.step("...")
    months.step("..x")
    months.step("x.x")
    (row,) = months.step("xxx")
    assert row["site_id"] == f"site_{cell(0, 2)}"
    assert row["first_seen_by"] == MONTHS[1]
    assert row["merged"] == [f"site_{cell(0, 0)}"]


def test_a_part_that_was_never_a_site_of_its_own_says_where_it_comes_from():
    months = Months(width=5)
    for text in (".....", "xxxx.", "xx.x."):
        months.step(text)
    first, second = months.step("xx.x.")
    assert _ids([first, second]) == [cell(0, 0), cell(0, 3)]
    assert second["split_from"] == f"site_{cell(0, 0)}"
    assert first["first_seen_after"] == MONTHS[0]
    assert (second["first_seen_after"], second["first_seen_by"]) == (None, MONTHS[1])


def test_clouds_between_do_not_lose_a_site():
    months = Months(width=3)
    months.step("...")
    months.step("x..")
    assert months.step("?..")[0]["change"] == "unseen"
    (row,) = months.step("?..")
    assert (row["change"], row["mining_in"]) == ("unseen", "neither")
    assert row["geometry"] is not None
    (row,) = months.step("?x.")  # beside ground known as mined: it grew, and is not new
    assert (row["site_id"], row["change"]) == (f"site_{cell(0, 0)}", "growing")
    (row,) = months.step("..?")
    assert row["change"] == "gone"
    assert (row["first_seen_after"], row["first_seen_by"]) == (MONTHS[0], MONTHS[1])
    assert months.step("...") == []
    (row,) = months.step("x..")  # back on the same ground: the same site, its dates kept
    assert (row["site_id"], row["change"]) == (f"site_{cell(0, 0)}", "new")
    assert (row["first_seen_after"], row["first_seen_by"]) == (MONTHS[0], MONTHS[1])


def test_a_site_under_cloud_in_the_run_before_is_gone_once_seen():
    months = Months(width=3)
    for text in ("...", "x..", "?.."):
        months.step(text)
    (row,) = months.step("...")
    assert (row["change"], row["growth_ha"]) == ("gone", None)
    assert months.ledger.sites[row["site_id"]].area_ha == 0
    assert months.step("...") == []


@settings(max_examples=40)
@given(st.lists(st.text("xx.?", min_size=12, max_size=12), min_size=4, max_size=6))
def test_a_ledger_over_months(texts):
    months = Months(width=4)
    seen_by: dict[str, dt.date | None] = {}
    for number, text in enumerate(texts):
        rows = months.step(text)
        if rows is None:
            continue
        ledger = months.ledger
        before = deepcopy(ledger.sites)
        again = months.again(number)
        assert again == rows  # the same pair again tells the same ...
        assert ledger.sites == before  # ... and changes nothing
        names = [row["site_id"] for row in rows]
        assert len(set(names)) == len(names)
        live = [site for site in ledger.sites.values() if site.merged_into is None]
        owned = [name for site in live for name in site.cells]
        assert len(set(owned)) == len(owned)  # no cell has two sites
        for row in rows:
            site = ledger.sites[row["site_id"]]
            assert site in live
            assert set(row["cells"]) <= set(site.cells)
            assert site.status == row["change"]
            after, by = site.first_seen_after, site.first_seen_by
            assert by is not None
            assert after is None or after < by
            assert seen_by.setdefault(site.site_id, by) == by  # runs in order find nothing earlier
        for site in ledger.sites.values():
            assert site.geometry is not None
            assert site.merged_into is None or ledger.sites[site.merged_into].merged_into is None
        mined = {cell(n // 4, n % 4) for n, letter in enumerate(text) if letter == "x"}
        now = {name for site in live for name in site.history[-1]["mined"]}
        assert mined <= now
    before = deepcopy(months.ledger.sites)
    for number in range(1, len(texts)):  # nor do earlier pairs, told once more at the end
        months.again(number)
    assert months.ledger.sites == before


@settings(max_examples=40)
@given(st.lists(st.text("xx.?", min_size=12, max_size=12), min_size=3, max_size=5))
def test_a_site_that_is_always_seen_mined_keeps_one_id(texts):
    """Two cells that nothing ever joins: rows apart from the rest."""
    months = Months(width=4)
    names = set()
    for text in ["............x..x", *(f"{text[:8]}....x..x" for text in texts)]:
        rows = months.step(text) or []
        names |= {row["site_id"] for row in rows if cell(3, 0) in row["cells"]}
        names |= {row["site_id"] for row in rows if cell(3, 3) in row["cells"]}
    assert names == {f"site_{cell(3, 0)}", f"site_{cell(3, 3)}"}


def test_a_ledger_goes_on_from_file_to_file(tmp_path):
    """Three months of real runs: by --out, by --ledger, and by what OLD was compared with."""
    months = [
        make_run(
            tmp_path / f"m{n}",
            cells,
            days=(f"2024-0{n}-10",),
            date=f"2024-0{n}-01/2024-0{n}-28",
        )
        for n, cells in enumerate(
            [{}, {cell(5, 5): MINE}, {cell(5, 5): UNSEEN}, {cell(5, 5): MINE, cell(5, 6): MINE}], 1
        )
    ]
    for old, new in pairwise(months):
        frame = write_changes(old, new, tmp_path / "same")
        write_changes(old, new, new.path / "changes")
    given = tmp_path / "same" / "ledger.parquet"
    kept = given.read_bytes()
    assert (months[3].path / "changes" / "ledger.parquet").read_bytes() == kept
    (row,) = frame.itertuples()
    assert row.site_id == f"site_{cell(5, 5)}"
    assert (row.first_seen_after, row.first_seen_by) == (dt.date(2024, 1, 10), dt.date(2024, 2, 10))
    (site,) = Ledger.read(given).sites.values()
    assert [step["change"] for step in site.history] == ["new", "unseen", "growing"]
    assert site.last_seen == dt.date(2024, 4, 10)
    write_changes(months[2], months[3], tmp_path / "other", ledger=given)
    assert (tmp_path / "other" / "ledger.parquet").read_bytes() == kept == given.read_bytes()


def test_a_score_that_stays_near_the_threshold_does_not_end_a_site(tmp_path):
    """Mined in June, a little below the threshold in July and in August, far below in September."""
    scores = {"05": None, "06": 0.9, "07": 0.45, "08": 0.45, "09": 0.2}
    runs = [
        make_run(
            tmp_path / month,
            {} if score is None else {cell(5, 5): Cell(score, barren_ha=4)},
            days=(f"2024-{month}-12",),
        )
        for month, score in scores.items()
    ]
    told = [write_changes(old, new, tmp_path / "out") for old, new in pairwise(runs)]
    assert [frame.change.tolist() for frame in told] == [["new"], ["stable"], ["stable"], ["gone"]]
    assert told[2].geometry[0].equals(told[0].geometry[0])
    assert told[2].growth_ha[0] == 0.0


def test_a_smaller_area_and_a_cloud_forget_nothing(tmp_path):
    """Two cells mined in June over the whole area; July and August look at one of them alone."""
    left, right = cell(5, 5), cell(5, 6)
    narrow = area((0, 10), (0, 6))
    months = {
        "05": ({}, area()),
        "06": ({left: MINE, right: MINE}, area()),
        "07": ({left: MINE}, narrow),
        "08": ({left: MINE}, narrow),
        "09": ({right: UNSEEN}, area()),
        "10": ({}, area()),
    }
    runs = [
        make_run(tmp_path / month, cells, aoi=aoi, days=(f"2024-{month}-12",))
        for month, (cells, aoi) in months.items()
    ]
    told, areas = [], []
    for old, new in pairwise(runs):
        (row,) = write_changes(old, new, tmp_path / "out").itertuples()
        (site,) = Ledger.read(tmp_path / "out" / "ledger.parquet").sites.values()
        told.append(row.change)
        areas.append(site.area_ha)
    assert told == ["new", "stable", "stable", "shrinking", "gone"]
    assert areas == [8.0, 8.0, 8.0, 8.0, 0.0]


def test_ledgers_that_do_not_fit_are_refused(tmp_path):
    june = make_run(tmp_path / "june", {cell(5, 5): MINE}, **JUNE)
    july = make_run(tmp_path / "july", {cell(5, 5): MINE}, **JULY)
    august = {"days": ("2024-08-12",), "date": "2024-08-01/2024-08-31"}
    late = make_run(tmp_path / "late", {cell(5, 5): MINE}, **august)
    write_changes(july, late, tmp_path / "out")
    good = tmp_path / "out" / "ledger.parquet"
    with pytest.raises(ConfigError, match=r"goes to 2024-08-31, NEW ends on 2024-07-31"):
        write_changes(june, july, tmp_path / "x", ledger=good)
    table = pq.read_table(good)
    for name, value, told in (
        ("format", pa.array([2], pa.int32()), "of format 2, this version goes on with format 1"),
        ("grid", pa.array(["s2-cells"]), "of grid s2-cells"),
        ("history", pa.array([3]), "is no ledger"),
    ):
        other = table.set_column(table.column_names.index(name), name, value)
        pq.write_table(other, tmp_path / "bad.parquet")
        with pytest.raises(ConfigError, match=told):
            write_changes(july, late, tmp_path / "x", ledger=tmp_path / "bad.parquet")
    pq.write_table(table.drop_columns(["geometry"]), tmp_path / "bad.parquet")
    for path in (tmp_path / "bad.parquet", tmp_path / "none.parquet", june.path / "run.json"):
        with pytest.raises(ConfigError, match="is no ledger") as error:
            write_changes(july, late, tmp_path / "x", ledger=path)
        assert path.name in str(error.value)
    assert not (tmp_path / "x").exists()


def test_the_same_runs_at_another_threshold_do_not_go_into_one_ledger(tmp_path):
    for threshold in (0.5, 0.6):
        runs = []
        for name, span in (("june", JUNE), ("july", JULY)):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            runs.append(make_run(tmp_path / name, {cell(5, 5): MINE}, threshold=threshold, **span))
        if threshold == 0.5:
            write_changes(*runs, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"at --prior 0.5 --threshold 0.5 .*now they are at"):
        write_changes(*runs, tmp_path / "out")
