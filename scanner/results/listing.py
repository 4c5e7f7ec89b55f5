"""The order in which sites are listed, wherever they are."""

from __future__ import annotations

from typing import Final

import geopandas as gpd

from scanner.results.finished import FinishedRun

_ORDER: Final = {"score": False, "area_ha": False, "detection_id": True}
"""Column -> whether it rises."""


def ranked(run: FinishedRun) -> gpd.GeoDataFrame:
    """Return the sites of a run by score, then area, then id, numbered anew from 0."""
    return run.sites.sort_values(list(_ORDER), ascending=list(_ORDER.values()), ignore_index=True)
