"""Cells of two runs to sites that changed: what became of each, by how much, since when.

A site is a connected group of cells that are mining in either run (or known to a ledger), adjoining
as detections do: by side or corner, across the seams of tiles and zones.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import shapely
from shapely.geometry.base import BaseGeometry

from scanner.detection.detections import adjoining
from scanner.results.changes.areas import measure
from scanner.results.changes.cells import ChangeCell
from scanner.results.changes.views import CLEAR, HIDDEN, View

CHANGES: Final = ("new", "growing", "stable", "shrinking", "gone", "unseen")
"""What a site can have become; see :func:`change_of`."""

GROWTH_HA: Final = 0.5
GROWTH_SHARE: Final = 0.1
"""A site grows or shrinks when its outline changes by at least this many hectares and this share of
the larger outline. Outlines are made of 10 m pixels, and half a pixel more or less all round is
noise: 0.45 ha of a square of 5 ha, 1.4 ha of one of 50 ha, and two or three times that (a tenth)
where the outline is as ragged as that of a real mine.

What changed in a cell counts only as far as it is more than the ground of that cell that was not
seen clear in one of the runs: the edges of clouds look like bare ground, and clouds hide it."""

Detections = Mapping[str, tuple[BaseGeometry, float]]


def group_cells(cells: Iterable[ChangeCell]) -> list[list[ChangeCell]]:
    """Group adjoining cells; groups and the cells of each are sorted by cell id."""
    groups = [
        [m["group"] for m in group]
        for group in adjoining([{"group": c, "cell": c.square} for c in cells])
    ]
    return sorted((sorted(group, key=_id) for group in groups), key=lambda group: group[0].cell_id)


def change_of(cells: Sequence[ChangeCell], growth_ha: float, larger_ha: float) -> str:
    """Return what became of a site.

    - ``new``: every mined cell was seen clear of mines by OLD (and is unknown to the ledger). Where
      OLD did not see one of them, the site may be older, so it is not called new.
    - ``gone``: every cell mined before was seen clear of mines by NEW.
    - ``unseen``: not one cell was seen by both runs, so nothing can be told. A mine that NEW found
      where OLD saw nothing is among these: its ``mining_in`` is ``new``, and with no clear view
      before it ``first_seen_after`` is null.
    - ``growing``, ``shrinking``, ``stable``: by the outlines within the cells both runs saw.

    Args:
        cells: of the site.
        growth_ha: of the outline within the cells both saw, as far as it is sure.
        larger_ha: the larger of the two outlines there.
    """
    if all(c.old.state == CLEAR and c.new.mined and not c.known for c in cells):
        return "new"
    if all(c.new.state == CLEAR and (c.old.mined or c.known) for c in cells):
        return "gone"
    if not any(c.compared for c in cells):
        return "unseen"
    if abs(growth_ha) < max(GROWTH_HA, GROWTH_SHARE * larger_ha):
        return "stable"
    return "growing" if growth_ha > 0 else "shrinking"


def site_row(
    cells: Sequence[ChangeCell], old_sites: Detections, new_sites: Detections
) -> dict[str, Any]:
    """Sum up one site; returns a row of ``compare.CHANGE_SCHEMA`` but for what a ledger knows.

    ``cells`` and ``mined`` are for the ledger: ids of all cells, and of those mined as last seen.

    Args:
        cells: of the site, sorted by id.
        old_sites: detections of OLD: outline and hectares by id.
        new_sites: those of NEW.
    """
    compared = [c for c in cells if c.compared]
    ground = measure(cells, compared)
    change = change_of(cells, ground.sure_ha, max(ground.old_ha, ground.new_ha))
    old_ids, new_ids = _detections(cells, "old"), _detections(cells, "new")
    after, by = first_seen(cells)
    drawn = [new_sites[i][0] for i in new_ids] or [old_sites[i][0] for i in old_ids]
    seen = [getattr(c, side).last for side in ("old", "new") for c in cells
            if getattr(c, side).mined and getattr(c, side).last]  # fmt: skip
    return {
        "site_id": f"site_{cells[0].cell_id}",
        "change": change,
        "unseen_reason": _reasons(cells),
        "first_seen_after": after,
        "first_seen_by": by,
        "last_seen": max(seen, default=None),
        "area_old_ha": ground.old_ha if compared else None,
        "area_new_ha": ground.new_ha if compared else None,
        "growth_ha": round(ground.new_ha - ground.old_ha, 4) if compared else None,
        "unclear_ha": ground.unclear_ha if compared else None,
        "outline": ground.outline,
        "compared_share": round(len(compared) / len(cells), 4),
        "mining_in": _mining_in(cells),
        "n_cells": len(cells),
        "detection_ids_old": old_ids,
        "detection_ids_new": new_ids,
        "detected_old_ha": round(sum(old_sites[i][1] for i in old_ids), 4),
        "detected_new_ha": round(sum(new_sites[i][1] for i in new_ids), 4),
        "score_old": _score([c.old for c in cells]),
        "score_new": _score([c.new for c in cells]),
        "geometry": shapely.union_all(drawn) if drawn else None,
        "cells": [c.cell_id for c in cells],
        "mined": [c.cell_id for c in cells if _mined_now(c)],
    }


def first_seen(cells: Sequence[ChangeCell]) -> tuple[dt.date | None, dt.date | None]:
    """Return (last date surely without, first date surely with) of a site, as two runs tell them.

    A cell's bracket is [a date surely without in OLD, a date surely with], the latter from OLD
    where that found the mine and from NEW elsewhere. The site began with its earliest cell: it is
    there by the earliest of the cells' dates, and it had not begun while no cell had, so until the
    earliest of their dates without. Where OLD did not see one of the cells clear of mines, that
    date is not known. In a cell the first date lies in OLD's window and before the second, so
    min(after) <= after of the cell with the earliest by < min(by).
    """
    after: list[dt.date | None] = []
    by: list[dt.date] = []
    for c in cells:
        if c.old.mining and c.old.state != HIDDEN and c.old.sure:
            by.append(c.old.sure)
        elif c.new.mining and c.new.state != HIDDEN and c.new.sure:
            by.append(c.new.sure)
        fresh = c.old.state == CLEAR and c.new.mined and not c.known
        after.append(c.old.sure if fresh else None)
    known = [day for day in after if day is not None]
    return (min(known) if known and len(known) == len(after) else None), min(by, default=None)


def _detections(cells: Sequence[ChangeCell], side: str) -> list[str]:
    """Return the ids of the run's detections in a site: each is named after its smallest cell."""
    mining = [c for c in cells if getattr(c, side).mining]
    groups = [mining] if len(mining) == len(cells) else group_cells(mining)
    return [f"site_{group[0].cell_id}" for group in groups if group]


def _reasons(cells: Sequence[ChangeCell]) -> str | None:
    """Tell why cells were hidden, as in ``old: cloud; new: cloud, failed tile``."""
    told = []
    for side in ("old", "new"):
        views: list[View] = [getattr(c, side) for c in cells]
        reasons = Counter(view.reason for view in views if view.state == HIDDEN and view.reason)
        if reasons:
            names = sorted(reasons, key=lambda reason: (-reasons[reason], reason))
            told.append(f"{side}: {', '.join(names)}")
    return "; ".join(told) or None


def _mining_in(cells: Sequence[ChangeCell]) -> str:
    """Tell which run shows the mine: old, new, both, or neither (hidden in both, or gone)."""
    shown: Mapping[tuple[bool, bool], str] = {
        (True, True): "both",
        (True, False): "old",
        (False, True): "new",
        (False, False): "neither",
    }
    old, new = ([view for c in cells if (view := getattr(c, side)).mined or view.mining]
                for side in ("old", "new"))  # fmt: skip
    return shown[bool(old), bool(new)]


def _mined_now(cell: ChangeCell) -> bool:
    """Tell whether a cell is mined as far as was last seen."""
    if cell.new.state == HIDDEN:
        return cell.old.mined or cell.known
    return cell.new.mined


def _score(views: Iterable[View]) -> float | None:
    return max((view.score for view in views if view.score is not None), default=None)


def _id(cell: ChangeCell) -> str:
    return cell.cell_id
