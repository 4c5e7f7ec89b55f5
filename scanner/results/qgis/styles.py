"""Styles for QGIS (QML), drawn from the palette: one element ``qgis`` a layer.

Only what differs from QGIS's own defaults is written; QGIS fills in the rest. Nothing here holds
text from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as ET

from scanner.models.card import SEGMENTER_CLASSES
from scanner.results.palette import (
    CLASS_COLOURS,
    STATUS_COLOURS,
    SUSPICIOUS,
    Rgb,
    as_hex,
)

VERSION: Final = "3.22.16"
"""Of QGIS, whose form the styles have; newer ones read it too."""
DOCTYPE: Final = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
POLYGON: Final = "2"
"""QGIS's number for layers of polygons."""

SCORES: Final = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Bounds of the score classes: fixed, so that a colour means the same in every run."""
SHADES: Final = (0.75, 0.5, 0.25, 0.0, -0.35)
"""The mining colour towards white (1) or black (-1), from the lowest scores to the highest."""
HIDDEN: Final = (0.0, 0.1, 0.5, 0.9, 1.0)
"""Bounds of the classes of coverage: share of a tile that was not seen."""
HIDDEN_SHARE: Final = """coalesce(("unseen_ha" + "failed_ha") / nullif("area_ha", 0), 0)"""

STATUS_LABELS: Final = {
    "mining": "mining",
    "not_mining": "suspicious ground, not mining",
    "unseen": "not seen (clouds, no data)",
    "failed": "failed: not read",
    "not_suspicious": "nothing suspicious",
}
"""Words of the legend, in the order they are listed."""
CHANGE_COLOURS: Final[dict[str, Rgb]] = {
    "new": STATUS_COLOURS["mining"],
    "growing": CLASS_COLOURS["barren"],
    "stable": CLASS_COLOURS["background"],
    "shrinking": (86, 180, 233),
    "gone": CLASS_COLOURS["water"],
    "unseen": STATUS_COLOURS["unseen"],
}
"""Of ``compare.CHANGES``."""
DETECTION_NAMES: Final = {
    "detection_id": "Site",
    "outline": "Outline drawn from",
    "score": "Score (0 to 1)",
    "n_cells": "Cells",
    "area_ha": "Area (ha)",
    "area_in_aoi_ha": "Area inside the area of interest (ha)",
    "barren_ha": "Bare ground (ha)",
    "water_ha": "Water (ha)",
    "first_observed": "First clear date used",
    "last_observed": "Last clear date used",
    "clear_observations": "Clear dates",
    "item_ids": "Scenes",
    "aoi": "Area of interest",
    "tile_ids": "Tiles",
    "segmenter": "Segmentation model",
    "classifier": "Classification model",
    "run_id": "Run",
}
"""Columns of detections in words."""


def document(root: ET.Element) -> str:
    """Return an element as a QGIS document."""
    ET.indent(root, " ")
    return DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def detections() -> ET.Element:
    """Sites by score, pale to dark; from 1:250,000 on with their area."""
    root = _vector(DETECTION_NAMES, preview='"detection_id"', labels=True)
    mining = STATUS_COLOURS["mining"]
    shades = (_towards(mining, shade) for shade in SHADES)
    _graduated(
        root,
        "score",
        [
            (low, high, f"score {low:.2f} to {high:.2f}", _site(colour))
            for (low, high), colour in zip(pairwise(SCORES), shades, strict=True)
        ],
    )
    labeling = ET.SubElement(root, "labeling", type="simple")
    settings = ET.SubElement(labeling, "settings", calloutType="simple")
    style = _attributes(
        fieldName="""round("area_ha", 1) || ' ha'""",
        isExpression="1",
        fontSize="8",
        fontSizeUnit="Point",
        fontWeight="50",
        textColor="255,255,255,255",
    )
    text = ET.SubElement(settings, "text-style", style)
    buffer = {"bufferDraw": "1", "bufferSize": "0.9", "bufferColor": "0,0,0,220"}
    ET.SubElement(text, "text-buffer", {**buffer, "bufferSizeUnits": "MM"})
    ET.SubElement(settings, "placement", placement="8", dist="1", distUnits="MM")
    ET.SubElement(settings, "rendering", scaleVisibility="1", scaleMax="250000", scaleMin="0")
    return root


def cells() -> ET.Element:
    """Cells by status: outlines where the ground was seen, hatched where it was not."""
    root = _vector({"cell_id": "Cell", "status": "Status", "score": "Score (0 to 1)"}, '"cell_id"')
    _categorised(
        root, "status", [(one, label, _status(one)) for one, label in STATUS_LABELS.items()]
    )
    return root


def changes() -> ET.Element:
    """Sites by what became of them since an earlier run: outlines, that hide no site below."""
    root = _vector({"site_id": "Site", "change": "Change", "growth_ha": "Growth (ha)"}, '"site_id"')
    _categorised(
        root,
        "change",
        [
            (change, change, [_fill(None, 0, (0, 0, 0), 1.4), _fill(None, 0, colour, 0.8)])
            for change, colour in CHANGE_COLOURS.items()
        ],
    )
    return root


def coverage() -> ET.Element:
    """Tiles by the share of them that was not seen."""
    root = _vector({"tile_id": "Tile", "reason": "Reason"}, '"tile_id"')
    patterns = ("no", "dense7", "dense5", "dense3")
    classes = []
    for (low, high), pattern in zip(pairwise(HIDDEN), patterns, strict=True):
        fill = _fill(STATUS_COLOURS["unseen"], 255, (70, 70, 70), 0.3, pattern)
        classes.append((low, high, f"{low:.0%} to {high:.0%} not seen", [fill]))
    _graduated(root, HIDDEN_SHARE, classes)
    return root


def aoi() -> ET.Element:
    """The area's outline, readable on any ground."""
    root = _vector({}, '"name"')
    renderer = ET.SubElement(root, "renderer-v2", type="singleSymbol")
    symbols = ET.SubElement(renderer, "symbols")
    black, white = (0, 0, 0), (255, 255, 255)
    _symbol(symbols, 0, [_fill(None, 0, black, 1.2), _fill(None, 0, white, 0.5)])
    return root


def classes() -> ET.Element:
    """The class map with the names of its classes."""
    named = ((value, name) for value, name in enumerate(SEGMENTER_CLASSES))
    return _paletted((value, CLASS_COLOURS[name], name) for value, name in named)


def suspicious() -> ET.Element:
    """Suspicious ground alone; the rest is left clear."""
    return _paletted([(1, SUSPICIOUS, "suspicious ground")])


def quicklook() -> ET.Element:
    """True colour, as its bytes say, with its opacity."""
    root, pipe = _raster()
    bands = {"redBand": "1", "greenBand": "2", "blueBand": "3", "alphaBand": "4", "opacity": "1"}
    ET.SubElement(pipe, "rasterrenderer", {"type": "multibandcolor", **bands})
    return root


STYLES: Final[dict[str, Callable[[], ET.Element]]] = {
    "detections": detections,
    "changes": changes,
    "cells": cells,
    "coverage": coverage,
    "aoi": aoi,
    "classes": classes,
    "suspicious": suspicious,
    "quicklook": quicklook,
}
"""Layer -> its style."""

Layer = tuple[str, dict[str, str]]
"""A symbol layer: class and properties."""


def _attributes(**values: str) -> dict[str, str]:
    return values


def _vector(names: Mapping[str, str], preview: str, labels: bool = False) -> ET.Element:
    """Start the style of a polygon layer whose columns have readable names."""
    root = ET.Element("qgis", version=VERSION, styleCategories="AllStyleCategories")
    root.set("labelsEnabled", "1" if labels else "0")
    aliases = ET.SubElement(root, "aliases")
    for number, (field, name) in enumerate(names.items()):
        ET.SubElement(aliases, "alias", field=field, name=name, index=str(number))
    ET.SubElement(root, "previewExpression").text = preview
    ET.SubElement(root, "layerGeometryType").text = POLYGON
    return root


def _graduated(
    root: ET.Element, by: str, parts: Iterable[tuple[float, float, str, list[Layer]]]
) -> None:
    kind = {"type": "graduatedSymbol", "attr": by, "graduatedMethod": "GraduatedColor"}
    renderer = ET.SubElement(root, "renderer-v2", kind)
    ranges, symbols = ET.SubElement(renderer, "ranges"), ET.SubElement(renderer, "symbols")
    for number, (low, high, label, layers) in enumerate(parts):
        told = {"lower": f"{low:.6f}", "upper": f"{high:.6f}", "label": label}
        ET.SubElement(ranges, "range", {**told, "symbol": str(number), "render": "true"})
        _symbol(symbols, number, layers)


def _categorised(root: ET.Element, by: str, parts: Iterable[tuple[str, str, list[Layer]]]) -> None:
    renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=by)
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for number, (value, label, layers) in enumerate(parts):
        told = {"value": value, "label": label, "symbol": str(number), "render": "true"}
        ET.SubElement(categories, "category", told)
        _symbol(symbols, number, layers)


def _symbol(symbols: ET.Element, number: int, layers: Iterable[Layer]) -> None:
    about = {"type": "fill", "name": str(number), "alpha": "1", "clip_to_extent": "1"}
    symbol = ET.SubElement(symbols, "symbol", about)
    for kind, properties in layers:
        layer = ET.SubElement(symbol, "layer", {"class": kind, "enabled": "1", "pass": "0"})
        options = ET.SubElement(layer, "Option", type="Map")
        for name, value in properties.items():
            ET.SubElement(options, "Option", name=name, type="QString", value=value)


def _fill(
    colour: Rgb | None, opacity: int, outline: Rgb, width: float, pattern: str = "solid"
) -> Layer:
    return "SimpleFill", {
        "color": ",".join(map(str, (*(colour or (0, 0, 0)), opacity))),
        "style": "no" if colour is None else pattern,
        "outline_color": ",".join(map(str, (*outline, 255))),
        "outline_style": "solid",
        "outline_width": str(width),
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }


def _site(colour: Rgb) -> list[Layer]:
    """Half clear, so that the ground stays to be seen, with a dark rim on which it stands out."""
    return [_fill(None, 0, (255, 255, 255), 1.0), _fill(colour, 150, colour, 0.5)]


def _status(status: str) -> list[Layer]:
    colour = STATUS_COLOURS[status]
    if status == "unseen":
        return [_fill(colour, 255, colour, 0.2, "b_diagonal")]
    if status == "failed":
        return [_fill(colour, 255, colour, 0.2, "diagonal_x")]
    return [_fill(None, 0, colour, 0.2 if status == "not_suspicious" else 0.4)]


def _towards(colour: Rgb, shade: float) -> Rgb:
    """Mix a colour with white (shade > 0) or black."""
    end = 255 if shade > 0 else 0
    red, green, blue = (round(part + (end - part) * abs(shade)) for part in colour)
    return red, green, blue


def _raster() -> tuple[ET.Element, ET.Element]:
    root = ET.Element("qgis", version=VERSION, styleCategories="AllStyleCategories")
    return root, ET.SubElement(root, "pipe")


def _paletted(entries: Iterable[tuple[int, Rgb, str]]) -> ET.Element:
    root, pipe = _raster()
    kind = {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"}
    renderer = ET.SubElement(pipe, "rasterrenderer", kind)
    palette = ET.SubElement(renderer, "colorPalette")
    for value, colour, label in entries:
        told = {"value": str(value), "color": as_hex(colour), "label": label, "alpha": "255"}
        ET.SubElement(palette, "paletteEntry", told)
    return root
