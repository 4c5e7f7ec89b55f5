"""A program of its own: read one file of polygons with one GDAL driver, inside tight limits.

``formats.py`` starts it for each file nobody vouches for, and takes nothing from it but numbers and
short texts. It imports nothing of this package, so it starts quickly and holds little.

    python -I vector_child.py '{"path": ..., "drivers": [...], ...}'

On stdout: one line of JSON, ``{"features": [...]}`` or ``{"refused": [fact, fix]}``, and after it
the coordinates of all rings, (lon, lat) pairs of float64, little-endian, in the order of the line.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

BEND_M: Final = 10_000.0
"""Longest edge of a projected outline when reprojected: what is straight there bends in degrees."""

MAX_LAYERS: Final = 200

_DEGREES_FIX: Final = "reproject it (ogr2ogr -t_srs EPSG:4326 new.gpkg old)"


class RefusedError(Exception):
    """The file was refused: (fact, fix)."""


def refuse(fact: str, fix: str) -> NoReturn:
    """End with a fact and its fix."""
    raise RefusedError(fact, fix)


def limit(settings: dict[str, Any]) -> None:
    """Cap memory, processor time, files and what can be written, where the system can do it."""
    try:
        import resource
    except ImportError:  # Windows: the caller's timeout is left
        return
    for name, value in (
        (resource.RLIMIT_AS, settings["memory"]),
        (resource.RLIMIT_CPU, settings["seconds"]),
        (resource.RLIMIT_FSIZE, settings["answer"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a lower limit holds already
            resource.setrlimit(name, (value, value))


def one_driver(names: list[str]) -> None:
    """Leave GDAL no driver but the first of ``names`` that it has; it cannot guess then."""
    import pyogrio
    from pyogrio._ogr import _register_drivers

    have = pyogrio.list_drivers()
    name = next((name for name in names if name in have), None)
    if name is None:
        refuse(f"needs GDAL's driver {names[0]}, which is not here", "give GeoJSON")
    skipped = ",".join(other for other in have if other != name)
    pyogrio.set_gdal_config_options({"GDAL_SKIP": skipped})
    _register_drivers()
    if set(pyogrio.list_drivers()) != {name}:
        refuse("GDAL's other drivers could not be shut out", "give GeoJSON")


def check_geopackage(path: Path) -> None:
    """Refuse a GeoPackage whose tables are views or virtual: those run what the file says."""
    import sqlite3

    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    with suppress(AttributeError):  # Python's own default; said here since it matters
        database.enable_load_extension(False)
    made = {
        str(name).lower(): str(sql).lower()
        for name, sql in database.execute("select name, sql from sqlite_master where sql not null")
        if re.match(r"\s*create\s+(table|view|virtual)", str(sql), re.IGNORECASE)
    }
    own = ["gpkg_contents", "gpkg_geometry_columns", "gpkg_spatial_ref_sys"]
    for name in own:
        _check_table(made, name)
    for (name,) in database.execute("select table_name from gpkg_contents limit 1000").fetchall():
        _check_table(made, str(name).lower())
    database.close()


def _check_table(made: dict[str, str], name: str) -> None:
    if name not in made:
        refuse(f"is no GeoPackage: it has no table {name!r}", "save it anew as GeoPackage")
    if not re.match(r"\s*create\s+table", made[name]):
        refuse(f"its {name!r} is a view, not a table", "save the layer itself")


def read_layer(path: Path, settings: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
    """Return geometry, wanted columns and CRS of the one layer of polygons."""
    import pyogrio
    import shapely

    most = settings["features"]
    layers = [(str(name), kind) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if len(layers) > MAX_LAYERS:
        refuse(f"has {len(layers)} layers", "save the one of the outline alone")
    found: list[tuple[str, Any, dict[str, Any], Any]] = []
    for name, kind in layers:
        if "Polygon" not in kind and not re.match("Unknown|GeometryCollection|.*Surface", kind):
            continue
        fields = [str(field) for field in pyogrio.read_info(path, layer=name)["fields"]]
        columns = [field for field in fields if re.search(settings["columns"], field, re.I)]
        meta, _, wkb, data = pyogrio.raw.read(
            path, layer=name, columns=columns, max_features=most + 1, force_2d=True
        )
        geometry = shapely.from_wkb(wkb)
        if len(geometry) > most:
            refuse(f"has more than {most:,} features", "keep only those that matter")
        if (shapely.get_dimensions(geometry) == 2).any() or not found:
            found.append(
                (name, geometry, dict(zip(meta["fields"], data, strict=True)), meta["crs"])
            )
    found = [one for one in found if (shapely.get_dimensions(one[1]) == 2).any()] or found[:1]
    if not found:
        refuse("holds no polygon", settings["point_fix"])
    if len(found) > 1:
        names = ", ".join(name for name, *_ in found[:10])
        refuse(
            f"has {len(found)} layers of polygons ({names})",
            "save one alone (ogr2ogr new.geojson old LAYER)",
        )
    _, geometry, table, crs = found[0]
    return geometry, table, crs


def read_parquet(path: Path, settings: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
    """Return geometry, wanted columns and CRS of a GeoParquet file."""
    import geopandas as gpd
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    file = pq.ParquetFile(path)
    if file.metadata.num_rows > settings["features"]:
        refuse(f"has more than {settings['features']:,} rows", "keep only those that matter")
    geo = json.loads((file.schema_arrow.metadata or {}).get(b"geo", b"null"))
    if not isinstance(geo, dict):
        refuse("is Parquet, but no GeoParquet", "write it with geopandas, or give GeoPackage")
    wanted = [
        field.name
        for field in file.schema_arrow
        if re.search(settings["columns"], field.name, re.I)
        and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
             or pa.types.is_boolean(field.type) or pa.types.is_integer(field.type))
    ]  # fmt: skip
    frame = gpd.read_parquet(path, columns=[*wanted, geo["primary_column"]])
    columns = {name: frame[name].to_numpy() for name in wanted}
    return frame.geometry.force_2d().to_numpy(), columns, frame.crs and frame.crs.to_wkt()


def to_degrees(geometry: Any, crs: Any, settings: dict[str, Any]) -> Any:
    """Return geometry in EPSG:4326, reprojected where PROJ knows a way without guessing."""
    import numpy as np
    import pyproj
    import shapely

    if not crs:
        refuse("does not tell its CRS", f"add it (a shapefile's .prj), or {_DEGREES_FIX}")
    source = pyproj.CRS.from_user_input(crs)
    if source.to_2d().equals(pyproj.CRS.from_epsg(4326), ignore_axis_order=True):
        return geometry
    try:
        change = pyproj.Transformer.from_crs(
            source, "EPSG:4326", always_xy=True, allow_ballpark=False
        )
        if source.is_projected:
            step = BEND_M / source.axis_info[0].unit_conversion_factor
            if not shapely.length(geometry).sum() / step < settings["vertices"]:
                refuse("has coordinates out of all bounds", "correct them")
            geometry = shapely.segmentize(geometry, step)
        return shapely.transform(
            geometry, lambda c: np.column_stack(change.transform(c[:, 0], c[:, 1], errcheck=True))
        )
    except pyproj.exceptions.ProjError:
        refuse(f"is in {source.name}, which cannot be taken to EPSG:4326 exactly", _DEGREES_FIX)


def answer(geometry: Any, columns: dict[str, Any], settings: dict[str, Any]) -> tuple[Any, Any]:
    """Return the features as plain data, and the polygons whose coordinates follow."""
    import shapely

    if shapely.get_num_coordinates(geometry).sum() > settings["vertices"]:
        refuse(
            f"has more than {settings['vertices']:,} positions",
            "simplify the outline (ogr2ogr -simplify 0.0005)",
        )
    features: list[dict[str, Any]] = []
    kept: list[Any] = []
    for index, shape in enumerate(geometry):
        parts = list(flat(shape))
        kind = next((part.geom_type for part in parts if part.geom_type != "Polygon"), None)
        polygons = [part for part in parts if kind is None]
        features.append(
            {
                "kind": kind,
                "properties": {name: plain(values[index]) for name, values in columns.items()},
                "polygons": [
                    [shapely.get_num_coordinates(ring) for ring in (p.exterior, *p.interiors)]
                    for p in polygons
                ],
            }
        )
        kept += polygons
    features = json.loads(json.dumps(features, default=int))
    return features, kept


def flat(shape: Any) -> Iterator[Any]:
    """Return the single geometries in one, without empty ones."""
    if shape is None or shape.is_empty:
        return
    if hasattr(shape, "geoms"):
        for part in shape.geoms:
            yield from flat(part)
    else:
        yield shape


def plain(value: Any) -> Any:
    """Return a value as JSON has it: text, truth, number or nothing."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str):
        return value[:1000]
    return value if isinstance(value, bool | int) and abs(value) < 2**53 else None


def main() -> None:
    """Read the file that the first argument tells of and write what it holds to stdout."""
    settings = json.loads(sys.argv[1])
    limit(settings)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints goes nowhere
    path, body = Path(settings["path"]), b""
    try:
        if settings["drivers"]:
            for name in ("geopandas", "pandas", "pyarrow"):  # pyogrio would load them to no end
                sys.modules[name] = None  # type: ignore[assignment]
            if path.suffix == ".gpkg":
                check_geopackage(path)
            one_driver(settings["drivers"])
            read = read_layer
        else:
            read = read_parquet
        geometry, columns, crs = read(path, settings)
        import shapely

        features, polygons = answer(to_degrees(geometry, crs, settings), columns, settings)
        body = shapely.get_coordinates(polygons).astype("<f8").tobytes()
        head: dict[str, Any] = {"features": features}
    except RefusedError as error:
        head = {"refused": list(error.args)}
    except MemoryError:
        head = {"refused": ["needs too much memory", settings["fix"]]}
    except Exception as error:  # whatever a hostile file can raise
        head = {"refused": [f"cannot be read ({str(error)[:120]})", settings["fix"]]}
    out.write(json.dumps(head).encode() + b"\n" + body)
    out.flush()
    os._exit(0)  # a library a file has upset may not come down cleanly


if __name__ == "__main__":
    main()
