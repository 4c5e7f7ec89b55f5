"""Two runs cell by cell: what changed, what cannot be told, since when."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.area.aoi import Aoi
from scanner.area.grid import Tile, from_geographic, tiles
from scanner.errors import ConfigError, RunError
from scanner.imagery.composite import compose
from scanner.results.changes.cells import ChangeCell
from scanner.results.changes.compare import CHANGE_SCHEMA, tell_changes, write_changes
from scanner.results.changes.ledger import Ledger
from scanner.results.changes.ledger_table import LEDGER_SCHEMA
from scanner.results.changes.sites import GROWTH_HA, change_of, first_seen
from scanner.results.changes.views import CLEAR, HIDDEN, MINING, View, sure_date
from tests.results.runs import TILE, UNSEEN, Cell, area, cell, make_run, piece

JUNE = {"days": ("2024-06-12", "2024-06-22"), "date": "2024-06-01/2024-06-30"}
JULY = {"days": ("2024-07-12", "2024-07-22"), "date": "2024-07-01/2024-07-31"}
MINE = Cell(0.9, barren_ha=4)
EARLY, LATE = dt.date(2024, 6, 12), dt.date(2024, 6, 22)
EARLY_JULY, LATE_JULY = dt.date(2024, 7, 12), dt.date(2024, 7, 22)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``made(cells, ...)`` makes a run, and the same one once only."""
    runs = {}

    def make(cells, **values):
        key = repr((sorted(cells.items()), sorted(values.items())))
        if key not in runs:
            runs[key] = make_run(tmp_path_factory.mktemp("run") / "run", cells, **values)
        return runs[key]

    return make


@pytest.fixture
def pair(made, tmp_path):
    """``pair(old cells, new cells)`` compares them: June against July."""
    count = iter(range(100))

    def compare(old, new, old_run=None, new_run=None, **both):
        was = made(old, **{**JUNE, **both, **(old_run or {})})
        now = made(new, **{**JULY, **both, **(new_run or {})})
        return write_changes(was, now, tmp_path / f"out{next(count)}")

    return compare


def only(frame):
    (row,) = frame.itertuples()
    return row


# --- dates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scar", [0.9, 0.01], ids=["bright", "dark"])
@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("latest", [False, True])
def test_a_sure_date_is_sure_whenever_the_scar_began(scar, n, latest):
    """The real composite, for every date a scar can begin at: the picture decides, truth judges."""
    dates = [dt.date(2024, 1, 1 + i) for i in range(n)]
    ranks = np.zeros((n, 1, 1), np.uint8)
    for began in range(n + 1):
        values = np.full((n, 1, 1, 1), 0.05, np.float32)
        values[began:] = scar
        picture, _ = compose(values, ranks, list(range(n)), latest=latest)
        shown = bool(np.isclose(picture.item(), scar))
        sure = dates.index(sure_date(dates, latest=latest, mine=shown))
        assert sure >= began if shown else sure < began


def test_the_bracket_of_a_median_and_of_the_latest_clear_view(pair):
    days = {"days": tuple(f"2024-06-{d:02d}" for d in (2, 7, 12, 17, 22))}
    later = {"days": tuple(f"2024-07-{d:02d}" for d in (2, 7, 12, 17))}
    row = only(pair({}, {cell(5, 5): MINE}, days, later))
    assert (row.first_seen_after, row.first_seen_by) == (dt.date(2024, 6, 12), dt.date(2024, 7, 12))
    row = only(pair({}, {cell(5, 5): MINE}, days, later, composite="latest-clear"))
    assert (row.first_seen_after, row.first_seen_by) == (dt.date(2024, 6, 22), dt.date(2024, 7, 17))
    assert row.last_seen == dt.date(2024, 7, 17)


def test_only_dates_that_saw_the_cell_count(pair):
    """June's second day was cloudy there, July's first too."""
    row = only(pair({cell(5, 5): Cell(days=[0])}, {cell(5, 5): replace(MINE, days=[1])}))
    assert (row.first_seen_after, row.first_seen_by) == (EARLY, LATE_JULY)


def test_a_site_begins_with_its_earliest_cell(pair):
    row = only(
        pair(
            {cell(5, 5): Cell(days=[1]), cell(5, 6): Cell(days=[0])},
            {cell(5, 5): replace(MINE, days=[0]), cell(5, 6): replace(MINE, days=[1])},
        )
    )
    assert (row.first_seen_after, row.first_seen_by) == (EARLY, EARLY_JULY)


def test_a_mine_seen_clear_on_no_single_day_was_there_by_the_last_one(pair):
    row = only(pair({cell(5, 5): Cell(days=())}, {cell(5, 5): replace(MINE, days=())}))
    assert (row.change, row.first_seen_after, row.first_seen_by) == ("new", EARLY, LATE_JULY)


# --- what became of a site ----------------------------------------------------------------------


def test_changes_by_outline(pair):
    cases = [
        (None, 4.0, "new", 4.0),
        (4.0, None, "gone", -4.0),
        (4.0, 4.3, "stable", 0.3),
        (4.0, 4.6, "growing", 0.6),
        (4.6, 4.0, "shrinking", -0.6),
        (15.0, 16.0, "stable", 1.0),
        (15.0, 17.0, "growing", 2.0),
    ]
    spots = [cell(2 * (n // 4), 2 * (n % 4)) for n in range(len(cases))]
    was, now = (
        {
            spot: Cell(0.9, barren_ha=case[side])
            for spot, case in zip(spots, cases, strict=True)
            if case[side] is not None
        }
        for side in (0, 1)
    )
    frame = pair(was, now).set_index("site_id")
    for spot, (old, new, change, growth) in zip(spots, cases, strict=True):
        row = frame.loc[f"site_{spot}"]
        assert row.change == change
        assert row.growth_ha == pytest.approx(growth)
        assert (row.area_old_ha, row.area_new_ha) == (old or 0.0, new or 0.0)
        assert row.compared_share == 1.0
        assert row.unseen_reason is None


def test_a_mine_under_cloud_is_unseen_and_not_gone(pair):
    row = only(pair({cell(5, 5): MINE}, {cell(5, 5): UNSEEN}))
    assert (row.change, row.unseen_reason, row.mining_in) == ("unseen", "new: cloud", "old")
    assert np.isnan(row.area_old_ha)
    assert np.isnan(row.growth_ha)
    assert row.detected_old_ha == 4.0
    assert row.geometry.area > 0


def test_a_mine_that_was_under_cloud_is_not_new(pair):
    frame = pair({cell(5, 5): UNSEEN}, {cell(5, 5): MINE})
    row = only(frame)
    assert (row.change, row.unseen_reason, row.mining_in) == ("unseen", "old: cloud", "new")
    assert (row.first_seen_after, row.first_seen_by) == (None, LATE_JULY)
    assert "found by NEW where OLD had no clear view" in tell_changes(frame)


def test_reasons_name_what_hid_a_cell(pair):
    east = Tile(TILE.zone, TILE.col + 1, TILE.row)
    wide = area((0, 6), (39, 48))
    cells = {cell(1, 40): MINE, cell(1, 1, east): MINE}
    failed = pair(cells, {}, new_run={"failed": [east.tile_id]}, aoi=wide).set_index("site_id")
    assert failed.change.tolist() == ["gone", "unseen"]
    assert failed.unseen_reason.iloc[1] == "new: failed tile"
    bare = pair(cells, {}, new_run={"without_items": [east.tile_id]}, aoi=wide)
    assert bare.unseen_reason.tolist() == [None, "new: no data"]
    outside = pair(cells, {}, {"aoi": wide}, {"aoi": area((0, 6), (36, 42))})
    assert outside.unseen_reason.tolist() == [None, "new: outside the area"]
    before = pair({}, cells, {"aoi": area((0, 6), (36, 42))}, {"aoi": wide})
    assert before.change.tolist() == ["new", "unseen"]
    assert before.unseen_reason.tolist() == [None, "old: outside the area"]


def test_growth_is_taken_where_both_runs_saw(pair):
    """Two cells of 4 ha; in July one is hidden and the other has 2 ha more."""
    old = {cell(5, 5): MINE, cell(5, 6): MINE}
    new = {cell(5, 5): Cell(0.9, barren_ha=6), cell(5, 6): UNSEEN}
    row = only(pair(old, new))
    assert (row.change, row.compared_share, row.unseen_reason) == ("growing", 0.5, "new: cloud")
    assert (row.area_old_ha, row.area_new_ha, row.growth_ha) == (4.0, 6.0, 2.0)
    assert (row.detected_old_ha, row.detected_new_ha) == (8.0, 6.0)


def test_a_site_with_a_hidden_part_is_neither_new_nor_gone(pair):
    row = only(pair({cell(5, 6): UNSEEN}, {cell(5, 5): MINE, cell(5, 6): MINE}))
    assert (row.change, row.first_seen_after, row.area_old_ha) == ("growing", None, 0.0)
    row = only(pair({cell(5, 5): MINE, cell(5, 6): MINE}, {cell(5, 6): UNSEEN}))
    assert (row.change, row.area_new_ha) == ("shrinking", 0.0)


def test_a_new_cell_beside_a_mine_is_growth(pair):
    row = only(pair({cell(5, 5): MINE}, {cell(5, 5): MINE, cell(6, 6): MINE}))
    assert (row.change, row.growth_ha, row.n_cells) == ("growing", 4.0, 2)
    assert (row.first_seen_after, row.first_seen_by) == (None, LATE)


def test_a_score_that_wavers_about_the_threshold_is_no_change(pair):
    below = Cell(0.45, barren_ha=4)
    row = only(pair({cell(5, 5): below}, {cell(5, 5): MINE}))
    assert (row.change, row.growth_ha, row.mining_in) == ("stable", 0.0, "both")
    assert (row.first_seen_after, row.first_seen_by) == (None, LATE_JULY)
    assert (row.score_old, row.score_new) == (0.45, 0.9)
    row = only(pair({cell(5, 5): MINE}, {cell(5, 5): below}))
    assert (row.change, row.mining_in) == ("stable", "both")
    far = Cell(0.3, barren_ha=4)
    assert only(pair({cell(5, 5): far}, {cell(5, 5): MINE})).change == "new"
    assert len(pair({cell(5, 5): below}, {cell(5, 5): below})) == 0


def test_a_mine_through_cloud_is_no_proof_of_a_change(pair):
    """Mining on less than --min-clear of the cell: told by the run, not taken for new or gone."""
    poor = Cell(0.9, clear=0.3, days=(), barren_ha=4)
    frame = pair({}, {cell(5, 5): poor})
    row = only(frame)
    assert (row.change, row.unseen_reason, row.mining_in) == ("unseen", "new: poor view", "new")
    assert (row.first_seen_after, row.first_seen_by) == (None, None)
    assert "found by NEW" not in tell_changes(frame)
    row = only(pair({cell(5, 5): poor}, {}))
    assert (row.change, row.unseen_reason, row.mining_in) == ("unseen", "old: poor view", "old")
    row = only(pair({cell(5, 5): poor}, {cell(5, 5): UNSEEN}))
    assert row.unseen_reason == "old: poor view; new: cloud"


def test_a_mine_that_both_runs_show_is_compared_however_poor_the_view(pair):
    """Bright ground that is called cloud on every date would never be compared else."""
    poor, large = Cell(0.9, clear=0.3, days=(), barren_ha=4), Cell(0.9, barren_ha=12)
    row = only(pair({cell(5, 5): poor}, {cell(5, 5): large}))
    assert (row.change, row.compared_share, row.growth_ha) == ("stable", 1.0, 8.0)
    assert row.unclear_ha == pytest.approx(0.7 * 23.04)
    assert (row.first_seen_after, row.first_seen_by) == (None, LATE_JULY)
    near = Cell(0.45, barren_ha=4)
    row = only(pair({cell(5, 5): near}, {cell(5, 5): poor}))
    told = ("unseen", "new: poor view", "new")
    assert (row.change, row.unseen_reason, row.mining_in) == told


def test_growth_no_larger_than_the_unclear_ground_of_its_cell_is_not_told(pair):
    """A tenth of one cell was not clear, 2.3 ha; the clouds over its neighbour are no excuse."""
    old = {cell(5, 5): MINE, cell(5, 6): Cell(0.9, barren_ha=4, clear=0.6)}
    new = {cell(5, 5): Cell(0.9, barren_ha=6, clear=0.9), cell(5, 6): MINE}
    row = only(pair(old, new))
    assert (row.change, row.growth_ha) == ("stable", 2.0)
    assert row.unclear_ha == pytest.approx(0.5 * 23.04)
    row = only(pair(old, {**new, cell(5, 5): Cell(0.9, barren_ha=8, clear=0.9)}))
    assert (row.change, row.growth_ha) == ("growing", 4.0)
    row = only(pair({**old, cell(5, 5): Cell(0.9, barren_ha=8, clear=0.9)}, {**new, **old}))
    assert (row.change, row.growth_ha) == ("shrinking", -4.0)


def test_both_outlines_are_drawn_from_the_same(pair):
    """No bare ground in June: both are taken from the suspicious ground."""
    xmin, ymin, _, _ = TILE.cell_bounds(5, 5)
    spot = [piece("suspicious", shapely.box(xmin, ymin, xmin + 300, ymin + 300))]
    row = only(pair({cell(5, 5): Cell(0.9, pieces=spot)}, {cell(5, 5): MINE}))
    assert (row.outline, row.area_new_ha) == ("suspicious", 4.0)
    row = only(pair({cell(5, 5): Cell(0.9)}, {cell(5, 5): MINE}))
    assert (row.change, row.outline, row.growth_ha) == ("stable", "cells", 0.0)


def test_ponds_count_and_rivers_do_not(pair):
    xmin, ymin, xmax, _ = TILE.cell_bounds(5, 5)
    river = piece("water", shapely.box(xmin, ymin, xmax, ymin + 100), 7, 5000)
    old = {cell(5, 5): Cell(0.9, barren_ha=0, pieces=[river], water_ha=2)}
    new = {cell(5, 5): Cell(0.9, barren_ha=0, pieces=[river], water_ha=3)}
    row = only(pair(old, new))
    assert (row.area_old_ha, row.area_new_ha) == (2.0, 3.0)


def test_one_site_over_a_tile_seam(pair):
    east = Tile(TILE.zone, TILE.col + 1, TILE.row)
    wide = area((0, 6), (39, 45))
    row = only(pair({cell(1, 41): MINE}, {cell(1, 41): MINE, cell(2, 0, east): MINE}, aoi=wide))
    assert (row.change, row.n_cells, row.growth_ha) == ("growing", 2, 4.0)


def test_one_site_over_a_zone_seam_counts_ground_once(pair):
    ground = Aoi("seam", shapely.box(-54.004, -7.004, -53.996, -6.996))
    cells = {}
    for tile in tiles(ground):
        ring = np.asarray(ground.geometry.exterior.coords)
        clearing = shapely.Polygon(np.column_stack(from_geographic(tile.epsg, *ring.T)))
        for r, c in tile.cells:
            part = clearing.intersection(shapely.box(*tile.cell_bounds(r, c)))
            cells[tile.cell_id(r, c)] = Cell(0.9, pieces=[piece("barren", part)])
    assert len({tile.epsg for tile in tiles(ground)}) == 2
    row = only(pair({}, cells, aoi=ground))
    assert row.change == "new"
    assert row.growth_ha == pytest.approx(ground.area_km2 * 100, rel=0.01)
    assert row.growth_ha == pytest.approx(row.detected_new_ha, abs=1e-3)


def test_latest_clear_windows_may_overlap_and_the_same_view_is_no_news(pair):
    """July's run knows no later day of one cell than June's did."""
    both = {"composite": "latest-clear"}
    june = {"days": ("2024-06-12", "2024-07-12"), "date": "2024-06-01/2024-07-15"}
    july = {"days": ("2024-07-12", "2024-07-22"), "date": "2024-07-01/2024-07-31"}
    old = {cell(1, 1): MINE, cell(5, 5): MINE, cell(8, 8): Cell()}
    new = {
        cell(1, 1): MINE,
        cell(5, 5): replace(MINE, days=[0]),
        cell(8, 8): replace(MINE, days=[0]),
    }
    frame = pair(old, new, june, july, **both).set_index("site_id")
    assert frame.change.tolist() == ["stable", "unseen", "unseen"]
    assert frame.unseen_reason.tolist() == [None, "new: no later view", "old: no later view"]


def test_empty_runs_compare_to_an_empty_valid_file(pair, tmp_path):
    frame = pair({}, {})
    assert len(frame) == 0
    assert tell_changes(frame).startswith("0 sites")
    out = tmp_path / "out0"
    back = gpd.read_parquet(out / "changes.parquet")
    assert set(back.columns) == {*CHANGE_SCHEMA.names, "geometry"}
    assert len(Ledger.read(out / "ledger.parquet").sites) == 0


def test_a_run_without_a_scene_tells_nothing(pair):
    row = only(pair({}, {cell(5, 5): MINE}, {"days": (), "date": None}))
    assert (row.change, row.unseen_reason) == ("unseen", "old: no data")
    row = only(pair({cell(5, 5): MINE}, {}, None, {"days": (), "date": None}))
    assert (row.change, row.unseen_reason) == ("unseen", "new: no data")


def test_files_are_of_the_schema_and_the_same_each_time(tmp_path):
    old = make_run(tmp_path / "old", {cell(5, 5): MINE, cell(1, 1): MINE}, **JUNE)
    new = make_run(tmp_path / "new", {cell(5, 5): MINE, cell(8, 1): MINE}, **JULY)
    frame = write_changes(old, new, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "changes.parquet")
    assert table.select(CHANGE_SCHEMA.names).schema.remove_metadata() == CHANGE_SCHEMA
    ledger = pq.read_table(tmp_path / "out" / "ledger.parquet")
    assert ledger.select(LEDGER_SCHEMA.names).schema.remove_metadata() == LEDGER_SCHEMA
    about = json.loads((tmp_path / "out" / "changes.json").read_text())
    assert about["changes"]["new"] == about["changes"]["gone"] == 1
    assert about["compared_ha"] == 2304.0
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    again = write_changes(old, new, tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    pd.testing.assert_frame_equal(pd.DataFrame(frame), pd.DataFrame(again))
    write_changes(old, new, tmp_path / "elsewhere")
    assert {p.name: p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()} == before
    told = tell_changes(frame)
    assert "new: 1 site, 4.0 ha" in told
    assert "gone: 1 site, 4.0 ha before" in told
    kept = gpd.read_parquet(tmp_path / "out" / "changes.parquet")
    assert tell_changes(kept).splitlines()[1:] == told.splitlines()[1:]


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ({}, {"models": "other"}, "segmenter segmenter-other.*--segmenter"),
        ({}, {"threshold": 0.6}, "--threshold 0.6.*at 0.5.*reads no pixel"),
        ({}, {"prior": 0.1}, "--prior 0.1"),
        ({}, {"min_clear": 0.2}, "--min-clear 0.2"),
        ({}, {"composite": "latest-clear"}, "--composite latest-clear.*median"),
        ({}, {"suspicious_share": 0.5}, "--suspicious-share 0.5"),
        ({}, {"clear_scl": (4, 5)}, r"pixels.clear_scl \(--config\) 4 5"),
        ({"date": "2024-06-01/2024-07-05"}, {}, "overlap share dates.*--composite latest-clear"),
        (JULY, JUNE, "OLD ends after NEW; swap"),
        ({}, {"date": "2024-07-01/2024-07-31", "aoi": area((0, 5), (20, 25))}, "shares no cell"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(made, tmp_path, old, new, named):
    was, now = made({}, **{**JUNE, **old}), made({}, **{**JULY, **new})
    with pytest.raises(ConfigError, match=named) as told:
        write_changes(was, now, tmp_path / "out")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


def test_a_run_and_itself_is_refused(made, tmp_path):
    run = made({}, **JUNE)
    with pytest.raises(ConfigError, match="the same run"):
        write_changes(run, run, tmp_path / "out")


def test_windows_that_end_on_one_day_are_refused(tmp_path):
    old = make_run(tmp_path / "old", {}, composite="latest-clear", **JUNE)
    span = {"days": ("2024-06-22",), "date": "2024-06-15/2024-06-30"}
    new = make_run(tmp_path / "new", {}, composite="latest-clear", **span)
    with pytest.raises(ConfigError, match="both end on one day"):
        write_changes(old, new, tmp_path / "out")


def test_more_scenes_and_the_other_engine_may_be_compared(pair):
    row = only(pair({}, {cell(5, 5): MINE}, {"max_scenes": 4}, {"engine": "odc"}))
    assert row.change == "new"


def test_a_run_that_does_not_tell_its_models_is_refused(made, tmp_path):
    old, new = made({}, **JUNE), made({}, **JULY)
    told = {name: value for name, value in new.summary.items() if name != "models"}
    with pytest.raises(RunError, match=r"run\.json: does not tell its models\.segmenter"):
        write_changes(old, replace(new, summary=told), tmp_path / "out")


def test_a_part_that_was_changed_is_refused(tmp_path):
    old = make_run(tmp_path / "old", {cell(5, 5): MINE}, **JUNE)
    new = make_run(tmp_path / "new", {}, **JULY)
    (old.path / "parts" / f"{TILE.tile_id}.parquet").write_bytes(b"")
    with pytest.raises(RunError, match="was changed since"):
        write_changes(old, new, tmp_path / "out")


# --- properties of whole runs -------------------------------------------------------------------

STATES = st.sampled_from(["mine", "mine", "big", "clear", "clear", "unseen", "low", "poor"])
KINDS = {
    "mine": MINE,
    "big": Cell(0.8, barren_ha=9, water_ha=1),
    "clear": Cell(),
    "unseen": UNSEEN,
    "low": Cell(0.1, barren_ha=3),
    "poor": Cell(0.9, clear=0.2, days=(), barren_ha=2),
}
SIDE = 4


def _cells(states):
    return {cell(1 + i // SIDE, 1 + i % SIDE): KINDS[state] for i, state in enumerate(states)}


@settings(max_examples=6)
@given(
    old=st.lists(STATES, min_size=SIDE**2, max_size=SIDE**2),
    new=st.lists(STATES, min_size=SIDE**2, max_size=SIDE**2),
)
def test_whole_runs(tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("runs")
    ground = area((0, 6), (0, 6))
    runs = {
        (name, month): make_run(folder / f"{name}{n}", _cells(states), aoi=ground, **span)
        for name, states in (("a", old), ("b", new))
        for n, (month, span) in enumerate((("june", JUNE), ("july", JULY)))
    }
    frame = write_changes(runs["a", "june"], runs["b", "july"], folder / "ab")
    swapped = write_changes(runs["b", "june"], runs["a", "july"], folder / "ba")

    # every detection of both runs stands in exactly one row, and areas add up
    for side, run in (("old", runs["a", "june"]), ("new", runs["b", "july"])):
        ids = sorted(i for row in frame[f"detection_ids_{side}"] for i in row)
        assert ids == sorted(run.sites.detection_id)
        assert frame[f"detected_{side}_ha"].sum() == pytest.approx(run.sites.area_ha.sum())
        whole = frame[(frame.compared_share == 1) & (frame[f"detected_{side}_ha"] > 0)]
        np.testing.assert_allclose(whole[f"area_{side}_ha"], whole[f"detected_{side}_ha"])
    np.testing.assert_allclose(frame.area_new_ha - frame.area_old_ha, frame.growth_ha, atol=1e-3)

    # an unseen cell never makes a site new or gone
    state = {
        cell(1 + i // SIDE, 1 + i % SIDE): pair for i, pair in enumerate(zip(old, new, strict=True))
    }
    mined = {"mine", "big", "poor"}
    hidden = {
        name
        for name, both in state.items()
        if "unseen" in both or ("poor" in both and not set(both) <= mined)
    }
    ledger = Ledger.read(folder / "ab" / "ledger.parquet")
    for row in frame.itertuples():
        cells = ledger.sites[row.site_id].cells
        if row.change in ("new", "gone"):
            assert not hidden & set(cells)
            assert row.compared_share == 1
        assert (row.unseen_reason is None) == (not hidden & set(cells))
        if any({"mine", "big"} & set(state[name]) for name in cells):
            assert row.first_seen_by is not None
        assert row.first_seen_after is None or row.first_seen_after < row.first_seen_by
        assert (row.first_seen_after is not None) == (row.change == "new")

    # swapping the runs mirrors what became of each site
    mirror = {"new": "gone", "gone": "new", "growing": "shrinking", "shrinking": "growing"}
    expected = {row.site_id: mirror.get(row.change, row.change) for row in frame.itertuples()}
    assert {row.site_id: row.change for row in swapped.itertuples()} == expected
    np.testing.assert_allclose(frame.growth_ha, -swapped.growth_ha)


# --- the rule itself ----------------------------------------------------------------------------

LETTERS = st.sampled_from("x.?")


def _view(letter, day):
    if letter == "?":
        return View(HIDDEN, reason="cloud")
    if letter == ".":
        return View(CLEAR, sure=day, last=day)
    return View(MINING, True, None, 0.9, day, day)


@given(st.lists(st.tuples(LETTERS, LETTERS), min_size=1, max_size=6), st.floats(-30, 30))
def test_the_rule_mirrors_and_never_speaks_of_what_was_hidden(letters, growth):
    letters = [pair for pair in letters if "x" in pair] or [("x", ".")]
    there = [ChangeCell("21S_1_1", TILE, _view(a, EARLY), _view(b, LATE)) for a, b in letters]
    back = [ChangeCell("21S_1_1", TILE, _view(b, EARLY), _view(a, LATE)) for a, b in letters]
    change = change_of(there, growth, abs(growth))
    mirror = {"new": "gone", "gone": "new", "growing": "shrinking", "shrinking": "growing"}
    assert change_of(back, -growth, abs(growth)) == mirror.get(change, change)
    if any("?" in pair for pair in letters):
        assert change not in ("new", "gone")
    if all("?" in pair for pair in letters):
        assert change == "unseen"
    if change in ("growing", "shrinking"):
        assert abs(growth) >= GROWTH_HA
    after, by = first_seen(there)
    assert (after is not None) == (change == "new")
    assert by is not None
    assert after is None or after < by
