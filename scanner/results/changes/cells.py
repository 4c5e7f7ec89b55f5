"""Two runs cell by cell: what each saw in the cells that are mining in either.

Cell ids come from the place alone, so the same id is the same ground in any run. Tile by tile, from
``cells.parquet``; parts are opened only where a tile has such a cell, so memory follows mining
cells, not the area.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely

from scanner.area.grid import Tile, Zone
from scanner.detection.detections import CELL_HA
from scanner.results.changes.views import (
    CLEAR,
    HIDDEN,
    NEAR,
    NO_LATER,
    POOR,
    TileViews,
    View,
)
from scanner.results.finished import FinishedRun

ANSWERED: Final = ("mining", "not_mining", "not_suspicious")
"""Statuses of a cell that was seen; the others are no answer."""

COLUMNS: Final = ("status", "score", "clear_fraction")


@dataclass(frozen=True)
class ChangeCell:
    """A cell that is mining in one of two runs, or that a ledger knows as mined."""

    cell_id: str
    tile: Tile
    old: View
    new: View
    known: bool = False
    """Whether a ledger holds it as mined, as far as was seen before these runs."""

    @property
    def compared(self) -> bool:
        """Whether both runs saw it."""
        return HIDDEN not in (self.old.state, self.new.state)

    @cached_property
    def square(self) -> shapely.Polygon:
        """Outline in metres of the tile's zone."""
        _, col, row = self.cell_id.split("_")
        square: shapely.Polygon = shapely.box(*self.tile.zone.bounds(int(col), int(row)))
        return square


@dataclass
class Shared:
    """What two runs have in common, summed tile by tile."""

    cells: int = 0
    """Cells in both areas."""
    compared_ha: float = 0.0
    """Seen in both."""
    unseen_ha: float = 0.0
    """In both areas, not seen in one of the runs or in both."""
    only_old_ha: float = 0.0
    only_new_ha: float = 0.0
    present: set[str] = field(default_factory=set)
    """Cells of the ledger that lie in either area."""

    def add(self, both: pd.DataFrame) -> None:
        """Count a tile's cells."""
        in_old, in_new = both.status_old.notna(), both.status_new.notna()
        inside = int((in_old & in_new).sum())
        seen = int((both.status_old.isin(ANSWERED) & both.status_new.isin(ANSWERED)).sum())
        self.cells += inside
        self.compared_ha += CELL_HA * seen
        self.unseen_ha += CELL_HA * (inside - seen)
        self.only_old_ha += CELL_HA * int((~in_new).sum())
        self.only_new_ha += CELL_HA * int((~in_old).sum())


def change_cells(
    old: FinishedRun, new: FinishedRun, shared: Shared, known: Collection[str] = ()
) -> Iterator[ChangeCell]:
    """Yield the cells that are mining in either run, or ``known``, in the order of tiles and ids.

    ``shared`` is filled as tiles go by.
    """
    known = set(known)
    was, now = _CellTable(old), _CellTable(new)
    for tile_id in sorted({*was.groups, *now.groups}):
        tables = was.tile(tile_id).add_suffix("_old"), now.tile(tile_id).add_suffix("_new")
        both = tables[0].join(tables[1], how="outer").sort_index()
        told = both.index.isin(known) if known else np.zeros(len(both), dtype=bool)
        shared.add(both)
        shared.present.update(both.index[told])
        chosen = both[(both.status_old == "mining") | (both.status_new == "mining") | told]
        if len(chosen):
            yield from _tile_cells(old, new, tile_id, chosen, known)


class _CellTable:
    """``cells.parquet`` of a run, read a tile at a time: the merge wrote one row group each."""

    def __init__(self, run: FinishedRun) -> None:
        self._file = pq.ParquetFile(run.path / "cells.parquet")
        self.groups: dict[str, list[int]] = {}
        column = self._file.schema_arrow.names.index("tile_id")
        for index in range(self._file.num_row_groups):
            told = self._file.metadata.row_group(index).column(column).statistics
            self.groups.setdefault(str(told.min), []).append(index)

    def tile(self, tile_id: str) -> pd.DataFrame:
        """Return ``COLUMNS`` by cell id; empty where the run has no such tile."""
        groups = self.groups.get(tile_id, [])
        table = self._file.read_row_groups(groups, columns=["cell_id", *COLUMNS])
        frame: pd.DataFrame = table.to_pandas().set_index("cell_id")
        return frame


def _tile_cells(
    old: FinishedRun, new: FinishedRun, tile_id: str, rows: pd.DataFrame, known: set[str]
) -> Iterator[ChangeCell]:
    code, col, row = tile_id.split("_")
    tile = Tile(Zone(int(code[:2]), code[2] == "S"), int(col), int(row), ())
    was, now = (
        TileViews(run, tile, rows[[f"{name}_{side}" for name in COLUMNS]].set_axis(COLUMNS, axis=1))
        for run, side in ((old, "old"), (new, "new"))
    )
    for cell_id in rows.index:
        before, after = was.view(cell_id), now.view(cell_id)
        told = cell_id in known
        settled = _settled(before, after, told), _settled(after, before, told)
        yield ChangeCell(cell_id, tile, *_in_order(*settled), told)


def _settled(view: View, other: View, known: bool) -> View:
    """Decide what is neither plainly a mine nor plainly none, by the other run and the ledger.

    A near score is a mine where there is, or was, one, and none elsewhere. A mine in a poor view
    stands where the other run shows one too, and tells nothing elsewhere.
    """
    if view.state == NEAR and not known and (other.poor or not other.mining):
        return replace(view, state=CLEAR)
    if view.poor and not known and not other.mining:
        return replace(view, state=HIDDEN, reason=POOR)
    return view


def _in_order(old: View, new: View) -> tuple[View, View]:
    """Hide one side of a cell that NEW saw no later than OLD (windows of latest-clear overlap).

    It is the side without a mine, so that no mine is passed over; NEW's where both have one.
    """
    if old.last is None or new.last is None or old.last < new.last:
        return old, new
    if new.mining and not old.mining:
        return replace(old, state=HIDDEN, reason=NO_LATER), new
    return old, replace(new, state=HIDDEN, reason=NO_LATER)
