"""The pictures of a detection: the ground as it is, and with its grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from scanner.files import atomic_path
from training.pictures import to_picture

if TYPE_CHECKING:
    from training.classic.results import Cell

COLOURS: Final = {
    "mining": (230, 30, 30),
    "not_mining": (40, 200, 60),
    "not_suspicious": (40, 200, 60),
    "unseen": (150, 150, 150),
    "failed": (150, 150, 150),
}
"""Mining red, clean green, what was not seen grey."""
THIN: Final = 60
"""Part of a cell that its line is wide."""


def draw_overview(
    reflectance: NDArray[np.float32], cells: Sequence[Cell], statuses: Sequence[str], out: Path
) -> None:
    """Write overview.png and overview_grid.png; ``reflectance`` is (3, y, x) of B02 B03 B04."""
    picture = Image.fromarray(to_picture(reflectance))
    _save(picture, out / "overview.png")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=20)
    # mining cells last: their red lies over the edges they share with others
    order = sorted(range(len(cells)), key=lambda index: statuses[index] == "mining")
    for index in order:
        cell, colour = cells[index], COLOURS[statuses[index]]
        box = (cell.cols.start, cell.rows.start, cell.cols.stop - 1, cell.rows.stop - 1)
        line = max(1, round((box[2] - box[0]) / THIN))
        pen.rectangle(box, outline=colour, width=line)
        if cell.score is not None:
            pen.text((box[0] + 2 * line, box[1] + 2 * line), f"{cell.score:.2f}", colour, font=font)
    _save(picture, out / "overview_grid.png")


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as scratch:
        picture.save(scratch, "PNG")
