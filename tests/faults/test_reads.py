"""Pixels that cannot be read: for a while, and the rows are those of a calm run; for ever, and the
scene is dropped by name, or the tile has failed, or its ground is unseen. Never "no mining".
"""

from __future__ import annotations

import numpy as np
import pytest

from scanner.imagery import access
from tests.servers.range_server import PASSING
from tests.servers.stand import Host
from tests.synth import make_item


def first(small, band="B03"):
    """The path of one asset of the first scene, which every scan of them reads."""
    return f"{small.items[0].id}/{band}.tif"


@pytest.fixture
def impatient(monkeypatch):
    """Time-outs of seconds instead of a minute, one retry instead of three."""
    for name, value in {
        "GDAL_HTTP_MAX_RETRY": "1",
        "GDAL_HTTP_TIMEOUT": "3",
        "GDAL_HTTP_LOW_SPEED_TIME": "2",
    }.items():
        assert name in access.GDAL_SETTINGS
        monkeypatch.setitem(access.GDAL_SETTINGS, name, value)


def assert_dropped(done, small, calm_without_first, *facts):
    """The first scene alone was lost, is named with its file and why, and nothing else changed."""
    lost = small.items[0].id
    assert done.code == 0, done.err
    assert done.cells.equals(calm_without_first.cells)
    assert list(done.reasons) == [lost]
    assert all(fact in done.reasons[lost] for fact in facts), done.reasons
    assert "scenes left out: 1" in done.out
    assert [name for name, _ in done.report["dropped"]] == [lost]
    assert lost not in [name for day in done.report["item_ids"] for name in day]
    assert done.coverage.n_items.tolist() == [2]


# For a while


def test_an_overloaded_host_is_waited_for(small, scan_items, calm_small, serve_files):
    """GDAL's own retries, inside of one try."""
    host = serve_files(small.folder)
    host.fail("SCL.tif", status=503, times=1)
    host.fail(first(small, "B02"), status=503, times=2)
    host.fail(first(small, "B04"), status=429, times=2)
    done = scan_items(small.on(host))
    assert done.code == 0, done.err
    assert done.rows() == calm_small.rows()
    assert done.report["attempts"] == 1
    assert not done.reasons
    assert host.statuses().count(503) == 3
    assert host.statuses().count(429) == 2


def test_gdal_remembers_a_failure_but_a_second_try_asks_again(
    small, scan_items, calm_small, serve_files, monkeypatch
):
    monkeypatch.setitem(access.GDAL_SETTINGS, "GDAL_HTTP_MAX_RETRY", "0")
    host = serve_files(small.folder)
    host.fail(first(small), status=503, times=1)
    done = scan_items(small.on(host))
    assert done.code == 0, done.err
    assert done.rows() == calm_small.rows()
    assert done.report["attempts"] == 2
    assert host.statuses().count(503) == 1
    assert not done.reasons


@pytest.mark.parametrize("mode", ["reset", "stall", "drip"])
def test_a_connection_that_breaks_or_hangs_is_tried_again(
    mode, small, scan_items, calm_small, serve_files, impatient
):
    host = serve_files(small.folder)
    fault = host.fail(first(small), mode, times=1)
    done = scan_items(small.on(host))
    assert done.code == 0, done.err
    assert fault.hits == 1
    assert done.rows() == calm_small.rows()
    assert not done.reasons


def test_tokens_that_end_in_the_middle_are_replaced(
    small, scan_items, calm_small, serve_tokens, running
):
    """With stackstac, over an API and with an overloaded host: tests/flow/test_network.py."""
    tokens = serve_tokens()
    host = Host(small.folder, tokens.mint, ends=[first(small, "SCL"), first(small)])
    running.append(host)
    token_url = f"{tokens.url}/token/{{container}}"
    done = scan_items(small.on(host), token_url=token_url, engine="odc")
    assert done.code == 0, done.err
    assert host.statuses("SCL").count(403) >= 1
    assert host.statuses("B0").count(403) >= 1
    assert done.cells.equals(calm_small.cells)
    assert done.report["attempts"] == 3
    assert not done.reasons
    assert "sig=" not in done.told


def test_bad_weather_changes_no_row(small, scan_items, calm_small, serve_files, impatient):
    """One request in six goes wrong at random, in every way that passes."""
    host = serve_files(small.folder, stall_s=10, drip_s=0.1)
    weather = host.weather(1 / 6, PASSING, seed=7, at_most=1)
    done = scan_items(small.on(host))
    assert done.code == 0, done.err
    assert weather.hits.total() >= 4
    assert len(weather.hits) >= 2
    assert done.rows() == calm_small.rows()
    assert not done.reasons


# For ever


@pytest.mark.parametrize(
    ("mode", "engine"),
    [
        ("short", "stackstac"),
        ("corrupt", "stackstac"),
        ("corrupt", "odc"),
        pytest.param("zeroed", "odc", marks=pytest.mark.slow),
        pytest.param("drip", "stackstac", marks=pytest.mark.slow),
        ("stall", "odc"),
    ],
)
def test_a_broken_asset_costs_its_scene_alone(
    mode, engine, small, scan_items, calm_without_first, serve_files, impatient
):
    host = serve_files(small.folder)
    fault = host.fail(first(small), mode, times=None)
    done = scan_items(small.on(host), engine=engine, tries=2)
    assert fault.hits >= 2, "tried again before it was given up"
    assert_dropped(done, small, calm_without_first, f"{host.url}/{first(small)}")


@pytest.mark.parametrize("engine", ["stackstac", "odc"])
def test_a_page_to_log_in_is_no_image(
    engine, small, scan_items, calm_without_first, serve_files, serve_tokens
):
    """A captive portal or a proxy answers everything with 200 and HTML."""
    tokens = serve_tokens()
    host = serve_files(small.folder, mint=tokens.mint)
    host.fail(first(small), "html", times=None)
    token_url = f"{tokens.url}/token/{{container}}"
    done = scan_items(small.on(host), token_url=token_url, engine=engine, tries=2)
    where = f"{host.url}/{first(small)}"
    assert_dropped(done, small, calm_without_first, where, "not a GeoTIFF", "log in")
    assert len(tokens.mint.issued) >= 2, "signed anew before it was given up"
    assert "sig=" not in done.told


@pytest.mark.parametrize("mode", ["stall", "reset"])
def test_where_no_scene_can_be_read_the_tile_has_failed(
    mode, small, scan_items, calm_small, serve_files, impatient
):
    host = serve_files(small.folder)
    host.fail("", mode, times=None)
    done = scan_items(small.on(host), tries=1)
    assert done.code == 1, done.err
    (failed,) = done.run["tiles"]["failed"]
    assert "none of its scenes could be read" in failed["reason"]
    assert host.url in failed["reason"]
    assert failed["tile_id"] in done.err
    assert set(done.cells.status) == {"failed"}
    coverage = done.run["coverage_ha"]
    assert coverage["failed"] == coverage["area"] > 0
    assert coverage["clear"] == 0
    assert set(done.coverage.status) == {"failed"}
    assert not list((done.folder / "parts").glob("*.json")), "nothing to resume from"

    if mode == "reset":
        host.faults.clear()
        again = scan_items(small.on(host))
        assert again.code == 0, "the same command scans it again"
        assert again.rows() == calm_small.rows()


def test_ground_only_the_lost_scene_showed_is_unseen(small, scan_items, serve_files, tmp_path):
    """Cloud is all that is left: the cells must not become ground without mines."""
    cloud = np.full_like(small.pixels[small.items[0].id]["SCL"], 9)
    west, north = small.corner
    cloudy = [
        make_item(
            tmp_path / "scenes",
            item.id,
            small.pixels[item.id] | ({"SCL": cloud} if item is not small.items[0] else {}),
            west=west,
            north=north,
            datetime=item.datetime.isoformat(),
        )
        for item in small.items
    ]
    host = serve_files(tmp_path / "scenes")
    home = (tmp_path / "scenes").as_posix()
    there = [one.with_hrefs(lambda href: href.replace(home, host.url, 1)) for one in cloudy]
    host.fail(first(small), "corrupt", times=None)
    done = scan_items(there, tries=2)
    assert done.code == 0, done.err
    assert list(done.reasons) == [small.items[0].id]
    assert set(done.cells.status) <= {"unseen", "mining"}
    assert (done.cells.clear_fraction == 0).all()
    coverage = done.run["coverage_ha"]
    assert coverage["clear"] == 0
    assert coverage["unseen"] == 23.04 * (done.cells.status == "unseen").sum() > 0


def test_a_dropped_scene_is_told_by_the_exit_code_where_that_is_wanted(
    small, scan_items, serve_files
):
    host = serve_files(small.folder)
    host.fail(first(small, "SCL"), status=404, times=None)
    done = scan_items(small.on(host), "--strict", tries=1)
    assert done.code == 1
    assert list(done.reasons) == [small.items[0].id]
    assert "404" in done.reasons[small.items[0].id]
    assert not done.run["tiles"]["failed"]
