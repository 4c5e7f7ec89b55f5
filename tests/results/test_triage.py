"""The sites most worth a flight: order, spread, reasons, and a CSV that runs nothing."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import ConfigError, RunError
from scanner.results.changes.compare import write_changes
from scanner.results.triage import COLUMNS, _spread, rank_sites, tell_ranking, write_ranking
from tests.results.runs import UNSEEN, Cell, area, cell, make_run

JUNE = {"days": ("2024-06-12", "2024-06-22"), "date": "2024-06-01/2024-06-30"}
JULY = {"days": ("2024-07-12", "2024-07-22"), "date": "2024-07-01/2024-07-31"}


def ids(ranking):
    return [name.removeprefix("site_") for name in ranking.detection_id]


def ranked(tmp_path, cells, budget=50, **values):
    return rank_sites(make_run(tmp_path / "run", cells, **values), budget)


def test_a_sure_large_mine_comes_first_and_every_site_says_why(tmp_path):
    cells = {
        cell(0, 0): Cell(0.97, barren_ha=14),
        cell(0, 9): Cell(0.97, barren_ha=2),
        cell(9, 0): Cell(0.55, barren_ha=14),
    }
    ranking = ranked(tmp_path, cells)
    assert ids(ranking)[0] == cell(0, 0)
    assert ids(ranking)[-1] == cell(0, 9)
    assert list(ranking.columns) == [*COLUMNS, "geometry"]
    assert ranking["rank"].tolist() == [1, 2, 3]
    assert ranking.reason[0] == "high score (0.97), 14.0 ha, seen clear on 2 days"
    assert "score near the threshold (0.55)" in ranking.reason[1]
    assert "4 km from the nearest above" in ranking.reason[1]
    told = tell_ranking(ranking)
    assert told.splitlines()[0] == "3 of 3 sites, the one most worth a flight first"
    assert len(told.splitlines()) == 4


def test_the_budget_is_kept_and_few_sites_are_all_given(tmp_path):
    cells = {cell(r, c): Cell(0.9, barren_ha=3) for r in (0, 4, 8) for c in (0, 4, 8)}
    run = make_run(tmp_path / "run", cells)
    assert len(rank_sites(run, 4)) == 4
    assert "4 of 9 sites" in tell_ranking(rank_sites(run, 4))
    assert sorted(ids(rank_sites(run, 50))) == sorted(cells)
    pd.testing.assert_frame_equal(
        pd.DataFrame(rank_sites(run, 4)), pd.DataFrame(rank_sites(run, 4))
    )
    with pytest.raises(ConfigError, match="--budget 0"):
        rank_sites(run, 0)


def test_no_sites_is_an_empty_ranking(tmp_path):
    ranking = ranked(tmp_path, {})
    assert len(ranking) == 0
    assert tell_ranking(ranking) == "no sites to rank"
    write_ranking(ranking, tmp_path / "top.csv")
    assert (tmp_path / "top.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_near_sites_wait_for_far_ones(tmp_path):
    """Two large mines side by side, one half as large far away: it goes second."""
    cells = {
        cell(0, 0): Cell(0.9, barren_ha=10),
        cell(0, 2): Cell(0.9, barren_ha=9.9),
        cell(40, 40): Cell(0.9, barren_ha=6),
    }
    ranking = ranked(tmp_path, cells, budget=3, aoi=area((0, 42), (0, 42)))
    assert ids(ranking) == [cell(0, 0), cell(40, 40), cell(0, 2)]
    assert np.isnan(ranking.distance_km[0])
    assert ranking.distance_km[1] == pytest.approx(27.2, abs=0.2)
    assert ranking.distance_km[2] == pytest.approx(0.96, abs=0.05)


def test_what_was_seen_once_counts_less(tmp_path):
    cells = {cell(0, 0): Cell(0.9, barren_ha=5, days=[1]), cell(9, 9): Cell(0.9, barren_ha=5)}
    ranking = ranked(tmp_path, cells)
    assert ids(ranking) == [cell(9, 9), cell(0, 0)]
    assert "seen clear once" in ranking.reason[1]
    assert ranking.worth[1] < ranking.worth[0]


@pytest.fixture
def compared(tmp_path):
    """A run with a new, a growing, a stable site, and one that clouds hid before."""
    mine = Cell(0.9, barren_ha=5)
    old = {cell(0, 9): Cell(0.9, barren_ha=3), cell(9, 0): mine, cell(9, 9): UNSEEN}
    new = {cell(r, c): mine for r in (0, 9) for c in (0, 9)}
    was, now = make_run(tmp_path / "old", old, **JUNE), make_run(tmp_path / "new", new, **JULY)
    return was, now, write_changes(was, now, tmp_path / "changes")


def test_new_and_growing_sites_come_before_known_ones(compared, tmp_path):
    _, now, _ = compared
    ranking = rank_sites(now, 50, tmp_path / "changes")
    assert ids(ranking) == [cell(0, 0), cell(0, 9), cell(9, 9), cell(9, 0)]
    assert ranking.change.tolist() == ["new", "growing", "unseen", "stable"]
    assert "new since 2024-06-12" in ranking.reason[0]
    assert "growing (+2.0 ha)" in ranking.reason[1]
    assert "first seen now, hidden before" in ranking.reason[2]
    assert "known since 2024-06-22" in ranking.reason[3]
    assert rank_sites(now, 50).change.isna().all()  # nobody asked for a comparison


def test_the_runs_own_changes_are_used_where_there_are_some(compared, tmp_path):
    was, now, _ = compared
    write_changes(was, now, now.path / "changes")
    assert rank_sites(now, 50).change.tolist() == ["new", "growing", "unseen", "stable"]


def test_what_a_ledger_knows_is_no_news(tmp_path):
    """Mined in June, hidden in July, seen again in August; another left in July and is back."""
    mine = Cell(0.9, barren_ha=5)
    august = {"days": ("2024-08-12",), "date": "2024-08-01/2024-08-31"}
    hidden, back = cell(0, 0), cell(9, 9)
    runs = [
        make_run(tmp_path / "may", {}, days=("2024-05-12",)),
        make_run(tmp_path / "june", {hidden: mine, back: mine}, **JUNE),
        make_run(tmp_path / "july", {hidden: UNSEEN}, **JULY),
        make_run(tmp_path / "august", {hidden: mine, back: mine}, **august),
    ]
    for old, new in pairwise(runs):
        write_changes(old, new, tmp_path / "changes")
    ranking = rank_sites(runs[-1], 5, tmp_path / "changes").set_index("detection_id")
    told = ranking.reason[f"site_{hidden}"]
    assert "known since 2024-06-22, hidden in the run before" in told
    assert "back, known since 2024-06-22" in ranking.reason[f"site_{back}"]


def test_what_only_clouds_let_through_is_said_so(tmp_path):
    poor = Cell(0.9, clear=0.3, days=(), barren_ha=5)
    was = make_run(tmp_path / "old", {}, **JUNE)
    now = make_run(tmp_path / "new", {cell(0, 0): poor}, **JULY)
    write_changes(was, now, tmp_path / "changes")
    ranking = rank_sites(now, 5, tmp_path / "changes")
    assert "through cloud only, clear on no single day" in ranking.reason[0]


def test_changes_of_another_run_are_refused(compared, tmp_path):
    was, now, _ = compared
    with pytest.raises(ConfigError, match=r"compares another run .* call mining-report compare"):
        rank_sites(was, 50, tmp_path / "changes")
    with pytest.raises(ConfigError, match=r"holds no changes\.parquet"):
        rank_sites(now, 50, tmp_path / "nothing")
    (tmp_path / "changes" / "changes.parquet").write_bytes(b"=cmd")
    with pytest.raises(ConfigError, match=r"holds no changes\.parquet"):
        rank_sites(now, 50, tmp_path / "changes")


def overlays(run, rows):
    table = {name: [row.get(name) for row in rows] for name in rows[0]}
    pq.write_table(pa.table(table), run.path / "overlays.parquet")


def test_a_middling_score_in_a_place_of_consequence_is_worth_a_look(tmp_path):
    cells = {cell(0, 0): Cell(0.7, barren_ha=5), cell(9, 9): Cell(0.72, barren_ha=5)}
    run = make_run(tmp_path / "run", cells)
    assert ids(rank_sites(run, 2)) == [cell(9, 9), cell(0, 0)]
    row = {"overlay": "parks", "detection_id": f"site_{cell(0, 0)}"}
    elsewhere = {"overlay": "parks", "detection_id": f"site_{cell(9, 9)}", "feature": None}
    overlays(
        run,
        [
            {**row, "feature": "Rio \x1b[31mNovo", "share": 0.8},
            {**row, "feature": None, "share": 0.2},
            {**elsewhere, "share": 1.0},
        ],
    )
    ranking = rank_sites(run, 2)
    assert ids(ranking) == [cell(0, 0), cell(9, 9)]
    assert "within Rio ?[31mNovo (80%)" in ranking.reason[0]
    assert "within" not in ranking.reason[1]
    (run.path / "overlays.parquet").write_bytes(b"")
    with pytest.raises(RunError, match=r"overlays\.parquet: cannot be read"):
        rank_sites(run, 2)


def test_the_csv_holds_no_formula(tmp_path):
    run = make_run(tmp_path / "run", {cell(0, 0): Cell(0.9, barren_ha=5)})
    evil = '=HYPERLINK("http://x","y")'
    row = {"overlay": "o", "detection_id": f"site_{cell(0, 0)}", "feature": evil, "share": 1.0}
    overlays(run, [row])
    write_ranking(rank_sites(run, 5), tmp_path / "top.csv")
    text = (tmp_path / "top.csv").read_text(encoding="utf-8")
    (told,) = csv.DictReader(io.StringIO(text))
    assert told["overlays"] == f"'{evil}"
    assert float(told["lat"]) == pytest.approx(-6.2, abs=0.1)
    assert told["first_observed"] == "2024-06-12"
    assert told["change"] == told["distance_km"] == ""


PLACES = st.lists(
    st.tuples(st.floats(-60, -50), st.floats(-10, 0), st.floats(0.001, 9)), max_size=30
)


@given(PLACES, st.integers(1, 40))
def test_spread_picks_each_once_the_best_first(places, budget):
    lon, lat, worth = (np.array([place[i] for place in places], float) for i in range(3))
    sites = gpd.GeoDataFrame(
        {"lon": lon, "lat": lat, "worth": worth}, geometry=shapely.points(lon, lat)
    )
    order, distance = _spread(sites, budget)
    assert len(set(order)) == len(order) == len(distance) == min(budget, len(sites))
    if order:
        assert worth[order[0]] == pytest.approx(worth.max())
        assert np.isnan(distance[0])
        assert not np.isnan(distance[1:]).any()
    shorter, _ = _spread(sites, len(sites) + 5)
    assert sorted(shorter) == list(range(len(sites)))


@given(st.floats(0, 1), st.floats(0, 1), st.booleans(), st.integers(0, 9), st.floats(0.1, 500))
def test_a_higher_score_is_never_worth_less(one, other, within, days, hectares):
    from scanner.results.triage import _worth

    low, high = sorted((one, other))
    rows = {
        "score": [low, high],
        "overlays": ["park" if within else None] * 2,
        "clear_observations": [days] * 2,
        "change": [None] * 2,
        "mining_in": [None] * 2,
        "area_ha": [hectares] * 2,
    }
    worth = _worth(gpd.GeoDataFrame(rows))
    assert worth[0] <= worth[1] + 1e-12
