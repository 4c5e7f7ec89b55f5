"""``changes.parquet``: a row a site of either of two runs, with what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import geopandas as gpd
import pyarrow as pa

from scanner.errors import RunError
from scanner.results.finished import FinishedRun

FOLDER: Final = "changes"
"""Where the comparison with its baseline lies in a run folder."""
FILE: Final = "changes.parquet"

CHANGE_SCHEMA: Final = pa.schema(
    [
        ("site_id", pa.string()),
        ("change", pa.string()),
        ("unseen_reason", pa.string()),
        ("first_seen_after", pa.date32()),
        ("first_seen_by", pa.date32()),
        ("last_seen", pa.date32()),
        ("area_old_ha", pa.float64()),
        ("area_new_ha", pa.float64()),
        ("growth_ha", pa.float64()),
        ("unclear_ha", pa.float64()),
        ("outline", pa.string()),
        ("compared_share", pa.float64()),
        ("mining_in", pa.string()),
        ("n_cells", pa.int32()),
        ("detection_ids_old", pa.list_(pa.string())),
        ("detection_ids_new", pa.list_(pa.string())),
        ("detected_old_ha", pa.float64()),
        ("detected_new_ha", pa.float64()),
        ("score_old", pa.float64()),
        ("score_new", pa.float64()),
        ("split_from", pa.string()),
        ("merged", pa.list_(pa.string())),
        ("run_old", pa.string()),
        ("run_new", pa.string()),
    ]
)
"""Columns of changes.parquet besides ``geometry`` (NEW's outline, OLD's where NEW has none).

- ``area_*_ha``, ``growth_ha``: of the outline within the cells both runs saw, drawn in both from
  what ``outline`` names; null where they saw no cell in common. ``compared_share``: of the cells;
  ``unclear_ha``: of these cells, hidden in one of the runs, which growth must exceed to be told.
- ``detected_*_ha``: of the detections named, wherever they lie.
- ``mining_in``: old, new, both, or neither (known to the ledger alone).
- ``unseen_reason``: why cells of the site were hidden in OLD or in NEW, also where ``change`` could
  be told from the others.
"""


def changes_of(run: FinishedRun) -> gpd.GeoDataFrame | None:
    """Return the rows of a run's own ``changes.parquet``, ``None`` where none was compared.

    Raises ``RunError`` where the file cannot be read.
    """
    path = run.path / FOLDER / FILE
    return read_changes(path) if path.is_file() else None


def read_changes(path: Path) -> gpd.GeoDataFrame:
    """Read a ``changes.parquet``; ``RunError`` where it cannot be read."""
    try:
        frame = gpd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); compare the runs again"
        ) from error
    if lacking := {*CHANGE_SCHEMA.names} - {*frame.columns}:
        raise RunError(f"{path}: has no column {min(lacking)}; compare the runs again")
    return frame
