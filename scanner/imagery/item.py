"""One STAC item, as every later step wants it: named bands, CRS, solar day, unsigned hrefs.

Items stay plain dictionaries inside: pystac moves ``proj:epsg`` to ``proj:code`` on reading, and
stackstac, which knows only the former, would then silently build a wrong, resampled grid.
"""

from __future__ import annotations

import copy
import datetime as dt
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import shapely
import shapely.errors
import shapely.geometry
from shapely.geometry.base import BaseGeometry

from scanner.errors import CatalogError, shown
from scanner.imagery.bands import COMMON_NAMES

MAX_CORNERS: Final = 1_000
"""Positions a footprint may have; Sentinel-2's have a dozen."""

MAX_REPAIRED: Final = 50
"""Positions of one that crosses itself: repairing a tangle of 300 takes 20 seconds."""


@dataclass(frozen=True)
class Item:
    """A scene cut to one MGRS granule. ``raw`` is its STAC JSON; hrefs in it are absolute.

    Every property raises ``CatalogError`` naming the item and the field where that is missing.
    """

    raw: dict[str, Any]

    @property
    def id(self) -> str:
        """Name of the item, as the catalog gives it: any text, never to be used in a path."""
        name = self.raw.get("id", "")
        return str(name) if isinstance(name, str | int | float) else ""

    @property
    def _name(self) -> str:
        """The id as a message may show it: on one line, not endless."""
        return shown(self.id, 300)

    @property
    def properties(self) -> dict[str, Any]:
        """The ``properties`` member."""
        properties = self.raw.get("properties")
        if not isinstance(properties, dict):
            raise CatalogError(f"item {self._name}: has no properties; not a STAC item")
        return properties

    @cached_property
    def datetime(self) -> dt.datetime:
        """Sensing time, UTC; the start of the interval where the item states only one."""
        properties = self.properties
        return self._moment(properties.get("datetime") or properties.get("start_datetime"))

    @cached_property
    def interval(self) -> tuple[dt.datetime, dt.datetime]:
        """First and last moment, UTC; equal unless ``datetime`` is null (STAC's rule)."""
        properties = self.properties
        if properties.get("datetime"):
            return self.datetime, self.datetime
        return self.datetime, self._moment(properties.get("end_datetime"))

    def _moment(self, text: object) -> dt.datetime:
        try:
            moment = dt.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            return moment.astimezone(dt.UTC)
        except (ValueError, OverflowError, RecursionError) as error:
            raise CatalogError(
                f"item {self._name}: datetime {_told(text)} is not ISO 8601"
            ) from error

    @cached_property
    def footprint(self) -> BaseGeometry:
        """Where the item has data: polygon in EPSG:4326 (lon, lat)."""
        try:
            with np.errstate(all="ignore"):  # numbers that are none are told below
                drawn = shapely.geometry.shape(self.raw["geometry"])
            if problem := _unfit(drawn):
                raise ValueError(problem)
            geometry: BaseGeometry = shapely.make_valid(drawn)
        except (
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
            RecursionError,
            shapely.errors.ShapelyError,
        ) as error:
            told = shown(error, 100)
            raise CatalogError(f"item {self._name}: has no usable geometry ({told})") from error
        if geometry.area == 0:
            raise CatalogError(f"item {self._name}: its geometry has no area")
        return geometry

    @cached_property
    def solar_day(self) -> dt.date:
        """Local calendar day of the overpass: UTC shifted by the footprint's mean longitude."""
        lon = (self.footprint.bounds[0] + self.footprint.bounds[2]) / 2
        return (self.datetime + dt.timedelta(hours=lon / 15)).date()

    @cached_property
    def epsg(self) -> int:
        """EPSG code of the pixels, from ``proj:epsg``, ``proj:code`` or the MGRS zone."""
        properties = self.properties
        code = properties.get("proj:epsg")
        if code is None and str(properties.get("proj:code", "")).startswith("EPSG:"):
            code = str(properties["proj:code"]).removeprefix("EPSG:")
        if code is None and re.match(r"[0-6]\d[C-X]", granule := self.granule or ""):
            code = (32600 if granule[2] >= "N" else 32700) + int(granule[:2])
        try:
            return int(code)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError) as error:
            raise CatalogError(
                f"item {self._name}: no proj:epsg, proj:code or MGRS tile; its CRS is unknown"
            ) from error

    @property
    def granule(self) -> str | None:
        """MGRS tile such as ``21MWR``, where the item tells it."""
        properties = self.properties
        if tile := properties.get("s2:mgrs_tile"):
            return str(tile).removeprefix("T")
        code = str(properties.get("grid:code", ""))
        if code.startswith("MGRS-"):
            return code.removeprefix("MGRS-").zfill(5)
        if zone := properties.get("mgrs:utm_zone"):
            band, square = properties.get("mgrs:latitude_band"), properties.get("mgrs:grid_square")
            return f"{zone}{band}{square}".zfill(5)
        return None

    @property
    def cloud_cover(self) -> float | None:
        """Percent of the granule, where the item tells it."""
        value = self.properties.get("eo:cloud_cover")
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CatalogError(
                f"item {self._name}: eo:cloud_cover {_told(value)} is no number"
            ) from error

    @property
    def baseline(self) -> str | None:
        """Processing baseline such as ``05.10``, where the item tells it."""
        value = self.properties.get("s2:processing_baseline")
        value = self.properties.get("processing:version") if value is None else value
        return None if value is None else str(value)

    def asset_key(self, band: str) -> str | None:
        """Return the key of the asset that holds ``band`` alone, or ``None``.

        Tried in order: the key itself, a known key, the band's name and then its common name in
        ``eo:bands`` or ``bands``; of several resolutions the finest. Assets of several bands
        (previews, visual) are passed over, and so is a common name that two bands share.
        """
        names = (band, *COMMON_NAMES.get(band, ()))
        assets = self.assets
        for key in (*names, *(name.upper() for name in names)):
            if key in assets:
                return key
        described = sorted(self._single_bands(), key=lambda one: _pixel_size(assets[one[0]]))
        for key, told in described:
            if told.get("name") in names:
                return key
        shared = [
            (key, told.get("name"))
            for key, told in described
            if told.get("common_name", told.get("eo:common_name")) in names
            and told.get("name") not in COMMON_NAMES
        ]
        return shared[0][0] if shared and len({name for _, name in shared}) == 1 else None

    @cached_property
    def assets(self) -> dict[str, dict[str, Any]]:
        """The ``assets`` member; entries that are no objects are passed over."""
        assets = self.raw.get("assets")
        assets = assets if isinstance(assets, dict) else {}
        return {str(key): asset for key, asset in assets.items() if isinstance(asset, dict)}

    def _single_bands(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (asset key, its one band) of the data assets that describe exactly one band."""
        for key, asset in self.assets.items():
            described = asset.get("eo:bands") or asset.get("bands")
            if not isinstance(described, list) or len(described) != 1:
                continue
            if "data" in (asset.get("roles") or ["data"]) and isinstance(described[0], dict):
                yield key, described[0]

    def href(self, band: str) -> str | None:
        """Return the address of the asset that holds ``band``, or ``None``."""
        key = self.asset_key(band)
        return None if key is None else str(self.assets[key].get("href", ""))

    def with_hrefs(self, change: Callable[[str], str]) -> Item:
        """Return a copy in which ``change`` was applied to every asset's href."""
        raw = copy.deepcopy(self.raw)
        for asset in (raw.get("assets") or {}).values():
            asset["href"] = change(asset["href"])
        return Item(raw)


def _unfit(drawn: BaseGeometry) -> str | None:
    """Return why a geometry is no footprint in degrees that can be repaired quickly."""
    positions = shapely.get_coordinates(drawn)
    if len(positions) > MAX_CORNERS:
        return f"it has {len(positions):,} positions, more than {MAX_CORNERS:,}"
    if not (np.abs(positions) <= (180, 90)).all():
        return "it reaches beyond 180/90 degrees, or is not finite"
    if len(positions) > MAX_REPAIRED and not shapely.is_valid(drawn):
        return "it crosses itself"
    return None


def _told(value: object) -> str:
    """Return a value from outside as a message may show it: short, and never by recursion."""
    if isinstance(value, str | int | float):
        return repr(value)[:100]
    return f"of type {type(value).__name__}"


def _pixel_size(asset: dict[str, Any]) -> float:
    """Return the metres of a pixel where the asset tells them, else infinity (sorts last)."""
    size = asset.get("gsd")
    try:
        return float(size) if isinstance(size, int | float) else math.inf
    except OverflowError:
        return math.inf
