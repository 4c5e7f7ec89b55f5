"""A QGIS project: layers in order, each with its style, paths relative to the project's file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from pyproj import CRS, Transformer

from scanner.results.qgis.styles import VERSION, document

EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the archive: the first that ZIP knows."""
SPARE: Final = 0.05
"""Share of its size that is shown around the area."""

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class MapLayer:
    """One layer of a project."""

    id: str
    """More than ten characters: QGIS takes no shorter one."""
    name: str
    source: str
    """Path relative to the project's folder."""
    style: ET.Element
    epsg: int = 4326
    raster: bool = False
    shown: bool = True
    note: str = ""
    """What the layer's properties tell about it."""

    @property
    def provider(self) -> str:
        """QGIS's data provider."""
        return "gdal" if self.raster else "ogr"


def project(
    title: str,
    note: str,
    layers: Sequence[MapLayer],
    epsg: int,
    bounds: tuple[float, float, float, float],
) -> str:
    """Return the project as QGIS reads it (``.qgs``).

    Args:
        title: of the project; any text.
        note: what its properties tell; any text.
        layers: the topmost first.
        epsg: CRS of the map.
        bounds: (west, south, east, north) to show, degrees.
    """
    root = ET.Element("qgis", version=VERSION, projectname=plain(title))
    ET.SubElement(root, "homePath", path="")
    ET.SubElement(root, "title").text = plain(title)
    _crs(ET.SubElement(root, "projectCrs"), epsg)
    tree = ET.SubElement(root, "layer-tree-group")
    order = ET.SubElement(tree, "custom-order", enabled="0")
    canvas = ET.SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    view = _extent(epsg, bounds)
    ET.SubElement(canvas, "units").text = "degrees" if epsg == 4326 else "meters"
    corners = ET.SubElement(canvas, "extent")
    for name, value in view.items():
        ET.SubElement(corners, name).text = value
    _crs(ET.SubElement(canvas, "destinationsrs"), epsg)
    known = ET.SubElement(root, "projectlayers")
    for layer in layers:
        _entry(tree, layer)
        ET.SubElement(order, "item").text = layer.id
        known.append(_layer(layer))
    _properties(ET.SubElement(root, "properties"))
    about = ET.SubElement(root, "projectMetadata")
    ET.SubElement(about, "title").text = plain(title)
    ET.SubElement(about, "abstract").text = plain(note)
    settings = ET.SubElement(root, "ProjectViewSettings", UseProjectScales="0")
    _crs(ET.SubElement(settings, "DefaultViewExtent", view), epsg)
    return document(root)


def write_archive(path: Path, name: str, text: str) -> None:
    """Write one text file as an archive (``.qgz``) whose bytes depend on nothing else."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # else the bytes tell the operating system
    info.external_attr = 0o644 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, text.encode())


def plain(text: str) -> str:
    """Return ``text`` without the characters XML has no way to write."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _entry(tree: ET.Element, layer: MapLayer) -> None:
    """Add a layer to the legend; ticked where it is shown, folded where it is not."""
    told = {"id": layer.id, "name": layer.name, "source": layer.source}
    ticked = {"checked": "Qt::Checked" if layer.shown else "Qt::Unchecked"}
    folded = {"expanded": "1" if layer.shown else "0"}
    entry = {**told, **ticked, **folded, "providerKey": layer.provider}
    ET.SubElement(tree, "layer-tree-layer", entry)


def _layer(layer: MapLayer) -> ET.Element:
    kind = {"type": "raster"} if layer.raster else {"type": "vector", "geometry": "Polygon"}
    labels = {name: layer.style.get(name, "0") for name in ("labelsEnabled",) if not layer.raster}
    element = ET.Element("maplayer", {**kind, **labels, "styleCategories": "AllStyleCategories"})
    ET.SubElement(element, "id").text = layer.id
    ET.SubElement(element, "datasource").text = layer.source
    ET.SubElement(element, "layername").text = layer.name
    _crs(ET.SubElement(element, "srs"), layer.epsg)
    about = ET.SubElement(element, "resourceMetadata")
    ET.SubElement(about, "title").text = layer.name
    ET.SubElement(about, "abstract").text = plain(layer.note)
    told = {} if layer.raster else {"encoding": "UTF-8"}
    ET.SubElement(element, "provider", told).text = layer.provider
    element.extend(list(layer.style))
    return element


def _crs(parent: ET.Element, epsg: int) -> None:
    crs = CRS.from_epsg(epsg)
    element = ET.SubElement(parent, "spatialrefsys", nativeFormat="Wkt")
    ET.SubElement(element, "wkt").text = crs.to_wkt("WKT2_2019")
    ET.SubElement(element, "srid").text = str(epsg)
    ET.SubElement(element, "authid").text = f"EPSG:{epsg}"
    ET.SubElement(element, "description").text = crs.name
    ET.SubElement(element, "geographicflag").text = str(crs.is_geographic).lower()


def _extent(epsg: int, bounds: tuple[float, float, float, float]) -> dict[str, str]:
    to_map = Transformer.from_crs(4326, epsg, always_xy=True)
    west, south, east, north = to_map.transform_bounds(*bounds)
    x, y = SPARE * (east - west), SPARE * (north - south)
    values = {"xmin": west - x, "ymin": south - y, "xmax": east + x, "ymax": north + y}
    return {name: f"{value:.6f}" for name, value in values.items()}


def _properties(parent: ET.Element) -> None:
    """Paths stay relative when QGIS saves the project; it measures in metres and hectares."""
    wanted: Mapping[str, Mapping[str, tuple[str, str]]] = {
        "Measure": {"Ellipsoid": ("QString", "EPSG:7030")},
        "Measurement": {
            "AreaUnits": ("QString", "ha"),
            "DistanceUnits": ("QString", "meters"),
        },
        "Paths": {"Absolute": ("bool", "false")},
        "SpatialRefSys": {"ProjectionsEnabled": ("int", "1")},
    }
    for group, values in wanted.items():
        section = ET.SubElement(parent, group)
        for name, (kind, value) in values.items():
            ET.SubElement(section, name, type=kind).text = value
