"""AOIs from zipped shapefiles, GeoPackages and KML: taken as from GeoJSON, or refused in a line.

Files are made by GDAL itself (pyogrio), hostile ones by hand. Each is read as users' files are, by
a process with limits.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely

from scanner.area import formats
from scanner.area.aoi import Aoi, read_aoi
from scanner.area.rings import Caps
from scanner.errors import AoiError

SQUARE = shapely.box(-55, -8, -54, -7)
HOLED = SQUARE.difference(shapely.box(-54.7, -7.7, -54.4, -7.4))
KML = """<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>Drawn.kml</name>{}</Document></kml>"""
MARK = (
    "<Placemark><name>{}</name><Polygon><outerBoundaryIs><LinearRing><coordinates>"
    "-55,-8,0 -54,-8,0 -54,-7,0 -55,-7,0 -55,-8,0"
    "</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>"
)


def frame(
    *shapes: shapely.Geometry, crs: int | str | None = 4326, **columns: list
) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=4326).to_crs(crs or 4326)


def shapefile(path: Path, table: gpd.GeoDataFrame, inside: str = "", upper: bool = False) -> Path:
    folder = path.with_suffix(".parts")
    folder.mkdir()
    pyogrio.write_dataframe(table, folder / "x.shp", driver="ESRI Shapefile", encoding="UTF-8")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in sorted(folder.iterdir()):
            archive.write(part, inside + (part.name.upper() if upper else part.name))
    return path


def geopackage(path: Path, **layers: gpd.GeoDataFrame) -> Path:
    for name, table in layers.items():
        pyogrio.write_dataframe(table, path, layer=name, driver="GPKG", append=False)
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_text(content, encoding=encoding)
    return path


def zipped(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def the_same_as_geojson(path: Path, geometry: shapely.Geometry = SQUARE) -> Aoi:
    other = path.with_name("other.geojson")
    other.write_text(shapely.to_geojson(geometry))
    aoi = read_aoi(path)
    assert aoi.digest == read_aoi(other).digest
    return aoi


class TestTaken:
    @pytest.mark.parametrize("crs", [4326, 4674])
    def test_shapefile(self, tmp_path: Path, crs: int) -> None:
        path = shapefile(tmp_path / "park.zip", frame(HOLED, crs=crs, NAME=["Kayapó"]))
        assert the_same_as_geojson(path, HOLED).name == "Kayapó"

    def test_a_folder_and_capitals_in_the_zip(self, tmp_path: Path) -> None:
        table = frame(SQUARE, ID=[1])
        path = shapefile(tmp_path / "PARK.ZIP", table, inside="a park/", upper=True)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("__MACOSX/a park/._X.SHP", b"\0")
            archive.writestr("a park/readme.txt", b"hello")
        assert the_same_as_geojson(path).name == "PARK"

    def test_geopackage(self, tmp_path: Path) -> None:
        points = frame(shapely.Point(0, 0), name=["p"])
        path = geopackage(tmp_path / "p.gpkg", camps=points, park=frame(HOLED, name=["Xingu"]))
        pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), path, layer="notes", append=False)
        assert the_same_as_geojson(path, HOLED).name == "Xingu"

    def test_a_geopackage_left_open_for_writing(self, tmp_path: Path) -> None:
        path = geopackage(tmp_path / "p.gpkg", park=frame(SQUARE))
        with contextlib.closing(sqlite3.connect(path)) as database:  # as QGIS leaves it
            assert database.execute("pragma journal_mode = wal").fetchone() == ("wal",)
        the_same_as_geojson(path)

    @pytest.mark.parametrize(
        ("crs", "write"),
        [
            (32721, shapefile),
            (31981, shapefile),  # SIRGAS 2000 / UTM 21S
            (29191, shapefile),  # SAD69 / UTM 21S
            (5880, lambda path, table: geopackage(path.with_suffix(".gpkg"), park=table)),
        ],
    )
    def test_reprojected(self, tmp_path: Path, crs: int, write: Callable[..., Path]) -> None:
        bent = shapely.segmentize(SQUARE, 0.01)  # its sides are straight in degrees
        aoi = read_aoi(write(tmp_path / "park.zip", frame(bent, crs=crs)))
        # a metre at most between the two, along 440 km of sides
        assert shapely.hausdorff_distance(aoi.geometry, bent) < 1e-5

    def test_long_edges_bend(self, tmp_path: Path) -> None:
        drawn = gpd.GeoSeries([shapely.box(3e5, 9.1e6, 7e5, 9.2e6)], crs=32721)
        path = geopackage(tmp_path / "p.gpkg", park=gpd.GeoDataFrame(geometry=drawn))
        exact = drawn.segmentize(500).to_crs(4326).union_all()
        assert shapely.hausdorff_distance(read_aoi(path).geometry, exact) < 2e-5
        straight = drawn.to_crs(4326).union_all()
        assert shapely.hausdorff_distance(straight, exact) > 1e-3

    @pytest.mark.parametrize(
        ("inside", "name"),
        [
            (MARK.format("Kayapó &amp; more"), "Kayapó & more"),
            (f"<Folder><name>A</name>{MARK.format('deep')}</Folder>", "deep"),
            (MARK.format("one") + MARK.format("two"), "park"),
        ],
    )
    def test_kml(self, tmp_path: Path, inside: str, name: str) -> None:
        path = text(tmp_path / "park.kml", KML.format(inside))
        assert the_same_as_geojson(path).name == name

    def test_kmz(self, tmp_path: Path) -> None:
        kml = KML.format(MARK.format("x")).encode()
        the_same_as_geojson(zipped(tmp_path / "p.kmz", **{"doc.kml": kml, "i.png": b"\x89"}))

    def test_kml_of_old_encodings(self, tmp_path: Path) -> None:
        content = KML.format(MARK.format("Kayapó")).replace("UTF-8", "ISO-8859-1")
        assert read_aoi(text(tmp_path / "p.kml", content, "latin-1")).name == "Kayapó"

    def test_odd_paths(self, tmp_path: Path) -> None:
        folder = tmp_path / "a {b} ' \" ç%20"
        folder.mkdir()
        path = geopackage(tmp_path / "p.gpkg", park=frame(SQUARE))
        path = path.rename(folder / "x;y [1].gpkg")
        assert read_aoi(path).name == "x;y [1]"

    def test_the_file_stays_as_it_is_and_nothing_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        path = geopackage(tmp_path / "p.gpkg", park=frame(SQUARE))
        before = path.read_bytes()
        read_aoi(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["p.gpkg"]


def no_layer(folder: Path) -> Path:
    return geopackage(folder / "a.gpkg", camps=frame(shapely.Point(0, 0)))


def two_layers(folder: Path) -> Path:
    return geopackage(folder / "a.gpkg", old=frame(SQUARE), new=frame(SQUARE))


def two_folders(folder: Path) -> Path:
    one = "<Folder><name>{}</name>" + MARK.format("x") + "</Folder>"
    return text(folder / "a.kml", KML.format(one.format("old") + one.format("new")))


def a_pin_too(folder: Path) -> Path:
    pin = "<Placemark><Point><coordinates>-55,-8</coordinates></Point></Placemark>"
    return text(folder / "a.kml", KML.format(MARK.format("x") + pin))


def two_shapefiles(folder: Path) -> Path:
    path = shapefile(folder / "a.zip", frame(SQUARE))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.shp", b"")
    return path


def without_prj(folder: Path) -> Path:
    shapefile(folder / "whole.zip", frame(SQUARE))
    parts = {p.name: p.read_bytes() for p in (folder / "whole.parts").iterdir()}
    return zipped(folder / "a.zip", **{n: c for n, c in parts.items() if n != "x.prj"})


def without_shx(folder: Path) -> Path:
    shapefile(folder / "whole.zip", frame(SQUARE))
    parts = {p.name: p.read_bytes() for p in (folder / "whole.parts").iterdir()}
    return zipped(folder / "a.zip", **{n: c for n, c in parts.items() if n != "x.shx"})


def local_crs(folder: Path) -> Path:
    shapefile(folder / "whole.zip", frame(SQUARE))
    parts = {p.name: p.read_bytes() for p in (folder / "whole.parts").iterdir()}
    parts["x.prj"] = b'LOCAL_CS["Mine",UNIT["metre",1]]'
    return zipped(folder / "a.zip", **parts)


def wrong_crs(folder: Path) -> Path:
    metres = gpd.GeoDataFrame(geometry=[shapely.box(3e5, 9e6, 4e5, 9.1e6)], crs=4326)
    return geopackage(folder / "a.gpkg", park=metres)


def nan(folder: Path) -> Path:
    ring = [(-55, -8), (-54, np.nan), (-54, -7), (-55, -7), (-55, -8)]
    with np.errstate(invalid="ignore"):
        return geopackage(folder / "a.gpkg", park=frame(shapely.Polygon(ring)))


def no_geometry(folder: Path) -> Path:
    return geopackage(folder / "a.gpkg", park=frame(SQUARE, None))


def view(folder: Path) -> Path:
    path = geopackage(folder / "a.gpkg", park=frame(SQUARE))
    with sqlite3.connect(path) as database:
        database.execute("alter table park rename to hidden")
        database.execute(
            "create view park as with recursive n(i) as (select 1 union all select i + 1 from n)"
            " select fid, geom from hidden where (select count(*) from n) > 0"
        )
    return path


def contents_view(folder: Path) -> Path:
    path = geopackage(folder / "a.gpkg", park=frame(SQUARE))
    with sqlite3.connect(path) as database:
        database.execute("alter table gpkg_contents rename to c")
        database.execute("create view gpkg_contents as select * from c")
    return path


def loads_extension(folder: Path) -> Path:
    path = geopackage(folder / "a.gpkg", park=frame(SQUARE))
    with sqlite3.connect(path) as database:
        database.execute("drop table gpkg_geometry_columns")
        database.execute("create view gpkg_geometry_columns as select load_extension('/tmp/x.so')")
    return path


def endless_column(folder: Path) -> Path:
    path = geopackage(folder / "a.gpkg", park=frame(SQUARE, name=["x"]))
    big = "hex(zeroblob(100000000))"
    with sqlite3.connect(path) as database:
        database.execute("alter table park rename column name to plain")
        database.execute(
            f"alter table park add column name text as (length({big} || {big} || {big} || {big}))"
        )
    return path


def cut_off(folder: Path) -> Path:
    path = geopackage(folder / "a.gpkg", park=frame(SQUARE))
    path.write_bytes(path.read_bytes()[:20_000])
    return path


def a_database(folder: Path) -> Path:
    with sqlite3.connect(folder / "a.gpkg") as database:
        database.execute("create table t (a)")
    return folder / "a.gpkg"


def renamed(suffix: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"a{suffix}"
        path.write_bytes(content)
        return path

    return make


def huge_counts(folder: Path) -> Path:
    """A shapefile whose only polygon claims two thousand million points."""
    shapefile(folder / "whole.zip", frame(SQUARE))
    parts = {p.name: p.read_bytes() for p in (folder / "whole.parts").iterdir()}
    shp = bytearray(parts["x.shp"])
    shp[148:152] = struct.pack("<i", 2_000_000_000)
    parts["x.shp"] = bytes(shp)
    return zipped(folder / "a.zip", **parts)


def many_records(folder: Path) -> Path:
    """An index that lists the one polygon again and again."""
    shapefile(folder / "whole.zip", frame(SQUARE))
    parts = {p.name: p.read_bytes() for p in (folder / "whole.parts").iterdir()}
    shx = bytearray(parts["x.shx"][:100] + parts["x.shx"][100:108] * 20_000)
    shx[24:28] = struct.pack(">i", len(shx) // 2)
    parts["x.shx"] = bytes(shx)
    del parts["x.dbf"]
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:  # not packed: no bomb
        for name, content in parts.items():
            archive.writestr(name, content)
    return folder / "a.zip"


def bomb(folder: Path) -> Path:
    return zipped(folder / "a.zip", **{"x.shp": bytes(90_000_000), "x.shx": b""})


def liar(folder: Path) -> Path:
    """A bomb whose directory tells a small size."""
    path = zipped(folder / "a.zip", **{"x.shp": bytes(90_000_000), "x.shx": b""})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 90_000_000), struct.pack("<I", 1000)))
    return path


def many_entries(folder: Path) -> Path:
    return zipped(folder / "a.zip", **{f"{i}.txt": b"" for i in range(5000)})


def escape(name: str) -> Callable[[Path], Path]:
    return lambda folder: zipped(folder / "a.zip", **{name: b"x", "x.shp": b"", "x.shx": b""})


def twins(folder: Path) -> Path:
    return zipped(folder / "a.zip", **{"x.shp": b"1", "X.SHP": b"2", "x.shx": b""})


def encrypted(folder: Path) -> Path:
    path = zipped(folder / "a.zip", **{"x.shp": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    return path


def laughs(folder: Path) -> Path:
    entities = '<!ENTITY a0 "-55,-8 ">' + "".join(
        f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)
    )
    content = KML.format(MARK.format("&a9;")).replace("<kml", f"<!DOCTYPE kml [{entities}]><kml")
    return text(folder / "a.kml", content)


def deep_kml(folder: Path) -> Path:
    n = 200_000
    return text(folder / "a.kml", KML.format("<Folder>" * n + MARK.format("x") + "</Folder>" * n))


def long_kml(folder: Path) -> Path:
    angles = np.append(np.linspace(0, 6, 120_000), 0)
    ring = " ".join(f"{np.cos(a):.6f},{np.sin(a):.6f}" for a in angles)
    old = "-55,-8,0 -54,-8,0 -54,-7,0 -55,-7,0 -55,-8,0"
    return text(folder / "a.kml", KML.format(MARK.format("x").replace(old, ring)))


def big(folder: Path) -> Path:
    path = folder / "a.gpkg"
    with path.open("wb") as file:
        file.truncate(30_000_000)
    return path


VRT = b"<OGRVRTDataSource><OGRVRTLayer name='p'><SrcDataSource>CSV:/etc/passwd</SrcDataSource>"

REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no layer of polygons": (no_layer, "holds no polygon"),
    "two layers": (two_layers, "2 layers of polygons (old, new)"),
    "two folders": (two_folders, "2 layers of polygons (old, new)"),
    "a pin beside the polygon": (a_pin_too, "feature 2 is a Point"),
    "two shapefiles": (two_shapefiles, "2 shapefiles (x.shp, y.shp)"),
    "no .prj": (without_prj, "does not tell its CRS"),
    "no .shx": (without_shx, "without its .shx"),
    "a CRS of its own": (local_crs, "cannot be taken to EPSG:4326"),
    "metres called degrees": (wrong_crs, "metres, not degrees"),
    "NaN": (nan, "not finite"),
    "a row without geometry": (no_geometry, "feature 2 has no geometry"),
    "a view without end": (view, "'park' is a view"),
    "a view of contents": (contents_view, "'gpkg_contents' is a view"),
    "a view that loads code": (loads_extension, "is a view"),
    "a column of gigabytes": (endless_column, "; "),
    "a GeoPackage cut off": (cut_off, "cannot be read"),
    "a plain database": (a_database, "is no GeoPackage"),
    "text called gpkg": (renamed(".gpkg", VRT), "is no GeoPackage"),
    "GeoPackage called kml": (renamed(".kml", b"SQLite format 3\0" + bytes(99)), "not UTF-8"),
    "a VRT called kml": (renamed(".kml", VRT), "is no KML"),
    "text called zip": (renamed(".zip", VRT), "is no zip"),
    "text called kmz": (renamed(".kmz", VRT), "is no zip"),
    "nothing called zip": (renamed(".zip", b""), "is no zip"),
    "a bare .shp": (renamed(".shp", b""), "is a part of a shapefile"),
    "a kmz of no kml": (lambda f: zipped(f / "a.kmz", **{"a.txt": b""}), "holds 0 KML files"),
    "a zip of no shapefile": (lambda f: zipped(f / "a.zip", **{"a.txt": b""}), "holds no .shp"),
    "a zip of a VRT": (lambda f: zipped(f / "a.zip", **{"x.shp": VRT, "x.shx": VRT}), "; "),
    "two thousand million points": (huge_counts, "; "),
    "many records": (many_records, "more than 10,000 features"),
    "a zip bomb": (bomb, "would unpack to 90 MB"),
    "a lying zip bomb": (liar, "is damaged"),
    "thousands of entries": (many_entries, "entries"),
    "../": (escape("../../etc/passwd"), "points outside"),
    "an absolute path": (escape("/etc/passwd"), "points outside"),
    "a Windows path": (escape("..\\x.shp"), "points outside"),
    "a drive": (escape("C:x.shp"), "points outside"),
    "twins": (twins, "two entries of one name"),
    "encrypted": (encrypted, "is encrypted"),
    "a billion laughs": (laughs, "declares a document type"),
    "deep KML": (deep_kml, "; "),
    "120,000 positions": (long_kml, "more than 100,000 positions"),
    "too large a file": (big, "has 30 MB, more than 20 MB"),
    "UTF-16": (
        lambda f: text(f / "a.kml", KML.format(MARK.format("x")), "utf-16"),
        "not UTF-8",
    ),
    "missing": (lambda f: f / "a.gpkg", "does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refused_in_one_quick_line(tmp_path: Path, case: str) -> None:
    make, fact = REFUSED[case]
    path = make(tmp_path)
    start = time.process_time()
    with pytest.raises(AoiError) as caught:
        read_aoi(path)
    assert time.process_time() - start < 1.5  # in this process; the other has its own limit
    message = str(caught.value)
    assert fact in message
    assert message.startswith(f"AOI {path}: ")
    assert "; " in message
    assert len(message.splitlines()) == 1
    assert len(message) < 500 + len(str(path))


def test_an_endless_read_ends(tmp_path: Path) -> None:
    path = geopackage(tmp_path / "a.gpkg", park=frame(SQUARE, name=["x"]))
    with sqlite3.connect(path) as database:
        database.execute("alter table park rename column name to plain")
        slow = "length(hex(zeroblob(30000000)))"
        database.execute(f"alter table park add column name as ({' + '.join([slow] * 99)})")
    with pytest.raises(AoiError, match=r"cannot be read|can be read within 1 s|within 2 s"):
        formats.read_format(path, "AOI x", Caps(seconds=1), formats.AOI_FORMATS)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]\n",
        b'{"features": 5}\n',
        b'{"features": [{"kind": null, "properties": {}, "polygons": [[5]]}]}\n' + bytes(7),
        b'{"features": [{"kind": null, "properties": {}, "polygons": [[5]]}]}\n' + bytes(16),
        b'{"features": [{"kind": null, "properties": {}, "polygons": [[-5]]}]}\n' + bytes(80),
        b'{"features": [{"kind": null, "properties": 5, "polygons": [["a"]]}]}\n' + bytes(80),
        b'{"features": []}\n',
        b'{"refused": ["a\\nb", "c"]}\n',
        b'{"refused": 7}\n',
        b"[" * 100_000,
    ],
)
def test_the_child_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    child = tmp_path / "child.py"
    child.write_text(f"import sys; sys.stdout.buffer.write({answer!r})")
    monkeypatch.setattr(formats, "_CHILD", child)
    path = text(tmp_path / "a.kml", KML.format(MARK.format("x")))
    with pytest.raises(AoiError) as caught:
        read_aoi(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_child_that_talks_on_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import sys; sys.stdout.write('x' * 60_000_000)")
    monkeypatch.setattr(formats, "_CHILD", child)
    path = text(tmp_path / "a.kml", KML.format(MARK.format("x")))
    with pytest.raises(AoiError, match="can be read within"):
        read_aoi(path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit time alone")
def test_the_child_has_limits_one_driver_and_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ask a child that, after its own start, tells what it could do."""
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "secret")
    source = formats._CHILD.read_text(encoding="utf-8")
    spy = tmp_path / "spy.py"
    spy.write_text(
        source.replace(
            "        geometry, columns, crs = read(path, settings)\n",
            "        import pyogrio, resource\n"
            "        told = [sorted(os.environ), [*pyogrio.list_drivers()], sys.flags.isolated,\n"
            "            [resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[1]\n"
            "             for n in ('AS', 'CPU', 'FSIZE', 'NOFILE', 'CORE')]]\n"
            "        refuse(json.dumps(told), '')\n",
        )
    )
    monkeypatch.setattr(formats, "_CHILD", spy)
    monkeypatch.setattr(formats, "shown", lambda value, limit=0: str(value))
    path = geopackage(tmp_path / "a.gpkg", park=frame(SQUARE))
    with pytest.raises(AoiError) as caught:
        read_aoi(path)
    told = str(caught.value)
    environment, drivers, isolated, limits = json.loads(
        told[told.index("[") : told.rindex("]") + 1]
    )
    assert drivers == ["GPKG"]
    assert isolated == 1
    assert not [name for name in environment if "KEY" in name or "PYTHON" in name]
    memory, seconds, written, files, core = limits
    assert (memory, seconds, core) == (1 << 30, 20, 0)
    assert 0 < written < 50_000_000
    assert files == 64


def test_help_needs_no_gdal() -> None:
    code = (
        "import sys, scanner.area.aoi; print('pyogrio' in sys.modules, 'geopandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_our_own_kmz_reader_is_given_bytes_alone(tmp_path: Path) -> None:
    """A kmz inside a kmz is no KML, and is not opened."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("doc.kml", KML.format(MARK.format("x")))
    with pytest.raises(AoiError, match=r"not UTF-8|no KML"):
        read_aoi(zipped(tmp_path / "a.kmz", **{"doc.kml": inner.getvalue()}))
