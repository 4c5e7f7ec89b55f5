"""Two runs of one area: which sites are new, growing, stable, shrinking, gone or unseen since.

checks  may these two be compared?
cells   what both runs saw in every cell that is mining in either (views: in one)
sites   adjoining cells to sites: what became of each, how much it grew, since when
ledger  which site that is, month after month
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa

from scanner.errors import ConfigError
from scanner.files import write_json
from scanner.results.changes.cells import Shared, change_cells
from scanner.results.changes.change_table import CHANGE_SCHEMA, FILE, FOLDER
from scanner.results.changes.checks import check_comparable, report_settings, window
from scanner.results.changes.ledger import Ledger
from scanner.results.changes.ledger_table import Pair
from scanner.results.changes.sites import (
    CHANGES,
    GROWTH_HA,
    GROWTH_SHARE,
    Detections,
    group_cells,
    site_row,
)
from scanner.results.changes.views import NEAR_ODDS
from scanner.results.finished import FinishedRun
from scanner.results.outputs import write_geoparquet

__all__ = ["CHANGES", "CHANGE_SCHEMA", "check_comparable", "tell_changes", "write_changes"]

LARGEST: Final = 5
"""New and growing sites that :func:`tell_changes` names."""


def write_changes(
    old: FinishedRun, new: FinishedRun, out: Path, ledger: Path | None = None
) -> gpd.GeoDataFrame:
    """Compare two runs; writes changes.parquet, changes.json and ledger.parquet into ``out``.

    Args:
        old: The earlier run.
        new: The later one; its area may differ, and what lies in one area alone is ``unseen``.
        out: Folder to write.
        ledger: Ledger to go on with; else that of ``out``, else the one OLD was compared with
            (its ``changes/ledger.parquet``), else a new one. Only that of ``out`` is written.

    Returns the rows of changes.parquet (``CHANGE_SCHEMA``), sorted by site.

    Raises:
        ConfigError: The runs cannot be compared, or the ledger does not fit them.
        RunError: A run was changed since it ended.
        OutputError: The disk refuses.
    """
    check_comparable(old, new)
    pair = _pair(old, new)
    book = _open_ledger(old, out, ledger)
    book.check(pair)
    shared = Shared()
    cells = list(change_cells(old, new, shared, book.known(pair)))
    if not shared.cells:
        raise ConfigError(
            f"{new.path}: shares no cell with the area of {old.path}; give runs over one area"
        )
    sites = _detections(old), _detections(new)
    rows = [site_row(group, *sites) for group in group_cells(cells)]
    frame = _frame(book.apply(rows, pair, shared.present), old, new)
    summary = _summary(old, new, shared, frame)
    write_geoparquet(out / FILE, frame, CHANGE_SCHEMA)
    write_json(out / "changes.json", summary)
    book.write(out / "ledger.parquet")
    frame.attrs = summary
    return frame


def tell_changes(frame: gpd.GeoDataFrame) -> str:
    """Return what a comparison found, in a few lines."""
    about = frame.attrs
    lines = [f"{len(frame)} sites in either run"]
    if "compared_ha" in about:
        lines[0] += (
            f"; seen in both: {about['compared_ha']:,.0f} ha, in one or none: "
            f"{about['unseen_ha']:,.0f} ha, in OLD's area alone: {about['only_old_ha']:,.0f} ha, "
            f"in NEW's alone: {about['only_new_ha']:,.0f} ha"
        )
    for change in CHANGES:
        some = frame[frame.change == change]
        if len(some):
            lines.append(f"{change:>10}: {len(some)} {_sites(some)}, {_hectares(change, some)}")
    hidden = frame.unseen_reason.fillna("").astype(str).str.contains("new:", regex=False)
    first = frame[(frame.change == "unseen") & (frame.mining_in == "new") & ~hidden]
    if len(first):
        lines.append(
            f"of the unseen, {len(first)} {_sites(first)} found by NEW where OLD had no clear "
            "view: new or not, these two runs cannot tell"
        )
    worth = frame[frame.change.isin(["new", "growing"])].sort_values(
        ["growth_ha", "site_id"], ascending=[False, True]
    )
    for row in worth.head(LARGEST).itertuples():
        since = f"between {row.first_seen_after or 'unknown'} and {row.first_seen_by or 'unknown'}"
        lines.append(f"{row.change:>10}: {row.site_id}, {row.growth_ha:+.1f} ha, began {since}")
    return "\n".join(lines)


def _pair(old: FinishedRun, new: FinishedRun) -> Pair:
    settings = " ".join(f"{name} {value:g}" for name, value in report_settings(new).items())
    spans = [span for span in (window(new), window(old)) if span]
    until = spans[0][1] if spans else dt.date.min
    return Pair(old.run_id, new.run_id, settings, until)


def _open_ledger(old: FinishedRun, out: Path, ledger: Path | None) -> Ledger:
    if ledger is not None:
        return Ledger.read(ledger)
    kept = [out / "ledger.parquet", old.path / FOLDER / "ledger.parquet"]
    return next((Ledger.read(path) for path in kept if path.is_file()), Ledger())


def _detections(run: FinishedRun) -> Detections:
    sites = run.sites
    values = zip(sites.geometry, sites.area_ha.astype(float), strict=True)
    return dict(zip(sites.detection_id, values, strict=True))


def _frame(rows: list[dict[str, Any]], old: FinishedRun, new: FinishedRun) -> gpd.GeoDataFrame:
    named = [row | {"run_old": old.run_id, "run_new": new.run_id} for row in rows]
    named.sort(key=lambda row: str(row["site_id"]))
    table = pd.DataFrame(named, columns=[*CHANGE_SCHEMA.names, "geometry"])
    numbers = [field.name for field in CHANGE_SCHEMA if field.type == pa.float64()]
    table[numbers] = table[numbers].astype(np.float64)
    return gpd.GeoDataFrame(table, geometry="geometry", crs="EPSG:4326")


def _summary(
    old: FinishedRun, new: FinishedRun, shared: Shared, frame: gpd.GeoDataFrame
) -> dict[str, Any]:
    """Return how the runs were compared, and the sums."""
    counts = frame.change.value_counts()
    return {
        "old": _about(old),
        "new": _about(new),
        "settings": {name.lstrip("-"): value for name, value in report_settings(new).items()},
        "limits": {
            "growth_ha": GROWTH_HA,
            "growth_share": GROWTH_SHARE,
            "near_odds": NEAR_ODDS,
        },
        "compared_ha": round(shared.compared_ha, 2),
        "unseen_ha": round(shared.unseen_ha, 2),
        "only_old_ha": round(shared.only_old_ha, 2),
        "only_new_ha": round(shared.only_new_ha, 2),
        "changes": {change: int(counts.get(change, 0)) for change in CHANGES},
    }


def _about(run: FinishedRun) -> dict[str, Any]:
    span = window(run)
    return {
        "run_id": run.run_id,
        "aoi": run.aoi.name,
        "date": "/".join(map(str, span)) if span else None,
        "composite": run.config.pixels.composite,
    }


def _sites(some: gpd.GeoDataFrame) -> str:
    return "site" if len(some) == 1 else "sites"


def _hectares(change: str, some: gpd.GeoDataFrame) -> str:
    if change == "unseen":
        old, new = some.detected_old_ha.sum(), some.detected_new_ha.sum()
        return f"{old:,.1f} ha in OLD, {new:,.1f} ha in NEW, not compared"
    old, new, growth = (some[name].sum() for name in ("area_old_ha", "area_new_ha", "growth_ha"))
    text = f"{growth:+,.1f} ha to {new:,.1f} ha"
    if change in ("new", "stable"):
        text = f"{new:,.1f} ha"
    elif change == "gone":
        text = f"{old:,.1f} ha before"
    partly = int((some.compared_share < 1).sum())
    return text + (f", {partly} seen in part" if partly else "")
