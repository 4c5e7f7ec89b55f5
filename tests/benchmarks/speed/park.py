"""The generated park: where it lies, and what is where in it.

A rectangle of whole tiles, 10 x 5 of them by default (203 Mpx, 20,300 km2), in the middle of UTM
zone 21S, so that every pixel read is one of the AOI or of a tile's halo. Most of it is intact
forest. On it lie:

- a river of some 250 m with sandbars from west to east, and a tributary of 110 m from the north;
- settlement fronts at the south border: a road along it, side roads every 1.3 km up to 8 km into
  the park, cut lots (pasture, grazed bare, burnt) on both sides of them, fewer with depth;
- workings along a few streams: scars of 1 to 15 ha with ponds (the demo's pictures), 200 to 600 m
  apart over some tens of kilometres, an airstrip beside each stream.

Fronts, workings and roads are 2 % of the ground (``DISTURBED``), workings a twentieth of that; the
river is none of it. Nothing is strewn at random over the forest, which is what a park looks like:
about three quarters of the windows of 6.7 km hold forest alone. Same park, same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from scanner.area.grid import CORE_PX, TILE_M, Tile, Zone, to_geographic
from scanner.detection.segment import STRIDE
from scanner.imagery.demo.streams import normals

DISTURBED: Final = 0.02
"""Share of the ground that is no forest and no river."""
WORKED: Final = 0.001
"""Share of the ground that is scars."""
ZONE: Final = Zone(21, True)
FIRST_COL: Final = 20
FIRST_ROW: Final = 38
"""The north-western tile."""
MARGIN_PX: Final = 128
"""Pixels of ground around the tiles: more than their halo."""
PIXEL: Final = 10

FOREST, RIVER, SAND, PASTURE, DRY, GRAZED, BURNT, ROAD = range(8)
"""What a pixel is; scars are laid over it."""
_LOTS: Final = (PASTURE, DRY, GRAZED, BURNT)
_LOT_SHARES: Final = (0.45, 0.3, 0.18, 0.07)

Labels = NDArray[np.uint8]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Stamp:
    """A scar: the middle of its picture in pixels of the park, which picture, and how turned."""

    row: int
    col: int
    picture: int
    turn: int


@dataclass(frozen=True)
class Park:
    """A park of ``cols`` x ``rows`` tiles."""

    cols: int = 10
    rows: int = 5

    @classmethod
    def of_mpx(cls, mpx: float) -> Park:
        """Return the park, about twice as wide as high, that has at least ``mpx`` megapixels."""
        tiles = mpx * 1e6 / CORE_PX**2
        rows = max(1, round((tiles / 2) ** 0.5))
        return cls(max(1, -int(-tiles // rows)), rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of pixels, margin included."""
        return self.rows * CORE_PX + 2 * MARGIN_PX, self.cols * CORE_PX + 2 * MARGIN_PX

    @property
    def corner(self) -> tuple[int, int]:
        """West and north in metres of the zone, margin included."""
        west, _, _, north = self.tile(0, 0).core_bounds
        return west - MARGIN_PX * PIXEL, north + MARGIN_PX * PIXEL

    def tile(self, col: int, row: int) -> Tile:
        """Return the tile in this column and row, counted from the north-west."""
        return Tile(ZONE, FIRST_COL + col, FIRST_ROW + row)


@dataclass(frozen=True)
class Area:
    """A rectangle of the park's tiles, counted from its north-western one."""

    col: int
    row: int
    cols: int
    rows: int

    @property
    def mpx(self) -> float:
        """Megapixels of ground."""
        return self.cols * self.rows * CORE_PX**2 / 1e6

    def bounds(self, park: Park) -> tuple[int, int, int, int]:
        """West, south, east, north, metres."""
        west, _, _, north = park.tile(self.col, self.row).core_bounds
        return west, north - self.rows * TILE_M, west + self.cols * TILE_M, north

    def outline(self, park: Park) -> shapely.Polygon:
        """Return the rectangle in EPSG:4326, 5 m inside its cells so that no other is touched."""
        inner = shapely.segmentize(shapely.box(*self.bounds(park)).buffer(-5), 2000)
        return shapely.transform(inner, lambda c: np.column_stack(to_geographic(ZONE.epsg, *c.T)))

    def pixels(self) -> tuple[slice, slice]:
        """Return rows and columns in the park's grid."""
        top, left = (MARGIN_PX + CORE_PX * one for one in (self.row, self.col))
        return slice(top, top + self.rows * CORE_PX), slice(left, left + self.cols * CORE_PX)


@dataclass(frozen=True)
class Layout:
    """What is where: labels of every pixel, and the scars over them."""

    labels: Labels
    stamps: tuple[Stamp, ...]
    disturbed: NDArray[np.bool_]
    """(rows, cols): neither forest nor river."""

    def windows(self, area: Area) -> NDArray[np.bool_]:
        """Return which windows (3 x 3 a tile) hold anything but forest."""
        rows, cols = area.pixels()
        other = (self.labels[rows, cols] != FOREST) | self.disturbed[rows, cols]
        blocks = other.reshape(area.rows * 3, STRIDE, area.cols * 3, STRIDE)
        return np.asarray(blocks.any(axis=(1, 3)))

    def share(self, area: Area) -> float:
        """Return the disturbed share of an area."""
        return float(self.disturbed[area.pixels()].mean())


def draw(park: Park, sizes: list[NDArray[np.bool_]]) -> Layout:
    """Lay out the park.

    Args:
        park: how large it is.
        sizes: for each picture of a scar the pixels it covers, of odd or even sides.
    """
    rng = np.random.default_rng([21, park.cols, park.rows])
    labels: Labels = np.zeros(park.shape, np.uint8)
    worked = np.zeros(park.shape, np.bool_)
    stamps = _workings(park, sizes, labels, worked, rng)
    _fronts(park, labels, worked, rng)
    _rivers(park, labels, rng)
    disturbed = (labels >= PASTURE) | worked
    return Layout(labels, tuple(stamps), disturbed)


def _line(points: list[tuple[float, float]], swing: float, bend: float,
          rng: np.random.Generator) -> Points:  # fmt: skip
    """Return a line through ``points`` (col, row), a vertex a pixel, with bends ``bend`` long."""
    knots = np.asarray(points, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(knots, axis=0).T))])
    at = np.arange(0.0, along[-1])
    line = np.stack([np.interp(at, along, axis) for axis in knots.T], axis=1)
    phase = 2 * np.pi * at / bend + np.cumsum(rng.normal(0, 0.008, len(at)))
    side = swing * (np.sin(phase) + 0.4 * np.sin(0.37 * phase + 1) + 0.25 * np.sin(2.3 * phase))
    return np.asarray(line + normals(line) * side[:, None])


def _stroke(labels: Labels, line: Points, label: int, width: float) -> None:
    points = np.round(line[::3] * 16).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(labels, [points], False, label, max(1, round(width)), shift=4)


def _rivers(park: Park, labels: Labels, rng: np.random.Generator) -> None:
    rows, cols = park.shape
    main = _line([(-50, 0.30 * rows), (0.3 * cols, 0.42 * rows), (0.65 * cols, 0.30 * rows),
                  (cols + 50, 0.40 * rows)], 70, 420, rng)  # fmt: skip
    mouth = main[int(0.66 * len(main))]
    branch = _line([(0.74 * cols, -50), (float(mouth[0]), float(mouth[1]))], 45, 260, rng)
    _stroke(labels, branch, RIVER, 11)
    _stroke(labels, main, RIVER, 25)
    for at in range(150, len(main), 310):
        col, row = main[at] + normals(main)[at] * 11
        angle = float(np.degrees(np.arctan2(*(main[min(at + 9, len(main) - 1)] - main[at])[::-1])))
        cv2.ellipse(labels, (round(col), round(row)), (14, 4), angle, 0, 360, SAND, -1)


def _fronts(park: Park, labels: Labels, worked: NDArray[np.bool_],
            rng: np.random.Generator) -> None:  # fmt: skip
    """Cut lots along side roads at the south border until the park's share is reached."""
    rows, cols = park.shape
    ground = park.cols * park.rows * CORE_PX**2
    count = max(1, round(3 * park.cols / 10))
    wanted = (DISTURBED * ground - worked.sum()) / count
    border = rows - MARGIN_PX
    for number in range(count):
        middle = cols * (number + 0.5) / count + rng.uniform(-0.1, 0.1) * cols / count
        here = slice(max(MARGIN_PX, int(middle - cols / count / 2)), int(middle + cols / count / 2))
        for rank in range(200):
            x = middle + 130 * ((rank + 1) // 2) * (-1) ** rank
            if not here.start < x < here.stop:
                continue
            reach = min(rng.uniform(350, 800), 0.8 * rows)
            lean = rng.normal(0, 0.05)
            _side_road(labels, x, lean, border, reach, rng)
            if (
                labels[border - 900 if border > 900 else 0 : border, here] >= PASTURE
            ).sum() >= wanted:
                break
        _stroke(labels, np.array([[middle - 700, border - 60.0], [middle + 700, border - 60]]),
                ROAD, 2)  # fmt: skip


def _side_road(labels: Labels, x: float, lean: float, border: int, reach: float,
               rng: np.random.Generator) -> None:  # fmt: skip
    for depth in np.arange(20.0, reach, 48.0):
        for side in (-1, 1):
            if rng.random() > 0.95 - 0.5 * depth / reach:
                continue
            wide, long = rng.uniform(28, 60), rng.uniform(38, 48)
            corners = np.array([(2, 0), (wide, 0), (wide, -long), (2, -long)])
            corners = corners + rng.normal(0, 2.0, (4, 2))
            corners = corners * (side, 1) + (x + lean * depth, border - depth)
            label = int(rng.choice(_LOTS, p=_LOT_SHARES))
            cv2.fillPoly(labels, [np.round(corners * 16).astype(np.int32)], label, shift=4)
    line = np.array([[x, border + 20.0], [x + lean * reach, border - reach]])
    points = np.linspace(line[0], line[1], 60)
    _stroke(labels, points, ROAD, 1)


def _workings(park: Park, sizes: list[NDArray[np.bool_]], labels: Labels,
              worked: NDArray[np.bool_], rng: np.random.Generator) -> list[Stamp]:  # fmt: skip
    """Stamp scars along streams until the park's share is reached; mark them in ``worked``."""
    rows, cols = park.shape
    wanted = WORKED * park.cols * park.rows * CORE_PX**2
    count = max(1, round(4 * park.cols * park.rows / 50))
    stamps: list[Stamp] = []
    for number in range(count):
        col, row = cols * (number + 0.35) / count, rows * rng.uniform(0.1, 0.5)
        end = (col + rng.uniform(-0.12, 0.12) * cols, row + 0.35 * rows)
        stream = _line([(col, row), end], 12, 90, rng)
        at, done = 0.0, 0
        while at < len(stream) and done < wanted / count:
            x, y = stream[int(at)] + rng.normal(0, 4, 2)
            stamp = Stamp(round(y), round(x), int(rng.integers(len(sizes))), int(rng.integers(8)))
            cover = turned(sizes[stamp.picture], stamp.turn)
            at += rng.uniform(20, 60)
            where = place(worked.shape, stamp, cover.shape)
            if where is not None:
                done += int((cover & ~worked[where]).sum())
                worked[where] |= cover
                stamps.append(stamp)
        x, y = stream[len(stream) // 3]
        strip = np.array([[x + 40, y], [x + 120, y + 30]])
        _stroke(labels, np.linspace(strip[0], strip[1], 30), ROAD, 3)
    return stamps


def turned(image: NDArray, turn: int) -> NDArray:
    """Return one of the eight symmetries of the last two axes."""
    image = image[..., ::-1] if turn >= 4 else image
    return np.rot90(image, turn % 4, axes=(-2, -1))


def place(
    shape: tuple[int, ...], stamp: Stamp, size: tuple[int, ...]
) -> tuple[slice, slice] | None:
    """Return where a stamp of ``size`` lies in a grid, ``None`` where it is not wholly inside."""
    top, left = stamp.row - size[-2] // 2, stamp.col - size[-1] // 2
    if top < 0 or left < 0 or top + size[-2] > shape[-2] or left + size[-1] > shape[-1]:
        return None
    return slice(top, top + size[-2]), slice(left, left + size[-1])
