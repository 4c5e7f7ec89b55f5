"""KML for Google Earth, made of elements: GDAL's own writer lets ``]]>`` in a name break the file.

Each site is a point and its outline in one placemark, coloured by its score as in QGIS, with a
table to click on. Whatever came from outside is escaped, in the table and again in the XML.
"""

from __future__ import annotations

import html
import xml.etree.ElementTree as ET
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, Final

import geopandas as gpd
import numpy as np
import shapely

from scanner.errors import shown
from scanner.results.palette import STATUS_COLOURS, Rgb
from scanner.results.qgis.styles import SCORES, SHADES

NAMESPACE: Final = "http://www.opengis.net/kml/2.2"
ROWS: Final = {
    "score": "Score",
    "area_ha": "Hectares",
    "area_in_aoi_ha": "Hectares in the area scanned",
    "first_observed": "Earliest clear view used",
    "last_observed": "Latest clear view used",
    "clear_observations": "Days seen clear",
    "outline": "Outline drawn from",
    "overlays": "Lies in",
    "presumed_illegal": "Presumed illegal, as the overlay states",
    "detection_id": "Site",
    "item_ids": "Scenes",
    "classifier": "Model",
}
"""What a click on a site shows, and how it is called."""


def kml_text(title: str, about: str, sites: gpd.GeoDataFrame) -> str:
    """Return a KML document of the sites (``exports.listed_sites``)."""
    root = ET.Element("kml", xmlns=NAMESPACE)
    document = ET.SubElement(root, "Document")
    _add(document, "name", f"{shown(title)}: mining-scan")
    _add(document, "open", "1")
    _add(document, "description", html.escape(about))
    for index, shade in enumerate(SHADES):
        _style(document, f"score-{index}", _mixed(STATUS_COLOURS["mining"], shade))
    for site in sites.itertuples():
        _placemark(document, site)
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _style(document: ET.Element, name: str, colour: Rgb) -> None:
    """Add a style; KML writes colours backwards: opacity, blue, green, red."""
    told = "{2:02x}{1:02x}{0:02x}".format(*colour)
    style = ET.SubElement(document, "Style", id=name)
    icon = ET.SubElement(style, "IconStyle")
    _add(icon, "color", f"ff{told}")
    _add(icon, "scale", "0.8")
    _add(ET.SubElement(style, "LabelStyle"), "scale", "0.8")
    line = ET.SubElement(style, "LineStyle")
    _add(line, "color", f"ff{told}")
    _add(line, "width", "2")
    _add(ET.SubElement(style, "PolyStyle"), "color", f"55{told}")


def _placemark(document: ET.Element, site: Any) -> None:
    """Add a site; its children are in the order that KML wants."""
    mark = ET.SubElement(document, "Placemark")
    _add(mark, "name", site.name)
    snippet = _add(mark, "Snippet", f"score {site.score:.2f}, {site.area_ha:.1f} ha")
    snippet.set("maxLines", "1")
    _add(mark, "description", _table(site))
    grade = min(bisect_right(SCORES, site.score), len(SHADES)) - 1
    _add(mark, "styleUrl", f"#score-{max(grade, 0)}")
    data = ET.SubElement(mark, "ExtendedData")
    for name in ROWS:
        value = getattr(site, name)
        if value is not None:
            _add(ET.SubElement(data, "Data", name=name), "value", str(value))
    shape = ET.SubElement(mark, "MultiGeometry")
    _add(ET.SubElement(shape, "Point"), "coordinates", f"{site.lon},{site.lat}")
    for polygon in shapely.get_parts(shapely.orient_polygons(site.geometry)):
        _polygon(shape, polygon)


def _table(site: Any) -> str:
    """Return the table of a balloon, as HTML."""
    told = ((title, getattr(site, name)) for name, title in ROWS.items())
    rows = (
        f"<tr><th align='left'>{html.escape(title)}</th><td>{html.escape(str(value))}</td></tr>"
        for title, value in told
        if value is not None
    )
    return f"<table>{''.join(rows)}</table>"


def _polygon(parent: ET.Element, polygon: Any) -> None:
    element = ET.SubElement(parent, "Polygon")
    _add(element, "tessellate", "1")
    for kind, rings in (
        ("outerBoundaryIs", [polygon.exterior]),
        ("innerBoundaryIs", polygon.interiors),
    ):
        for ring in rings:
            line = ET.SubElement(ET.SubElement(element, kind), "LinearRing")
            _add(line, "coordinates", _positions(np.asarray(ring.coords)))


def _positions(points: Iterable[Any]) -> str:
    """Return positions to a centimetre."""
    return " ".join(f"{lon:.7f},{lat:.7f}" for lon, lat in points)


def _mixed(colour: Rgb, shade: float) -> Rgb:
    """Mix a colour with white (shade > 0) or black."""
    end = 255 if shade > 0 else 0
    red, green, blue = (round(part + (end - part) * abs(shade)) for part in colour)
    return red, green, blue


def _add(parent: ET.Element, tag: str, text: str) -> ET.Element:
    child = ET.SubElement(parent, tag)
    child.text = text
    return child
