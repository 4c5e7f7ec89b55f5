"""Polygons from zipped shapefiles, GeoPackages, KML and GeoParquet, read at arm's length.

GDAL has found many ways to be misled by a file, so it never sees one in this process. The file, or
the parts of a checked zip, are copied under a fixed name into a folder of their own;
``vector_child.py`` reads the copy in a process with limits on time, memory and files, and with one
driver, told by the file's suffix and never by its content. What comes back are numbers and short
texts, and they pass the same checks as those of a GeoJSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from scanner.area.rings import Caps, Feature, Outline, RingReader, read_file
from scanner.area.unzip import zip_content, zip_entries
from scanner.errors import shown

COLUMNS: Final = r"^(name|nome?|nombre)$|^(nm|nome?|name)_|_(name|nome?)$|^presumed_i"
"""Columns that are read besides the geometry: what a feature may be called, and one statement."""

_CHILD: Final = Path(__file__).with_name("vector_child.py")
_SHAPEFILE: Final = (".shp", ".shx", ".dbf", ".prj", ".cpg")

Unpack = Callable[[bytes, RingReader], dict[str, bytes]]


@dataclass(frozen=True)
class Format:
    """How files of one suffix are read: what they are, the drivers (the first there is), how."""

    title: str
    drivers: tuple[str, ...]
    unpack: Unpack
    """Gives the files to read, by name, the first to be opened."""


def read_format(path: Path, where: str, caps: Caps, formats: tuple[str, ...]) -> Outline | None:
    """Read the polygons of a file whose suffix is among ``formats``; ``None`` for any other.

    Args:
        path: the file.
        where: what messages call it, such as ``AOI <path>``.
        caps: how large it may be, and what the process that reads it may take.
        formats: suffixes taken, of ``FORMATS``.

    Raises:
        AoiError: The file or its content was refused; the message says why and what to do.
    """
    reader = RingReader(where, caps)
    suffix = path.suffix.lower()
    if suffix in (".shp", ".shx", ".dbf"):
        reader.refuse("is a part of a shapefile", "zip .shp, .shx, .dbf, .prj and give the zip")
    if suffix not in formats:
        return None
    kind = FORMATS[suffix]
    files = kind.unpack(read_file(path, where, caps.bytes), reader)
    fix = f"save it anew, or as GeoJSON (ogr2ogr new.geojson {shown(path.name, 60)})"
    with tempfile.TemporaryDirectory(prefix="mining-scan-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        answer = _ask(Path(folder), next(iter(files)), kind, reader, fix)
    return _outline(answer, kind, reader, fix)


def _ask(folder: Path, name: str, kind: Format, reader: RingReader, fix: str) -> bytes:
    """Return what the child says of a file; it runs in the file's folder with an empty mind."""
    caps = reader.caps
    most = 2000 * caps.features + 48 * caps.vertices
    settings = {
        "path": name,
        "drivers": kind.drivers,
        "columns": COLUMNS,
        "features": caps.features,
        "vertices": caps.vertices,
        "seconds": caps.seconds,
        "memory": caps.memory,
        "answer": most,
        "point_fix": caps.point_fix,
        "fix": fix,
    }
    passed = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    scratch = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PROJ_NETWORK": "OFF"}
    told = folder / "answer"
    try:
        with told.open("wb") as out:
            done = subprocess.run(  # noqa: S603 - our own interpreter, our own program
                [sys.executable, "-I", "-B", str(_CHILD), json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={k: os.environ[k] for k in passed if k in os.environ} | scratch | quiet,
                timeout=2 * caps.seconds,
                check=False,
            )
    except subprocess.TimeoutExpired:
        reader.refuse(f"could not be read within {2 * caps.seconds} s", fix)
    if done.returncode or told.stat().st_size > most:
        reader.refuse(f"is no {kind.title} that can be read within {caps.seconds} s", fix)
    return told.read_bytes()


def _outline(answer: bytes, kind: Format, reader: RingReader, fix: str) -> Outline:
    """Return the features of an answer, each ring checked; the child is not trusted either."""
    head, _, body = answer.partition(b"\n")
    try:
        told = json.loads(head)
        if "refused" in told:
            fact, remedy = told["refused"]
            reader.refuse(shown(fact), shown(remedy))
        points = np.frombuffer(body, dtype="<f8").astype(np.float64).reshape(-1, 2)
        features = _features(told["features"], points, reader)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        reader.refuse(f"is no {kind.title} that can be read", fix)
    if not features:
        reader.refuse("holds no feature", "draw at least one polygon")
    names = {feature.name for feature in features}
    return Outline(features, names.pop() if len(names) == 1 else None)


def _features(told: list[Any], points: Any, reader: RingReader) -> tuple[Feature, ...]:
    """Cut the coordinates into rings, polygons and features."""
    features, start = [], 0
    for number, feature in enumerate(told, start=1):
        what = f"feature {number}"
        if feature["kind"] is not None:
            kind = shown(feature["kind"], 40)
            reader.refuse(f"{what} is a {kind}, which has no area", reader.caps.point_fix)
        if not feature["polygons"]:
            reader.refuse(f"{what} has no geometry (null)", "draw a polygon, or take it out")
        polygons = []
        for sizes in feature["polygons"]:
            rings = []
            for size in sizes:
                reader.count(size)
                rings.append(reader.check(points[start : start + size], what))
                start += size
            polygons.append(tuple(rings))
        features.append(Feature(tuple(polygons), dict(feature["properties"])))
    return tuple(features)


def _whole(name: str, magic: bytes, title: str) -> Unpack:
    """Return what takes a file as it is, if it begins as its kind does."""

    def unpack(data: bytes, reader: RingReader) -> dict[str, bytes]:
        if not data.startswith(magic):
            reader.refuse(f"is no {title}, whatever its name says", f"give a {title} or GeoJSON")
        return {name: data}

    return unpack


def _kml(data: bytes, reader: RingReader) -> dict[str, bytes]:
    """Take KML without a document type: entities can grow without end, or name other files."""
    if b"\0" in data:
        reader.refuse("is not UTF-8 text", "save it as KML in UTF-8")
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", data, re.IGNORECASE):
        reader.refuse("declares a document type or entities", "save it anew as plain KML")
    if not re.search(rb"<(\w+:)?kml[\s>]", data):
        reader.refuse("is no KML, whatever its name says", "give KML or GeoJSON")
    return {"outline.kml": data}


def _kmz(data: bytes, reader: RingReader) -> dict[str, bytes]:
    entries = zip_entries(data, reader)
    found = [name for name in entries if name.lower().endswith(".kml")]
    names = [name for name in found if name.lower() == "doc.kml"] or found
    if len(names) != 1:
        reader.refuse(f"holds {len(names)} KML files, not one", "give the one as .kml")
    return _kml(zip_content(data, entries[names[0]], reader), reader)


def _shapefile(data: bytes, reader: RingReader) -> dict[str, bytes]:
    """Take the parts of the one shapefile in a zip."""
    entries = zip_entries(data, reader)
    found = [name for name in entries if name.lower().endswith(".shp")]
    if len(found) != 1:
        told = f"{len(found)} shapefiles ({shown(', '.join(found[:10]))})" if found else "no .shp"
        reader.refuse(f"holds {told}", "zip the .shp, .shx, .dbf and .prj of one shapefile")
    by_name = {name.lower(): info for name, info in entries.items()}
    stem = found[0][:-4].lower()
    have = {s: by_name[stem + s] for s in _SHAPEFILE if stem + s in by_name}
    if ".shx" not in have:
        reader.refuse("holds a .shp without its .shx", "zip .shp, .shx, .dbf and .prj together")
    return {f"outline{s}": zip_content(data, info, reader) for s, info in have.items()}


FORMATS: Final = {
    ".zip": Format("zipped shapefile", ("ESRI Shapefile",), _shapefile),
    ".gpkg": Format(
        "GeoPackage", ("GPKG",), _whole("outline.gpkg", b"SQLite format 3\0", "GeoPackage")
    ),
    ".kml": Format("KML", ("LIBKML", "KML"), _kml),
    ".kmz": Format("KML", ("LIBKML", "KML"), _kmz),
    ".parquet": Format("GeoParquet", (), _whole("outline.parquet", b"PAR1", "GeoParquet")),
}
"""Formats by suffix, besides GeoJSON."""

AOI_FORMATS: Final = (".zip", ".gpkg", ".kml", ".kmz")
"""Those an AOI may have."""
