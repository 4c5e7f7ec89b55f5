"""How much ground of a site two runs show within the cells both saw, drawn alike in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from scanner.detection.detections import CELL_HA, in_zone, materials
from scanner.results.changes.cells import ChangeCell

OUTLINES: Final = ("barren", "suspicious", "cells")
"""What an outline can be drawn from, best first (``detections.to_detections``)."""


@dataclass(frozen=True)
class Ground:
    """Hectares of a site within the cells both runs saw."""

    old_ha: float = 0.0
    new_ha: float = 0.0
    outline: str | None = None
    """What both are drawn from: the best of ``OUTLINES`` that every run with a mine there has."""
    unclear_ha: float = 0.0
    """Of these cells, not seen clear in one run or in the other."""
    sure_ha: float = 0.0
    """Growth, cell by cell, as far as it is more than the unclear ground of the cell."""


def measure(cells: Sequence[ChangeCell], compared: Sequence[ChangeCell]) -> Ground:
    """Measure a site in both runs.

    Args:
        cells: of the site, sorted by id; areas are taken in the zone of the first.
        compared: those both runs saw.
    """
    unclear = np.array([_unclear_ha(c) for c in compared])
    drawn = {side: _outlines(cells, compared, side) for side in ("old", "new")}
    mined = [outlines for outlines in drawn.values() if outlines]
    if not mined:
        return Ground(unclear_ha=round(float(unclear.sum()), 4))
    kind = next(k for k in OUTLINES if all(k in outlines for outlines in mined))
    old, new = (drawn[side].get(kind, shapely.MultiPolygon()) for side in ("old", "new"))
    old_ha, new_ha = (round(float(shape.area) / 10_000, 4) for shape in (old, new))
    sure_ha = new_ha - old_ha
    if unclear.any():
        epsg = cells[0].tile.epsg
        squares = np.array([in_zone(c.square, c.tile.epsg, epsg) for c in compared])
        gained = _hectares(new, squares) - _hectares(old, squares)
        sure_ha = float((np.sign(gained) * np.maximum(np.abs(gained) - unclear, 0)).sum())
    unclear_ha = round(float(unclear.sum()), 4)
    return Ground(old_ha, new_ha, kind, unclear_ha, round(sure_ha, 4))


def _outlines(
    cells: Sequence[ChangeCell], compared: Sequence[ChangeCell], side: str
) -> dict[str, BaseGeometry]:
    """Return what one run's mine can be drawn from within ``compared``; empty where it has none.

    Ponds are told from rivers over all of the run's mined cells, then the outlines are cut.
    """
    mined = [c for c in cells if getattr(c, side).mined]
    inside = [c for c in mined if c.compared]
    if not inside:
        return {}
    epsg = cells[0].tile.epsg
    members = [{"group": c, "row": SimpleNamespace(pieces=getattr(c, side).pieces)} for c in mined]
    barren, water, suspicious = materials(members, epsg)
    squares = shapely.union_all([in_zone(c.square, c.tile.epsg, epsg) for c in inside])
    drawn = {"barren": shapely.union_all([barren, water]), "suspicious": suspicious}
    if len(inside) < len(mined):
        drawn = {kind: shapely.intersection(shape, squares) for kind, shape in drawn.items()}
    return {kind: shape for kind, shape in drawn.items() if shape.area > 0} | {"cells": squares}


def _hectares(shape: BaseGeometry, squares: np.ndarray) -> np.ndarray:
    """Return the hectares of a shape in each square."""
    shapely.prepare(shape)
    return np.asarray(shapely.area(shapely.intersection(shape, squares))) / 10_000


def _unclear_ha(cell: ChangeCell) -> float:
    hidden = (1 - cell.old.clear) + (1 - cell.new.clear)
    return CELL_HA * min(1.0, hidden)
