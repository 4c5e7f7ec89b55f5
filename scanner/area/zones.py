"""The absolute grid: UTM zones cut into cells of 480 m that belong to no AOI.

In each zone columns are counted from x = 0 and rows from the equator, southward in the southern
hemisphere (y = 10,000,000 there). 10,000,000 is no multiple of 480, so counting southern rows from
y = 0 would leave a strip of 160 m below the equator to no cell. Both 10,000,000 and 480 are
multiples of 20, so cells still begin on the edges of Sentinel-2's 10 m and 20 m pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from scanner.area.coordinates import (
    Floats,
    central_meridian,
    from_geographic,
    to_geographic,
)

CELL_M: Final = 480
"""Metres a cell measures on each side."""

HALF_ZONE: Final = 3.0
"""Degrees from the central meridian of a UTM zone to its seams."""

REACH_M: Final = 1000.0
"""Metres beyond its seam within which a zone can still have cells (twice a cell, and some)."""

_TOUCH_M: Final = 0.2
"""Cells this close count as overlapping at a seam: their edges bend by millimetres, 90 at 84 N."""

_EQUATOR_SOUTH: Final = 10_000_000
"""y of the equator in the southern zones."""

_METRES_PER_DEGREE: Final = 111_320.0
_AROUND: Final = np.array([(dc, dr) for dc in (-1, 0, 1) for dr in (-1, 0, 1)])


@dataclass(frozen=True, order=True)
class Zone:
    """A UTM zone of one hemisphere; ``number`` 1 to 60. Norway's exceptions are not made."""

    number: int
    south: bool

    @property
    def epsg(self) -> int:
        """EPSG code of its CRS, WGS 84 / UTM."""
        return (32700 if self.south else 32600) + self.number

    @property
    def code(self) -> str:
        """Number and hemisphere, such as ``21S``."""
        return f"{self.number:02d}{'S' if self.south else 'N'}"

    @property
    def meridian(self) -> int:
        """Longitude of its middle, degrees."""
        return central_meridian(self.number)

    def bounds(self, cols: Any, rows: Any, size: int = CELL_M) -> tuple[Any, Any, Any, Any]:
        """Return xmin, ymin, xmax, ymax in metres of cells (or of squares of ``size`` metres)."""
        x = cols * size
        y = _EQUATOR_SOUTH - (rows + 1) * size if self.south else rows * size
        return x, y, x + size, y + size

    def locate(self, x: Any, y: Any, size: int = CELL_M) -> tuple[Any, Any]:
        """Return the column and row of the cell that holds a point in metres."""
        from_equator = _EQUATOR_SOUTH - np.asarray(y) if self.south else np.asarray(y)
        return (
            np.floor_divide(x, size).astype(np.int64),
            np.floor_divide(from_equator, size).astype(np.int64),
        )


def owned(zone: Zone, cols: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which cells of the zone's grid exist, whatever the AOI.

    A cell exists if its centre lies in its zone. At the equator that is all, since the cells of
    both hemispheres meet on it. At a seam the two zones' cells are turned against each other, and
    the rule alone leaves gaps: ground in a western cell with its centre in the east *and* in an
    eastern cell with its centre in the west. So a western cell with its centre beyond the seam
    exists too where it overlaps an eastern cell with its centre on this side. Then each point of
    the ground lies in at least one cell.

    Args:
        zone: The zone.
        cols: Columns of the cells, shape (n,).
        rows: Their rows, counted from the equator; cells of negative rows do not exist.
    """
    lon, lat = _centres(zone, cols, rows)
    past = lon - zone.meridian - HALF_ZONE  # degrees beyond the eastern seam
    exists = (past >= -2 * HALF_ZONE) & (past < 0)
    metres = past * _METRES_PER_DEGREE * np.cos(np.radians(lat))
    near = np.flatnonzero((past >= 0) & (metres < REACH_M))
    if near.size:
        exists[near] = _fills_gap(zone, cols[near], rows[near])
    return exists & (rows >= 0)


def _fills_gap(zone: Zone, cols: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which cells overlap a cell of the eastern neighbour whose centre lies in this zone."""
    east = Zone(zone.number % 60 + 1, zone.south)
    rings = corners(zone, cols, rows)
    x, y = from_geographic(east.epsg, rings[..., 0], rings[..., 1])
    squares = np.asarray(shapely.polygons(np.stack([x, y], axis=-1)))
    around = np.column_stack(east.locate(*from_geographic(east.epsg, *_centres(zone, cols, rows))))
    others = around[:, None, :] + _AROUND
    other_cols, other_rows = others[..., 0], others[..., 1]
    lon, _ = _centres(east, other_cols, other_rows)
    left_out = (lon - east.meridian < -HALF_ZONE) & (other_rows >= 0)
    boxes = shapely.box(*east.bounds(other_cols, other_rows))
    return np.asarray((left_out & shapely.dwithin(squares[:, None], boxes, _TOUCH_M)).any(axis=1))


def corners(zone: Zone, cols: Any, rows: Any, size: int = CELL_M) -> Floats:
    """Return the outlines of cells (or of squares of ``size`` metres) in (lon, lat).

    Closed rings of shape (n, 5, 2), counter-clockwise from the south-west.
    """
    bounds = zone.bounds(np.asarray(cols), np.asarray(rows), size)
    xmin, ymin, xmax, ymax = np.broadcast_arrays(*bounds)
    x = np.stack([xmin, xmax, xmax, xmin, xmin], axis=-1)
    y = np.stack([ymin, ymin, ymax, ymax, ymin], axis=-1)
    return np.stack(to_geographic(zone.epsg, x, y), axis=-1)


def _centres(zone: Zone, cols: Any, rows: Any) -> tuple[Floats, Floats]:
    """Return (lon, lat) of the centres of cells."""
    xmin, ymin, _, _ = zone.bounds(cols, rows)
    return to_geographic(zone.epsg, xmin + CELL_M / 2, ymin + CELL_M / 2)
