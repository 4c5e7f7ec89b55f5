"""Items to a lazy cube (time, band, y, x). The only module that knows stackstac and odc-stac.

Both engines put the same pixels on the same grid, as uint16 DN with 0 for nodata, nearest neighbour
where an item of another UTM zone must be warped. Nothing is read here: the client builds the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import stackstac
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.loader import RioDriver, RioReader
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from stackstac.rio_env import LayeredEnv
from stackstac.rio_reader import (
    MULTITHREADED_DRIVER_ALLOWLIST,
    AutoParallelRioReader,
    SelfCleaningDatasetReader,
    SingleThreadedRioDataset,
    ThreadLocalRioDataset,
)

from scanner.errors import ReadError
from scanner.imagery.access import strip_secrets, unsigned
from scanner.imagery.bands import NODATA
from scanner.imagery.gate import passing
from scanner.imagery.item import Item

DTYPES: Final[dict[str, str]] = {"SCL": "uint8"}
"""Pixels are uint16 unless named here."""

SOUND_DTYPES: Final[dict[str, tuple[str, ...]]] = {
    "uint16": ("uint16", "int16"),
    "uint8": ("uint8", "uint16", "int16"),
}
"""Types of pixels on disk that hold DN (or SCL classes), by the type of the cube."""

NO_IMAGE: Final = (
    "not a GeoTIFF or JPEG 2000: the file is damaged, or the host answers with something else, "
    "such as a page to log in; open the address in a browser, then run again"
)


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


def _open(url: str, dtype: np.dtype[Any], **options: Any) -> SelfCleaningDatasetReader:
    """Open an asset as what it must be: a GeoTIFF or JPEG 2000 of one band of DN, on a map.

    GDAL_SKIP alone does not keep a VRT named .tif out: the first warp brings that driver back. So
    the format is named. Other pixels (reflectance as float, a picture of bytes) would be cut to DN
    without a word. Raises ``ValueError`` with what is wrong.
    """
    driver = "JP2OpenJPEG" if unsigned(url).lower().endswith(".jp2") else "GTiff"
    try:
        asset = SelfCleaningDatasetReader(url, driver=driver, sharing=False, **options)
    except RasterioError as error:
        if "not recognized as being in a supported file format" not in str(error):
            raise
        raise ValueError(NO_IMAGE) from None
    found = asset.dtypes[0]
    if asset.count != 1 or found not in SOUND_DTYPES[dtype.name] or asset.crs is None:
        what = f"{asset.count} band(s) of {found}, CRS {asset.crs and asset.crs.to_epsg()}"
        asset.close()
        raise ValueError(f"is no band of {dtype.name} DN on a map, it has {what}")
    return asset


def _told(url: str, read: Callable[[], Any]) -> Any:
    """Return what ``read`` does; what goes wrong becomes a ``ReadError`` naming ``url``, unsigned.

    It is raised outside of the except block, and not by a context manager: rasterio's own errors,
    even as its context, do not survive the way back to the client.
    """
    try:
        with passing(url):
            return read()
    except (RasterioError, RuntimeError, OSError, ValueError, AssertionError) as caught:
        error = caught
    if isinstance(error.__cause__, MemoryError):  # stackstac wraps it; no scene is to blame for it
        raise MemoryError(str(error.__cause__))
    told = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
    raise ReadError(strip_secrets(told), strip_secrets(unsigned(url)))


class _Reader(AutoParallelRioReader):  # type: ignore[misc]
    """stackstac's reader, for images alone; its errors name the asset without its signature."""

    def _open(self) -> Any:
        """Open as the library does, but only what :func:`_open` takes."""
        with self.gdal_env.open:
            asset = _open(self.url, self.dtype)
            here = {"crs": asset.crs.to_epsg(), "transform": asset.transform}
            here |= {"height": asset.height, "width": asset.width}
            warped = None
            if self.spec.vrt_params != here:
                with self.gdal_env.open_vrt:
                    warped = WarpedVRT(
                        asset,
                        sharing=False,
                        resampling=self.resampling,
                        add_alpha=asset.nodata is None,
                        **self.spec.vrt_params,
                    )
        many = asset.driver in MULTITHREADED_DRIVER_ALLOWLIST
        kind = ThreadLocalRioDataset if many else SingleThreadedRioDataset
        return kind(self.gdal_env, asset, vrt=warped)

    def read(self, window: Any, **kwargs: Any) -> Any:
        return _told(self.url, lambda: super(_Reader, self).read(window, **kwargs))


class _OdcReader(RioReader):  # type: ignore[misc]
    """odc-loader's reader under the same rules as stackstac's."""

    def read(self, cfg: Any, dst_geobox: GeoBox, **kwargs: Any) -> Any:
        return _told(self._src.uri, lambda: self._read(cfg, dst_geobox, **kwargs))

    def _read(self, cfg: Any, dst_geobox: GeoBox, **kwargs: Any) -> Any:
        # the library opens by content: held open, what was checked is what it finds in GDAL's cache
        with _open(self._src.uri, np.dtype(cfg.dtype)):
            return super().read(cfg, dst_geobox, **kwargs)


class _OdcDriver(RioDriver):  # type: ignore[misc]
    """Opens with :class:`_OdcReader`, under GDAL options that travel with each task."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__()
        self._env = dict(env)

    def capture_env(self) -> dict[str, Any]:
        return {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", **self._env}

    def open(self, src: Any, ctx: Any) -> RioReader:
        return _OdcReader(src, ctx)


def _load_stackstac(
    items: list[dict[str, Any]], geobox: GeoBox, bands: list[str], env: dict[str, str], chunk: int
) -> Any:
    dtype = np.dtype(DTYPES.get(bands[0], "uint16"))
    box = geobox.boundingbox
    bounds = (box.left, box.bottom, box.right, box.top)
    return stackstac.stack(
        [_reaching(item, geobox.crs.epsg, bounds) for item in items],
        assets=bands,
        epsg=geobox.crs.epsg,
        resolution=abs(geobox.resolution.x),
        bounds=bounds,
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


def _load_odc(
    items: list[dict[str, Any]], geobox: GeoBox, bands: list[str], env: dict[str, str], chunk: int
) -> Any:
    import dask.array as da
    import odc.stac
    import pystac

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
            driver=_OdcDriver(env),
        )
        empty = da.zeros(tuple(geobox.shape), dtype=DTYPES.get(bands[0], "uint16"), chunks=size)
        steps.append(da.stack([data[b].data[0] if b in present else empty for b in bands]))
    return da.stack(steps).rechunk({0: -1, 1: -1})
