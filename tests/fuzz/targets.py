"""What is fuzzed: each target takes any bytes and fails unless a parser of ours behaved.

To behave is to return something that later steps can rely on, or to raise the one class of error
that belongs there, with a message of one line that tells the fix.
"""

from __future__ import annotations

import atexit
import io
import json
import math
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import shapely

from scanner.area.aoi import MAX_LAT, Aoi, read_aoi
from scanner.area.formats import FORMATS, _outline
from scanner.area.grid import tiles
from scanner.area.rings import Caps, RingReader
from scanner.area.unzip import UNPACKED
from scanner.config import ScanConfig, SearchConfig, digest
from scanner.errors import (
    AoiError,
    CatalogError,
    ConfigError,
    ModelError,
    OutputError,
    ScannerError,
)
from scanner.imagery.bands import COMMON_NAMES
from scanner.imagery.catalog import search_items
from scanner.imagery.choose import Chooser
from scanner.imagery.hrefs import (
    SUFFIXES,
    Allowed,
    absolute,
    check_href,
    is_remote,
    strip_secrets,
    unsigned,
)
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset
from scanner.imagery.snapshot import ItemSet, read_items, write_items
from scanner.models.card import ModelCard
from tests.fuzz import seeds

HOSTS = ("*.blob.core.windows.net", "http://127.0.0.1:8080")
REACH = shapely.box(-60, -10, -50, 0)
AOI = Aoi("box", shapely.box(-55.6, -6.6, -55.59, -6.59))
SECRET = "s3cretS1gnature"  # noqa: S105
CAPS = Caps(bytes=100_000, vertices=5_000, features=50, seconds=5)


@dataclass(frozen=True)
class Target:
    """``check`` raises for a finding; ``form`` tells how inputs are best changed."""

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    form: str = "bytes"
    max_len: int = 20_000
    slow: bool = False
    """It starts a process for each input: no use in being guided by coverage."""


@cache
def folder() -> Path:
    """A scratch folder, kept as long as this process."""
    scratch = tempfile.mkdtemp(prefix="mining-scan-fuzz-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return Path(scratch).resolve()


def refused(error: ScannerError, begin: str, *, fix: bool = False, limit: int = 700) -> None:
    """Check a message: one line, not endless, that names the object (and tells the fix)."""
    text = str(error)
    assert "; " in text or not fix, text
    assert text.startswith(begin), text[:200]
    assert "\n" not in text, repr(text[:200])
    assert "\r" not in text, repr(text[:200])
    assert len(text) < limit + len(str(folder())), len(text)


def warnings_are_findings() -> None:
    """Make a warning an error, but for those of libraries about their own libraries."""
    warnings.simplefilter("error")
    for kind in (DeprecationWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", kind)


# --- areas


def geojson(data: bytes) -> None:
    path = folder() / "area.geojson"
    path.write_bytes(data)
    try:
        aoi = read_aoi(path)
    except AoiError as error:
        refused(error, f"AOI {path}: ", fix=True)
        return
    sound(aoi)


def sound(aoi: Aoi) -> None:
    """Check an AOI that was taken."""
    west, south, east, north = aoi.geometry.bounds
    assert shapely.is_valid(aoi.geometry)
    assert -180 <= west < east <= 180
    assert -MAX_LAT <= south < north <= MAX_LAT
    assert aoi.area_km2 > 0
    assert aoi.name.isprintable()
    assert aoi.name
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", aoi.slug)
    again = folder() / "again.geojson"
    again.write_text(json.dumps(aoi.to_geojson()))
    assert read_aoi(again).digest == aoi.digest
    if aoi.geometry.length < 5:
        found = tiles(aoi)
        ids = [tile.cell_id(r, c) for tile in found for r, c in tile.cells]
        assert ids
        assert len(ids) == len(set(ids))


def unzip(data: bytes) -> None:
    """The part of reading other formats that is done in this process."""
    suffix = sorted(FORMATS)[data[0] % len(FORMATS)] if data else ".zip"
    reader = RingReader("AOI x", CAPS)
    try:
        files = FORMATS[suffix].unpack(data[1:], reader)
    except AoiError as error:
        refused(error, "AOI x: ")
        return
    assert all(re.fullmatch(r"outline\.[a-z]+", name) for name in files)
    assert sum(map(len, files.values())) <= max(UNPACKED * CAPS.bytes, len(data))


def answer(data: bytes) -> None:
    """What the process that reads other formats may answer, were it misled."""
    try:
        outline = _outline(data, FORMATS[".kml"], RingReader("AOI x", CAPS), "save it anew")
    except AoiError as error:
        refused(error, "AOI x: ")
        return
    assert outline.name is None or outline.name.isprintable()
    for rings in outline.polygons:
        for ring in rings:
            assert np.isfinite(ring).all()
            assert len(ring) >= 4
            assert (np.abs(ring) <= (180, 90)).all()


def vectors(data: bytes) -> None:
    """Zips, GeoPackages and KML to the end, each read by a process of its own."""
    suffix = sorted(FORMATS)[data[0] % len(FORMATS)] if data else ".zip"
    path = folder() / f"area{suffix}"
    path.write_bytes(data[1:])
    try:
        sound(read_aoi(path))
    except AoiError as error:
        refused(error, f"AOI {path}: ")


# --- items


def items(data: bytes) -> None:
    """Items as a catalog sends them, through the chooser, in two orders."""
    try:
        raws = json.loads(data)
    except (ValueError, RecursionError):
        return
    raws = raws if isinstance(raws, list) else [raws]
    results = []
    for order in (raws, raws[::-1]):
        chooser = Chooser(REACH, Allowed(HOSTS, folder()), None, 60)
        for raw in order:
            chooser.take(raw, lambda href: absolute(href, folder()))
        results.append(chooser.result())
    kept, dropped = results[0]
    assert [i.raw for i in kept] == [i.raw for i in results[1][0]]
    assert dropped == results[1][1]
    for one in dropped:
        assert one.reason
        assert one.id.isprintable()
        assert one.reason.isprintable()
        assert len(one.reason) <= 500
    for item in kept:
        usable(item)
    path = folder() / "kept.json"
    found = ItemSet(kept, dropped, "2024-01-01/2024-12-31")
    write_items(path, found)
    assert read_items(path) == found


def usable(item: Item) -> None:
    """Check that nothing of a kept item can end a run."""
    first, last = item.interval
    assert (first.tzinfo, last.tzinfo) != (None, None)
    assert item.solar_day.year > 0
    assert item.footprint.area > 0
    assert item.epsg > 0
    assert resolve_offset(item) in (0, -1000)
    assert item.cloud_cover is None or not item.cloud_cover > 60
    assert item.granule is None or isinstance(item.granule, str)
    assert all(item.href(band) for band in ("B02", "B03", "B04"))
    for band in COMMON_NAMES:
        href = item.href(band)
        assert href is None or unsigned(href) == href
    assert item.with_hrefs(lambda href: href + "?sig=x").with_hrefs(unsigned).raw == item.raw


def collection(data: bytes) -> None:
    """A file given as the catalog, and the same file where a run keeps its items."""
    path = folder() / "items.json"
    path.write_bytes(data)
    try:
        found = search_items(AOI, SearchConfig(catalog=str(path)))
    except ConfigError as error:
        refused(error, f"{path}: ")
    else:
        assert found.items or found.advice
        for item in found.items:
            usable(item)
    try:
        snapshot = read_items(path)
    except OutputError as error:
        refused(error, f"{path}: ")
        return
    other = folder() / "written.json"
    write_items(other, snapshot)
    kept = read_items(other)
    plain = [item.with_hrefs(unsigned) for item in snapshot.items]
    assert [(item.id, item.assets.keys()) for item in kept.items] == [
        (item.id, item.assets.keys()) for item in plain
    ]
    hrefs = [[asset.get("href") for asset in item.assets.values()] for item in plain]
    assert [[a.get("href") for a in item.assets.values()] for item in kept.items] == hrefs
    again = folder() / "again.json"
    write_items(again, kept)
    assert again.read_bytes() == other.read_bytes()
    for item in snapshot.items:
        for told in ("datetime", "footprint", "solar_day", "epsg", "granule", "cloud_cover"):
            try:
                getattr(item, told)
            except CatalogError as error:
                refused(error, "item ")


def cube(data: bytes) -> None:
    """Kept items make a cube, whatever grid they tell of; nothing is read."""
    from odc.geo.geobox import GeoBox

    from scanner.imagery.cube import load_cube

    try:
        raws = json.loads(data)
    except (ValueError, RecursionError):
        return
    chooser = Chooser(REACH, Allowed(HOSTS), None, 60)
    for raw in raws if isinstance(raws, list) else [raws]:
        chooser.take(raw, str)
    box = GeoBox.from_bbox((650_400, 9_280_800, 650_880, 9_281_280), "EPSG:32721", resolution=10)
    for item in chooser.result()[0]:
        lazy = load_cube([item], box, ("B02", "B03", "B04"))
        assert lazy.shape == (1, 3, 48, 48)
        assert lazy.dtype == np.uint16


# --- settings and cards


def config(data: bytes) -> None:
    path = folder() / "mine.toml"
    path.write_bytes(data)
    try:
        told = ScanConfig.from_toml(path)
    except ConfigError as error:
        refused(error, f"{path}: ")
        return
    path.write_text(told.to_toml(), encoding="utf-8")
    if told.center is None or all(map(math.isfinite, told.center)):
        assert ScanConfig.from_toml(path) == told
        assert len(digest({"center": told.center, "radius": told.radius_km})) == 64


def card(data: bytes) -> None:
    place = folder() / "model"
    place.mkdir(exist_ok=True)
    (place / "model.safetensors").write_bytes(seeds.WEIGHTS)
    (place / "card.json").write_bytes(data)
    try:
        read = ModelCard.read(place)
    except ModelError as error:
        refused(error, str(place))
        return
    assert re.fullmatch(r"[0-9a-f]{64}", read.digest)
    if read.task == "classification":
        assert 0 <= read.cut() <= 1
        assert 0 < read.prevalence < 1
    assert ModelCard.read(place).digest == read.digest
    read.write(place)
    assert ModelCard.read(place) == read


# --- addresses


def hrefs(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for href in (text, f"https://{text}", f"https://a.blob.core.windows.net{text}.tif"):
        plain = unsigned(href)
        assert unsigned(plain) == plain or not is_remote(href)
        try:
            check_href("x", href, Allowed(HOSTS))
        except CatalogError:
            continue
        host = re.fullmatch(r"https?://([^/?#]+)/[^?#]*(\?.*|#.*)?", href, re.DOTALL | re.I)
        assert host, href
        name = host[1].lower()
        assert re.fullmatch(r"[\w.-]+\.blob\.core\.windows\.net(:\d*)?|127\.0\.0\.1:8080", name)
        assert plain.lower().endswith(SUFFIXES) or "%" in plain
    no_secret(text)


def no_secret(text: str) -> None:
    """No signature or password of a usual form survives, whatever stands around it."""
    before, _, rest = text.partition("|")
    path, _, after = rest.partition("|")
    legal = re.sub(r"[^\w.~/:%+,;=&-]", "", path, flags=re.ASCII)
    for address in (
        f"https://host.example/{legal}?se=1&sig={SECRET}",
        f"https://host.example/{legal}?{SECRET}{legal}",
        f"https://me:{SECRET}@host.example/{legal}",
        f"HTTPS://host.example?{legal}&token={SECRET}#x",
    ):
        told = strip_secrets(f"{before} {address} {after}")
        assert SECRET not in told.replace(after, ""), told
        assert SECRET not in strip_secrets(repr(f"{before}{address}")), address
        assert SECRET not in strip_secrets(f"/vsicurl/{address}: {before}")
        assert SECRET not in unsigned(address) or "@" in address
        assert strip_secrets(told) == told
    for key in ("sig", "token", "api_key", "X-Amz-Signature", "password"):
        assert SECRET not in strip_secrets(f"{before} {key}={SECRET}&{legal}")


# --- seeds that need tests' own inputs


def zips() -> list[bytes]:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for suffix in (".shp", ".shx", ".dbf", ".prj"):
            archive.writestr(f"a park/x{suffix}", bytes(100))
    kmz = io.BytesIO()
    with zipfile.ZipFile(kmz, "w") as archive:
        archive.writestr("doc.kml", seeds.KML)
    kinds = {suffix: bytes([n]) for n, suffix in enumerate(sorted(FORMATS))}
    return [
        kinds[".zip"] + stream.getvalue(),
        kinds[".kmz"] + kmz.getvalue(),
        kinds[".kml"] + seeds.KML,
        kinds[".gpkg"] + b"SQLite format 3\0" + bytes(200),
        kinds[".parquet"] + b"PAR1" + bytes(20),
    ]


def vector_files() -> list[bytes]:
    kinds = {suffix: bytes([n]) for n, suffix in enumerate(sorted(FORMATS))}
    made = seeds.vector_files(folder())
    return [kinds[suffix] + content for suffix, content in made.items()]


TARGETS: dict[str, Target] = {
    "geojson": Target(geojson, seeds.areas, "json"),
    "unzip": Target(unzip, zips),
    "answer": Target(answer, seeds.answers),
    "vectors": Target(vectors, vector_files, max_len=200_000, slow=True),
    "items": Target(items, seeds.items, "json"),
    "collection": Target(collection, seeds.collections, "json"),
    "cube": Target(cube, seeds.items, "json"),
    "config": Target(config, seeds.configs, "toml"),
    "card": Target(card, seeds.cards, "json"),
    "hrefs": Target(hrefs, seeds.hrefs, max_len=500),
}
