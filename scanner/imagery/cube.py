"""Items to a lazy cube (time, band, y, x). It and ``readers.py`` alone know stackstac and odc-stac.

Both engines put the same pixels on the same grid, as uint16 DN with 0 for nodata, nearest neighbour
where an item of another UTM zone must be warped. Nothing is read here: the client builds the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import stackstac
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from stackstac.rio_env import LayeredEnv

from scanner.errors import ReadError
from scanner.imagery.bands import NODATA
from scanner.imagery.item import Item
from scanner.imagery.readers import Area, OdcDriver, StackReader

DTYPES: Final[dict[str, str]] = {"SCL": "uint8"}
"""Pixels are uint16 unless named here."""


@dataclass(frozen=True)
class _Wanted:
    """What :func:`load_cube` asks of an engine."""

    geobox: GeoBox
    bands: list[str]
    env: dict[str, str]
    chunk: int
    areas: tuple[Area, ...] | None
    count: str | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return np.dtype(DTYPES.get(self.bands[0], "uint16"))


def load_cube(
    items: Sequence[Item],
    geobox: GeoBox,
    bands: Sequence[str],
    *,
    engine: str = "stackstac",
    env: Mapping[str, str] | None = None,
    chunk: int = -1,
    areas: Sequence[Area] | None = None,
    count: str | None = None,
) -> xr.DataArray:
    """Return a lazy cube of DN, dims (time, band, y, x), an item a time step, in their order.

    Args:
        items: signed items; a band an item lacks is all nodata (0).
        geobox: the grid, any UTM zone.
        bands: names such as ``B02``; all of one dtype (SCL goes alone).
        engine: ``stackstac`` or ``odc``.
        env: GDAL options in force while reading (``access.gdal_env``).
        chunk: pixels a spatial chunk; -1 is one chunk.
        areas: the parts of the grid to read, of a cube of one spatial chunk; what lies outside is
            nodata. ``None`` reads all of it.
        count: key under which the bytes read are counted (``readers.take_count``).

    Coordinates: ``id`` and ``solar_day`` along time, pixel centres x and y. Reading raises
    ``ReadError`` naming the asset (unsigned); a failed read is never nodata.
    """
    if not items:
        raise ReadError("no items to load; check the search before building a cube")
    load = {"stackstac": _load_stackstac, "odc": _load_odc}[engine]
    known = [band for band in bands if any(item.asset_key(band) for item in items)] or list(bands)
    only = None if areas is None else tuple(areas)
    wanted = _Wanted(geobox, known, dict(env or {}), chunk, only, count)
    cube = load([_plain(item, known) for item in items], wanted)
    if len(cube) != len(items):  # stackstac leaves items without any of the assets out
        lacking = [i.id for i in items if all(i.asset_key(band) is None for band in bands)]
        raise ReadError(f"item {', '.join(lacking)}: has none of {', '.join(bands)}; leave it out")
    if len(known) < len(bands):
        cube = _with_blank_bands(cube, [list(bands).index(band) for band in known], len(bands))
    return xr.DataArray(
        cube,
        dims=("time", "band", "y", "x"),
        coords={
            "time": [np.datetime64(item.datetime.replace(tzinfo=None), "ns") for item in items],
            "id": ("time", [item.id for item in items]),
            "solar_day": (
                "time",
                [np.datetime64(item.solar_day, "D").astype("M8[s]") for item in items],
            ),
            "band": list(bands),
            **{dim: geobox.coordinates[dim].values for dim in ("y", "x")},
        },
        attrs={"crs": f"EPSG:{geobox.crs.epsg}", "transform": tuple(geobox.transform)[:6]},
        name="DN",
    )


def _with_blank_bands(cube: Any, places: list[int], n_bands: int) -> Any:
    """Give a cube bands that no item has, all nodata; stackstac leaves such bands out."""
    data = cube.rechunk({1: -1})

    def spread(block: NDArray[Any]) -> NDArray[Any]:
        out = np.full((block.shape[0], n_bands, *block.shape[2:]), NODATA, block.dtype)
        out[:, places] = block
        return out

    times, _, ys, xs = data.chunks
    return data.map_blocks(spread, chunks=(times, (n_bands,), ys, xs), dtype=data.dtype)


def _plain(item: Item, bands: Sequence[str]) -> dict[str, Any]:
    """Reduce an item to what the engines need, under our band names.

    ``proj:epsg`` is always set: stackstac knows no ``proj:code`` and would take the extent from the
    lon/lat bbox, a grid some pixels too large, without an error.
    """
    properties = item.properties
    kept = {
        k: properties[k] for k in ("proj:bbox", "proj:shape", "proj:transform") if k in properties
    }
    assets = {}
    for band in bands:
        if (key := item.asset_key(band)) is not None:
            asset = item.raw["assets"][key]
            own = {
                k: v for k, v in asset.items() if k in ("proj:bbox", "proj:shape", "proj:transform")
            }
            assets[band] = {"href": asset["href"], "type": "image/tiff", "roles": ["data"], **own}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item.id,
        "geometry": item.raw["geometry"],
        "bbox": list(item.footprint.bounds),
        "properties": {"datetime": item.datetime.isoformat(), "proj:epsg": item.epsg, **kept},
        "assets": assets,
        "links": [],
        "stac_extensions": [],
    }


def _load_stackstac(items: list[dict[str, Any]], wanted: _Wanted) -> Any:
    geobox, dtype = wanted.geobox, wanted.dtype
    box = geobox.boundingbox
    bounds = (box.left, box.bottom, box.right, box.top)
    return stackstac.stack(
        [_reaching(item, geobox.crs.epsg, bounds) for item in items],
        assets=wanted.bands,
        epsg=geobox.crs.epsg,
        resolution=abs(geobox.resolution.x),
        bounds=bounds,
        snap_bounds=False,
        resampling=Resampling.nearest,
        chunksize=(-1, -1, wanted.chunk, wanted.chunk),
        dtype=dtype,
        fill_value=dtype.type(NODATA),
        rescale=False,
        sortby_date=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        gdal_env=LayeredEnv(always=wanted.env, open={"VSI_CACHE": True}, read={"VSI_CACHE": False}),
        errors_as_nodata=(),
        reader=partial(StackReader, areas=wanted.areas, count=wanted.count),
    ).data


def _reaching(item: dict[str, Any], epsg: int, bounds: tuple[float, ...]) -> dict[str, Any]:
    """Return an item that tells of the cube's own extent as its grid.

    stackstac leaves out, or takes for nodata without opening it, what by its ``proj:`` members lies
    elsewhere; but where pixels lie the file itself says best.
    """
    assets = {
        band: {k: v for k, v in asset.items() if not k.startswith("proj:")}
        for band, asset in item["assets"].items()
    }
    told = {"datetime": item["properties"]["datetime"], "proj:epsg": epsg, "proj:bbox": bounds}
    return item | {"properties": told, "assets": assets}


def _load_odc(items: list[dict[str, Any]], wanted: _Wanted) -> Any:
    import dask.array as da
    import odc.stac
    import pystac

    geobox, dtype = wanted.geobox, wanted.dtype
    size = geobox.shape.x if wanted.chunk == -1 else wanted.chunk
    steps = []
    for raw in items:  # one load an item keeps our order: odc sorts by time alone
        item = pystac.Item.from_dict(raw)
        present = [band for band in wanted.bands if band in item.assets]
        data = odc.stac.load(
            [item],
            bands=present,
            geobox=geobox,
            chunks={"y": size, "x": size},
            dtype=dtype.name,
            nodata=NODATA,
            resampling="nearest",
            fail_on_error=True,
            driver=OdcDriver(wanted.env, wanted.areas, wanted.count),
        )
        empty = da.zeros(tuple(geobox.shape), dtype=dtype, chunks=size)
        steps.append(da.stack([data[b].data[0] if b in present else empty for b in wanted.bands]))
    return da.stack(steps).rechunk({0: -1, 1: -1})
