"""The demo's ground: forest, river, streams, lakes, clearings, roads and the planted scars.

``paint`` makes it in the frame (see ``frame``), in DN without offset; no light, haze, cloud or
sensor is in it yet: ``sky`` adds those per date. Layers are laid from the ground up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from scanner.imagery.demo import streams, tailings
from scanner.imagery.demo.frame import SHAPE, Floats
from scanner.imagery.demo.scars import Scar
from scanner.imagery.demo.texture import (
    DEGRADED,
    FOREST,
    LAKE,
    RIVER,
    ROAD,
    SAND,
    STREAM,
    Brush,
    blur,
    lay,
    noise,
    smoothstep,
    spectrum,
)

Ground = Literal["full", "forest"]

_SEED: Final = 54_007
_POINT_SPREAD: Final = 0.5
"""Sigma in pixels of the blur every sensor adds (Sentinel-2's 10 m bands: about half a pixel)."""

_FIELDS: Final = (
    spectrum(330, 640, 470, 3150),  # green pasture
    spectrum(470, 780, 830, 2650),  # dry pasture
    spectrum(600, 870, 1050, 2300),  # grazed bare
    spectrum(300, 400, 430, 1450),  # burnt
    spectrum(265, 500, 280, 3350),  # young regrowth
)


@dataclass(frozen=True)
class Landscape:
    """The painted frame."""

    dn: Floats
    """(4, rows, cols) DN without offset, B02 B03 B04 B08."""
    scar: NDArray[np.uint8]
    """Index + 1 of the scar that fills most of a pixel, 0 for none, 255 for the 255th and later."""
    ponds: Floats
    """Share of a pixel that is a mine's pond."""


def _rng(step: int) -> np.random.Generator:
    return np.random.default_rng([_SEED, step])


def _unit(image: Floats) -> Floats:
    return image / max(float(image.std()), 1e-6)


def _lit(height: Floats) -> Floats:
    """Return the light, spread 1, on a surface of this height, the sun in the north-east."""
    down, right = np.gradient(height)
    return _unit(np.asarray(down - right, dtype=np.float32))


def _forest() -> Floats:
    """Return untouched forest: crowns, gentle drift of species and terrain, hills lit from NE."""
    rng = _rng(1)
    canopy = _unit(blur(noise(rng, SHAPE, 1), 0.85)) + 0.8 * noise(rng, SHAPE, 8, 2)
    crowns = _unit(0.6 * _lit(canopy) + 0.75 * _unit(blur(noise(rng, SHAPE, 1), 0.65)))
    light = _lit(blur(noise(rng, SHAPE, 150, 4), 2.0))
    drift = noise(rng, SHAPE, 420, 3)
    shared = 0.15 * crowns + 0.055 * light
    ground = np.empty((4, *SHAPE), np.float32)
    own, drifts = (0.05, 0.035, 0.055, 0.10), (0.05, 0.05, 0.06, 0.035)
    for band in range(4):
        single = _unit(blur(noise(rng, SHAPE, 1), 0.6))
        share = shared + own[band] * single + drifts[band] * drift
        ground[band] = FOREST[band] * np.exp(share - 0.012)
    return ground


def _valleys(ground: Floats) -> None:
    """Lay the streams: a strip of swamp forest, broken water under the canopy."""
    rng = _rng(2)
    swamp, water = Brush(), Brush()
    for line in streams.streams().values():
        swamp.line(line, 55 + 20 * np.sin(np.arange(len(line)) / 17))
        water.line(line, np.full(len(line), 12.0))
    damp = blur(swamp.cover(), 1.5) * (0.5 + 0.3 * noise(rng, SHAPE, 12, 2))
    lay(ground, ground * spectrum(1.05, 1.12, 1.0, 1.10), np.clip(damp, 0, 1))
    lay(ground, STREAM, water.cover() * smoothstep(noise(rng, SHAPE, 10, 2), -1.2, 0.6))


def _quad(center: NDArray[np.float64], size: tuple[float, float], turn: float,
          rng: np.random.Generator) -> NDArray[np.float64]:  # fmt: skip
    """Return the corners of a field, a rectangle drawn by a shaky hand."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array(size) / 2
    corners = corners + rng.normal(0, 0.06, (4, 2)) * min(size)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.asarray(center + corners @ np.array([[cos, sin], [-sin, cos]]))


def _roadside_fields(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return fields along both sides of the roads, the older the nearer to the main road."""
    fields = []
    for number, line in enumerate(streams.roads()):
        step = 55 if number == 0 else 34
        sideways = streams.normals(line)
        for start in range(10, len(line) - 12, step):
            for side in (-1, 1):
                if rng.random() > (0.42 if number == 0 else 0.6 - 0.3 * start / len(line)):
                    continue
                depth, wide = rng.uniform(150, 620), rng.uniform(180, 0.95 * step * 10)
                center = line[start] + side * (depth / 2 + 8) * sideways[start]
                turn = np.arctan2(sideways[start][1], sideways[start][0])
                fields.append(_quad(center, (depth, wide), turn, rng))
    return fields


def _clearings(ground: Floats) -> None:
    """Lay pasture, burnt ground and regrowth along the roads, and lone fields in the forest."""
    rng = _rng(3)
    fields = _roadside_fields(rng)
    for x, y in ((-4200, 4300), (3300, -6900), (-7300, -7200), (-2600, -1200), (6300, 2700),
                 (7000, -3300), (-8300, 4600)):  # fmt: skip
        size = (rng.uniform(90, 190), rng.uniform(90, 170))
        fields.append(_quad(np.array([x, y]), size, rng.uniform(0, 3), rng))
    brushes = [Brush() for _ in _FIELDS]
    for field in fields:
        kind = rng.choice(len(_FIELDS), p=(0.34, 0.24, 0.12, 0.07, 0.23))
        for index, brush in enumerate(brushes):
            if index == kind:
                brush.polygon(field)
    patchy, tufts = noise(rng, SHAPE, 30, 4), noise(rng, SHAPE, 1)
    clumps = noise(rng, SHAPE, 14, 3)
    trees = smoothstep(noise(rng, SHAPE, 3, 1) + 0.4 * noise(rng, SHAPE, 40), 1.9, 2.5)
    for index, brush in enumerate(brushes):
        other = _FIELDS[(index + 1) % 3] if index != 3 else _FIELDS[0]
        share = smoothstep(patchy + 0.3 * index, 0.2, 2.6) * (0.75 if index != 4 else 0.25)
        color = (_FIELDS[index] + share * (other - _FIELDS[index])) * (
            1 + 0.04 * tufts + 0.07 * clumps
        )
        lay(ground, color, brush.cover() * (1 - 0.8 * trees))


def _bars(line: NDArray[np.float64], width: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return sandbars: crescents on the inside of the sharpest bends."""
    heading = np.unwrap(np.arctan2(*np.gradient(line, axis=0).T[::-1]))
    bend = np.convolve(np.gradient(heading), np.ones(31) / 31, mode="same")
    sideways = streams.normals(line)
    bars: list[NDArray[np.float64]] = []
    taken = np.zeros(len(line), bool)
    for peak in np.argsort(-np.abs(bend)):
        if len(bars) == 11:
            break
        low, high = peak - 22, peak + 23
        if low < 0 or high > len(line) or taken[max(low - 30, 0) : high + 30].any():
            continue
        taken[low:high] = True
        side = np.sign(bend[peak])
        swell = np.cos(np.linspace(-np.pi / 2, np.pi / 2, high - low)) ** 0.7
        inner = (width[low:high] / 2 - 30 * swell) * side
        outer = (width[low:high] / 2 + 40 * swell) * side
        edge = [line[low:high] + sideways[low:high] * d[:, None] for d in (inner, outer)]
        bars.append(np.concatenate([edge[0], edge[1][::-1]]))
    return bars


def _waters(ground: Floats) -> None:
    """Lay the brown river with its sandbars, an oxbow and a lake of dark water."""
    rng = _rng(4)
    line = streams.river()
    along = np.arange(len(line))
    width = 125 + 22 * np.sin(along / 31) + 14 * np.sin(along / 11.3)
    river, sand, dark = Brush(), Brush(), Brush()
    river.line(line, width)
    for bar in _bars(line, width):
        sand.polygon(bar)
    angle = np.linspace(0.2, 4.3, 90)
    oxbow = np.stack([-600 + 420 * np.cos(angle), -6250 + 330 * np.sin(angle)], axis=1)
    dark.line(oxbow, 70 * np.sin(np.linspace(0.15, np.pi - 0.15, 90)) ** 0.5)
    ring = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    shore = 1 + 0.25 * np.sin(2 * ring + 1) + 0.14 * np.sin(3 * ring) + 0.07 * np.sin(7 * ring)
    dark.polygon(
        np.stack([2700 + 270 * shore * np.cos(ring), 3900 + 190 * shore * np.sin(ring)], 1)
    )
    lay(ground, ground * spectrum(1.1, 1.2, 1.15, 1.05), 0.7 * blur(river.cover(), 4.0))
    lay(ground, RIVER * (1 + 0.03 * noise(rng, SHAPE, 60, 3)), river.cover())
    lay(ground, SAND * (1 + 0.07 * noise(rng, SHAPE, 18, 3)), sand.cover())
    lay(ground, LAKE * (1 + 0.05 * noise(rng, SHAPE, 25, 2)), dark.cover())


def _roads(ground: Floats) -> None:
    rng = _rng(5)
    brush, verge = Brush(), Brush()
    for number, line in enumerate(streams.roads()):
        brush.line(line, np.full(len(line), 13.0 if number == 0 else 8.0))
        verge.line(line, np.full(len(line), 36.0 if number == 0 else 20.0))
    lay(ground, DEGRADED * (1 + 0.08 * noise(rng, SHAPE, 3)), 0.6 * verge.cover())
    lay(ground, ROAD * (1 + 0.08 * noise(rng, SHAPE, 10, 2)), 0.9 * brush.cover())


def paint(scars: Sequence[Scar], ground: Ground = "full") -> Landscape:
    """Return the frame with ``scars``; ``forest`` leaves out all but forest and streams."""
    dn = _forest()
    _valleys(dn)
    if ground == "full":
        _clearings(dn)
        _roads(dn)
        _waters(dn)
    index, ponds = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.float32)
    for number, scar in enumerate(scars):
        patch = tailings.draw(scar)
        rows, cols = patch.alpha.shape
        at = (slice(patch.row, patch.row + rows), slice(patch.col, patch.col + cols))
        part = dn[:, at[0], at[1]]
        lay(part, patch.color, patch.alpha)
        index[at][patch.inside > 0.4] = min(number + 1, 255)
        np.maximum(ponds[at], patch.ponds, out=ponds[at])
    for band in dn:
        band[:] = blur(band, _POINT_SPREAD)
    return Landscape(dn, index, ponds)
