"""What lies between the ground and the picture on a date: light, haze, cloud, shadow; and the SCL.

The scene classification is right where it is easy and wrong where the real one (Sen2Cor's) is known
to be wrong:

- the core of the scar ``bright-2ha`` is called cloud (8, 9) on two of the three dates;
- the scar ``strip-0.5ha`` is called vegetation (4) on every date;
- the palest pixels of other scars and of sandbars are called cloud (8) on the second date;
- mine ponds are scattered over water (6), vegetation (4), dark (2) and unclassified (7);
- thin rims of clouds and of shadows are called vegetation or unclassified;
- dry pasture is in part unclassified.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from scanner.imagery.bands import Scl
from scanner.imagery.demo.frame import SHAPE, Floats
from scanner.imagery.demo.scars import Scar
from scanner.imagery.demo.texture import noise, smoothstep

Classes = NDArray[np.uint8]


@dataclass(frozen=True)
class Day:
    """One overpass."""

    moment: dt.datetime
    platform: str
    orbit: int
    seed: int
    cloud: float
    """Share of the frame under cloud."""
    cirrus: bool
    gain: tuple[float, float, float, float]
    haze: tuple[float, float, float, float]
    """Light of the day, a factor and DN per band: what atmospheric correction left over."""
    swath_edge: bool
    """True where the swath ends inside the western granule."""


def _utc(month: int, day: int, minute: int, second: int) -> dt.datetime:
    return dt.datetime(2024, month, day, 13, minute, second, tzinfo=dt.UTC)


DAYS: Final = (
    Day(_utc(6, 12, 57, 9), "Sentinel-2B", 67, 21, 0.10, False,
        (1.0, 1.0, 1.0, 1.0), (6, 4, 2, 0), False),
    Day(_utc(7, 17, 57, 11), "Sentinel-2A", 67, 7, 0.20, True,
        (1.03, 1.02, 1.03, 0.98), (28, 16, 10, 5), True),
    Day(_utc(8, 21, 57, 9), "Sentinel-2B", 67, 17, 0.05, False,
        (0.97, 0.98, 1.02, 0.96), (-4, -2, 0, 0), False),
)  # fmt: skip
"""The three dates, in order."""

_SHADOW_SHIFT: Final = (62, -48)
"""Rows and columns from a cloud to its shadow: the sun stands in the north-east."""


@dataclass(frozen=True)
class Sky:
    """A day's sky over the frame; each (rows, cols), 0..1."""

    cloud: Floats
    shadow: Floats
    cirrus: Floats


def sky(day: Day, clouds: bool = True) -> Sky:
    """Return the sky of ``day``; without ``clouds`` an empty one."""
    if not clouds:
        empty = np.zeros(SHAPE, np.float32)
        return Sky(empty, empty, empty)
    rng = np.random.default_rng([day.seed, 41])
    field = noise(rng, SHAPE, 190, 6) + 0.5 * noise(rng, SHAPE, 700)
    limit = float(np.quantile(field[::8, ::8], 1 - day.cloud))
    cloud = smoothstep(field, limit - 0.12, limit + 0.75)
    rows, cols = _SHADOW_SHIFT
    shift = np.array([[1, 0, cols], [0, 1, rows]], dtype=np.float32)
    shadow = cv2.warpAffine(cloud, shift, SHAPE[::-1], borderMode=cv2.BORDER_REPLICATE)
    cirrus = np.zeros(SHAPE, np.float32)
    if day.cirrus:
        cirrus = smoothstep(noise(rng, SHAPE, 900, 3), 0.5, 2.4)
    return Sky(cloud, np.asarray(shadow, dtype=np.float32), cirrus)


def picture(
    ground: Floats, cloud: Floats, shadow: Floats, cirrus: Floats, day: Day, seed: int
) -> NDArray[np.uint16]:
    """Return the DN (4, rows, cols) a granule holds: with the offset of +1000, never 0."""
    rng = np.random.default_rng([day.seed, seed])
    cover = cloud**0.7
    thick = 2600 + 4600 * cloud
    out = np.empty(ground.shape, np.uint16)
    tops, dim, veil = (1.04, 1.0, 0.99, 1.04), (0.50, 0.52, 0.52, 0.62), (330, 300, 280, 330)
    for band in range(len(ground)):
        light = ground[band] * np.float32(day.gain[band]) + np.float32(day.haze[band])
        light *= 1 - dim[band] * np.sqrt(shadow)
        light += cirrus * veil[band]
        light += cover * (np.float32(tops[band]) * thick - light)
        grain = rng.standard_normal(light.shape, dtype=np.float32)
        light += grain * (5 + 0.005 * light)
        out[band] = np.clip(light + 1000.5, 1, 65535)
    return out


def _half(image: Floats) -> Floats:
    """Return an image of 10 m averaged to 20 m."""
    size = (image.shape[1] // 2, image.shape[0] // 2)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _ground_classes(ground: Floats) -> Classes:
    """Return the classes (rows, cols) that thresholds on 20 m reflectance give."""
    green, red, nir = ground[1], ground[2], ground[3]
    ndvi, ndwi = (nir - red) / (nir + red), (green - nir) / (green + nir)
    classes = np.full(red.shape, Scl.UNCLASSIFIED, np.uint8)
    classes[(ndvi < 0.42) & (red > 700)] = Scl.BARE_SOIL
    classes[ndvi > 0.52] = Scl.VEGETATION
    classes[(ndvi < 0.4) & (nir < 1100) & (green < 600)] = Scl.DARK
    classes[ndwi > 0.05] = Scl.WATER
    return classes


def _add_errors(
    classes: Classes, red: Floats, ponds: Floats, scar: Classes, scars: Sequence[Scar], date: int
) -> None:
    """Put the known errors of the real SCL into ``classes``, in place (see the module)."""
    rng = np.random.default_rng([date, 97])
    lot = noise(rng, classes.shape, 3)
    pond = ponds > 0.45
    classes[pond & (lot > 0.9)] = Scl.UNCLASSIFIED
    classes[pond & (lot < -0.3)] = Scl.VEGETATION
    classes[pond & (lot < -1.1)] = Scl.DARK
    if date == 1:
        classes[(classes == Scl.BARE_SOIL) & (red > 2700)] = Scl.CLOUD_MEDIUM
    for number, planted in enumerate(scars[:254]):
        inside = scar == number + 1
        if planted.scl_error == "vegetation":
            near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            classes[near] = Scl.VEGETATION
        elif planted.scl_error == "cloud" and date < 2:
            classes[inside & (red > 1500)] = Scl.CLOUD_MEDIUM
            classes[inside & (red > 2700)] = Scl.CLOUD_HIGH


def scene_classes(
    ground: Floats,
    scar: Classes,
    ponds: Floats,
    above: tuple[Floats, Floats, Floats],
    scars: Sequence[Scar],
    date: int,
    errors: bool = True,
) -> Classes:
    """Return the SCL (rows, cols of 20 m) of a granule without its nodata.

    ``ground`` (4, rows, cols), ``scar``, ``ponds`` and ``above`` (cloud, shadow, cirrus) have 10 m;
    ``date`` is the index in ``DAYS``. Without ``errors`` the classes are those of thresholds on the
    ground, clouds and shadows alone.
    """
    coarse = np.stack([_half(band) for band in ground])
    cloud, shadow, cirrus = (_half(layer) for layer in above)
    classes = _ground_classes(coarse)
    if errors:
        _add_errors(classes, coarse[2], _half(ponds), scar[::2, ::2], scars, date)
    classes[cirrus > 0.25] = Scl.THIN_CIRRUS
    classes[shadow > 0.05] = Scl.CLOUD_SHADOW
    classes[cloud > (0.015 if errors else 0.002)] = Scl.CLOUD_MEDIUM
    classes[cloud > 0.25] = Scl.CLOUD_HIGH
    return classes
