"""Scenes of a run over a window, one by one: signed, checked, tried again, told where they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from scanner.errors import CatalogError, ReadError
from scanner.imagery.access import (
    Allowed,
    allowed_for,
    check_href,
    failure_text,
    gdal_env,
    guard_logs,
    signed,
    signer_for,
)
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.composite import scl_rank
from scanner.imagery.cube import load_cube
from scanner.imagery.hrefs import is_remote
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset, to_reflectance
from scanner.imagery.trust import doubts, load_scl
from scanner.results.evidence.ground import Ground
from scanner.results.finished import FinishedRun

BANDS: Final = ("B02", "B03", "B04", "B08", "B11")
"""Bands read, in this order; a scene must have the first three, which true colour needs."""
VISIBLE: Final = 3
TRIES: Final = 3
"""Times a scene is tried."""
AT_ONCE: Final = 8
"""Scenes read at once: most of the time goes in waiting for a host. Where none of the first so many
can be read the others are not tried: most likely there is no network."""
PROBE_M: Final = 160
"""An offset is checked on pixels of this size, as in the scan."""
PROBE_PX: Final = 64
"""... in a square of so many of them: a site alone may be all bright soil."""
ENGINE: Final = "stackstac"
"""Both engines give the same pixels; this one opens images alone and names the asset that fails."""

Env = Mapping[str, str]
Planes = NDArray[np.float32]
Result = TypeVar("Result", bound="NDArray[np.float32] | NDArray[np.uint8]")

_UNREAD: Final = (ReadError, RasterioError, OSError, RuntimeError)


class _Useless(Exception):
    """A scene that was read and cannot be used; another try would change nothing."""


class SceneReader:
    """Reads the scenes of a run over a ground; ``left_out`` names those that cannot be used."""

    def __init__(self, run: FinishedRun, ground: Ground) -> None:
        guard_logs()
        self.left_out: dict[str, str] = {}
        self._items, self._ground = run.items.items, ground
        self._search, self._clear_scl = run.config.search, run.config.pixels.clear_scl
        self._signer, self._signing = signer_for(self._search), Lock()
        self._root = local_root(self._items)

    def scenes(self) -> list[Item]:
        """Return the scenes over the window that may be read: by day, then its own zone first."""
        window, epsg = self._ground.footprint, self._ground.zone.epsg
        # files were held against the folder of their catalog when they were found
        allowed = Allowed(allowed_for(self._search).hosts, self._root)
        found = []
        for item in self._items:
            if not shapely.intersects(item.footprint, window):
                continue
            try:
                _check(item, allowed)
            except CatalogError as error:
                self.left_out[item.id] = self._told(str(error).removeprefix(f"item {item.id}: "))
            else:
                found.append(item)
        return sorted(found, key=lambda i: (i.solar_day, i.epsg != epsg, i.datetime, i.id))

    def each(
        self, items: Sequence[Item], read: Callable[[Item, Env], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield scenes with what ``read`` gives of them, in order; without those it cannot read."""
        worked = False
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(items), AT_ONCE):
                if start and not worked:
                    why = f"not tried, since none of the {AT_ONCE} before it could be read"
                    self.left_out.update({item.id: why for item in items[start:]})
                    return
                batch = items[start : start + AT_ONCE]
                answers = list(pool.map(lambda item: self._tried(item, read), batch))
                for item, answer in zip(batch, answers, strict=True):
                    if isinstance(answer, str):
                        self.left_out[item.id] = answer
                    else:
                        worked = True
                        yield item, answer

    def ranks(self, item: Item, env: Env) -> NDArray[np.uint8]:
        """Return how clear each pixel is by the scene's SCL (``scl_rank``); 0 where it has none."""
        factor = SCL_RESOLUTION // RESOLUTION
        coarse = self._ground.geobox.zoom_out(factor)
        cube = load_scl([item], coarse, engine=ENGINE, env=env)
        if cube is None:
            return np.zeros(self._ground.inside.shape, dtype=np.uint8)
        classes = cube.data.compute(scheduler="sync")[0, 0]
        return scl_rank(classes, self._clear_scl).repeat(factor, 0).repeat(factor, 1)

    def bands(self, item: Item, env: Env) -> Planes:
        """Return reflectance (band, y, x) of ``BANDS``, NaN where there is none.

        A scene whose radiometry is doubted is refused, as by the scan.
        """
        probe = _probe(self._ground.geobox)
        classes = load_scl([item], probe, engine=ENGINE, env=env)
        doubt = doubts([item], probe, classes, engine=ENGINE, env=env).compute(scheduler="sync")[0]
        if doubt:
            raise _Useless(doubt)
        cube = load_cube([item], self._ground.geobox, BANDS, engine=ENGINE, env=env)
        dn = cube.data.compute(scheduler="sync")
        reflectance: Planes = to_reflectance(dn, np.array([resolve_offset(item)]))[0]
        return reflectance

    def _tried(self, item: Item, read: Callable[[Item, Env], Result]) -> Result | str:
        """Return what ``read`` gives, or why it gives nothing, after some tries."""
        why = ""
        for attempt in range(TRIES):
            try:
                with self._signing:
                    (ready,) = signed([item], self._signer)
                return read(ready, gdal_env(self._search, retry=attempt > 0))
            except (_Useless, CatalogError) as error:  # CatalogError: no token to be had
                return self._told(str(error))
            except _UNREAD as error:
                why = failure_text(error)
                with self._signing:  # a signature that ends mid-read looks like a broken block
                    self._signer.forget()
        return self._told(why)

    def _told(self, text: str) -> str:
        """Return a reason without the folder the files lie in, which says nothing elsewhere."""
        return text if self._root is None else text.replace(f"{self._root.as_posix()}/", "")


def local_root(items: Iterable[Item]) -> Path | None:
    """Return the deepest folder that holds all files of some items; ``None`` where none is one."""
    paths = [
        str(asset["href"])
        for item in items
        for asset in item.assets.values()
        if not is_remote(str(asset.get("href", "://")))
    ]
    return Path(os.path.commonpath([Path(path).parent for path in paths])) if paths else None


def _check(item: Item, allowed: Allowed) -> None:
    """Raise ``CatalogError`` where a scene lacks a visible band or may not be read."""
    lacking = [band for band in BANDS[:VISIBLE] if item.asset_key(band) is None]
    if lacking:
        raise CatalogError(f"has no {', '.join(lacking)}, which true colour needs")
    for band in (*BANDS, "SCL"):
        if (href := item.href(band)) is not None:
            check_href(item.id, href, allowed)


def _probe(geobox: GeoBox) -> GeoBox:
    """Return the coarse grid around a window on which a scene's offset is checked."""
    box = geobox.boundingbox
    half = PROBE_M * PROBE_PX / 2
    left = round(((box.left + box.right) / 2 - half) / PROBE_M) * PROBE_M
    top = round(((box.bottom + box.top) / 2 + half) / PROBE_M) * PROBE_M
    affine = Affine(PROBE_M, 0, left, 0, -PROBE_M, top)
    return GeoBox((PROBE_PX, PROBE_PX), affine, geobox.crs)
