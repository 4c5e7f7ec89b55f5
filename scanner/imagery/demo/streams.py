"""Centre lines of the demo's river, streams and roads, in frame metres; everything follows them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import shapely
import shapely.ops
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

Points = NDArray[np.float64]

_RIVER: Final = (
    (-11500, -5100),
    (-8000, -5900),
    (-5500, -4700),
    (-2800, -5400),
    (0, -4400),
    (2800, -5300),
    (5500, -4200),
    (8000, -4900),
    (11500, -3700),
)
_STREAMS: Final = {
    "s1": ((-8900, 2900), (-8100, 1700), (-7600, 700), (-6900, -1500), (-6000, -3100),
           (-5500, -4700)),
    "s2": ((-6500, 3700), (-5700, 2300), (-4935, 1200), (-4100, -300), (-3600, -2200),
           (-2800, -5400)),
    "s3": ((-2200, 3400), (-1200, 2400), (0, 1500), (900, 300), (1500, -1500), (1900, -3200),
           (2800, -5300)),
    "s4": ((5300, 3900), (4500, 2200), (4700, 600), (5000, -1200), (5500, -4200)),
    "s5": ((8500, 3000), (7700, 1300), (7300, -700), (7800, -2600), (8000, -4900)),
    "s6": ((-1500, -9800), (-900, -7000), (0, -4400)),
    "s7": ((6700, -9800), (6200, -6700), (5500, -4200)),
    "s8": ((-9000, -9800), (-8300, -7300), (-8000, -5900)),
    "s9": ((2600, 2400), (2300, 900), (900, 300)),
}  # fmt: skip
_ROAD: Final = (
    (-11500, 6700),
    (-7000, 6050),
    (-3000, 6500),
    (1500, 5650),
    (6000, 6300),
    (11500, 5300),
)
_SIDE_ROADS: Final = ((-8200, -1500), (-5200, -1700), (-1900, 1500), (700, -1600), (3300, 1700),
                      (4800, -1300), (7600, 1500), (8300, -1500))  # fmt: skip


def _spline(points: tuple[tuple[int, int], ...], step: float = 10.0) -> Points:
    """Return a smooth line through ``points``, (n, 2), a vertex about every ``step`` metres."""
    knots = np.asarray(points, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(knots, axis=0).T))])
    curve = CubicSpline(along, knots)
    return np.asarray(curve(np.arange(0.0, along[-1], step)))


def normals(line: Points) -> Points:
    """Return unit vectors to the left of a line's direction, (n, 2)."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)


def _meander(
    line: Points, height: float, length: float, seed: int, *, pin: Points | None
) -> Points:
    """Return ``line`` bent sideways by up to ``height`` metres, in bends about ``length`` long.

    Bends fade out within one length of the points ``pin``, where scars and mouths are.
    """
    rng = np.random.default_rng([seed, 77])
    along = np.arange(len(line)) * 10.0
    wobble = np.cumsum(rng.normal(0, 0.02, len(line)))
    swing = height * np.sin(2 * np.pi * along / length + wobble)
    swing += 0.35 * height * np.sin(2 * np.pi * along / (0.41 * length) + 2 * wobble + seed)
    if pin is not None:
        away = np.min(np.linalg.norm(line[:, None] - pin[None], axis=2), axis=1)
        swing *= np.clip(away / length, 0, 1)
    return line + normals(line) * swing[:, None]


@lru_cache
def river() -> Points:
    """Return the river's centre line, west to east, (n, 2) frame metres."""
    mouths = np.array([points[-1] for points in _STREAMS.values()], dtype=np.float64)
    return _meander(_spline(_RIVER), 400.0, 2000.0, 1, pin=mouths)


@lru_cache
def streams() -> dict[str, Points]:
    """Return the streams' centre lines by name, each ending in the river or another stream."""
    lines = {}
    for seed, (name, points) in enumerate(_STREAMS.items()):
        pins = np.asarray(points[1:], dtype=np.float64)
        lines[name] = _meander(_spline(points), 70.0, 480.0, 10 + seed, pin=pins)
    return lines


def stream_point(name: str, near: tuple[float, float]) -> tuple[float, float, float]:
    """Return x, y of the point of a stream nearest to ``near``, and its direction in degrees."""
    line = streams()[name]
    index = int(np.argmin(np.hypot(*(line - near).T)))
    before, after = line[max(index - 8, 0)], line[min(index + 8, len(line) - 1)]
    dx, dy = after - before
    return float(line[index, 0]), float(line[index, 1]), float(np.degrees(np.arctan2(dy, dx)))


def stream_stretch(name: str, near: tuple[float, float], length: float) -> shapely.LineString:
    """Return ``length`` metres of a stream, centred where it passes closest to ``near``."""
    line = shapely.LineString(streams()[name])
    middle = line.project(shapely.Point(near))
    part = shapely.ops.substring(line, middle - length / 2, middle + length / 2)
    return shapely.LineString(shapely.get_coordinates(part))


@lru_cache
def roads() -> tuple[Points, ...]:
    """Return the main road and its side roads (the fishbone), (n, 2) each."""
    main = _meander(_spline(_ROAD), 40.0, 1900.0, 5, pin=None)
    lines = [main]
    for seed, (x, reach) in enumerate(_SIDE_ROADS):
        start = main[int(np.argmin(np.abs(main[:, 0] - x)))]
        end = start + np.array([0.12 * reach, reach])
        middle = (start + end) / 2
        knots = tuple((int(a), int(b)) for a, b in (start, middle, end))
        lines.append(_meander(_spline(knots), 14.0, 700.0, 30 + seed, pin=None))
    return tuple(lines)
