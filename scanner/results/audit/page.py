"""audit.html: the sample's cells, one after the other, to be labelled with the keyboard.

The page is one file that opens offline. It is blind: neither the stratum nor the score of a cell is
in it, and cells come in random order, so the labeller cannot lean on the map.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scanner.area.grid import CELL_M, PIXEL_M
from scanner.errors import RunError
from scanner.files import write_text
from scanner.results.audit.sample import Sample, draw_sample, write_sample
from scanner.results.finished import FinishedRun
from scanner.results.maps.rasters import picture
from scanner.results.report.embed import environment, json_text, source_hash
from scanner.results.texts import texts

PAGE: Final = "audit.html"
MARGIN_M: Final = 480
"""Ground shown around a cell on each side: enough to tell a mine's pit from a field's."""
PICTURE_PX: Final = (CELL_M + 2 * MARGIN_M) // PIXEL_M
"""Pixels a side: the scene's own, not resampled here; the browser enlarges them."""
QUALITY: Final = 95
"""Of the pictures as WebP: a zoomed cell shows no blocks, and 150 cells take about 2 MB."""

_LANG: Final = {"en": "en", "pt": "pt-BR", "es": "es-419"}


def write_audit(run: FinishedRun, out: Path, *, size: int, seed: int, lang: str) -> Path:
    """Draw ``size`` cells of a run and write the page to label them; return the page's path.

    ``out`` gets audit.html, and the sample: audit.json, sample.parquet, sample.csv. Labels that lie
    there stay. Raises ``ConfigError`` for a size, seed or language that cannot be, ``RunError``
    where the run keeps no true colour of a cell.
    """
    words = texts(lang)
    sample = draw_sample(run, size, seed)
    _check_pictures(run, sample)
    page = _render(run, sample, words, lang)
    write_sample(run, sample, out)
    write_text(out / PAGE, page)
    return out / PAGE


def _check_pictures(run: FinishedRun, sample: Sample) -> None:
    lacking = [
        tile for tile in sorted(set(sample.cells.tile_id)) if run.raster(tile, "quicklook") is None
    ]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise RunError(
            f"{run.path}: keeps no true colour of tile {lacking[0]}{more} to look at; scan again "
            "with --rasters --fresh, and models that use B02, B03 and B04"
        )


def _render(run: FinishedRun, sample: Sample, words: Any, lang: str) -> str:
    style, script = _asset("audit.css"), _asset("audit.js")
    said = {key.removeprefix("audit."): text for key, text in words.items() if "audit." in key}
    data = {
        "audit": sample.audit,
        "texts": {key: text for key, text in said.items() if key.startswith("js.")},
        "maps": not run.synthetic,
        "cells": list(_cells(run, sample)),
    }
    template = environment().from_string(_asset("audit.html.j2"))
    return template.render(
        lang=_LANG[lang],
        t=said,
        area=run.aoi.name,
        run_id=run.run_id,
        seed=sample.seed,
        count=len(sample.cells),
        synthetic=run.synthetic,
        side=CELL_M + 2 * MARGIN_M,
        margin=MARGIN_M,
        cell=CELL_M,
        years=_years(run),
        style=Markup(style),  # noqa: S704 - our own files and escaped JSON
        script=Markup(script),  # noqa: S704
        data=Markup(json_text(data)),  # noqa: S704
        hashes=(source_hash(style), source_hash(script)),
    )


def _cells(run: FinishedRun, sample: Sample) -> Iterator[dict[str, Any]]:
    """Yield what the page shows of each cell, and nothing that tells what the map takes it for."""
    dates = {tile: run.clear_dates(tile) for tile in sorted(set(sample.cells.tile_id))}
    for cell in sample.cells.itertuples():
        pixels = picture(run, cell.geometry, PICTURE_PX, margin_m=MARGIN_M)
        days = dates[cell.tile_id].get(cell.cell_id, [])
        yield {
            "id": cell.cell_id,
            "lat": cell.lat,
            "lon": cell.lon,
            "days": [day.isoformat() for day in days],
            "picture": _uri(pixels) if pixels[..., 3].any() else None,
        }


def _uri(rgba: NDArray[np.uint8]) -> str:
    """Return a picture (y, x, 4) as a data URI."""
    bgra = np.ascontiguousarray(rgba[..., [2, 1, 0, 3]])
    _, encoded = cv2.imencode(".webp", bgra, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _years(run: FinishedRun) -> str:
    years = sorted({item.solar_day.year for item in run.items.items})
    return str(years[0]) if years[:1] == years[-1:] else f"{years[0]}\u2013{years[-1]}"


def _asset(name: str) -> str:
    return (files("scanner.results.audit") / name).read_text(encoding="utf-8")
