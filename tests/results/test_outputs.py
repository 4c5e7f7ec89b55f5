"""Files are whole or absent, GeoParquet is valid to a stranger, damaged parts are done again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from scanner.errors import OutputError
from scanner.files import atomic_path
from scanner.results.outputs import (
    PART_SCHEMA,
    GeoParquetWriter,
    Parts,
    write_geoparquet,
)

SCHEMA = pa.schema([("name", pa.string()), ("score", pa.float64()), ("ids", pa.list_(pa.string()))])
VALIDATOR = Path(sys.executable).with_name("geoparquet-validator")


def frame(n):
    rng = np.random.default_rng(n)
    x, y = rng.uniform(-60, -50, n), rng.uniform(-10, 0, n)
    return gpd.GeoDataFrame(
        {
            "name": [f"site {i}" for i in range(n)],
            "score": rng.random(n),
            "ids": [["a", "b"]] * n,
        },
        geometry=list(shapely.box(x, y, x + 0.01, y + 0.01)),
        crs="EPSG:4326",
    )


def validate(path):
    done = subprocess.run([VALIDATOR, "check", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "version 1.1.0" in done.stdout
    assert "covering: 6 pass, 0 fail" in done.stdout


@pytest.mark.parametrize("n", [0, 1, 300])
def test_geoparquet_is_valid_and_opens_everywhere(tmp_path, n):
    path = tmp_path / "out.parquet"
    write_geoparquet(path, frame(n), SCHEMA)
    validate(path)
    back = gpd.read_parquet(path)
    assert len(back) == n
    assert back.crs.to_epsg() == 4326
    assert pq.read_schema(path).field("ids").type == pa.list_(pa.string())
    rows = duckdb.sql(f"select name, score, ids, bbox.xmin from '{path}'").fetchall()  # noqa: S608
    assert len(rows) == n
    if n:
        assert sorted(back.name) == sorted(frame(n).name)
        assert gpd.read_parquet(path, bbox=(-60, -10, -55, -5)).shape[0] < n or n == 1


def test_pieces_and_one_write_give_the_same_rows(tmp_path):
    whole = frame(40)
    with GeoParquetWriter(
        tmp_path / "pieces.parquet", SCHEMA, tuple(whole.total_bounds), ["Polygon"]
    ) as writer:
        for start in range(0, 40, 10):
            writer.write(whole.iloc[start : start + 10])
    validate(tmp_path / "pieces.parquet")
    back = gpd.read_parquet(tmp_path / "pieces.parquet")
    assert pq.read_metadata(tmp_path / "pieces.parquet").num_row_groups == 4
    assert back.name.tolist() == whole.name.tolist()
    assert back.geometry.geom_equals(whole.geometry).all()


def test_a_broken_write_leaves_nothing(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("before")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as scratch:
        scratch.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]
    with (
        pytest.raises(ZeroDivisionError),
        GeoParquetWriter(tmp_path / "x.parquet", SCHEMA, None, []) as writer,
    ):
        writer.write(frame(3))
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"file.*--out"),
        atomic_path(tmp_path / "file" / "x") as scratch,
    ):
        scratch.write_text("")


def test_same_rows_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_geoparquet(tmp_path / name, frame(20), SCHEMA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_gdal_opens_it_where_it_has_the_driver(tmp_path):
    import pyogrio

    if "Parquet" not in pyogrio.list_drivers():
        pytest.skip("this build of GDAL has no Parquet driver")
    write_geoparquet(tmp_path / "out.parquet", frame(7), SCHEMA)
    assert len(gpd.read_file(tmp_path / "out.parquet")) == 7


class TestParts:
    @staticmethod
    def table(score=0.5):
        return pa.table(
            {
                "cell_id": ["c"],
                "row": [1],
                "col": [2],
                "clear_fraction": [1.0],
                "suspicious_fraction": [0.1],
                "score": [score],
                "days": [3],
                "screened": [False],
                "pieces": [[]],
            },
            schema=PART_SCHEMA,
        )

    def test_round_trip(self, tmp_path):
        parts = Parts(tmp_path, "run")
        assert parts.report("t") is None
        parts.write("t", self.table(), {"status": "done"})
        assert parts.report("t") == {"status": "done"}
        assert parts.table("t").to_pylist() == self.table().to_pylist()

    def test_part_of_another_run_is_done_again(self, tmp_path):
        Parts(tmp_path, "run").write("t", self.table(), {})
        assert Parts(tmp_path, "other").report("t") is None

    @pytest.mark.parametrize(
        "damage",
        ["cut table", "edit table", "cut marker", "no table", "cut raster", "no raster"],
    )
    def test_damaged_part_is_done_again(self, tmp_path, damage):
        parts = Parts(tmp_path, "run")
        parts.write("t", self.table(), {}, {"classes": b"pixels"})
        raster = parts.raster_path("t", "classes")
        assert raster.read_bytes() == b"pixels"
        assert parts.report("t") == {}
        table, marker = tmp_path / "t.parquet", tmp_path / "t.json"
        if damage == "cut table":
            table.write_bytes(table.read_bytes()[:-50])
        elif damage == "edit table":
            pq.write_table(self.table(0.9), table)
        elif damage == "cut marker":
            marker.write_text(marker.read_text()[:20])
        elif damage == "cut raster":
            raster.write_bytes(b"pix")
        else:
            (table if damage == "no table" else raster).unlink()
        assert parts.report("t") is None

    def test_marker_is_readable_json(self, tmp_path):
        Parts(tmp_path, "run").write("t", self.table(), {"reason": None})
        marker = json.loads((tmp_path / "t.json").read_text())
        assert set(marker) == {"run_id", "sha256", "rasters", "report", "seal"}
