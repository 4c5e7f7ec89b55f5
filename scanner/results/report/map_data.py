"""Everything the page's scripts are given, as plain data."""

from __future__ import annotations

from typing import Any, Final

from scanner.area.grid import PIXEL_M
from scanner.results.finished import FinishedRun
from scanner.results.palette import STATUS_COLOURS, as_hex
from scanner.results.report.figures import years
from scanner.results.report.frame import frame_of
from scanner.results.report.layers import cell_layer, ground_layers
from scanner.results.report.shapes import area_rings, tile_shapes
from scanner.results.report.sites import chips, site_rows
from scanner.results.texts import texts

MOST_CELLS: Final = 5_000
"""Cells that can be clicked."""
BASE_HOST: Final = "tile.openstreetmap.org"
"""The one host the page may ask, and only when the reader switches the online map on."""
BASE_URL: Final = f"https://{BASE_HOST}/{{z}}/{{x}}/{{y}}.png"
BASE_CREDIT: Final = (
    '&copy; <a href="https://www.openstreetmap.org/copyright">OpenStreetMap</a> contributors'
)
_SPOKEN: Final = "report.ui."
_FINER: Final = 1.3
"""Close-ups are laid on the map where its picture has pixels this much larger than theirs."""


def map_data(run: FinishedRun, lang: str) -> dict[str, Any]:
    """Return the data of the page, the texts of its scripts among them."""
    frame = frame_of(run.aoi)
    cells = cell_layer(run, frame, MOST_CELLS)
    sites = site_rows(run)
    words = texts(lang)
    items = sorted({item for site in sites for item in site["items"]})
    place = {item: index for index, item in enumerate(items)}
    for site in sites:
        site["items"] = [place[item] for item in site["items"]]
        if site["change"]:
            kind = site["change"]["kind"]
            site["change"]["label"] = words.get(f"report.change.{kind}", kind)
    closeups = list(chips(run))
    return {
        "corners": frame.corners,
        "pictures": {
            **ground_layers(run, frame),
            "status": cells.status,
            "missing": cells.missing,
        },
        "closer": frame.ground_pixel > _FINER * PIXEL_M and any(closeups),
        "area": area_rings(run),
        "tiles": tile_shapes(run),
        "cells": cells.shapes.columns(),
        "cells_total": cells.shapes.total,
        "sites": sites,
        "chips": closeups,
        "items": items,
        "threshold": run.threshold,
        "prevalence": f"{100 * run.prevalence:.3g} %",
        "colours": {name: as_hex(rgb) for name, rgb in STATUS_COLOURS.items()},
        "base": {"url": BASE_URL, "credit": BASE_CREDIT},
        "credit": words["report.synthetic.badge"]
        if run.synthetic
        else words["report.map.credit"].format(years=years(run)),
        "text": {
            key.removeprefix(_SPOKEN): value
            for key, value in words.items()
            if key.startswith(_SPOKEN)
        },
    }
