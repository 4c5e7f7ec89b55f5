"""What one run says of one cell, for a comparison: mined, clear of mines, or hidden, and when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from shapely.geometry.base import BaseGeometry

from scanner.area.grid import Tile
from scanner.area.zones import corners
from scanner.detection.detections import day_dates
from scanner.results.changes.checks import report_settings
from scanner.results.coverage import TileReport
from scanner.results.finished import FinishedRun

MINING: Final = "mining"
NEAR: Final = "near"
CLEAR: Final = "clear"
HIDDEN: Final = "hidden"

NEAR_ODDS: Final = 0.5
"""A cell that is mining in one run still counts as mined in the other where the odds of its score
there are at least this share of those of the threshold: a score that wavers about the threshold is
no mine that comes and goes. What then decides is the bare ground, which both runs outlined."""

OUTSIDE: Final = "outside the area"
CLOUD: Final = "cloud"
NO_DATA: Final = "no data"
FAILED: Final = "failed tile"
NO_LATER: Final = "no later view"
POOR: Final = "poor view"
"""The cell is mining, but less of it was seen clear than ``--min-clear``. A run reports what it
sees there; a comparison takes it for a mine only where the other run shows one too, since the edges
of clouds look like bare ground."""


@dataclass(frozen=True)
class View:
    """What one run says of one cell."""

    state: str
    """``mining``, ``near`` (mined, see ``NEAR_ODDS``), ``clear`` (of mines) or ``hidden``."""
    mining: bool = False
    """Whether its status in the run is mining."""
    reason: str | None = None
    """Why it is hidden."""
    score: float | None = None
    sure: dt.date | None = None
    """A date with the mine surely there (``mining``) or surely not yet (``clear``)."""
    last: dt.date | None = None
    """The last clear date that was used."""
    pieces: Sequence[dict[str, Any]] = field(default=(), repr=False)
    """What a site may be drawn from (``outputs.PIECE``)."""
    clear: float = 1.0
    """Share of the cell seen clear."""
    poor: bool = False
    """Whether it is mining in less than a clear view."""

    @property
    def mined(self) -> bool:
        """Whether it counts as mined in this comparison."""
        return self.state in (MINING, NEAR)


class TileViews:
    """One run's views of some cells of a tile; its part is read once.

    Args:
        run: The run.
        tile: The tile.
        cells: status, score and clear_fraction by cell id; null where the run has no such cell.
    """

    def __init__(self, run: FinishedRun, tile: Tile, cells: pd.DataFrame) -> None:
        self._run, self._tile = run, tile
        self._cells: dict[Any, dict[str, Any]] = cells.to_dict("index")  # type: ignore[assignment]
        read = cells.status.notna() & (cells.status != "failed")
        self._report: TileReport | None = run.report(tile.tile_id) if read.any() else None
        part = run.part(tile.tile_id) if read.any() else None
        self._rows = {} if part is None else _rows(part, cells.index[read].tolist())
        self._min_clear = report_settings(run)["--min-clear"]
        self._near = run.threshold * NEAR_ODDS / (1 - run.threshold * (1 - NEAR_ODDS))
        self._latest = run.config.pixels.composite == "latest-clear"

    def view(self, cell_id: str) -> View:
        """Return what the run says of a cell."""
        cell = self._cells[cell_id]
        status = cell["status"]
        if not isinstance(status, str):
            return View(HIDDEN, reason=OUTSIDE)
        if status == "failed":
            return View(HIDDEN, reason=FAILED)
        score = None if pd.isna(cell["score"]) else float(cell["score"])
        if status == "unseen":
            reason = CLOUD if self._footprint.intersects(_outline(cell_id, self._tile)) else NO_DATA
            return View(HIDDEN, reason=reason, score=score)
        state = MINING if status == "mining" else CLEAR
        if state == CLEAR and score is not None and score >= self._near:
            state = NEAR
        row, clear = self._rows[cell_id], float(cell["clear_fraction"])
        poor = clear < self._min_clear
        sure, last = self._dates(int(row["days"]), state)
        sure = None if poor else sure
        return View(state, status == "mining", None, score, sure, last, row["pieces"], clear, poor)

    def _dates(self, bits: int, state: str) -> tuple[dt.date | None, dt.date | None]:
        """Return the sure and the last date; without a day that saw most of the cell, the tile's.

        Such a cell is pieced together from many days: a mine there was seen by the last of them
        at the latest, and one that is not there had not begun on the first.
        """
        days = [dt.date.fromisoformat(day) for day in self._report.days] if self._report else []
        dates = day_dates(bits, days)
        if dates:
            return sure_date(dates, latest=self._latest, mine=state == MINING), dates[-1]
        if days:
            return days[-1] if state == MINING else days[0], days[-1]
        return None, None

    @cached_property
    def _footprint(self) -> BaseGeometry:
        """Ground that the items read for this tile show, EPSG:4326."""
        ids = self._report.item_ids if self._report else ()
        used = {item for day in ids for item in day}
        return shapely.union_all([i.footprint for i in self._run.items.items if i.id in used])


def sure_date(dates: Sequence[dt.date], *, latest: bool, mine: bool) -> dt.date:
    """Return a date on which a cell surely had a mine, or surely had none yet.

    Scars stay: if a date has one, every later date has. ``dates`` are the n clear ones, in order.

    - ``latest``: the picture is the last date, so what it shows was so on the last date.
    - Median: whatever the ranks of the values, a median (the lower or the upper) shows a scar only
      if at least half of the dates do, and none only if at least half of them do not. Half is
      ceil(n / 2) dates. With a scar, those are the last ceil(n / 2) dates at least, the first of
      which has the index n - ceil(n / 2) = floor(n / 2). Without, they are the first ceil(n / 2)
      dates at least, the last of which has the index ceil(n / 2) - 1.

    A day is a clear date of a cell when it saw half of the cell clear, so a pixel may have a few
    dates more or less than its cell.
    """
    if latest:
        return dates[-1]
    return dates[len(dates) // 2 if mine else -(-len(dates) // 2) - 1]


def _outline(cell_id: str, tile: Tile) -> shapely.Polygon:
    """Return the outline of a cell in EPSG:4326."""
    _, col, row = cell_id.split("_")
    return shapely.Polygon(corners(tile.zone, [int(col)], [int(row)])[0])


def _rows(part: pa.Table, ids: list[str]) -> dict[str, dict[str, Any]]:
    chosen = part.filter(pc.is_in(part["cell_id"], pa.array(ids, pa.string())))
    return {row["cell_id"]: row for row in chosen.select(["cell_id", "days", "pieces"]).to_pylist()}
