"""How both engines read an asset: as an image and nothing else, only where asked, errors by name.

With ``cube.py`` the only module that knows stackstac and odc-stac.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
from odc.geo.geobox import GeoBox
from odc.loader import RioDriver, RioReader
from rasterio import windows
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from stackstac.rio_reader import (
    MULTITHREADED_DRIVER_ALLOWLIST,
    AutoParallelRioReader,
    SelfCleaningDatasetReader,
    SingleThreadedRioDataset,
    ThreadLocalRioDataset,
)

from scanner.errors import ReadError
from scanner.imagery.access import strip_secrets, unsigned
from scanner.imagery.aligned import Alignment
from scanner.imagery.bands import NODATA
from scanner.imagery.gate import passing

Area = tuple[int, int, int, int]
"""A rectangle of a cube's grid in pixels: top, left, bottom, right, the last two not included."""

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top, in metres of a CRS."""

SOUND_DTYPES: Final[dict[str, tuple[str, ...]]] = {
    "uint16": ("uint16", "int16"),
    "uint8": ("uint8", "uint16", "int16"),
}
"""Types of pixels on disk that hold DN (or SCL classes), by the type of the cube."""

NO_IMAGE: Final = (
    "not a GeoTIFF or JPEG 2000: the file is damaged, or the host answers with something else, "
    "such as a page to log in; open the address in a browser, then run again"
)

_counts: Counter[str] = Counter()
_counting = threading.Lock()


def take_count(key: str) -> int:
    """Return, and forget, the bytes counted under ``key`` in this process (``load_cube``)."""
    with _counting:
        return _counts.pop(key, 0)


def _add_bytes(key: str | None, asset: Any, bounds: Bounds, epsg: int) -> None:
    """Add, under ``key``, the bytes of an open asset's blocks that meet ``bounds`` (EPSG)."""
    if key is None:
        return
    if asset.crs.to_epsg() != epsg:
        bounds = transform_bounds(f"EPSG:{epsg}", asset.crs, *bounds)
    needed = block_bytes(asset, bounds)
    with _counting:
        _counts[key] += needed


def open_asset(url: str, dtype: np.dtype[Any], **options: Any) -> SelfCleaningDatasetReader:
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


def told(url: str, read: Callable[[], Any]) -> Any:
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
    text = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
    raise ReadError(strip_secrets(text), strip_secrets(unsigned(url)))


class StackReader(AutoParallelRioReader):  # type: ignore[misc]
    """stackstac's reader, for images alone; its errors name the asset without its signature.

    With ``areas`` it reads these parts of the cube's grid, and the rest is nodata; with ``count``
    the bytes of the blocks it needed are added up under that key (``take_count``).
    """

    def __init__(
        self, *, areas: tuple[Area, ...] | None = None, count: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._areas = areas
        self._count = count
        self._aligned: Alignment | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "areas": self._areas, "count": self._count}

    def _open(self) -> Any:
        """Open as the library does, but only what :func:`open_asset` takes."""
        with self.gdal_env.open:
            asset = open_asset(self.url, self.dtype)
            self._aligned = Alignment.of(asset, self.spec.epsg, self.spec.transform)
            warped = None
            if self._aligned is None:
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
        """Return the pixels of a window of the cube's grid; ``ReadError`` where they fail."""
        return told(self.url, lambda: self._read(window, **kwargs))

    def _read(self, window: Window, **kwargs: Any) -> Any:
        if self._areas is None:
            return self._counted(window, **kwargs)
        out = np.full((window.height, window.width), self.fill_value, self.dtype)
        for top, left, bottom, right in self._areas:
            part = Window(left, top, right - left, bottom - top)
            rows, cols = (slice(top, bottom), slice(left, right))
            out[rows, cols] = self._counted(part, **kwargs)
        return out

    def _counted(self, window: Window, **kwargs: Any) -> Any:
        dataset = self.dataset
        if self._aligned is None:
            pixels = super().read(window, **kwargs)
        else:
            read = partial(dataset.read, out_dtype=self.dtype)
            pixels = self._aligned.pixels(read, window, self.dtype)
        if isinstance(dataset, ThreadLocalRioDataset):  # no other format tells its blocks' sizes
            grid = dataset.dataset
            asset = getattr(grid, "src_dataset", grid)
            bounds = windows.bounds(window, self.spec.transform)
            _add_bytes(self._count, asset, bounds, self.spec.epsg)
        return pixels


def block_bytes(asset: Any, bounds: Bounds) -> int:
    """Return the compressed bytes of a GeoTIFF's blocks that meet ``bounds`` (its CRS, metres).

    0 for formats that do not tell the sizes of their blocks, and for blocks that are left out.
    """
    window = windows.from_bounds(*bounds, transform=asset.transform)
    height, width = asset.block_shapes[0]
    rows = range(
        max(0, int(window.row_off // height)),
        int(np.ceil(min(asset.height, window.row_off + window.height) / height)),
    )
    cols = range(
        max(0, int(window.col_off // width)),
        int(np.ceil(min(asset.width, window.col_off + window.width) / width)),
    )
    names = (f"BLOCK_SIZE_{col}_{row}" for row in rows for col in cols)
    sizes = (asset.get_tag_item(name, "TIFF", bidx=1) for name in names)
    return sum(int(size) for size in sizes if size)


class OdcReader(RioReader):  # type: ignore[misc]
    """odc-loader's reader under the same rules as stackstac's."""

    def __init__(
        self, src: Any, ctx: Any, areas: tuple[Area, ...] | None, count: str | None
    ) -> None:
        super().__init__(src, ctx)
        self._areas = areas
        self._count = count

    def read(self, cfg: Any, dst_geobox: GeoBox, *, dst: Any = None, selection: Any = None) -> Any:
        """Return where the pixels lie in the grid, and them; ``ReadError`` where they fail."""
        return told(self._src.uri, lambda: self._read(cfg, dst_geobox, dst, selection))

    def _read(self, cfg: Any, geobox: GeoBox, dst: Any, selection: Any) -> Any:
        # the library opens by content: held open, what was checked is what it finds in GDAL's cache
        with open_asset(self._src.uri, np.dtype(cfg.dtype)) as asset:
            if self._areas is None:
                _add_bytes(self._count, asset, geobox.boundingbox.bbox, geobox.crs.epsg)
                return super().read(cfg, geobox, dst=dst, selection=selection)
            out = np.empty(geobox.shape, cfg.dtype) if dst is None else dst
            out[...] = NODATA
            for top, left, bottom, right in self._areas:
                rows, cols = slice(top, bottom), slice(left, right)
                part = geobox[rows, cols]
                _add_bytes(self._count, asset, part.boundingbox.bbox, part.crs.epsg)
                place, pixels = super().read(cfg, part, selection=selection)
                out[rows, cols][place] = pixels
            return (slice(0, geobox.shape.y), slice(0, geobox.shape.x)), out


class OdcDriver(RioDriver):  # type: ignore[misc]
    """Opens with :class:`OdcReader`, under GDAL options that travel with each task."""

    def __init__(
        self,
        env: Mapping[str, str],
        areas: Iterable[Area] | None = None,
        count: str | None = None,
    ) -> None:
        super().__init__()
        self._env = dict(env)
        self._areas = None if areas is None else tuple(areas)
        self._count = count

    def capture_env(self) -> dict[str, Any]:
        """Return the GDAL options of every read."""
        return {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", **self._env}

    def open(self, src: Any, ctx: Any) -> RioReader:
        """Return the reader of an asset."""
        return OdcReader(src, ctx, self._areas, self._count)
