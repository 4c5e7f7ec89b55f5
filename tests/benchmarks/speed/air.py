"""What lies between the park and its pictures: cloud in banks and scattered, shadow, light, SCL.

Two dates of a dry season with 4 and 8 % of the park under cloud (a scan picks the clearest of some
thirty), most of it in banks some 60 km long, shadows beside them. The SCL (20 m) has the demo's
errors (rims of clouds and shadows called clear, pale tailings called cloud on the second date,
ponds scattered over classes) and on top of them: within 600 m of clouds and shadows 2 % of the
forest called unclassified, in clumps; single pixels of it everywhere, 0.005 %, others on each date;
and in the hilly north-west dark slopes, the same on both.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from scanner.imagery.bands import Scl
from scanner.imagery.demo.frame import Floats
from scanner.imagery.demo.sky import DAYS as DEMO_DAYS
from scanner.imagery.demo.sky import Day, picture, scene_classes
from scanner.imagery.demo.texture import noise, smoothstep
from tests.benchmarks.speed.ground import half, shortwave

DAYS: Final[tuple[Day, ...]] = (
    replace(DEMO_DAYS[0], cloud=0.04, swath_edge=False),
    replace(DEMO_DAYS[1], cloud=0.08, swath_edge=False, cirrus=False),
)
"""The two dates."""
_COARSE: Final = 4
"""Pixels of 10 m a pixel clouds are drawn with."""
_SHADOW: Final = (62, -48)
"""Rows and columns of 10 m from a cloud to its shadow."""
_FLECKS: Final = 0.00005
"""Share of the forest far from clouds called unclassified, pixel by pixel."""
_NEAR: Final = 0.02
"""Share of the forest near clouds called unclassified, in clumps."""
_NEAR_PX: Final = 30
"""Pixels of 20 m that is near."""
_HILLS: Final = 0.3
"""Of the park's height and width that its hilly corner takes."""
_DARK: Final = 0.001
"""Share of the hills that is called dark."""


class Air:
    """A date's sky over a park."""

    def __init__(self, shape: tuple[int, int], number: int) -> None:
        self._shape, self._number, self._day = shape, number, DAYS[number]
        rng = np.random.default_rng([self._day.seed, 61])
        size = (shape[0] // _COARSE + 2, shape[1] // _COARSE + 2)
        banks = noise(rng, size, 6000 / _COARSE, 2)
        field = 0.7 * noise(rng, size, 190 / _COARSE, 5) + 1.1 * banks
        limit = float(np.quantile(field[::8, ::8], 1 - self._day.cloud))
        self._cloud = smoothstep(field, limit - 0.12, limit + 0.75)
        self._flecks = np.random.default_rng([self._day.seed, 62]).random((1024, 1024)) < _FLECKS
        self._clumps = _specks(_NEAR, 3, self._day.seed)

    def look(
        self, ground: Floats, ponds: Floats, rows: slice, cols: slice
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]:
        """Return DN of the bands of 10 m (4, ...) and of 20 m (2, ...), and the SCL, of a strip."""
        cloud, shadow = self._above(rows, cols), self._above(rows, cols, _SHADOW)
        none = np.zeros_like(cloud)
        seed = 1000 * rows.start + cols.start
        fine = picture(ground, cloud, shadow, none, self._day, seed)
        coarse = self._shortwave(shortwave(ground), half(cloud), half(shadow), seed)
        untold = np.zeros(cloud.shape, np.uint8)
        classes = scene_classes(
            ground, untold, ponds, (cloud, shadow, none), (), self._number, errors=True
        )
        self._spoil(classes, rows, cols)
        return fine, coarse, classes

    def _above(self, rows: slice, cols: slice, shift: tuple[int, int] = (0, 0)) -> Floats:
        """Return the cloud over a strip, or what lies ``shift`` pixels off it."""
        down = (np.arange(rows.start, rows.stop, dtype=np.float32) - shift[0]) / _COARSE
        across = (np.arange(cols.start, cols.stop, dtype=np.float32) - shift[1]) / _COARSE
        near = slice(max(0, int(down[0]) - 1), int(down[-1]) + 3)
        grid = np.meshgrid(across, down - near.start)
        found = cv2.remap(
            self._cloud[near], *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(found, np.float32)

    def _shortwave(
        self, ground: Floats, cloud: Floats, shadow: Floats, seed: int
    ) -> NDArray[np.uint16]:
        """Return DN with the offset, as ``sky.picture`` makes those of the other bands."""
        rng = np.random.default_rng([self._day.seed, seed, 7])
        light = ground * (1 - 0.6 * np.sqrt(shadow))
        light += cloud**0.7 * (0.6 * (2600 + 4600 * cloud) - light)
        light += rng.standard_normal(light.shape, dtype=np.float32) * (5 + 0.005 * light)
        return np.asarray(np.clip(light + 1000.5, 1, 65535), np.uint16)

    def _spoil(self, classes: NDArray[np.uint8], rows: slice, cols: slice) -> None:
        """Put flecks and dark slopes into the SCL of a strip, in place."""
        down, across = (
            np.arange(one.start // 2, one.start // 2 + size)
            for one, size in zip((rows, cols), classes.shape, strict=True)
        )
        forest = classes == Scl.VEGETATION
        tiled = ((down % 1024)[:, None], across % 1024)
        cloudy = np.isin(classes, (Scl.CLOUD_SHADOW, Scl.CLOUD_MEDIUM, Scl.CLOUD_HIGH))
        far = cv2.distanceTransform((~cloudy).astype(np.uint8), cv2.DIST_L2, 3)
        near = (np.asarray(far) < _NEAR_PX) & cloudy.any()
        wrong = self._flecks[tiled] | (self._clumps[tiled] & near)
        classes[forest & wrong] = Scl.UNCLASSIFIED
        hilly = (down < _HILLS * self._shape[0] / 2)[:, None] & (
            across < _HILLS * self._shape[1] / 2
        )
        slopes = _specks(_DARK, 4, 5)[tiled]
        classes[forest & slopes & hilly] = Scl.DARK


@lru_cache
def _specks(share: float, size: float, seed: int) -> NDArray[np.bool_]:
    """Return small clumps that cover ``share`` of 1024 x 1024 pixels."""
    field = noise(np.random.default_rng([seed, 83]), (1024, 1024), size)
    return np.asarray(field > np.quantile(field, 1 - share))
