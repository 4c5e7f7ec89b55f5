"""What the scenes say of themselves: their SCL, and whether their radiometry can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.reflectance import doubt, resolve_offset


def has_scl(items: Sequence[Item]) -> list[bool]:
    """Return which items have an SCL."""
    return [item.asset_key("SCL") is not None for item in items]


def load_scl(
    items: Sequence[Item],
    geobox: GeoBox,
    *,
    engine: str,
    env: Mapping[str, str],
    count: str | None = None,
) -> xr.DataArray | None:
    """Return the lazy SCL cube (item, 1, y, x) of the items that have one, or ``None``.

    ``count``: see ``load_cube``.
    """
    known = [item for item, has in zip(items, has_scl(items), strict=True) if has]
    if not known:
        return None
    return load_cube(known, geobox, ("SCL",), engine=engine, env=env, count=count)


def doubts(
    items: Sequence[Item],
    geobox: GeoBox,
    scl: xr.DataArray | None,
    *,
    step: int = 1,
    engine: str,
    env: Mapping[str, str],
) -> da.Array:
    """Return, lazily, for each item ``None`` or why its radiometry cannot be trusted here.

    Args:
        items: (signed) items.
        geobox: coarse grid on which blue is looked at.
        scl: their SCL (``load_scl``) on a grid ``step`` times as fine; the pixel in the middle of
            each of ``step`` by ``step`` counts.
        step: see ``scl``.
        engine: of ``load_cube``.
        env: GDAL options.
    """
    blue = load_cube(items, geobox, ("B02",), engine=engine, env=env)
    return da.map_blocks(
        _doubts_block,
        blue.data,
        da.zeros((0, 1, 1, 1), dtype="uint8", chunks=-1) if scl is None else scl.data,
        step=step,
        with_scl=has_scl(items),
        offsets=[resolve_offset(item) for item in items],
        baselines=[item.baseline for item in items],
        drop_axis=[1, 2, 3],
        chunks=((len(items),),),
        dtype=object,
        meta=np.empty((0,), dtype=object),
    )


def _doubts_block(
    blue: NDArray[np.uint16],
    scl: NDArray[np.uint8],
    *,
    step: int,
    with_scl: list[bool],
    offsets: list[int],
    baselines: list[str | None],
) -> NDArray[Any]:
    out = np.empty(len(blue), dtype=object)
    position = 0
    for index, has in enumerate(with_scl):
        classes = scl[position, 0, step // 2 :: step, step // 2 :: step] if has else None
        position += has
        out[index] = doubt(blue[index, 0], classes, offsets[index], baselines[index])
    return out
