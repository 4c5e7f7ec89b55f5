"""Items to a lazy cube (time, band, y, x). The only module that knows stackstac and odc-stac.

Both engines put the same pixels on the same grid, as uint16 DN with 0 for nodata, nearest neighbour
where an item of another UTM zone must be warped. Nothing is read here: the client builds the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import rasterio
import stackstac
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from stackstac.rio_env import LayeredEnv
from stackstac.rio_reader import AutoParallelRioReader

from scanner.errors import ReadError
from scanner.imagery.access import strip_secrets, unsigned
from scanner.imagery.bands import NODATA
from scanner.imagery.item import Item

DTYPES: Final[dict[str, str]] = {"SCL": "uint8"}
"""Pixels are uint16 unless named here."""


def load_cube(
    items: Sequence[Item],
    geobox: GeoBox,
    bands: Sequence[str],
    *,
    engine: str = "stackstac",
    env: Mapping[str, str] | None = None,
    chunk: int = -1,
) -> xr.DataArray:
    """Return a lazy cube of DN, dims (time, band, y, x), an item a time step, in their order.

    Args:
        items: signed items; a band an item lacks is all nodata (0).
        geobox: the grid, any UTM zone.
        bands: names such as ``B02``; all of one dtype (SCL goes alone).
        engine: ``stackstac`` or ``odc``.
        env: GDAL options in force while reading (``access.gdal_env``).
        chunk: pixels a spatial chunk; -1 is one chunk.

    Coordinates: ``id`` and ``solar_day`` along time, pixel centres x and y. Reading raises
    ``ReadError`` naming the asset (unsigned); a failed read is never nodata.
    """
    if not items:
        raise ReadError("no items to load; check the search before building a cube")
    load = {"stackstac": _load_stackstac, "odc": _load_odc}[engine]
    known = [band for band in bands if any(item.asset_key(band) for item in items)] or list(bands)
    cube = load([_plain(item, known) for item in items], geobox, known, dict(env or {}), chunk)
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


class _Reader(AutoParallelRioReader):  # type: ignore[misc]
    """stackstac's reader, for images alone; its errors name the asset without its signature."""

    def _open(self) -> Any:
        # GDAL_SKIP alone does not keep a VRT named .tif out: the first warp brings that driver
        # back. So the format is named; the header is cached, and opening again asks nothing.
        driver = "JP2OpenJPEG" if unsigned(self.url).endswith(".jp2") else "GTiff"
        with self.gdal_env.open, rasterio.open(self.url, driver=driver, sharing=False):
            return super()._open()

    def read(self, window: Any, **kwargs: Any) -> Any:
        try:
            return super().read(window, **kwargs)
        except Exception as error:
            told = strip_secrets(f"{error} ({error.__cause__})" if error.__cause__ else str(error))
        # out of the except block: rasterio's own errors do not survive the way back to the client
        raise ReadError(told, strip_secrets(self.url))


def _load_stackstac(
    items: list[dict[str, Any]], geobox: GeoBox, bands: list[str], env: dict[str, str], chunk: int
) -> Any:
    dtype = np.dtype(DTYPES.get(bands[0], "uint16"))
    box = geobox.boundingbox
    return stackstac.stack(
        items,
        assets=bands,
        epsg=geobox.crs.epsg,
        resolution=abs(geobox.resolution.x),
        bounds=(box.left, box.bottom, box.right, box.top),
        snap_bounds=False,
        resampling=Resampling.nearest,
        chunksize=(-1, -1, chunk, chunk),
        dtype=dtype,
        fill_value=dtype.type(NODATA),
        rescale=False,
        sortby_date=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        gdal_env=LayeredEnv(always=env, open={"VSI_CACHE": True}, read={"VSI_CACHE": False}),
        errors_as_nodata=(),
        reader=_Reader,
    ).data


def _load_odc(
    items: list[dict[str, Any]], geobox: GeoBox, bands: list[str], env: dict[str, str], chunk: int
) -> Any:
    import dask.array as da
    import odc.stac
    import pystac

    # configured settings are captured in each task, so they reach the workers
    odc.stac.configure_rio(cloud_defaults=True, **env)
    size = geobox.shape.x if chunk == -1 else chunk
    steps = []
    for raw in items:  # one load an item keeps our order: odc sorts by time alone
        item = pystac.Item.from_dict(raw)
        present = [band for band in bands if band in item.assets]
        data = odc.stac.load(
            [item],
            bands=present,
            geobox=geobox,
            chunks={"y": size, "x": size},
            dtype=DTYPES.get(bands[0], "uint16"),
            nodata=NODATA,
            resampling="nearest",
            fail_on_error=True,
        )
        empty = da.zeros(tuple(geobox.shape), dtype=DTYPES.get(bands[0], "uint16"), chunks=size)
        steps.append(da.stack([data[b].data[0] if b in present else empty for b in bands]))
    return da.stack(steps).rechunk({0: -1, 1: -1})
