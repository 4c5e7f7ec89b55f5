"""The user's files of territories, parks and concessions, read with the care an AOI's file gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from scanner.area.aoi import crossing, only_area, valid_polygon
from scanner.area.formats import FORMATS, read_format
from scanner.area.geojson import read_outline
from scanner.area.rings import Caps, Feature, one_line
from scanner.errors import AoiError, ConfigError, shown

CAPS: Final = Caps(
    bytes=100_000_000,
    vertices=2_000_000,
    features=50_000,
    seconds=60,
    memory=3 << 30,
    point_fix="give polygons alone",
)
"""Overlays may be larger than an AOI: all territories of a country fit."""

NAMES: Final = ("name", "nome", "nombre", "nom")
"""Columns that name a feature, whatever their case, before those that merely look like it."""

_YES: Final = frozenset({"true", "yes", "1", "t", "y", "sim", "si", "sí", "s"})
_NO: Final = frozenset({"", "false", "no", "0", "f", "n", "nao", "não"})


@dataclass(frozen=True)
class Overlay:
    """The features of one file, in its order."""

    name: str
    """The file's stem."""
    features: tuple[str, ...]
    """Their names; ``feature 3`` where the third has none."""
    presumed_illegal: tuple[str | None, ...]
    """What the file states of mining there: ``yes``, a reason, or nothing."""
    shapes: NDArray[np.object_]
    """Valid polygons and multipolygons, EPSG:4326."""


def read_overlays(path: Path) -> Overlay:
    """Read the polygons of a GeoJSON, GeoParquet, GeoPackage, KML or zipped shapefile.

    Raises:
        ConfigError: The file or its content was refused; names file, feature and fix.
    """
    where = f"overlay {shown(path)}"
    try:
        outline = read_format(path, where, CAPS, tuple(FORMATS)) or read_outline(path, where, CAPS)
        names, presumed, shapes = [], [], []
        for number, feature in enumerate(outline.features, start=1):
            names.append(feature_name(feature.properties, number))
            presumed.append(_presumed(feature.properties, f"{where}: {names[-1]}"))
            shapes.append(_shape(feature, f"{where}: {names[-1]}"))
    except AoiError as error:
        raise ConfigError(str(error)) from error
    kept = np.empty(len(shapes), dtype=object)
    kept[:] = shapes
    return Overlay(shown(path.stem) or "overlay", tuple(names), tuple(presumed), kept)


def feature_name(properties: Mapping[str, Any], number: int) -> str:
    """Return what a feature is called: ``name``, ``NM_...``, ``terrai_nom``, or ``feature 3``."""
    texts = {str(key).lower(): one_line(value) for key, value in properties.items()}
    first = [*NAMES, *(key for key in texts if key.startswith(("nm_", "nome_", "nom_", "name_")))]
    last = [key for key in texts if key.endswith(("_name", "_nome", "_nom"))]
    found = (texts.get(key) for key in [*first, *last])
    return next((text for text in found if text), f"feature {number}")


def _shape(feature: Feature, where: str) -> BaseGeometry:
    """Return the valid polygon or multipolygon of a feature, or raise ``AoiError``."""
    try:
        parts = [valid_polygon(rings, where) for rings in feature.polygons]
        if len(parts) == 1:
            return parts[0]
        together = shapely.MultiPolygon([one for p in parts for one in shapely.get_parts(p)])
        if together.is_valid:
            return together
        if crossing(ring for rings in feature.polygons for ring in rings):
            raise AoiError(f"{where}: its parts cross too often; simplify them")
        return only_area(shapely.union_all(parts))
    except shapely.errors.GEOSException as error:
        raise AoiError(f"{where}: cannot be solved ({shown(error, 80)}); draw it anew") from error


def _presumed(properties: Mapping[str, Any], where: str) -> str | None:
    """Return what a feature states of mining there; shapefiles cut the column's name short."""
    found = (
        v for k, v in properties.items() if str(k).lower() in ("presumed_illegal", "presumed_i")
    )
    value = next(found, None)
    text = "" if value is None else str(value).strip().lower()
    if text in _NO:
        return None
    if text in _YES:
        return "yes"
    if not isinstance(value, str):
        raise AoiError(
            f"{where}: presumed_illegal is {shown(value, 40)}; give true, false or a reason"
        )
    return one_line(value)
