"""The park's ground in DN: the demo's forest laid side by side, mirrored, everything else over it.

Four bands (B02 B03 B04 B08) at 10 m as the demo has them, no light or cloud yet, and from them B11
and B12 at 20 m. A strip of rows at a time, so that no park is too large for the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from scanner.imagery.demo import tailings, texture
from scanner.imagery.demo.frame import CENTER, Floats
from scanner.imagery.demo.landscape import paint
from scanner.imagery.demo.scars import Scar
from scanner.imagery.demo.texture import lay, noise, smoothstep, spectrum
from tests.benchmarks.speed.park import Layout, Stamp, place, turned

_SPECTRA: Final = np.concatenate(
    [
        texture.FOREST,
        texture.RIVER,
        texture.SAND,
        spectrum(330, 640, 470, 3150),  # green pasture
        spectrum(470, 780, 830, 2650),  # dry pasture
        spectrum(600, 870, 1050, 2300),  # grazed bare
        spectrum(300, 400, 430, 1450),  # burnt
        texture.ROAD,
    ],
    axis=1,
)[..., 0]  # (4, label)
"""The demo's colours, by the labels of ``park``."""
_ROUGHNESS: Final = np.array([0, 0.03, 0.07, 0.09, 0.1, 0.1, 0.12, 0.08], np.float32)
"""Spread of each label's brightness, a share of it."""
_DRIFT_PX: Final = 64
"""Pixels a pixel of the slow drift of forest."""
_SIZES_HA: Final = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15)
_STYLES: Final = ("orange", "pale", "yellow", "dull", "white")

Wide = NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """What is stamped for a scar."""

    color: Floats
    """(4, rows, cols) DN."""
    alpha: Floats
    ponds: Floats
    inside: NDArray[np.bool_]

    def turned(self, turn: int) -> Picture:
        """Return one of its eight symmetries."""
        return Picture(*(turned(one, turn) for one in vars(self).values()))


@lru_cache
def pictures() -> tuple[Picture, ...]:
    """Return pictures of a dozen scars of 1 to 15 ha, drawn as the demo draws its own."""
    made = []
    for number, size in enumerate(_SIZES_HA):
        style = _STYLES[number % len(_STYLES)]
        scar = Scar(f"park-{size:g}", *CENTER, size, direction=30.0 * number, style=style)
        patch = tailings.draw(scar)
        made.append(Picture(patch.color, patch.alpha, patch.ponds, patch.inside > 0.4))
    return tuple(made)


class Ground:
    """The ground of a laid out park, to be cut into strips."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._forest = paint((), "forest").dn
        rows, cols = (side // _DRIFT_PX + 2 for side in layout.labels.shape)
        self._drift = 0.05 * noise(np.random.default_rng(211), (rows, cols), 12, 3)
        self._tufts = noise(np.random.default_rng(212), (1024, 1024), 6, 3)

    def strip(self, rows: slice, cols: slice) -> tuple[Floats, Floats]:
        """Return DN (4, rows, cols) without offset, and the share of each pixel that is a pond."""
        down, across = (
            _mirrored(one, side)
            for one, side in zip((rows, cols), self._forest.shape[1:], strict=True)
        )
        ground = self._forest[:, down[:, None], across]
        ground *= 1 + self._slow(rows, cols)
        self._lay_labels(ground, rows, cols)
        ponds = np.zeros(ground.shape[1:], np.float32)
        for stamp in self._layout.stamps:
            self._lay_stamp(ground, ponds, stamp, rows, cols)
        return ground, ponds

    def _slow(self, rows: slice, cols: slice) -> Floats:
        """Return the drift of a strip, enlarged from its coarse grid."""
        at = np.arange(cols.start, cols.stop, dtype=np.float32) / _DRIFT_PX
        down = np.arange(rows.start, rows.stop, dtype=np.float32) / _DRIFT_PX
        coarse = cv2.remap(  # only a few rows of it: linear in both directions
            self._drift, *np.meshgrid(at, down), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(coarse, np.float32)

    def _lay_labels(self, ground: Floats, rows: slice, cols: slice) -> None:
        labels = self._layout.labels[rows, cols]
        for left in range(0, labels.shape[1], 512):
            here = np.ascontiguousarray(labels[:, left : left + 512])
            if not here.any():
                continue
            down = np.arange(rows.start, rows.stop) % 1024
            across = (cols.start + left + np.arange(here.shape[1])) % 1024
            rough = 1 + _ROUGHNESS[here] * self._tufts[down[:, None], across]
            alpha = cv2.GaussianBlur((here > 0).astype(np.float32), (3, 3), 0.6)
            lay(ground[:, :, left : left + 512], _SPECTRA[:, here] * rough, np.asarray(alpha))

    def _lay_stamp(
        self, ground: Floats, ponds: Floats, stamp: Stamp, rows: slice, cols: slice
    ) -> None:
        drawn = pictures()[stamp.picture].turned(stamp.turn)
        where = place(self._layout.labels.shape, stamp, drawn.alpha.shape)
        if where is None:
            return
        cut = [
            slice(max(one.start, part.start), min(one.stop, part.stop))
            for one, part in zip(where, (rows, cols), strict=True)
        ]
        if any(one.start >= one.stop for one in cut):
            return
        of = tuple(
            slice(c.start - w.start, c.stop - w.start) for c, w in zip(cut, where, strict=True)
        )
        to = tuple(
            slice(c.start - p.start, c.stop - p.start)
            for c, p in zip(cut, (rows, cols), strict=True)
        )
        lay(ground[(slice(None), *to)], drawn.color[(slice(None), *of)], drawn.alpha[of])
        np.maximum(ponds[to], drawn.ponds[of], out=ponds[to])


def _mirrored(part: slice, side: int) -> NDArray[np.intp]:
    """Return for each pixel of ``part`` one of a texture that is laid to and fro."""
    at = np.arange(part.start, part.stop) % (2 * side)
    return np.where(at < side, at, 2 * side - 1 - at)


def half(image: Floats) -> Floats:
    """Return an image (rows, cols) of 10 m averaged to 20 m."""
    size = (image.shape[1] // 2, image.shape[0] // 2)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def shortwave(ground: Floats) -> Floats:
    """Return B11 and B12 (2, rows / 2, cols / 2) that go with ``ground`` (4, rows, cols).

    Levels of forest (1,530 and 650 DN), bare ground (2,860 and 2,200) and water (150 and 80), a
    straight line in B04 and B08 between the first two.
    """
    red, nir = half(ground[2]), half(ground[3])
    land = smoothstep(nir / (red + 1), 0.75, 1.1)
    b11 = land * (0.75 * red + 0.5 * nir) + (1 - land) * 0.3 * nir
    b12 = land * (0.9 * red + 0.17 * nir) + (1 - land) * 0.16 * nir
    return np.stack([b11, b12])
