"""Scenes of a run over a window, one by one: signed, checked, tried again, told where they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from scanner.errors import CatalogError
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.composite import scl_rank
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset, to_reflectance
from scanner.imagery.trust import doubts, load_scl
from scanner.results.evidence.ground import Ground
from scanner.results.finished import FinishedRun
from scanner.results.reread import AT_ONCE, Env, Rereader, UselessError

BANDS: Final = ("B02", "B03", "B04", "B08", "B11")
"""Bands read, in this order; a scene must have the first three, which true colour needs."""
VISIBLE: Final = 3
TRIES: Final = 3
"""Times a scene is tried."""
PROBE_M: Final = 160
"""An offset is checked on pixels of this size, as in the scan."""
PROBE_PX: Final = 64
"""... in a square of so many of them: a site alone may be all bright soil."""
ENGINE: Final = "stackstac"
"""Both engines give the same pixels; this one opens images alone and names the asset that fails."""

Planes = NDArray[np.float32]
Result = TypeVar("Result", bound="NDArray[np.float32] | NDArray[np.uint8]")


class SceneReader:
    """Reads the scenes of a run over a ground; ``left_out`` names those that cannot be used."""

    def __init__(self, run: FinishedRun, ground: Ground) -> None:
        self.left_out: dict[str, str] = {}
        self._items, self._ground = run.items.items, ground
        self._clear_scl = run.config.pixels.clear_scl
        self._reread = Rereader(run.config.search, self._items, TRIES)

    def scenes(self) -> list[Item]:
        """Return the scenes over the window that may be read: by day, then its own zone first."""
        window, epsg = self._ground.footprint, self._ground.zone.epsg
        found = []
        for item in self._items:
            if not shapely.intersects(item.footprint, window):
                continue
            try:
                self._check(item)
            except CatalogError as error:
                self.left_out[item.id] = self._told(str(error).removeprefix(f"item {item.id}: "))
            else:
                found.append(item)
        return sorted(found, key=lambda i: (i.solar_day, i.epsg != epsg, i.datetime, i.id))

    def each(
        self, items: Sequence[Item], read: Callable[[Item, Env], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield scenes with what ``read`` gives of them, in order; without those it cannot read.

        Where none of the first ``AT_ONCE`` can be read the others are not tried: most likely there
        is no network.
        """
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
            raise UselessError(doubt)
        cube = load_cube([item], self._ground.geobox, BANDS, engine=ENGINE, env=env)
        dn = cube.data.compute(scheduler="sync")
        reflectance: Planes = to_reflectance(dn, np.array([resolve_offset(item)]))[0]
        return reflectance

    def _tried(self, item: Item, read: Callable[[Item, Env], Result]) -> Result | str:
        """Return what ``read`` gives, or why it gives nothing."""
        answer = self._reread.tried([item], lambda ready, env: read(ready[0], env))
        return self._told(answer) if isinstance(answer, str) else answer

    def _check(self, item: Item) -> None:
        """Raise ``CatalogError`` where a scene lacks a visible band or may not be read."""
        lacking = [band for band in BANDS[:VISIBLE] if item.asset_key(band) is None]
        if lacking:
            raise CatalogError(f"has no {', '.join(lacking)}, which true colour needs")
        self._reread.check(item, BANDS)

    def _told(self, text: str) -> str:
        """Return a reason without the folder the files lie in, which says nothing elsewhere."""
        root = self._reread.root
        return text if root is None else text.replace(f"{root.as_posix()}/", "")


def _probe(geobox: GeoBox) -> GeoBox:
    """Return the coarse grid around a window on which a scene's offset is checked."""
    box = geobox.boundingbox
    half = PROBE_M * PROBE_PX / 2
    left = round(((box.left + box.right) / 2 - half) / PROBE_M) * PROBE_M
    top = round(((box.bottom + box.top) / 2 + half) / PROBE_M) * PROBE_M
    affine = Affine(PROBE_M, 0, left, 0, -PROBE_M, top)
    return GeoBox((PROBE_PX, PROBE_PX), affine, geobox.crs)
