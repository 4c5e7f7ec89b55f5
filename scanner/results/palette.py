"""Colours of classes and statuses, the same in every map, picture and style.

After Okabe and Ito, whose colours stay apart for readers who cannot tell red from green; a test
measures how far apart, as the three kinds of colour-blind readers see them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scanner.detection.segment import NOT_SEGMENTED
from scanner.models.card import SEGMENTER_CLASSES

Rgb = tuple[int, int, int]

CLASS_COLOURS: Final[dict[str, Rgb]] = {
    "background": (200, 200, 200),
    "building": (204, 121, 167),
    "road": (60, 60, 60),
    "water": (0, 114, 178),
    "barren": (230, 159, 0),
    "forest": (0, 158, 115),
    "agriculture": (240, 228, 66),
}
"""Of ``SEGMENTER_CLASSES``, in their order."""

STATUS_COLOURS: Final[dict[str, Rgb]] = {
    "failed": (0, 0, 0),
    "mining": (222, 50, 0),
    "unseen": (160, 110, 220),
    "not_mining": (0, 158, 115),
    "not_suspicious": (215, 215, 215),
}
"""Of ``detections.STATUSES``."""

SUSPICIOUS: Final[Rgb] = (240, 228, 66)
"""Suspicious ground."""
NOT_SUSPICIOUS: Final[Rgb] = (235, 235, 235)
"""Ground that was segmented and is not suspicious."""


def as_hex(rgb: Rgb) -> str:
    """Return a colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def colour_table(name: str) -> dict[int, tuple[int, int, int, int]]:
    """Return pixel value -> R, G, B, opacity of the raster ``classes`` or ``suspicious``."""
    if name == "classes":
        colours = [CLASS_COLOURS[one] for one in SEGMENTER_CLASSES]
    else:
        colours = [NOT_SUSPICIOUS, SUSPICIOUS]
    table = {value: (*rgb, 255) for value, rgb in enumerate(colours)}
    return {**table, NOT_SEGMENTED: (0, 0, 0, 0)}


def coloured(values: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Return the picture (4, y, x) of the values (y, x) of ``classes`` or ``suspicious``."""
    lookup = np.zeros((256, 4), dtype=np.uint8)
    for value, rgba in colour_table(name).items():
        lookup[value] = rgba
    return np.ascontiguousarray(np.moveaxis(lookup[values], -1, 0))
