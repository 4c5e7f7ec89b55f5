"""Catalogs that break off, repeat themselves, or have nothing: never a part of the scenes as if
they were all, and never an empty answer that looks like ground without mines.

A page that fails for ever ends with exit 3 and nothing written: tests/flow/test_network.py
(test_a_catalog_that_breaks_off_leaves_nothing_behind); pages that fail for a while, wrong counts,
endless and empty pages: tests/imagery/test_catalog.py.
"""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest

from scanner.detection.detections import DETECTION_SCHEMA
from scanner.imagery import stac_api
from tests.servers.items import reprocessed
from tests.synth import make_item

DATE = "2024-06-01/2024-08-31"


def test_scenes_listed_again_on_later_pages_count_once(
    small, scan_items, calm_small, serve_stac, serve_files
):
    """The same pass made anew, and one item on two pages, as when scenes come in meanwhile."""
    host = serve_files(small.folder)
    first, second, third = (item.raw for item in small.on(host))
    older = [reprocessed(raw, "05.00") for raw in (first, third)]
    api = serve_stac([first, second, older[1], first, third, older[0]], page_items=2, overlap=1)
    api.behaviour.tells_matched = False
    done = scan_items([], catalog=api.url, date=DATE)
    assert done.code == 0, done.err
    assert {one["page"] for one in api.behaviour.requests} >= {1, 2, 3}
    assert done.rows() == calm_small.rows()
    assert done.run["superseded_items"] == sorted(raw["id"] for raw in older)
    assert not done.reasons, "what is superseded is no loss"
    assert done.coverage.n_items.tolist() == [3]
    assert not [one for one in host.seen if "_0500" in one.path]
    strict = scan_items([], "--strict", catalog=api.url, date=DATE)
    assert strict.code == 0


def test_pages_that_fail_for_a_while_lose_no_scene(
    small, scan_items, calm_small, serve_stac, serve_files, monkeypatch
):
    """... and a search that fails leaves nothing, so that the same command starts from nothing."""
    monkeypatch.setattr(stac_api, "BACKOFF_S", 0)
    host = serve_files(small.folder)
    api = serve_stac([item.raw for item in small.on(host)], page_items=1)
    api.behaviour.fail(3, 504, times=stac_api.RETRIES + 1)
    refused = scan_items([], catalog=api.url, date=DATE)
    assert refused.code == 3
    assert "not answered completely" in refused.err
    assert api.url in refused.err
    assert not refused.folder.exists()
    assert not host.seen
    api.behaviour.fail(2, 502, times=2)
    api.behaviour.fail(3, 504, times=2)
    done = scan_items([], catalog=api.url, date=DATE)
    assert done.code == 0, done.err
    assert done.rows() == calm_small.rows()


def test_no_scene_at_all_is_a_warning(small, scan_items, serve_stac):
    """Also tests/flow/test_scan.py: test_no_scene_at_all_is_a_valid_empty_answer_with_advice."""
    api = serve_stac([])
    done = scan_items([], catalog=api.url, date=DATE)
    assert done.code == 0
    assert "no usable item over the area" in done.err
    assert_nothing_seen(done)
    assert (done.coverage.reason == "no usable scene over this tile").all()
    assert scan_items([], "--strict", catalog=api.url, date=DATE).code == 1


@pytest.mark.parametrize("scl", [9, 0])
def test_nothing_but_cloud_or_nodata_is_unseen(scl, small, scan_items, tmp_path):
    west, north = small.corner
    under = []
    for item in small.items:
        pixels = {
            band: np.full_like(dn, scl) if band == "SCL" else dn * bool(scl)
            for band, dn in small.pixels[item.id].items()
        }
        when = item.datetime.isoformat()
        place = {"west": west, "north": north, "datetime": when}
        under.append(make_item(tmp_path / "scenes", item.id, pixels, **place))
    done = scan_items(under)
    assert done.code == 0, done.err
    assert "unseen 100.0 %" in done.out
    assert "nothing was seen" in done.err
    assert_nothing_seen(done)
    assert scan_items(under, "--strict").code == 1


def assert_nothing_seen(done):
    """Every cell is unseen, no site is told, and the files are whole ones of full schema."""
    assert set(done.cells.status) == {"unseen"}
    assert len(done.cells) == 16
    coverage = done.run["coverage_ha"]
    assert coverage["unseen"] == coverage["area"] == pytest.approx(16 * 23.04)
    assert coverage["clear"] == coverage["failed"] == 0
    path = done.folder / "detections.parquet"
    found = pq.read_schema(path)
    assert set(DETECTION_SCHEMA.names) <= set(found.names)
    sites = gpd.read_parquet(path)
    assert len(sites) == 0
    assert sites.crs.to_epsg() == 4326
