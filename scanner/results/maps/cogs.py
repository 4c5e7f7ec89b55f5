"""A raster of all tiles as one cloud-optimized GeoTIFF, written in bounded memory.

The pixels go window by window into a sparse scratch file with overviews, of which GDAL makes the
COG. What it was made of is noted (``notes``), so it is made anew where that changed, or the mosaic
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.shutil import copy
from rasterio.windows import Window

from scanner.config import digest
from scanner.detection.segment import NOT_SEGMENTED
from scanner.errors import OutputError
from scanner.files import SCRATCH, atomic_path
from scanner.models.card import SEGMENTER_CLASSES
from scanner.results.finished import FinishedRun
from scanner.results.maps.grids import Grid
from scanner.results.maps.layers import Layer, empty
from scanner.results.maps.mosaic import THREADS, render_block
from scanner.results.maps.notes import is_noted, note
from scanner.results.maps.overviews import SIDE, Block, blocks_of, write_overviews
from scanner.results.maps.raster_tiles import raster_tiles
from scanner.results.outputs import sha256
from scanner.results.palette import colour_table
from scanner.version import __version__

LAYOUT: Final = 2
"""Counted up where the same rasters give another file."""
WRITTEN_PX: Final = 4 * SIDE
"""Side of the windows a mosaic is written in."""
CACHE_BYTES: Final = 64 * 2**20
"""Decoded blocks that GDAL keeps meanwhile."""

_SCRATCH: Final = {
    "driver": "GTiff", "tiled": True, "blockxsize": SIDE, "blockysize": SIDE, "dtype": "uint8",
    "compress": "ZSTD", "zstd_level": 1, "sparse_ok": True, "bigtiff": "YES",
}  # fmt: skip
_COG: Final = {
    "driver": "COG", "bigtiff": "IF_SAFER", "sparse_ok": "YES", "blocksize": str(SIDE),
    "overviews": "FORCE_USE_EXISTING", "num_threads": str(THREADS),
}  # fmt: skip
_FORMATS: Final = {
    "classes": {"compress": "DEFLATE"},
    "suspicious": {"compress": "DEFLATE"},
    "quicklook": {"compress": "JPEG", "quality": "85"},
}
_SHRUNK: Final = {
    "classes": Resampling.mode,
    "suspicious": Resampling.nearest,
    "quicklook": Resampling.average,
}
_TITLES: Final = {
    "classes": "land cover classes",
    "suspicious": "suspicious ground",
    "quicklook": "true colour",
}


def cog_path(run: FinishedRun, name: str) -> Path:
    """Return where a mosaic of a run lies, or would lie."""
    return run.path / f"{name}.tif"


def write_cog(run: FinishedRun, name: str) -> None:
    """Write a mosaic of a run, or do nothing where no tile has that raster.

    Raises ``RunError`` where a tile's raster was changed, ``OutputError`` where the disk refuses.
    """
    tiles, target = raster_tiles(run), cog_path(run, name)
    grid = tiles.grid(name)
    if grid is None:
        return
    try:
        with (
            rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_TIFF_INTERNAL_MASK=True),
            atomic_path(target) as out,
            TemporaryDirectory(prefix=SCRATCH, dir=run.path) as folder,
        ):
            scratch, made = Path(folder) / "scratch.tif", Path(folder) / "made.tif"
            _fill(scratch, tiles.layers(name), grid, name, _tags(run, name))
            copy(scratch, made, **_COG, **_FORMATS[name])
            made.replace(out)
    except (RasterioError, CPLE_BaseError) as error:
        raise OutputError(f"{target}: cannot be written ({error}); free space") from error
    note(run, name, _digest(run, name), sha256(target))


def current_cog(run: FinishedRun, name: str) -> Path | None:
    """Return the mosaic in a run's folder if it is whole and made of the tiles' rasters."""
    target = cog_path(run, name)
    if not target.is_file():
        return None
    state = target.stat()
    known, key = raster_tiles(run).current, (name, state.st_mtime_ns, state.st_size)
    if key not in known:
        known[key] = is_noted(run, name, _digest(run, name), sha256(target))
    return target if known[key] else None


def credit(run: FinishedRun) -> str:
    """Return whom the pixels are owed to."""
    if run.synthetic:
        return "synthetic scenes of mining-scan's demo, no satellite images"
    years = sorted({item.datetime.year for item in run.items.items})
    return " ".join(["contains modified Copernicus Sentinel data", *map(str, years)])


def _fill(path: Path, layers: Sequence[Layer], grid: Grid, name: str, tags: dict[str, str]) -> None:
    """Write a mosaic and its overviews into a scratch GeoTIFF, nothing where no pixels are."""
    colours = layers[0].planes == 4
    kind: dict[str, Any] = {"count": 1, "nodata": NOT_SEGMENTED}
    if colours:
        kind = {"count": 3, "photometric": "RGB", "interleave": "pixel"}
    rows, cols = grid.shape
    size = {"height": rows, "width": cols, "crs": grid.crs, "transform": grid.affine}
    options, written = {**_SCRATCH, **size, **kind}, set[Block]()
    with rasterio.open(path, "w", **options) as out:
        out.update_tags(**tags)
        out.descriptions = ("red", "green", "blue") if colours else (_TITLES[name],)
        if not colours:
            out.write_colormap(1, colour_table(name))
        for down, across, block in grid.blocks(WRITTEN_PX):
            pixels = render_block(layers, block)
            if pixels is None:
                continue
            window = Window.from_slices(down, across)
            shown = blocks_of(window, pixels[-1] != empty(len(pixels)))
            if not shown:
                continue
            out.write(pixels[:3], window=window)
            if colours:
                out.write_mask(pixels[3], window=window)
            written |= shown
    write_overviews(path, options, written, _SHRUNK[name])


def _tags(run: FinishedRun, name: str) -> dict[str, str]:
    tags = {
        "TIFFTAG_SOFTWARE": f"mining-scan {__version__}",
        "TIFFTAG_IMAGEDESCRIPTION": _TITLES[name],
        "TIFFTAG_COPYRIGHT": credit(run),
        "RUN_ID": run.run_id,
        "SOURCE_DIGEST": _digest(run, name),
    }
    if name == "classes":
        named = (f"{value}={label}" for value, label in enumerate(SEGMENTER_CLASSES))
        tags["CLASSES"] = ", ".join([*named, f"{NOT_SEGMENTED}=unknown"])
    if name == "suspicious":
        tags["CLASSES"] = f"0=not suspicious, 1=suspicious, {NOT_SEGMENTED}=unknown"
    return tags


def _digest(run: FinishedRun, name: str) -> str:
    """Return the digest of all that a mosaic is made of."""
    made_of = raster_tiles(run).digests[name]
    colours = {} if name == "quicklook" else colour_table(name)
    form = [LAYOUT, _FORMATS[name], _SHRUNK[name].name]
    told = [*form, __version__, run.run_id, credit(run), colours, made_of]
    return digest(told)
