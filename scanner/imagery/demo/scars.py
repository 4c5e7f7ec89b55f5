"""The mining scars of the demo: their outlines are the truth a run can be judged by."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import shapely
import shapely.ops
from shapely import affinity

from scanner.imagery.demo import frame, streams

Shape = Literal["blocky", "square", "strip"]
Style = Literal["orange", "pale", "white", "yellow", "dull"]
SclError = Literal["", "cloud", "vegetation"]


@dataclass(frozen=True)
class Scar:
    """A scar to plant. A recall test plants its own: see ``scar_grid``."""

    name: str
    lon: float
    lat: float
    """Its centre in degrees, EPSG:4326, inside the demo's frame."""
    area_ha: float
    shape: Shape = "blocky"
    """``blocky``: pits side by side; ``square``; ``strip``: 30 m wide and straight."""
    direction: float = 0.0
    """Of its long axis, degrees from east, anticlockwise."""
    style: Style = "orange"
    stream: str = ""
    """Name of a stream to follow (of the demo's own scars), empty for none."""
    scl_error: SclError = ""
    """What the SCL takes it for: ``cloud`` on two dates of three, ``vegetation`` on all."""
    description: str = ""


@dataclass(frozen=True)
class PlantedMine:
    """The truth about one planted scar."""

    name: str
    area_ha: float
    """Hectares; the polygon's geodesic area agrees within 5 %."""
    polygon: shapely.Polygon
    """Outline, EPSG:4326 (lon, lat)."""
    description: str


STRIP_WIDTH: Final = 30.0
"""Metres; three pixels, the narrowest scar the project promises to look for."""


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), 11])


def _blocks(scar: Scar, axis: shapely.LineString) -> shapely.Polygon:
    """Return pits (turned rectangles of uneven size) side by side along ``axis``, made one."""
    rng = _rng(scar.name)
    area, length = scar.area_ha * 10_000, axis.length
    width = area / length
    pits = []
    position = 0.0
    while position < length:
        long, wide = rng.uniform(0.6, 1.4) * width, rng.uniform(0.55, 1.35) * width
        point = axis.interpolate(position)
        side = rng.normal(0, 0.22) * width
        turn = np.degrees(np.arctan2(*np.subtract(
            shapely.get_coordinates(axis.interpolate(min(position + 20, length)))[0],
            shapely.get_coordinates(axis.interpolate(max(position - 20, 0)))[0],
        )[::-1])) + rng.normal(0, 20)  # fmt: skip
        pit = shapely.box(-long / 2, -wide / 2, long / 2, wide / 2)
        pit = affinity.rotate(pit, turn, origin=(0, 0))
        shift = side * np.array([-np.sin(np.radians(turn)), np.cos(np.radians(turn))])
        pits.append(affinity.translate(pit, point.x + shift[0], point.y + shift[1]))
        position += 0.55 * long
    link = axis.buffer(0.15 * width)
    merged = shapely.unary_union([*pits, link]).buffer(5, join_style="mitre")
    return _largest(merged.buffer(-5).buffer(-3).buffer(3).simplify(0.2))


def _largest(geometry: shapely.Geometry) -> shapely.Polygon:
    parts = shapely.get_parts(geometry)
    return shapely.Polygon(max(parts, key=lambda part: part.area).exterior)


def outline(scar: Scar) -> shapely.Polygon:
    """Return a scar's outline in frame metres; its area is exactly ``area_ha``."""
    area = scar.area_ha * 10_000
    center = frame.to_frame(np.array([scar.lon]), np.array([scar.lat]))[0]
    if scar.shape == "square":
        half = area**0.5 / 2
        shape = affinity.rotate(shapely.box(-half, -half, half, half), scar.direction)
        return shapely.Polygon(affinity.translate(shape, *center).exterior)
    length = area / STRIP_WIDTH if scar.shape == "strip" else (area * 3.2) ** 0.5
    axis = affinity.rotate(shapely.LineString([(-length / 2, 0), (length / 2, 0)]), scar.direction)
    axis = affinity.translate(axis, *center)
    if scar.stream:
        axis = streams.stream_stretch(scar.stream, (center[0], center[1]), length)
    if scar.shape == "strip":
        shape = axis.buffer(STRIP_WIDTH / 2, cap_style="flat").simplify(0.2)
    else:
        shape = _blocks(scar, axis)
    factor = (area / shape.area) ** 0.5
    scaled = affinity.scale(shape, factor, factor, origin=(center[0], center[1]))
    return shapely.Polygon(scaled.exterior)


def planted(scars: Sequence[Scar]) -> tuple[PlantedMine, ...]:
    """Return the truth of ``scars``, in their order."""
    return tuple(
        PlantedMine(
            scar.name,
            scar.area_ha,
            shapely.Polygon(shapely.get_coordinates(frame.to_geographic(outline(scar)))),
            scar.description,
        )
        for scar in scars
    )


def scar_grid(
    sizes_ha: Sequence[float] = (0.3, 0.5, 1.0, 2.0, 5.0),
    shapes: Sequence[Shape] = ("square", "strip"),
    replicates: int = 20,
    spacing_m: float = 1200.0,
    seed: int = 0,
) -> tuple[Scar, ...]:
    """Return scars of every size and shape on a jittered grid inside the AOI, mixed at random.

    Meant for ``make_scenes(..., scars=scar_grid(), ground="forest")``. Fewer replicates come back
    if the AOI has no room for them at this spacing; sizes and shapes stay evenly mixed.
    """
    rng = np.random.default_rng([seed, 5])
    xs = np.arange(-frame.HALF_WIDTH + 900, frame.HALF_WIDTH - 900, spacing_m)
    ys = np.arange(-frame.HALF_HEIGHT + 900, frame.HALF_HEIGHT - 900, spacing_m)
    points = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    points = points + rng.uniform(-0.2, 0.2, points.shape) * spacing_m
    lonlat = shapely.get_coordinates(frame.to_geographic(shapely.MultiPoint(points)))
    inside = shapely.contains(
        shapely.transform(frame.aoi(), lambda c: c).buffer(-0.006), shapely.points(lonlat)
    )
    lonlat = rng.permutation(lonlat[inside])
    kinds = [(size, shape) for size in sizes_ha for shape in shapes]
    styles: tuple[Style, ...] = ("orange", "pale", "yellow", "dull", "white")
    replicates = min(replicates, len(lonlat) // len(kinds))
    scars = []
    for index, (lon, lat) in enumerate(lonlat[: replicates * len(kinds)]):
        copy, kind = divmod(index, len(kinds))
        size, shape = kinds[kind]
        scars.append(
            Scar(
                f"{shape}-{size:g}ha-{copy:02d}",
                float(lon),
                float(lat),
                size,
                shape,
                direction=float(rng.uniform(0, 180)),
                style=styles[int(rng.integers(len(styles)))],
                description=f"synthetic {shape} of {size:g} ha",
            )
        )
    return tuple(scars)


def _own(
    name: str, area: float, stream: str, near: tuple[float, float], shape: Shape, style: Style,
    text: str, scl_error: SclError = "",
) -> Scar:  # fmt: skip
    x, y, direction = streams.stream_point(stream, near)
    lon, lat = shapely.get_coordinates(frame.to_geographic(shapely.Point(x, y)))[0]
    follow = stream if shape != "square" else ""
    return Scar(
        name, float(lon), float(lat), area, shape, direction, style, follow, scl_error, text
    )


@lru_cache
def demo_scars() -> tuple[Scar, ...]:
    """Return the scars of the demo, 0.3 to 15 ha, most of them along streams."""
    seam = frame.tile_seam_x(1200.0)
    return (
        _own("valley-15ha", 15, "s1", (-6950, -1400), "blocky", "orange", "large worked valley"),
        _own("valley-8ha", 8, "s5", (7300, -700), "blocky", "pale", "worked valley, many ponds"),
        _own("tile-seam-5ha", 5, "s2", (seam, 1200), "blocky", "yellow",
             "lies across the seam of two tiles of zone 21S"),
        _own("zone-seam-3ha", 3, "s3", (0, 1500), "blocky", "pale",
             "lies across 54 W, the seam of zones 21S and 22S"),
        _own("bright-2ha", 2, "s4", (4700, 600), "blocky", "white",
             "very bright; SCL calls its core cloud on two of three dates", "cloud"),
        _own("block-1ha", 1, "s7", (6200, -6700), "square", "orange", "one square pit"),
        _own("strip-1ha", 1, "s3", (1500, -1500), "strip", "pale", "30 m wide along a stream"),
        _own("blocks-0.8ha", 0.8, "s2", (-3600, -2200), "blocky", "dull", "old, dull workings"),
        _own("strip-0.5ha", 0.5, "s6", (-900, -7000), "strip", "orange",
             "30 m wide along a stream; SCL calls it vegetation on every date", "vegetation"),
        _own("pit-0.3ha", 0.3, "s4", (4990, -1200), "square", "pale", "a single fresh pit"),
    )  # fmt: skip
