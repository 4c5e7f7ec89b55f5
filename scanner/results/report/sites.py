"""The sites of the report: ranked, with figures, outline, close-up and what is known of each.

What a site lies in, and what is presumed there, comes from the user's own overlays alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from scanner.models.calibration import rescale
from scanner.results.changes.change_table import changes_of
from scanner.results.finished import FinishedRun
from scanner.results.formats.overlays import overlays_of
from scanner.results.listing import ranked
from scanner.results.maps.rasters import warped
from scanner.results.report.embed import picture_uri
from scanner.results.report.frame import CRS, Frame, square
from scanner.results.report.shapes import rings, thinned

MOST_SITES: Final = 5_000
"""Sites listed and drawn, highest scores first; all are in detections.parquet."""
MOST_CHIPS: Final = 800
"""Sites with a close-up of their own."""
CHIP_BYTES: Final = 6_000_000
"""All close-ups together, as text in the page."""
CHIP_PX: Final = 256
"""Longest side of a close-up, which has 10 m pixels up to there."""
CHIP_MARGIN_M: Final = 240.0
CHIP_LEAST_M: Final = 960.0
RARE: Final = 0.01
"""Prevalence every score is shown at as well: one mine in a hundred suspicious cells."""


def site_rows(run: FinishedRun) -> list[dict[str, Any]]:
    """Return what the page knows of each site, best first, at most ``MOST_SITES``."""
    frame = ranked(run).head(MOST_SITES)
    outlines = thinned(list(frame.geometry)) if len(frame) else []
    changes = {site: row for row in change_rows(run) for site in row.pop("sites")}
    inside: dict[str, list[dict[str, Any]]] = {}
    for one in overlay_rows(run):
        if one["feature"] is not None:
            inside.setdefault(one.pop("site"), []).append(one)
    return [
        {
            "rank": rank,
            "id": site.detection_id,
            "score": round(site.score, 4),
            "rare": round(rescale(float(site.score), run.prevalence, RARE), 4),
            "ha": round(site.area_ha, 2),
            "in_ha": round(site.area_in_aoi_ha, 2),
            "barren_ha": round(site.barren_ha, 2),
            "water_ha": round(site.water_ha, 2),
            "cells": int(site.n_cells),
            "outline": site.outline,
            "first": _date(site.first_observed),
            "last": _date(site.last_observed),
            "views": int(site.clear_observations),
            "items": list(site.item_ids),
            "tiles": list(site.tile_ids),
            "at": _point(site.geometry),
            "rings": rings(outline),
            "overlays": inside.get(site.detection_id, []),
            "change": changes.get(site.detection_id),
        }
        for rank, (site, outline) in enumerate(
            zip(frame.itertuples(), outlines, strict=True), start=1
        )
    ]


def chips(run: FinishedRun) -> Iterator[dict[str, Any] | None]:
    """Yield the close-up of each site in the order of :func:`ranked`, until they take too much.

    Each is ``{"uri": ..., "corners": ...}``, ``None`` where the run kept no true colour.
    """
    left = CHIP_BYTES
    for geometry in ranked(run).geometry.head(MOST_CHIPS):
        frame = square(geometry.bounds, CHIP_MARGIN_M, CHIP_LEAST_M, CHIP_PX)
        chip = _chip(run, frame, left)
        left -= len(chip["uri"]) if chip else 0
        if left < 0:
            return
        yield chip


def _chip(run: FinishedRun, frame: Frame, limit: int) -> dict[str, Any] | None:
    uri = picture_uri(warped(run, "quicklook", CRS, frame.bounds, frame.shape), limit)
    return None if uri is None else {"uri": uri, "corners": frame.corners}


def overlay_rows(run: FinishedRun) -> list[dict[str, Any]]:
    """Return the rows of ``overlays.parquet``; what lies in no feature has ``feature`` None."""
    table = overlays_of(run)
    if table is None:
        return []
    frame = table.sort_values(["overlay", "feature"], kind="stable")
    return [
        {
            "site": row["detection_id"],
            "overlay": str(row["overlay"]),
            "feature": _text(row["feature"]),
            "ha": round(row["area_ha"], 2),
            "share": round(100 * row["share"], 1),
            "presumed": _text(row["presumed_illegal"]),
        }
        for row in frame.to_dict("records")
    ]


def change_rows(run: FinishedRun) -> list[dict[str, Any]]:
    """Return the rows of ``changes.parquet``, the sites that are gone among them."""
    frame = changes_of(run)
    if frame is None:
        return []
    return [
        {
            "sites": list(row.detection_ids_new),
            "kind": str(row.change),
            "site": str(row.site_id),
            "after": _date(row.first_seen_after),
            "by": _date(row.first_seen_by),
            "old_ha": _round(row.area_old_ha),
            "new_ha": _round(row.area_new_ha),
            "growth_ha": _round(row.growth_ha),
        }
        for row in frame.itertuples()
    ]


def _point(geometry: Any) -> list[float]:
    """Return (lat, lon) of a point on the site."""
    point = geometry.representative_point()
    return [round(point.y, 5), round(point.x, 5)]


def _date(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)[:10]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _round(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 2)
