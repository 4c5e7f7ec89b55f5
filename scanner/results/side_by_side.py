"""Threads for what reads, warps and compresses rasters: most of that is done outside of Python."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rasterio.errors import NotGeoreferencedWarning


@contextmanager
def side_by_side(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that may use rasterio at once; leaving waits for them.

    rasterio warns of arrays that lie nowhere, and silences that for its own by ``catch_warnings``,
    which is not made for threads: one puts back what another has just set. So it is silenced here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with ThreadPoolExecutor(threads) as pool:
            yield pool
