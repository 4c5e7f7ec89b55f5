"""Sites from random mining cells over the seams of tiles and zones: each cell in one, no more.

``tests/detection/test_detections.py`` has the cases by hand.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.area.aoi import Aoi
from scanner.area.grid import Tile, cell_polygons, tiles
from scanner.detection.detections import DETECTION_SCHEMA, MiningCells, to_detections
from scanner.results.outputs import write_geoparquet

DAYS = (dt.date(2024, 6, 12), dt.date(2024, 7, 17))
WORLD = shapely.box(-80, -20, -40, 10)
COMMON = {"aoi": "a", "segmenter": "s", "classifier": "c", "run_id": "r"}
PLACES = {
    "inside a tile": (-57.0, -7.0),
    "zones and tiles": (-54.0, -7.05),
    "the equator": (-57.0, 0.0),
    "both": (-54.0, 0.0),
}
GROUND = {
    name: tiles(Aoi(name, shapely.box(lon - 0.02, lat - 0.02, lon + 0.02, lat + 0.02)))
    for name, (lon, lat) in PLACES.items()
}


def part(tile: Tile, cells: list[tuple[int, int]], rng: np.random.Generator) -> MiningCells:
    rows = []
    for r, c in sorted(cells):
        west, south, _, north = tile.cell_bounds(r, c)
        x, y = west + 10 * rng.integers(0, 30), south + 10 * rng.integers(0, 30)
        barren = shapely.box(x, y, x + 100, min(y + 150, north))
        piece = {
            "kind": "barren" if rng.random() < 0.7 else "suspicious",
            "component": 0, "component_px": 0, "px": 150,
            "geometry": shapely.to_wkb(shapely.MultiPolygon([barren])),
        }  # fmt: skip
        rows.append(
            {
                "cell_id": tile.cell_id(r, c), "row": r, "col": c,
                "score": round(float(rng.random()), 4), "days": int(rng.integers(0, 4)),
                "pieces": [piece] if rng.random() < 0.8 else [],
            }
        )  # fmt: skip
    return MiningCells(tile, pd.DataFrame(rows), DAYS, (("early",), ("late",)))


def written(groups: list[MiningCells]) -> tuple[pd.DataFrame, bytes]:
    found = to_detections(groups, WORLD, {"early": WORLD, "late": WORLD}, COMMON)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detections.parquet"
        write_geoparquet(path, found, DETECTION_SCHEMA)
        return found, path.read_bytes()


def groups_by_hand(groups: list[MiningCells]) -> list[set[str]]:
    """Group cells whose outlines in degrees touch, pair by pair: slow and plain."""
    cells = {}
    for group in groups:
        rows = group.table
        if len(rows):
            at = tuple(zip(rows.row.tolist(), rows.col.tolist(), strict=True))
            shapes = cell_polygons(Tile(group.tile.zone, group.tile.col, group.tile.row, at))
            cells |= dict(zip(rows.cell_id, shapes, strict=True))
    sites: list[set[str]] = []
    for name, shape in cells.items():
        near = {other for other, one in cells.items() if one.distance(shape) < 2e-6} | {name}
        joined = [site for site in sites if site & near]
        sites = [site for site in sites if not site & near] + [near.union(*joined)]
    return sites


@settings(max_examples=25)
@given(st.sampled_from(sorted(PLACES)), st.floats(0.02, 0.5), st.integers(0, 2**32), st.randoms())
def test_each_cell_is_in_one_site_and_no_order_changes_a_byte(
    place: str, share: float, seed: int, order: Random
) -> None:
    rng = np.random.default_rng(seed)
    groups = [
        part(tile, [cell for cell in tile.cells if rng.random() < share], rng)
        for tile in GROUND[place]
    ]
    cells = sorted(name for group in groups if len(group.table) for name in group.table.cell_id)
    found, data = written(groups)
    assert found.n_cells.sum() == len(cells)
    sites = groups_by_hand(groups)
    assert sorted(found.detection_id) == sorted(f"site_{min(site)}" for site in sites)
    by_id = {f"site_{min(site)}": site for site in sites}
    score = {row.cell_id: row.score for g in groups for row in g.table.itertuples()}
    for row in found.itertuples():
        members = by_id[row.detection_id]
        assert row.n_cells == len(members)
        assert row.score == max(score[name] for name in members)
        assert row.area_ha > 0
        assert row.geometry.is_valid
    order.shuffle(groups)
    assert written(groups)[1] == data
