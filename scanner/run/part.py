"""The table a tile leaves: a row an AOI cell, from the scan's arrays or from what the SCL tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scanner.area.grid import TILE_CELLS, Tile
from scanner.detection.cells import CellStats
from scanner.imagery.screen import DayChoice
from scanner.results.outputs import PART_SCHEMA

DECIMALS = 4
"""Shares of a cell are rounded, so that the last bits of a sum decide nothing."""

Cell = tuple[int, int]


def scanned_part(
    tile: Tile,
    stats: CellStats,
    score_of: Mapping[Cell, float],
    pieces: Mapping[Cell, list[dict[str, Any]]],
    screened: NDArray[np.bool_],
    choice: DayChoice,
) -> pa.Table:
    """Return the part (``PART_SCHEMA``) of a tile that was scanned.

    Cells that are ``screened`` (42, 42) were not read: what is known of them the SCL told.
    """
    return _part(
        tile,
        np.where(screened, choice.clear_fraction, stats.clear_fraction),
        np.where(screened, choice.day_bits, stats.days),
        screened,
        np.where(screened, 0.0, stats.suspicious_fraction),
        score_of,
        pieces,
    )


def screened_part(tile: Tile, choice: DayChoice) -> pa.Table:
    """Return the part of a tile of nothing but dense vegetation: no band of it was read."""
    return _part(tile, choice.clear_fraction, choice.day_bits, tile.mask)


def unseen_part(tile: Tile) -> pa.Table:
    """Return the part of a tile that no item shows: nothing clear, nothing suspicious."""
    nothing = np.zeros((TILE_CELLS, TILE_CELLS))
    return _part(tile, nothing, nothing, nothing.astype(bool))


def _part(
    tile: Tile,
    clear_fraction: NDArray[Any],
    days: NDArray[Any],
    screened: NDArray[np.bool_],
    suspicious_fraction: NDArray[Any] | None = None,
    score_of: Mapping[Cell, float] | None = None,
    pieces: Mapping[Cell, list[dict[str, Any]]] | None = None,
) -> pa.Table:
    rows, cols = np.array(tile.cells).T
    shares = np.zeros_like(clear_fraction) if suspicious_fraction is None else suspicious_fraction
    scores = [(score_of or {}).get(cell) for cell in tile.cells]
    return pa.table(
        {
            "cell_id": [tile.cell_id(row, col) for row, col in tile.cells],
            "row": rows,
            "col": cols,
            "clear_fraction": np.round(clear_fraction[rows, cols], DECIMALS),
            "suspicious_fraction": np.round(shares[rows, cols], DECIMALS),
            "score": pa.array(scores, pa.float64()),
            "days": days[rows, cols].astype(np.uint32),
            "screened": screened[rows, cols],
            "pieces": [(pieces or {}).get(cell, []) for cell in tile.cells],
        },
        schema=PART_SCHEMA,
    )
