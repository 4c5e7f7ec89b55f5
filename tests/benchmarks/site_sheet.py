"""A contact sheet of sites, for a person to judge: the ground in colour, cells and outlines on it.

Pictures of real ground must never be committed: a sheet is refused inside a git checkout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import rasterio
import rasterio.windows
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from shapely.geometry.base import BaseGeometry

from scanner.imagery.bands import QUANTIFICATION
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset
from tests.benchmarks.real_ground import BANDS, to_metres

WHITE: Final = 0.2
"""Reflectance shown as white: forest is dark."""
SIDE: Final = 244
"""Pixels a side of a chip on the sheet."""
COLUMNS: Final = 6
ROWS: Final = 8


@dataclass(frozen=True)
class Shown:
    """A site for the contact sheet: its outline (EPSG:4326), its cells, and two lines of text."""

    outline: BaseGeometry
    cells: BaseGeometry
    lines: tuple[str, str]
    items: Sequence[Item]


def write_sheet(path: Path, sites: Sequence[Shown]) -> list[Path]:
    """Draw the sites on one or more png; returns their paths, none where there is no site.

    Raises ``ValueError`` inside a git checkout: the pictures must never be committed.
    """
    if any((folder / ".git").exists() for folder in path.resolve().parents):
        raise ValueError(f"{path}: lies in a git checkout; give --sheet a folder elsewhere")
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for page, start in enumerate(range(0, len(sites), COLUMNS * ROWS)):
        shown = sites[start : start + COLUMNS * ROWS]
        sheet = Image.new("RGB", (COLUMNS * 250, -(-len(shown) // COLUMNS) * 280))
        draw = ImageDraw.Draw(sheet)
        for index, site in enumerate(shown):
            x, y = index % COLUMNS * 250, index // COLUMNS * 280
            sheet.paste(_chip(site), (x, y + 30))
            for line, text in enumerate(site.lines):
                draw.text((x + 2, y + 2 + 13 * line), text, fill="white")
        name = path if not page else path.with_stem(f"{path.stem}_{page + 1}")
        sheet.save(name)
        written.append(name)
    return written


def _chip(site: Shown) -> Image.Image:
    """Return the ground around a site, its outline yellow and its cells white."""
    point = site.outline.representative_point()
    item = min(site.items, key=lambda one: one.footprint.distance(point))  # may lie on an edge
    cells = to_metres(site.cells, item.epsg)
    west, south, east, north = cells.bounds
    half = max(east - west, north - south, 960) / 2 + 100
    x, y = (west + east) / 2, (south + north) / 2
    bands = [_read(item, band, (x - half, y - half, x + half, y + half)) for band in BANDS[::-1]]
    scaled = np.clip(np.stack(bands, axis=-1) / WHITE, 0, 1)
    chip = Image.fromarray(np.round(scaled * 255).astype(np.uint8)).resize((SIDE, SIDE))
    draw, scale = ImageDraw.Draw(chip), SIDE / (2 * half)
    for shape, colour in ((cells, "white"), (to_metres(site.outline, item.epsg), "yellow")):
        for ring in shapely.get_rings(shapely.get_parts(shape)):
            ends = np.asarray(ring.coords)
            corners = np.column_stack((ends[:, 0] - x + half, y + half - ends[:, 1])) * scale
            draw.line([tuple(corner) for corner in corners.tolist()], fill=colour)
    return chip


def _read(item: Item, band: str, bounds: tuple[float, float, float, float]) -> NDArray[np.float32]:
    with rasterio.open(str(item.href(band))) as source:
        window = rasterio.windows.from_bounds(*bounds, source.transform)
        dn = source.read(1, window=window, boundless=True, fill_value=0).astype(np.float32)
    return np.where(dn > 0, (dn + resolve_offset(item)) / QUANTIFICATION, 0).astype(np.float32)
