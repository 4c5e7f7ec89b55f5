"""Outlines for the report's map, as whole numbers: steps of a hundred-thousandth of a degree.

A ring is ``[lon, lat, dlon, dlat, ...]``: its first point, then the way to each next one; it is
closed by whoever draws it. A metre is fine enough beside pixels of ten, and takes a third of the
place that degrees take.
"""

from __future__ import annotations

import heapq
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from scanner.area.aoi import only_area
from scanner.results.finished import FinishedRun

STEP: Final = 1e-5
"""Degrees of a step."""
SMOOTH_DEG: Final = 6e-5
"""Corners of pixels are cut by less than this: six metres."""
MOST_POINTS: Final = 250_000
"""Points of all sites together; beyond, outlines are drawn coarser."""
AREA_POINTS: Final = 20_000
"""Points of the area's outline."""

Ring = list[int]
Rings = list[list[Ring]]


def rings(geometry: BaseGeometry) -> Rings:
    """Return the polygons of a geometry, each its outer ring and its holes."""
    parts = shapely.get_parts(only_area(geometry))
    found = [[_ring(polygon.exterior), *map(_ring, polygon.interiors)] for polygon in parts]
    return [[outer, *filter(None, holes)] for outer, *holes in found if outer]


def thinned(geometries: list[BaseGeometry], most: int = MOST_POINTS) -> list[BaseGeometry]:
    """Cut the corners of outlines, further and further until they have ``most`` points in all."""
    tolerance, plain = SMOOTH_DEG, np.asarray(geometries, dtype=object)
    while True:
        found = shapely.simplify(plain, tolerance, preserve_topology=True)
        if int(shapely.get_num_coordinates(found).sum()) <= most or tolerance > 0.1:
            return list(found)
        tolerance *= 2


def area_rings(run: FinishedRun) -> Rings:
    """Return the outline of the area."""
    return rings(thinned([run.aoi.geometry], AREA_POINTS)[0])


class _Kept(NamedTuple):
    rank: tuple[bool, float, str]
    """Mining, score, cell id: no two are the same."""
    status: str
    clear: float
    ring: Ring


class CellShapes:
    """The cells a reader may click, as columns; keeps the ``most`` that matter most.

    Mining cells come before others that were classified, higher scores before lower ones.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[_Kept] = []
        self.total = 0
        """Cells that were classified."""

    def add(self, batch: pd.DataFrame) -> None:
        """Look at a batch of cells.parquet."""
        judged = batch[batch.score.notna()]
        self.total += len(judged)
        for cell in judged.to_dict("records"):
            rank = (cell["status"] == "mining", float(cell["score"]), str(cell["cell_id"]))
            full = len(self._kept) >= self._most
            if full and (not self._kept or rank <= self._kept[0].rank):
                continue
            ring = _ring(shapely.from_wkb(cell["geometry"]).exterior)
            kept = _Kept(rank, str(cell["status"]), float(cell["clear_fraction"]), ring)
            if full:
                heapq.heapreplace(self._kept, kept)
            else:
                heapq.heappush(self._kept, kept)

    def columns(self) -> dict[str, list[Any]]:
        """Return id, status, score, clear (percent) and ring of each cell kept, best first."""
        kept = sorted(self._kept, reverse=True)
        return {
            "id": [one.rank[2] for one in kept],
            "status": [one.status for one in kept],
            "score": [round(one.rank[1], 4) for one in kept],
            "clear": [round(100 * one.clear) for one in kept],
            "ring": [one.ring for one in kept],
        }


def tile_shapes(run: FinishedRun) -> list[dict[str, Any]]:
    """Return the tiles with what was seen of each."""
    frame = run.coverage
    outlines = thinned(list(frame.geometry)) if len(frame) else []
    return [
        {
            "id": row.tile_id,
            "state": tile_state(row),
            "clear": _percent(row.clear_ha, row.area_ha),
            "unseen": _percent(row.unseen_ha, row.area_ha),
            "failed": _percent(row.failed_ha, row.area_ha),
            "area": round(row.area_ha, 1),
            "items": int(row.n_items),
            "reason": row.reason if isinstance(row.reason, str) else None,
            "rings": rings(outline),
        }
        for row, outline in zip(frame.itertuples(), outlines, strict=True)
    ]


def tile_state(row: Any) -> str:
    """Return ``failed``, ``unseen`` (nothing of it), ``partly`` or ``seen``."""
    if row.status == "failed":
        return "failed"
    if row.unseen_ha >= row.area_ha:
        return "unseen"
    return "partly" if row.unseen_ha > 0 else "seen"


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _ring(ring: Any) -> Ring:
    """Return a ring's steps, points that fall together left out; empty where none is left."""
    points = np.rint(shapely.get_coordinates(ring)[:-1] / STEP).astype(np.int64)
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    if len(points) < 3:
        return []
    steps = np.vstack([points[:1], np.diff(points, axis=0)])
    return [int(value) for value in steps.ravel()]
