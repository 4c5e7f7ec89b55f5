"""What a scan takes: bytes, requests, windows and seconds, with the constants they are made of.

All of it is rough. Bytes follow from footprints and from what a pixel takes in a COG; seconds from
the models, timed on made-up pixels on this machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scanner.area.grid import CELL_PX, CHUNK_PX, Tile
from scanner.config import RunConfig
from scanner.detection.segment import STRIDE, WINDOW
from scanner.imagery.item import Item
from scanner.models.backends.choose import using
from scanner.run.cluster import local_workers
from scanner.run.outlook import BLOCK_PX, Bools, Outlook
from scanner.run.worker import TORCH_THREADS

if TYPE_CHECKING:
    from scanner.run.tile import Models

PIXEL_BYTES: Final = 1.5
"""Bytes a pixel of a band in a COG: three quarters of uint16, by DEFLATE with a predictor.

Measured: 1.41 to 1.66 on B02 B03 B04 B08 of three real L2A scenes of one date, 1.01 to 1.35 on
real medians of a year, 1.14 to 1.57 on the demo's. Six bands of a full tile come to 50 MB a date.
"""

SCL_BYTES: Final = 0.1
"""Bytes a pixel of the SCL: 0.04 to 0.09 on the demo's, and real ones are rougher."""

HEADER_BYTES: Final = 32_768
"""Read of each file before its blocks (seen on a host of ranges)."""

COARSE_BANDS: Final = frozenset({"B01", "B05", "B06", "B07", "B8A", "B11", "B12"})
"""Bands of 20 m, or coarser (B01)."""

READ_BYTES_S: Final = 20_000_000
"""Bytes taken to arrive in a second, for all workers together."""

SENT_SHARE: Final = 0.1
"""Share of the cells taken to be suspicious, so classified.

Measured: 5 % in mostly forest, 12 % in the demo, 41 to 52 % in disturbed land.
"""

LOOKS: Final = 2
"""Chips of a suspicious cell (``detection.classify.score_cells``)."""

SCL_S: Final = 0.015
"""Seconds of a core for the SCL of one date of a tile: decoded, and looked at for clear views and
for more than dense vegetation (0.009 without that).

This and the next two were measured by ``tests.benchmarks.tile_rest`` on a full tile of 36 dates, of
which six were read, three bands of each.
"""

BAND_S: Final = 0.12
"""Seconds of a core for one band of one day of a tile: decoded, made reflectance, composed."""

TABLE_S: Final = 1.2
"""Seconds of a core for what else a tile takes: its cells, their outlines, tables and maps.

0.6 to 1.1 where no cell is suspicious; the outlines of a hundred that are take 0.3 more.
"""

GPU_MPX_S: Final = 30.0
"""Pixels a GPU segments in a second, in millions. An assumption: there was none to measure."""

MANY: Final = 8
"""Workers of a small cluster, for which a plan tells the time as well: one core each."""

RASTER_BYTES: Final = 2_000_000
"""Disk that the maps of a tile take."""


@dataclass(frozen=True)
class TilePlan:
    """What one tile takes."""

    tile_id: str
    done: bool
    """Whether it has its part already; then nothing of it is read."""
    cells: int
    windows: int
    """Forward passes of the segmenter."""
    scenes: int
    """Candidate items, whose SCL is read."""
    days: int
    """Their solar days."""
    days_read: int
    """Expected to be read (``outlook.days_until``)."""
    days_most: int
    """Read at most."""
    screened: bool
    """Whether windows of nothing but dense forest may be passed over: all days read have an SCL."""
    expected_clear: float
    """Share of its AOI cells expected to be seen clear at least once."""
    scl_bytes: int
    """Of all candidates."""
    band_bytes: int
    """Of the days expected to be read, all windows of them."""
    band_bytes_most: int
    """... of the days read at most."""
    requests: int
    """For the days expected."""
    rest_s: float
    """Seconds of a core beside the models, for the days expected."""
    scl_s: float
    """Of them for the SCL: all that is left where every window is passed over."""

    @property
    def least_bytes(self) -> int:
        """Read where every window is passed over."""
        return self.scl_bytes + (0 if self.screened else self.band_bytes)


@dataclass(frozen=True)
class Pace:
    """What this machine brings, now."""

    workers: int | None
    """Local workers that would start; ``None`` with ``--scheduler``."""
    at_once: int
    """Of them, as many as there are cores."""
    note: str | None
    """Where they are fewer than asked."""
    window_s: float | None
    """Seconds of a window through the segmenter; ``None`` where nothing is to be read."""
    chip_s: float | None
    """Seconds of a chip through the classifier."""


class Costs:
    """Bytes and requests of each item over a whole tile.

    Args:
        items: candidates of the whole run.
        bands: bands read where an item has them.
    """

    def __init__(self, items: Sequence[Item], bands: Sequence[str]) -> None:
        held = [[band for band in bands if item.asset_key(band)] for item in items]
        coarse = np.array([sum(band in COARSE_BANDS for band in one) for one in held], dtype=float)
        fine = np.array([len(one) for one in held], dtype=float) - coarse
        scl = np.array([item.asset_key("SCL") is not None for item in items], dtype=float)
        self._fine = fine * _whole(CHUNK_PX, PIXEL_BYTES)
        self._coarse = coarse * _whole(CHUNK_PX // 2, PIXEL_BYTES)
        self._scl = scl * _whole(CHUNK_PX // 2, SCL_BYTES)
        self._files, self._scl_files = fine + coarse, scl
        self._rows = fine * _block_rows(CHUNK_PX) + coarse * _block_rows(CHUNK_PX // 2)
        self._scl_rows = scl * _block_rows(CHUNK_PX // 2)

    def tile(self, tile: Tile, outlook: Outlook, *, done: bool, screen: bool) -> TilePlan:
        """Return what a tile takes; ``screen`` tells whether windows may be passed over."""
        every = outlook.items
        scl = self._scl[every] @ outlook.share_20
        scl_files = self._scl_files[every].sum()
        scl_rows = self._scl_rows[every] @ np.sqrt(outlook.share_20)
        files, rows, band_bytes = self._bands(outlook, outlook.chosen)
        chosen = every[outlook.chosen]
        scl_s = SCL_S * float(self._scl_files[every] @ outlook.share_20)
        bands_s = BAND_S * float(self._files[chosen] @ outlook.share_10[outlook.chosen])
        return TilePlan(
            tile_id=tile.tile_id,
            done=done,
            cells=len(tile.cells),
            windows=_windows(tile) if outlook.days_read else 0,
            scenes=len(every),
            days=outlook.days,
            days_read=outlook.days_read,
            days_most=outlook.days_most,
            screened=screen and bool(self._scl_files[chosen].all()),
            expected_clear=round(outlook.clear, 3),
            scl_bytes=round(scl + scl_files * HEADER_BYTES),
            band_bytes=round(band_bytes),
            band_bytes_most=round(self._bands(outlook, outlook.most)[2]),
            # of each file its size and header, then a request a row of blocks
            requests=round(2 * (scl_files + files) + scl_rows + rows),
            rest_s=round(scl_s + (bands_s + TABLE_S if outlook.days_read else 0.0), 2),
            scl_s=round(scl_s, 2),
        )

    def _bands(self, outlook: Outlook, read: Bools) -> tuple[float, float, float]:
        """Return files, rows of blocks and bytes of the bands of some candidates."""
        items, fine, coarse = outlook.items[read], outlook.share_10[read], outlook.share_20[read]
        files = float(self._files[items].sum())
        size = float(self._fine[items] @ fine + self._coarse[items] @ coarse)
        return files, float(self._rows[items] @ np.sqrt(fine)), size + files * HEADER_BYTES


def pace_of(models: Models, run: RunConfig, todo: Sequence[TilePlan]) -> Pace:
    """Count the workers that would start and time the models on made-up pixels, a few seconds."""
    workers, note = (None, None) if run.scheduler else local_workers(run)
    at_once = min(workers or 1, os.cpu_count() or 1)
    if not any(tile.windows for tile in todo):
        return Pace(workers, at_once, note, None, None)
    return Pace(workers, at_once, note, *_timed(models, run))


def _timed(models: Models, run: RunConfig) -> tuple[float, float]:
    """Return the seconds of a window and of a chip here, on what a worker has."""
    with using(run.backend, TORCH_THREADS):
        segmenter, classifier = models.segmenter.load(), models.classifier.load()
        window = _made_up(len(models.segmenter_card.bands), 1, WINDOW)
        chips = _made_up(len(models.classifier_card.bands), 8, CELL_PX)
        windows = [_seconds(lambda: segmenter.class_map(window)) for _ in range(2)]
        # in all views, as the dearest chips are
        batches = [_seconds(lambda: classifier.logits(chips)) for _ in range(2)]
    return min(windows), min(batches) / len(chips)  # the first of them warms up


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _made_up(bands: int, n: int, size: int) -> Any:
    ramp = np.linspace(0.02, 0.3, size, dtype=np.float32)
    return np.broadcast_to(ramp, (n, bands, size, size)).copy()


def _whole(size: int, pixel_bytes: float) -> float:
    """Return the bytes of a square of ``size`` pixels, read in whole blocks wherever it lies."""
    return (size + BLOCK_PX - 1) ** 2 * pixel_bytes


def _block_rows(size: int) -> float:
    return (size - 1) / BLOCK_PX + 1


def _windows(tile: Tile) -> int:
    size = STRIDE // CELL_PX
    return len({(row // size, col // size) for row, col in tile.cells})
