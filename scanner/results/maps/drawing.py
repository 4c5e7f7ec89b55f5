"""What a picture file needs besides pixels: a ground to stand on, a legend, JPEG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from scanner.results.palette import Rgb

Image = NDArray[np.uint8]
"""(y, x, 3), red first."""
Legend = Sequence[tuple[Rgb | None, str]]
"""Swatches and their words, or words alone."""

LONGEST_PX: Final = 4096
"""Longest side of a picture."""
QUALITY: Final = 90
"""Of JPEG."""
NOTHING: Final[Rgb] = (128, 128, 128)
"""Where no image is."""

_INK: Final[Rgb] = (30, 30, 30)
_PAPER: Final[Rgb] = (255, 255, 255)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


def on_grey(rgba: NDArray[np.uint8]) -> Image:
    """Put a picture (y, x, 4) on grey."""
    flat = np.where(rgba[..., 3:] > 0, rgba[..., :3], np.uint8(NOTHING[0]))
    return np.ascontiguousarray(flat)


def save_with_legend(path: Path, image: Image, legend: Legend) -> None:
    """Save a picture over its legend as JPEG, shrunk if both together are too long."""
    whole = np.vstack([image, _strip(image.shape[1], legend)])
    longest = max(whole.shape)
    if longest > LONGEST_PX:  # a narrow picture over a legend of many lines
        scale = LONGEST_PX / longest
        size = max(1, round(whole.shape[1] * scale)), max(1, round(whole.shape[0] * scale))
        whole = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
    save(path, whole)


def save(path: Path, image: Image) -> None:
    """Save a picture as JPEG."""
    wanted = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), wanted)
    path.write_bytes(content.tobytes())


def _strip(width: int, legend: Legend) -> Image:
    """Return the legend as wide as the picture, in as many lines as it needs.

    OpenCV's letters are plain ASCII, and so must the words be.
    """
    size = max(0.4, width / 2200)
    line, pen = math.ceil(40 * size), max(1, round(1.6 * size))
    placed, x, row = [], line // 2, 0
    for colour, text in legend:
        (wide, _), _ = cv2.getTextSize(text, _FONT, size, pen)
        needs = wide + line + (line if colour is not None else 0)
        if x + needs > width and x > line // 2:
            x, row = line // 2, row + 1
        placed.append((colour, text, x, row * line + line // 4))
        x += needs
    strip = np.full(((row + 1) * line + line // 2, width, 3), _PAPER, dtype=np.uint8)
    for colour, text, x, top in placed:
        if colour is not None:
            first, last = (x, top + line * 3 // 20), (x + line * 7 // 10, top + line * 17 // 20)
            cv2.rectangle(strip, first, last, colour, cv2.FILLED)
            cv2.rectangle(strip, first, last, _INK, 1)
            x += line
        spot = (x, top + line * 3 // 4)
        cv2.putText(strip, text, spot, _FONT, size, _INK, pen, cv2.LINE_AA)
    return strip
