"""Bring imagery to the look a model was trained on, by what its card says; training does the same.

A style is a plain dict, so that it lives in a model card. ``method`` is one of

- ``match``: per band, move the 2nd and 98th percentile of ``source`` to those of ``target``;
- ``stretch``: per band, move the 2nd and 98th percentile of ``source`` to 0 and 1;
- ``landsat``: 93 pixels for every 512, bilinear, and back, bicubic: the look of a coarser sensor.

``source`` and ``target`` hold statistics as ``mining-train style stats`` makes them (``r_p2``,
``r_p98``, and so on for ``g`` and ``b``), in picture values: ``reflectance / white``, 0..1.
``source`` may also be ``"chip"``: the percentiles of each chip itself. Nothing is ever taken from
a chunk otherwise, so that results do not depend on tiling. ``bands`` names the bands of the input
in their order, by default B02 B03 B04 first; others stay as they are in ``match`` and ``stretch``.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.errors import ModelError

METHODS: Final = ("match", "stretch", "landsat")
WHITE: Final = 0.3
"""Reflectance of picture value 1, unless the style says otherwise (``white``)."""
EMPTY: Final = 0.001
"""Picture values up to this, in all bands, are no ground: left out of statistics, left as is."""
LETTERS: Final = {"B04": "r", "B03": "g", "B02": "b"}
"""Band -> what its statistics begin with."""
ORDER: Final = ("B02", "B03", "B04")
PER_CHIP: Final = "chip"
COARSE: Final = 93 / 512
"""Pixels of the simulated sensor for one of ours."""
_KEYS: Final = {
    "match": {"method", "source", "target", "white", "bands"},
    "stretch": {"method", "source", "white", "bands"},
    "landsat": {"method"},
}


def check_style(style: dict[str, Any]) -> None:
    """Raise ``ModelError``, naming the entry, if a style is not one that can be applied."""
    method = style.get("method")
    if method not in METHODS:
        raise ModelError(
            f"style: method {method!r}, known are {', '.join(METHODS)}; correct the style"
        )
    if unknown := sorted(set(style) - _KEYS[method]):
        raise ModelError(
            f"style {method}: {unknown[0]!r} is no entry of it "
            f"({', '.join(sorted(_KEYS[method]))}); correct the style"
        )
    for name in ("source", "target"):
        if name in _KEYS[method] and not (name == "source" and style.get(name) == PER_CHIP):
            _check_statistics(style.get(name), f"style {method}: {name}")
    white = style.get("white", WHITE)
    if not isinstance(white, int | float) or not 0 < white <= 10:
        raise ModelError(f"style {method}: white is {white!r}, a reflectance above 0 is needed")
    bands = style.get("bands", ORDER)
    if not isinstance(bands, list | tuple) or not set(ORDER) <= set(bands):
        raise ModelError(f"style {method}: bands are {bands!r}, B02, B03 and B04 must be there")


def apply_style(reflectance: NDArray[np.float32], style: dict[str, Any]) -> NDArray[np.float32]:
    """Return reflectance float32 (n, band, y, x) in the look of ``style``; NaN stays NaN.

    Matched and stretched bands are within 0..white. A band whose 98th percentile is not above its
    2nd stays as it is, and so do pixels without ground (see ``EMPTY``).

    Raises ``ModelError`` for an unknown method or a style that lacks something.
    """
    check_style(style)
    if style["method"] == "landsat":
        return simulate_landsat(reflectance)
    bands = list(style.get("bands", ORDER))
    rows = [bands.index(band) for band in ORDER]
    if reflectance.ndim != 4 or reflectance.shape[1] <= max(rows):
        raise ModelError(
            f"style {style['method']}: input of shape {reflectance.shape}, (n, band, y, x) with "
            f"{max(rows) + 1} bands or more is needed"
        )
    white = np.float32(style.get("white", WHITE))
    pictures = np.clip(reflectance[:, rows] / white, 0, 1)
    empty = (np.nan_to_num(pictures, nan=0.0) <= EMPTY).all(axis=1)
    source = (
        _percentiles_of_chips(pictures, empty)
        if style["source"] == PER_CHIP
        else _percentiles(style["source"])
    )
    target = _percentiles(style["target"]) if style["method"] == "match" else _FULL
    out = reflectance.astype(np.float32, copy=True)
    for index, row in enumerate(rows):
        moved = _moved(pictures[:, index], source[..., index, :], target[0, index])
        usable = _wide(source[..., index, :]) & _wide(target[0, index])
        keep = empty | ~np.broadcast_to(usable.reshape(-1, 1, 1), empty.shape)
        out[:, row] = np.where(keep, out[:, row], moved * white)
    return out


_FULL: Final = np.tile(np.array([0.0, 1.0], np.float32), (1, len(ORDER), 1))


def simulate_landsat(reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coarsen (n, band, y, x) by ``COARSE`` (bilinear) and bring it back (bicubic); NaN stays NaN.

    Pixels without data weigh nothing. Values stay within those of the chip's band.
    """
    import torch
    from torch.nn.functional import interpolate

    shape = reflectance.shape[2:]
    small = [max(2, round(side * COARSE)) for side in shape]
    known = torch.from_numpy(np.isfinite(reflectance))
    pixels = torch.from_numpy(np.nan_to_num(reflectance, nan=0.0).astype(np.float32, copy=False))
    weight = known.to(torch.float32)
    count = weight.sum((2, 3), keepdim=True)
    mean = (pixels * weight).sum((2, 3), keepdim=True) / count.clamp_min(1)
    # the bands' means fill what is unknown, in proportion to how little is known there
    filled = torch.where(known, pixels - mean, 0.0)
    coarse = [
        interpolate(part, small, mode="bilinear", antialias=True, align_corners=False)
        for part in (filled, weight)
    ]
    seen = torch.where(coarse[1] > 0, coarse[0] / coarse[1].clamp_min(1e-6), 0.0)
    fine = interpolate(seen, list(shape), mode="bicubic", align_corners=False) + mean
    low = torch.where(known, pixels, torch.inf).amin((2, 3), keepdim=True)
    high = torch.where(known, pixels, -torch.inf).amax((2, 3), keepdim=True)
    fine = torch.minimum(torch.maximum(fine, low), high)
    return np.asarray(torch.where(known, fine, torch.nan).numpy(), np.float32)


def _moved(
    values: NDArray[np.float32], source: NDArray[np.float32], target: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Move picture values (n, y, x) so that ``source`` (n or 1, 2) falls on ``target`` (2,)."""
    low, high = (source[:, end].reshape(-1, 1, 1) for end in (0, 1))
    width = np.where(high > low, high - low, np.float32(1))
    moved = (values - low) / width * (target[1] - target[0]) + target[0]
    return np.asarray(np.clip(moved, 0, 1), np.float32)


def _wide(ends: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether percentiles (..., 2) are apart; those of nothing (NaN) are not."""
    return np.asarray(ends[..., 1] > ends[..., 0])


def _percentiles(statistics: dict[str, Any]) -> NDArray[np.float32]:
    """Return (1, 3, 2): the 2nd and 98th percentile of B02, B03, B04."""
    return np.array(
        [[[statistics[f"{LETTERS[band]}_{end}"] for end in ("p2", "p98")] for band in ORDER]],
        np.float32,
    )


def _percentiles_of_chips(
    pictures: NDArray[np.float32], empty: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return (n, 3, 2), each chip's own; NaN for a band without data."""
    out = np.full((*pictures.shape[:2], 2), np.nan, np.float32)
    for chip, ends in enumerate(out):
        for band in range(pictures.shape[1]):
            values = pictures[chip, band][~empty[chip]]
            values = values[np.isfinite(values)]
            if values.size:
                ends[band] = np.percentile(values, (2, 98))
    return out


def _check_statistics(statistics: Any, name: str) -> None:
    if not isinstance(statistics, dict):
        raise ModelError(
            f"{name} is {statistics!r}, statistics are needed (mining-train style stats makes them)"
        )
    for letter in LETTERS.values():
        for end in ("p2", "p98"):
            value = statistics.get(f"{letter}_{end}")
            if not isinstance(value, int | float) or not isfinite(value):
                raise ModelError(f"{name} has {letter}_{end} = {value!r}, a number is needed")
