"""The demo's own judge: planted mines against found sites. Its scenes are synthetic."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pandas as pd

from scanner.imagery.demo import PLANTED


def planted_against_found(folder: Path) -> str:
    """Return a table of the demo's planted mines and what the run in ``folder`` found of them.

    A mine is found where a site's outline meets it. Sites that meet no planted mine are counted as
    false, and the hectares of both are told.
    """
    sites = gpd.read_parquet(folder / "detections.parquet")
    mines = gpd.GeoDataFrame(
        {"name": [m.name for m in PLANTED], "area_ha": [m.area_ha for m in PLANTED]},
        geometry=[m.polygon for m in PLANTED],
        crs="EPSG:4326",
    ).sort_values("area_ha", ascending=False)
    rows = []
    hit: set[int] = set()
    for mine in mines.itertuples():
        met = sites[sites.intersects(mine.geometry)]
        hit.update(met.index)
        rows.append(
            {
                "planted mine": mine.name,
                "ha": f"{mine.area_ha:g}",
                "found": "yes" if len(met) else "no",
                "score": f"{met.score.max():.2f}" if len(met) else "",
                "site's ha": f"{met.area_ha.sum():.1f}" if len(met) else "",
            }
        )
    table = pd.DataFrame(rows)
    found = int((table.found == "yes").sum())
    lost = len(sites) - len(hit)
    return (
        f"synthetic demo: {found} of {len(table)} planted mines found, "
        f"{lost} false site{'' if lost == 1 else 's'}\n{table.to_string(index=False)}"
    )
