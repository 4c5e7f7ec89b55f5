"""Pictures and reflectance: the only place that turns one into the other.

A picture is ``clip(reflectance / WHITE, 0, 1)``, WHITE being 0.3, stored in 8 bit as
``round(picture * 255)``, red first; that is the form of the mine-chips and of every jpg and png.
Reflectance is float32 with the band axis first, blue first (B02 B03 B04), NaN where no data is.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from scanner.errors import TrainingError
from scanner.files import atomic_path
from scanner.imagery.bands import NODATA, QUANTIFICATION
from scanner.models.style import WHITE as WHITE

RGB: Final = ("B04", "B03", "B02")
BANDS: Final = ("B02", "B03", "B04", "B08", "B11", "B12")
"""Bands an image may have, in the order they are returned; the first three are always there."""
PICTURES: Final = (".jpg", ".jpeg", ".png", ".webp")
RASTERS: Final = (".tif", ".tiff")
QUALITY: Final = 95
"""Of jpg files written here."""
_MODES: Final = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


def to_picture(reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn (..., 3, y, x) B02 B03 B04 into 8 bit (..., y, x, 3) red, green, blue; NaN becomes 0."""
    picture = np.clip(np.asarray(reflectance, np.float32) / np.float32(WHITE), 0, 1)
    scaled = np.rint(np.nan_to_num(picture, nan=0.0) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(scaled[..., ::-1, :, :], -3, -1))


def to_reflectance(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn 8 bit (..., y, x, 3) red, green, blue into (..., 3, y, x) B02 B03 B04, 0..WHITE."""
    bands = np.moveaxis(np.asarray(picture), -1, -3)[..., ::-1, :, :]
    return np.ascontiguousarray(bands.astype(np.float32) * np.float32(WHITE / 255))


def read_image(path: Path) -> NDArray[np.float32]:
    """Read a jpg, png, webp or tif as reflectance (band, y, x): B02 B03 B04 [B08 B11 B12].

    It has three bands, or all six if the file has one of the others; the absent ones are NaN.
    A tif of 16 bit holds DN = reflectance * 10000, 0 where there is no data (NaN here), and names
    its bands; a tif of 8 bit is a picture as a jpg is.

    Raises ``TrainingError`` naming the file, if it cannot be read whole or is of another form.
    """
    if path.suffix.lower() in RASTERS:
        return _read_raster(path)
    try:
        with path.open("rb") as stream:
            return to_reflectance(_decoded(stream, str(path)))
    except OSError as error:
        raise _corrupt(str(path), error) from error


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a picture held in memory as (y, x, 3) red, green, blue; errors call it ``name``."""
    return _decoded(io.BytesIO(data), name)


def write_image(path: Path, reflectance: NDArray[np.float32], like: Path | None = None) -> None:
    """Write reflectance (band, y, x), whole or not at all, in the form ``read_image`` reads.

    The suffix tells which: a tif keeps all bands (DN, none below 1 where there is data) and takes
    its place on the ground from ``like``, if that is a tif; a picture keeps the first three.
    """
    with atomic_path(path) as scratch:
        save_image(scratch, reflectance, path.suffix.lower(), like)


def save_image(
    path: Path, reflectance: NDArray[np.float32], suffix: str, like: Path | None = None
) -> None:
    """Write as ``write_image`` does, but right to ``path``: for folders that are marked unready."""
    if suffix in RASTERS:
        _write_raster(path, reflectance, like)
        return
    image = Image.fromarray(to_picture(reflectance[:3]))
    if suffix in (".jpg", ".jpeg"):
        image.save(path, "JPEG", quality=QUALITY, subsampling=0)
    elif suffix == ".webp":
        image.save(path, "WEBP", lossless=True)
    else:
        image.save(path, "PNG")


def _decoded(stream: BinaryIO, name: str) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and of huge images; both are told by decoding, or not
            warnings.simplefilter("ignore")
            with Image.open(stream) as image:
                if image.mode not in _MODES:
                    raise TrainingError(
                        f"{name}: a picture of mode {image.mode}, 8 bit is needed; "
                        "save it as 8 bit RGB, or as a GeoTIFF of DN with named bands"
                    )
                return np.asarray(image.convert("RGB"))
    except (
        OSError,
        UnidentifiedImageError,
        SyntaxError,  # what Pillow raises for a broken PNG
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise _corrupt(name, error) from error


def _read_raster(path: Path) -> NDArray[np.float32]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                kind, count = np.dtype(source.dtypes[0]), source.count
                names = list(source.descriptions)
                drawn = [band.name for band in source.colorinterp[:3]]
                values = source.read()
    except (RasterioError, OSError) as error:
        raise _corrupt(str(path), error) from error
    if kind == np.uint8 and count in (3, 4) and "B02" not in names:
        return to_reflectance(np.moveaxis(values[:3], 0, -1))
    if kind not in (np.uint16, np.int16):
        raise TrainingError(
            f"{path}: {count} bands of {kind}, DN in uint16 or a picture of 8 bit is needed; "
            "write it as one of these"
        )
    if names[:3] == [None] * 3 and drawn == ["red", "green", "blue"]:
        names[:3] = RGB
    if absent := [band for band in BANDS[:3] if band not in names]:
        raise TrainingError(
            f"{path}: no band is called {absent[0]} (bands are {', '.join(map(str, names))}); "
            "set the band descriptions"
        )
    wanted = BANDS if any(band in names for band in BANDS[3:]) else BANDS[:3]
    pixels = np.full((len(wanted), *values.shape[1:]), np.nan, np.float32)
    for index, band in enumerate(wanted):
        if band in names:
            dn = values[names.index(band)].astype(np.float32)
            pixels[index] = np.where(dn > NODATA, dn / np.float32(QUANTIFICATION), np.nan)
    return pixels


def _write_raster(path: Path, reflectance: NDArray[np.float32], like: Path | None) -> None:
    dn = np.clip(np.rint(np.nan_to_num(reflectance, nan=0.0) * QUANTIFICATION), 1, 65535)
    count, height, width = reflectance.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        place = {}
        if like is not None and like.suffix.lower() in RASTERS:
            with rasterio.open(like) as source:
                place = {"crs": source.crs, "transform": source.transform}
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=count,
            height=height,
            width=width,
            dtype="uint16",
            nodata=NODATA,
            compress="deflate",
            predictor=2,
            **place,
        ) as sink:
            sink.write(np.where(np.isnan(reflectance), NODATA, dn).astype(np.uint16))
            sink.descriptions = BANDS[:count]


def _corrupt(name: str, error: BaseException) -> TrainingError:
    told = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its own text names a stream
        told = "no picture in a form we know"
    return TrainingError(f"{name}: cannot be read as an image ({told}); fetch it again")
