"""How long a scan would take: here, on a few workers, on one GPU; at most and at least.

At most every window is read and segmented. At least all windows are passed over (``pixels.screen``)
as dense forest, and only the SCL is read. What lies between is not known before the SCL is read.
Reading and computing overlap, so the slower of the two counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scanner.detection.segment import WINDOW
from scanner.run.costs import (
    GPU_MPX_S,
    LOOKS,
    MANY,
    READ_BYTES_S,
    SENT_SHARE,
    Pace,
    TilePlan,
)


@dataclass(frozen=True)
class Times:
    """Seconds by the clock somewhere."""

    least: float
    most: float


@dataclass(frozen=True)
class Work:
    """Seconds of one core, and bytes, that a set of tiles takes."""

    windows: int
    models_s: float
    """In both models, on this machine."""
    chips_s: float
    """Of them in the classifier."""
    rest_s: float
    """Beside the models."""
    read: int
    """Bytes."""

    @classmethod
    def of(cls, tiles: Sequence[TilePlan], pace: Pace, *, least: bool) -> Work:
        """Sum up tiles; ``least`` where what can be passed over is."""
        whole = [tile for tile in tiles if not (least and tile.screened)]
        passed = [tile for tile in tiles if least and tile.screened]
        windows = sum(tile.windows for tile in whole)
        chips_s = (
            SENT_SHARE * LOOKS * sum(t.cells for t in whole if t.windows) * _known(pace.chip_s)
        )
        return cls(
            windows=windows,
            models_s=windows * _known(pace.window_s) + chips_s,
            chips_s=chips_s,
            rest_s=sum(tile.rest_s for tile in whole) + sum(tile.scl_s for tile in passed),
            read=sum(tile.scl_bytes + tile.band_bytes for tile in whole)
            + sum(tile.scl_bytes for tile in passed),
        )


def on_workers(tiles: Sequence[TilePlan], pace: Pace, count: int, *, local: bool) -> Times:
    """Return the time on so many workers, each with a core like one of this machine's."""
    at_once = max(1, min(count, len(tiles)))

    def seconds(work: Work) -> float:
        return max((work.models_s + work.rest_s) / at_once, _reading(work, local))

    return _both(tiles, pace, seconds)


def on_gpu(tiles: Sequence[TilePlan], pace: Pace, *, local: bool) -> Times:
    """Return the time with ``MANY`` workers that read and compose for one GPU that segments."""
    at_once = max(1, min(MANY, len(tiles)))

    def seconds(work: Work) -> float:
        segmenting = work.windows * WINDOW**2 / (1e6 * GPU_MPX_S)
        return max(segmenting, (work.chips_s + work.rest_s) / at_once, _reading(work, local))

    return _both(tiles, pace, seconds)


def _both(tiles: Sequence[TilePlan], pace: Pace, seconds: Callable[[Work], float]) -> Times:
    least, most = (Work.of(tiles, pace, least=which) for which in (True, False))
    return Times(seconds(least), seconds(most))


def _reading(work: Work, local: bool) -> float:
    return 0.0 if local else work.read / READ_BYTES_S


def _known(value: float | None) -> float:
    """Return a pace; 0 where nothing is to be read, so nothing was timed."""
    return value or 0.0
