"""Parts and GeoParquet, each written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Container, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq

from scanner.config import digest
from scanner.errors import OutputError
from scanner.files import atomic_path, write_json

PIECE = pa.struct(
    [
        ("kind", pa.string()),
        ("component", pa.int32()),
        ("component_px", pa.int32()),
        ("px", pa.int32()),
        ("geometry", pa.binary()),
    ]
)

PART_SCHEMA: Final = pa.schema(
    [
        ("cell_id", pa.string()),
        ("row", pa.int16()),
        ("col", pa.int16()),
        ("clear_fraction", pa.float64()),
        ("suspicious_fraction", pa.float64()),
        ("score", pa.float64()),
        ("days", pa.uint32()),
        ("screened", pa.bool_()),
        ("pieces", pa.list_(PIECE)),
    ]
)
"""One row an AOI cell of a tile: what was measured there, before any threshold."""

_GEOPARQUET: Final = {
    "schema_version": "1.1.0",
    "write_covering_bbox": True,
    "index": False,
    "geometry_encoding": "WKB",
}
_PARQUET: Final = {"compression": "zstd", "compression_level": 15}
_PART: Final = {"compression": "zstd", "compression_level": 6}
"""A part takes a seventh of the time so, and 2 % more bytes."""

ABSENT: Final = "is not there"
"""Why a tile that was never finished must be done."""


@dataclass(frozen=True)
class Parts:
    """The tile results of one run, each a table and, written after it, a marker with its digest.

    A tile is done when its marker stands, belongs to this run and fits the table.
    """

    folder: Path
    run_id: str

    def write(
        self,
        tile_id: str,
        table: pa.Table,
        report: dict[str, Any],
        rasters: Mapping[str, bytes] | None = None,
    ) -> None:
        """Save a tile: rasters, then the table, read back, then the marker with its report."""
        for name, content in (rasters or {}).items():
            with atomic_path(self.raster_path(tile_id, name)) as scratch:
                scratch.write_bytes(content)
        path = self.folder / f"{tile_id}.parquet"
        with atomic_path(path) as scratch:
            pq.write_table(table.cast(PART_SCHEMA), scratch, **_PART)
            if pq.read_metadata(scratch).num_rows != table.num_rows:
                raise OutputError(f"{path}: could not be read back after writing; check the disk")
        marker = {
            "run_id": self.run_id,
            "sha256": sha256(path),
            "rasters": {
                name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in (rasters or {}).items()
            },
            "report": report,
        }
        write_json(self._marker_path(tile_id), sealed(marker))

    def report(self, tile_id: str) -> dict[str, Any] | None:
        """Return the report of a finished tile, or ``None`` where it must be done (again)."""
        marker = self._checked(tile_id)
        return None if isinstance(marker, str) else dict(marker["report"])

    def problem(self, tile_id: str) -> str | None:
        """Return why a tile must be done (again), ``ABSENT`` where nothing of it stands.

        Everything a tile left is read for it, the rasters too: to be asked once a run.
        """
        marker = self._checked(tile_id)
        if isinstance(marker, str):
            return marker
        for name, told in marker["rasters"].items():
            if sha256(self.raster_path(tile_id, name)) != told["sha256"]:
                return f"was changed ({name})"
        return None

    def strangers(self, tile_ids: Container[str]) -> list[str]:
        """Return the names in the folder that belong to none of these tiles."""
        if not self.folder.is_dir():
            return []
        names = sorted(path.name for path in self.folder.iterdir())
        return [name for name in names if name.partition(".")[0] not in tile_ids]

    def rasters(self, tile_id: str) -> dict[str, str]:
        """Return sha256 by name of a finished tile's rasters (``detection.rasters.RASTERS``)."""
        return {name: told["sha256"] for name, told in self._marker(tile_id)["rasters"].items()}

    def raster_path(self, tile_id: str, name: str) -> Path:
        """Return where a raster of a tile lies, or would lie."""
        return self.folder / f"{tile_id}.{name}.tif"

    def table(self, tile_id: str) -> pa.Table:
        """Return the table of a finished tile."""
        return pq.read_table(self.folder / f"{tile_id}.parquet", schema=PART_SCHEMA)

    def _checked(self, tile_id: str) -> dict[str, Any] | str:
        """Return the marker of a tile that is whole (rasters by size), or why it is not."""
        path = self.folder / f"{tile_id}.parquet"
        try:
            marker = self._marker(tile_id)
            if marker["run_id"] != self.run_id:
                return "belongs to another run"
            if marker != sealed(marker) or marker["sha256"] != sha256(path):
                return "was changed"
            for name, told in marker["rasters"].items():
                if self.raster_path(tile_id, name).stat().st_size != told["bytes"]:
                    return f"was cut ({name})"
        except FileNotFoundError as error:  # a marker is written last
            return ABSENT if error.filename == str(self._marker_path(tile_id)) else "is not whole"
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "cannot be read"
        return marker

    def _marker_path(self, tile_id: str) -> Path:
        return self.folder / f"{tile_id}.json"

    def _marker(self, tile_id: str) -> dict[str, Any]:
        marker = json.loads(self._marker_path(tile_id).read_text(encoding="utf-8"))
        return dict(marker)


def sealed(marker: Mapping[str, Any]) -> dict[str, Any]:
    """Return a marker with the digest of all else in it, so that no figure is changed unseen."""
    content = {name: value for name, value in marker.items() if name != "seal"}
    return {**content, "seal": digest(content)}


def sha256(path: Path) -> str:
    """Return the digest of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class GeoParquetWriter:
    """GeoParquet 1.1 in pieces: geopandas encodes each, so memory follows the piece, not the whole.

    A context manager: the file appears when its block ends well.

    Args:
        path: where the file appears.
        schema: columns besides the geometry, in order; each piece is cast to it.
        bounds: (west, south, east, north) of all geometry to come, degrees.
        geometry_types: what may come, such as ``["Polygon"]``.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        bounds: tuple[float, float, float, float] | None,
        geometry_types: list[str],
    ) -> None:
        empty = gpd.GeoDataFrame({name: [] for name in schema.names}, geometry=[], crs="EPSG:4326")
        encoded = self._encode(empty)
        geo = json.loads(encoded.schema.metadata[b"geo"])
        column = geo["columns"]["geometry"]
        column["geometry_types"] = geometry_types
        column.pop("bbox", None)
        if bounds is not None:
            column["bbox"] = list(bounds)
        fields = [*schema, encoded.schema.field("geometry"), encoded.schema.field("bbox")]
        self._path = path
        self._schema = pa.schema(fields).with_metadata({b"geo": json.dumps(geo).encode()})
        self._open = ExitStack()

    def write(self, frame: gpd.GeoDataFrame) -> None:
        """Append the rows of ``frame``, one row group."""
        if len(frame):
            table = self._encode(frame).select(self._schema.names)
            self._writer.write_table(table.cast(self._schema))

    def __enter__(self) -> GeoParquetWriter:
        with ExitStack() as stack:
            scratch = stack.enter_context(atomic_path(self._path))
            self._writer = stack.enter_context(pq.ParquetWriter(scratch, self._schema, **_PARQUET))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    @staticmethod
    def _encode(frame: gpd.GeoDataFrame) -> pa.Table:
        buffer = io.BytesIO()
        frame.to_parquet(buffer, **_GEOPARQUET)
        return pq.read_table(pa.BufferReader(buffer.getvalue()))


def write_geoparquet(path: Path, frame: gpd.GeoDataFrame, schema: pa.Schema) -> None:
    """Write one frame as GeoParquet 1.1, rows along a Hilbert curve; empty is valid too."""
    bounds = None
    if len(frame):
        west, south, east, north = (float(v) for v in frame.total_bounds)
        bounds = (west, south, east, north)
        frame = frame.iloc[frame.hilbert_distance().argsort(kind="stable")]
    types = sorted(set(frame.geom_type)) if len(frame) else []
    with GeoParquetWriter(path, schema, bounds, types) as writer:
        writer.write(frame)
