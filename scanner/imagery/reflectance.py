"""DN to surface reflectance: one rule an item, checked against its pixels.

From processing baseline 04.00 (25 January 2022) on, Sentinel-2 products carry +1000 DN
(``BOA_ADD_OFFSET`` = -1000). Reprocessed archives carry it at any sensing date, so the baseline
decides, never the date. Element 84's Earth Search has taken the offset out of many assets already
and says so in ``earthsearch:boa_offset_applied``; the flag is wrong on some, hence the check on
pixels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.imagery.bands import NODATA, QUANTIFICATION, Scl
from scanner.imagery.item import Item

BOA_ADD_OFFSET: Final = -1000
"""DN added to every band from baseline 04.00 on (Sentinel-2 product specification, 14.6)."""

OFFSET_BASELINE: Final = (4, 0)
"""First processing baseline whose products carry the offset."""

MIN_LAND_PIXELS: Final = 200
"""Fewer land pixels than this say nothing about the offset."""

STILL_IN_DN: Final = 900
"""A darkest percentile of blue above this, over land, means that the offset is still in."""

TWICE_SHARE: Final = 0.05
"""A larger share of land below zero after the offset means that it was taken out before."""


def resolve_offset(item: Item) -> int:
    """Return the DN to add to every valid pixel of ``item``: 0 or -1000.

    An item without a baseline is taken as one before 04.00; :func:`doubt` catches the mistake.
    """
    if item.properties.get("earthsearch:boa_offset_applied") is True:
        return 0
    if "S2MSI1C" in str(item.properties.get("s2:product_type", "")) and item.baseline is None:
        return 0
    return BOA_ADD_OFFSET if _baseline(item.baseline) >= OFFSET_BASELINE else 0


def to_reflectance(dn: NDArray[Any], offsets: NDArray[Any]) -> NDArray[np.float32]:
    """Return reflectance in 0..1, float32, of ``dn`` (item, band, y, x); NaN where DN is 0.

    ``offsets`` holds one DN an item. Reflectance outside 0..1 (noise over water, cloud) is cut
    there.
    """
    shape = (-1,) + (1,) * (dn.ndim - 1)
    reflectance: NDArray[np.float32] = dn.astype(np.float32)
    reflectance += offsets.reshape(shape).astype(np.float32)
    reflectance /= QUANTIFICATION
    np.clip(reflectance, 0, 1, out=reflectance)
    reflectance[dn == NODATA] = np.nan
    return reflectance


def doubt(
    blue: NDArray[Any], scl: NDArray[Any] | None, offset: int, baseline: str | None
) -> str | None:
    """Return why an item's offset cannot be trusted, or ``None`` where nothing speaks against it.

    ``blue`` is DN of B02, any sample of the item; ``scl`` the classes on the same pixels, where
    known, so that only vegetation and bare soil are judged. Taken twice, the offset leaves land
    below zero; left in, blue (200 to 400 DN over forest) never comes near zero.
    """
    land = blue != NODATA
    if scl is not None:
        land &= (scl == Scl.VEGETATION) | (scl == Scl.BARE_SOIL)
    values = blue[land]
    if values.size < MIN_LAND_PIXELS:
        return None
    if offset and (values < -offset).mean() > TWICE_SHARE:
        below = 100 * float((values < -offset).mean())
        return (
            f"offset of baseline {baseline} seems taken out already: {below:.0f} % of land below 0"
        )
    darkest = float(np.percentile(values, 1))
    if not offset and darkest > STILL_IN_DN:
        return f"offset of baseline {baseline} seems still in: darkest land is {darkest:.0f} DN"
    return None


def _baseline(text: str | None) -> tuple[int, int]:
    """Parse ``"05.10"`` to (5, 10); what cannot be parsed counts as (0, 0)."""
    try:
        major, _, minor = (text or "0.0").partition(".")
        return int(major), int(minor or 0)
    except ValueError:
        return 0, 0
