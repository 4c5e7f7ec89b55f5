"""Zips nobody vouches for: their directory is judged before anything is unpacked."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import Final

from scanner.area.rings import RingReader
from scanner.errors import shown

MAX_ENTRIES: Final = 200
"""Most entries of a zip."""

MAX_RATIO: Final = 200
"""Most times a zip may grow when unpacked; tables full of blanks reach 100."""

UNPACKED: Final = 5
"""Times the cap on a file's size that its unpacked parts may have."""

_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
)


def zip_entries(data: bytes, reader: RingReader) -> dict[str, zipfile.ZipInfo]:
    """Return the entries of a zip by name, or refuse it before anything is unpacked."""
    if data.count(b"PK\x01\x02") > 10 * MAX_ENTRIES:  # before its directory is parsed
        reader.refuse(f"is a zip of far more than {MAX_ENTRIES} entries", "zip one shapefile alone")
    try:
        infos = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except _ERRORS:
        reader.refuse("is no zip, whatever its name says", "zip .shp, .shx, .dbf and .prj together")
    if len(infos) > MAX_ENTRIES:
        reader.refuse(f"is a zip of more than {MAX_ENTRIES} entries", "zip one shapefile alone")
    for info in infos:
        _check_entry(info, reader)
    size, most = sum(info.file_size for info in infos), UNPACKED * reader.caps.bytes
    if size > most or size > 1_000_000 + MAX_RATIO * len(data):
        reader.refuse(
            f"would unpack to {size / 1e6:,.0f} MB, too much for {len(data) / 1e6:,.1f} MB zipped",
            "zip the outline alone, simplified (ogr2ogr -simplify 0.0005)",
        )
    own = [info for info in infos if "__MACOSX" not in PurePosixPath(info.filename).parts]
    entries = {info.filename: info for info in own}
    if len({name.lower() for name in entries}) != len(own):
        reader.refuse("holds two entries of one name", "zip it anew")
    return entries


def _check_entry(info: zipfile.ZipInfo, reader: RingReader) -> None:
    """Refuse a name that leads out of a folder, and what only some programs unpack."""
    told, name = shown(info.orig_filename, 60), PurePosixPath(info.orig_filename)
    if re.search(r"[\\:\0]", info.orig_filename) or name.is_absolute() or ".." in name.parts:
        reader.refuse(f"entry {told!r} points outside the zip", "zip it anew")
    if info.flag_bits & 1:
        reader.refuse(f"entry {told!r} is encrypted", "zip it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reader.refuse(f"entry {told!r} is packed in an uncommon way", "zip it with deflate")


def zip_content(data: bytes, info: zipfile.ZipInfo, reader: RingReader) -> bytes:
    """Return the content of an entry, never more than its directory tells."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(info) as stream:
            return stream.read(info.file_size)
    except _ERRORS as error:
        told = f"entry {shown(info.filename, 60)!r} is damaged ({shown(error, 60)})"
        reader.refuse(told, "zip it anew")
