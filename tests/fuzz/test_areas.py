"""Areas of any shape: each cell once, all of the area covered, and areas that add up.

``tests/area/test_grid.py`` has single stars near the seams of Brazil; here several parts with
holes, specks, the far north, the 180th meridian, and the way through a file.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scanner.area.aoi import Aoi, read_aoi
from scanner.area.grid import Zone, cell_polygons, from_geographic, tiles

few = settings(max_examples=25)
MIDDLES = (-57.0, -51.3, 9.0, 100.5)
SEAMS = (-60.0, -54.0, 0.0, 12.0)
LATS = (0.0, -7.0, 4.0, 60.0, -33.0, 83.9, -83.9)


def star(draw: st.DrawFn, lon: float, lat: float, size: float) -> shapely.Polygon:
    radii = np.array(draw(st.lists(st.floats(0.2, 1), min_size=3, max_size=8))) * size
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) + draw(st.floats(0, 1))
    wide = 1 / np.cos(np.radians(lat))
    ring = np.column_stack([lon + wide * radii * np.cos(angles), lat + radii * np.sin(angles)])
    shell = shapely.Polygon(ring)
    if draw(st.booleans()):
        hole = shapely.affinity.scale(shell, 0.4, 0.4)
        if shell.contains_properly(hole):
            shell = shell.difference(hole)
    return shell


@st.composite
def areas(draw: st.DrawFn, lons: tuple[float, ...], lats: tuple[float, ...] = LATS) -> Aoi:
    lon, lat = draw(st.sampled_from(lons)), draw(st.sampled_from(lats))
    size = draw(st.sampled_from((1e-5, 1e-3, 0.01, 0.05)))
    apart = draw(st.lists(st.tuples(st.floats(-2, 2), st.floats(-1, 1)), min_size=1, max_size=4))
    parts = [star(draw, lon + size * dx, lat + size * dy, size) for dx, dy in apart]
    ground = shapely.union_all(parts)
    side = shapely.box(-180, -84, 0, 84) if lon < -170 else shapely.box(-180, -84, 180, 84)
    ground = shapely.set_precision(shapely.intersection(ground, side), 1e-7)
    assume(ground.area > 0 and ground.geom_type in ("Polygon", "MultiPolygon"))
    return Aoi("area", ground)


def cell_ids(aoi: Aoi) -> list[str]:
    return [tile.cell_id(r, c) for tile in tiles(aoi) for r, c in tile.cells]


@few
@given(areas(MIDDLES + SEAMS))
def test_each_cell_once_and_nothing_uncovered(aoi: Aoi) -> None:
    found = tiles(aoi)
    names = cell_ids(aoi)
    assert names
    assert len(names) == len(set(names))
    polygons = np.concatenate([cell_polygons(tile) for tile in found])
    left = shapely.difference(aoi.geometry, shapely.union_all(polygons)).area
    assert left <= 1e-6 * aoi.geometry.area + 1e-11
    assert shapely.distance(polygons, aoi.geometry).max() < 2e-6  # none that does not touch it


@few
@given(areas(MIDDLES))
def test_areas_of_the_cells_parts_add_up(aoi: Aoi) -> None:
    """Inside a zone cells do not overlap: what they hold of the area is all of it, once."""
    total = 0.0
    for tile in tiles(aoi):
        half = shapely.box(-180, -90, 180, 0) if tile.zone.south else shapely.box(-180, 0, 180, 90)
        ground = shapely.segmentize(shapely.intersection(aoi.geometry, half), 0.01)
        metres = shapely.transform(
            ground, lambda c, epsg=tile.epsg: np.column_stack(from_geographic(epsg, *c.T))
        )
        boxes = shapely.box(*np.transpose([tile.cell_bounds(r, c) for r, c in tile.cells]))
        held = shapely.area(shapely.intersection(metres, boxes))
        assert (held > 0).all()
        total += held.sum() / scale(tile.zone, ground) ** 2
    assert total / 1e6 == pytest.approx(aoi.area_km2, rel=1e-3, abs=1e-9)


def scale(zone: Zone, ground: shapely.Geometry) -> float:
    """Return how much longer a metre is in a UTM zone than on the ground, there."""
    from pyproj import Proj

    lon, lat = ground.centroid.coords[0]
    return float(Proj(f"EPSG:{zone.epsg}").get_factors(lon, lat).areal_scale) ** 0.5


@few
@given(areas(MIDDLES + SEAMS))
def test_the_parts_of_an_area_have_its_cells(aoi: Aoi) -> None:
    whole = set(cell_ids(aoi))
    parts = [set(cell_ids(Aoi("part", part))) for part in shapely.get_parts(aoi.geometry)]
    assert set().union(*parts) == whole


@few
@given(areas((179.99, -179.99), (0.0, -17.0, 65.0)))
def test_on_either_side_of_the_180th_meridian(aoi: Aoi) -> None:
    names = cell_ids(aoi)
    assert len(names) == len(set(names))
    polygons = [p for tile in tiles(aoi) for p in cell_polygons(tile)]
    turned = [shapely.affinity.translate(shapely.union_all(polygons), t) for t in (-360, 0, 360)]
    assert shapely.difference(aoi.geometry, shapely.union_all(turned)).area < 1e-11


@few
@given(areas(MIDDLES + SEAMS), st.randoms())
def test_a_file_gives_the_same_ground_however_it_is_written(aoi: Aoi, rng: Random) -> None:
    """Rings turned, reversed, as one feature or several: the same digest, so the same run."""
    parts = list(shapely.get_parts(aoi.geometry))
    rng.shuffle(parts)
    features = []
    for part in parts:
        rings = []
        for ring in (part.exterior, *part.interiors):
            points = list(ring.coords)[:-1]
            at = rng.randrange(len(points))
            points = points[at:] + points[:at]
            points = points[::-1] if rng.random() < 0.5 else points
            rings.append([list(p) for p in [*points, points[0]]])
        features.append(
            {
                "type": "Feature",
                "properties": {},
                "geometry": {"type": "Polygon", "coordinates": rings},
            }
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        assert read_aoi(path).digest == aoi.digest
