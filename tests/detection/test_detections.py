"""Statuses by precedence; sites over seams of tiles and zones; ponds in, rivers out; areas once."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
import shapely

from scanner.area.aoi import Aoi
from scanner.area.grid import Tile, Zone, cell_polygons, from_geographic, tiles
from scanner.detection.detections import MiningCells, cell_status, to_detections

DAYS = (dt.date(2024, 6, 12), dt.date(2024, 7, 17))
TILE = Tile(Zone(21, True), 31, 34)
COMMON = {"aoi": "a", "segmenter": "s", "classifier": "c", "run_id": "r"}
WORLD = shapely.box(-80, -20, -40, 10)


def piece(kind, polygon, component=0, component_px=0):
    px = round(polygon.area / 100)
    wkb = shapely.to_wkb(shapely.MultiPolygon([polygon]))
    return {
        "kind": kind,
        "component": component,
        "component_px": component_px,
        "px": px,
        "geometry": wkb,
    }


def mining(tile, cells):
    """``cells``: {(row, col): (score, day bits, pieces)}."""
    rows = [
        {"cell_id": tile.cell_id(r, c), "row": r, "col": c, "score": s, "days": d, "pieces": p}
        for (r, c), (s, d, p) in cells.items()
    ]
    return MiningCells(tile, pd.DataFrame(rows), DAYS, (("early",), ("late",)))


def detect(*groups, aoi=WORLD):
    footprints = {"early": WORLD, "late": WORLD}
    return to_detections(groups, aoi, footprints, COMMON)


def square(tile, r, c, size=100):
    xmin, _, _, ymax = tile.cell_bounds(r, c)
    return shapely.box(xmin + 50, ymax - 50 - size, xmin + 50 + size, ymax - 50)


def test_status_by_precedence():
    score = np.array([0.9, 0.9, 0.2, 0.2, np.nan, np.nan])
    clear = np.array([1.0, 0.1, 1.0, 0.1, 1.0, 0.1])
    got = cell_status(score, clear, threshold=0.9, min_clear=0.5).tolist()
    assert got == ["mining", "mining", "not_mining", "unseen", "not_suspicious", "unseen"]


def test_adjoining_by_side_and_corner_is_one_site_and_a_gap_makes_two():
    barren = {rc: (0.8, 1, [piece("barren", square(TILE, *rc))]) for rc in [(5, 5), (6, 6), (6, 7)]}
    assert len(detect(mining(TILE, barren))) == 1
    apart = {rc: (0.8, 1, []) for rc in [(5, 5), (5, 7)]}
    assert len(detect(mining(TILE, apart))) == 2


def test_site_over_a_tile_seam():
    east = Tile(TILE.zone, TILE.col + 1, TILE.row)
    got = detect(
        mining(TILE, {(5, 41): (0.7, 1, [piece("barren", square(TILE, 5, 41))])}),
        mining(east, {(5, 0): (0.9, 2, [piece("barren", square(east, 5, 0))])}),
    )
    (site,) = got.itertuples()
    assert site.detection_id == f"site_{TILE.cell_id(5, 41)}"
    assert site.tile_ids == [TILE.tile_id, east.tile_id]
    assert site.score == 0.9
    assert site.area_ha == site.barren_ha == 2.0
    assert (site.first_observed, site.last_observed) == DAYS
    assert site.item_ids == ["early", "late"]
    assert site.n_cells == 2


def test_site_over_a_zone_seam_counts_ground_once():
    """Cells of both zones over one clearing at 54 W: one site, the overlap counted once."""
    ground = Aoi("seam", shapely.box(-54.004, -7.004, -53.996, -6.996))
    groups, total = [], 0.0
    for tile in tiles(ground):
        ring = np.asarray(ground.geometry.exterior.coords)
        clearing = shapely.Polygon(np.column_stack(from_geographic(tile.epsg, *ring.T)))
        cells = {}
        for r, c in tile.cells:
            part = clearing.intersection(shapely.box(*tile.cell_bounds(r, c)))
            cells[r, c] = (0.8, 1, [piece("barren", part)])
            total += part.area / 1e4
        groups.append(mining(tile, cells))
    assert len({tile.epsg for tile in tiles(ground)}) == 2
    (site,) = detect(*groups, aoi=ground.geometry).itertuples()
    assert total > site.area_ha
    assert site.area_ha == pytest.approx(ground.area_km2 * 100, rel=0.01)
    assert site.area_in_aoi_ha == pytest.approx(site.area_ha, rel=1e-3)


def test_pond_in_river_out():
    pond = square(TILE, 5, 5, 200)
    xmin, ymin, xmax, _ = TILE.cell_bounds(5, 5)
    river = shapely.box(xmin, ymin, xmax, ymin + 100)
    cells = {
        (5, 5): (
            0.8,
            1,
            [
                piece("barren", shapely.box(xmin + 300, ymin + 300, xmin + 400, ymin + 400)),
                piece("water", pond, 1, 400),
                piece("water", river, 2, 5000),
            ],
        )
    }
    (site,) = detect(mining(TILE, cells)).itertuples()
    assert site.water_ha == 4.0
    assert site.barren_ha == 1.0
    assert site.area_ha == 5.0
    assert site.outline == "barren"


def test_outline_falls_back_to_suspicious_then_cells():
    mask = [piece("suspicious", square(TILE, 5, 5))]
    (one,) = detect(mining(TILE, {(5, 5): (0.8, 1, mask)})).itertuples()
    assert (one.outline, one.area_ha) == ("suspicious", 1.0)
    (two,) = detect(mining(TILE, {(5, 5): (0.8, 0, [])})).itertuples()
    assert (two.outline, two.area_ha) == ("cells", 23.04)
    assert two.first_observed is None
    (cell,) = cell_polygons(Tile(TILE.zone, TILE.col, TILE.row, ((5, 5),)))
    assert (
        two.geometry.equals_exact(cell, 1e-6)
        or two.geometry.symmetric_difference(cell).area < 1e-12
    )


def test_area_in_aoi_is_clipped_and_geometry_is_not():
    barren = square(TILE, 5, 5, 100)
    (full,) = detect(mining(TILE, {(5, 5): (0.8, 1, [piece("barren", barren)])})).itertuples()
    west, south, east, north = full.geometry.bounds
    half = shapely.box(west - 1, south - 1, (west + east) / 2, north + 1)
    (site,) = detect(
        mining(TILE, {(5, 5): (0.8, 1, [piece("barren", barren)])}), aoi=half
    ).itertuples()
    assert site.area_ha == 1.0
    assert site.area_in_aoi_ha == pytest.approx(0.5, rel=0.02)


def test_items_are_named_only_where_they_saw_the_site():
    got = to_detections(
        [mining(TILE, {(5, 5): (0.8, 3, [piece("barren", square(TILE, 5, 5))])})],
        WORLD,
        {"early": WORLD, "late": shapely.box(0, 0, 1, 1)},
        COMMON,
    )
    assert got.item_ids.tolist() == [["early"]]


def test_nothing_found_is_an_empty_table_with_all_columns():
    got = detect(mining(TILE, {}))
    assert len(got) == 0
    assert {"detection_id", "geometry", "run_id"} <= set(got.columns)
