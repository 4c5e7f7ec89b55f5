"""Which pixels may be read, with which signature, and what a failed read tells."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.config import SearchConfig
from scanner.errors import CatalogError, ConfigError, ReadError
from scanner.imagery import access, signing
from scanner.imagery.access import (
    Allowed,
    NoSigner,
    PlanetaryComputerSigner,
    TokenSigner,
    allowed_for,
    check_href,
    culprit,
    gdal_env,
    signed,
    signer_for,
    strip_secrets,
    unsigned,
)
from scanner.imagery.hrefs import api_url
from scanner.imagery.item import Item
from tests.servers.fixtures import ServeFiles, ServeTokens
from tests.servers.items import HOST, raw
from tests.servers.tokens import Mint

ROOT = Path(__file__).parents[2]
HREF = f"{HOST}/sentinel2-l2/21/M/WR/B02_10m.tif"


def hardened(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own: GDAL reads its skipped drivers once, when loaded."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "GDAL_SKIP"} | env,
    )


# --- GDAL -------------------------------------------------------------------------------------


def test_a_tif_that_is_a_vrt_reads_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("S" * 64)
    evil = tmp_path / "evil.tif"
    evil.write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="0">{secret}</SourceFilename>'
        "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>8</LineOffset>"
        "</VRTRasterBand></VRTDataset>"
    )
    read = (
        "import rasterio, warnings\nwarnings.simplefilter('ignore')\n"
        f"try: print(rasterio.open({str(evil)!r}).read(1).tobytes())\n"
        "except rasterio.errors.RasterioIOError as error: print('refused', error)\n"
    )
    guard = "from scanner.imagery.access import harden_gdal, check_hardened\nharden_gdal()\n"
    result = hardened(guard + read + "check_hardened()\nprint('hardened')")
    assert "SSSS" not in result.stdout, "the VRT was followed"
    assert "refused" in result.stdout
    assert "hardened" in result.stdout
    assert result.stderr == "", "GDAL does not know a driver of the list, or another complaint"


def test_an_unhardened_gdal_is_noticed() -> None:
    code = (
        "import os, scanner, sys; os.environ.pop('GDAL_SKIP', None); import rasterio\n"
        "with rasterio.Env(): pass\n"
        "from scanner.imagery.access import check_hardened; check_hardened()"
    )
    result = hardened(code)
    assert result.returncode != 0
    assert "ReadError: GDAL: its driver" in result.stderr
    assert "GDAL_SKIP=VRT," in result.stderr


def test_reprojection_and_geopackages_still_work(tmp_path: Path) -> None:
    code = f"""
from scanner.imagery.access import harden_gdal
harden_gdal()
import warnings
warnings.simplefilter("ignore")
import numpy, rasterio, geopandas, shapely
from rasterio.vrt import WarpedVRT
from affine import Affine
where = dict(crs="EPSG:32721", transform=Affine(10, 0, 5e5, 0, -10, 9e6))
with rasterio.open({str(tmp_path / "a.tif")!r}, "w", driver="GTiff", width=8, height=8, count=1,
                   dtype="uint16", **where) as file:
    file.write(numpy.full((1, 8, 8), 7, "uint16"))
with rasterio.open({str(tmp_path / "a.tif")!r}) as file:
    with WarpedVRT(file, crs="EPSG:32722") as warped:
        print("warped", warped.read().max())
frame = geopandas.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=4326)
frame.to_file({str(tmp_path / "a.gpkg")!r})
print("rows", len(geopandas.read_file({str(tmp_path / "a.gpkg")!r})))
"""
    result = hardened(code)
    assert result.stdout == "warped 7\nrows 1\n", result.stderr


def test_harden_gdal_keeps_what_the_user_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_SKIP", "PDF VRT")
    access.harden_gdal()
    skipped = os.environ["GDAL_SKIP"].split(",")
    assert skipped[:2] == ["PDF", "VRT"]
    assert len(skipped) == len(set(skipped))
    assert set(access.SKIPPED_DRIVERS) < set(skipped)


def test_gdal_env_bounds_every_wait_and_sets_no_threads() -> None:
    env = gdal_env(SearchConfig())
    assert int(env["GDAL_HTTP_MAX_RETRY"]) > 0
    assert {"GDAL_HTTP_TIMEOUT", "GDAL_HTTP_CONNECTTIMEOUT", "GDAL_HTTP_LOW_SPEED_TIME"} <= set(env)
    assert env["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
    assert "GDAL_NUM_THREADS" not in env
    assert env["CPL_VSIL_CURL_NON_CACHED"] == ""
    assert gdal_env(SearchConfig(), retry=True)["CPL_VSIL_CURL_NON_CACHED"] == "/vsicurl/"


@pytest.fixture
def pixels(tmp_path: Path) -> Path:
    """A folder ``box`` with small GeoTIFFs, and one file of another ending."""
    import numpy as np
    import rasterio
    from affine import Affine

    folder = tmp_path / "files" / "box"
    folder.mkdir(parents=True)
    for name in ("a.tif", "b.tif", "c.tif"):
        with rasterio.open(
            folder / name, "w", driver="GTiff", width=300, height=300, count=1, dtype="uint16",
            tiled=True, blockxsize=128, blockysize=128, compress="deflate",
            crs="EPSG:32721", transform=Affine(10, 0, 5e5, 0, -10, 9e6),
        ) as file:  # fmt: skip
            file.write(np.random.default_rng(1).integers(1, 4000, (1, 300, 300), dtype="uint16"))
    (folder / "d.dat").write_bytes((folder / "a.tif").read_bytes())
    return folder.parent


def read(href: str, *, retry: bool = False) -> int:
    import rasterio

    with rasterio.Env(**gdal_env(SearchConfig(), retry=retry)), rasterio.open(href) as file:
        return int(file.read().max())


def test_reading_asks_for_nothing_but_the_file(pixels: Path, serve_files: ServeFiles) -> None:
    host = serve_files(pixels)
    assert read(f"{host.url}/box/a.tif") > 0
    assert {seen.path for seen in host.seen} == {"/box/a.tif"}
    assert any(seen.range for seen in host.seen)
    with pytest.raises(Exception, match=r"d\.dat"):
        read(f"{host.url}/box/d.dat")
    assert all(seen.path != "/box/d.dat" for seen in host.seen)


def test_503_is_retried_within_one_open(pixels: Path, serve_files: ServeFiles) -> None:
    host = serve_files(pixels)
    host.fail("a.tif", status=503, times=2)
    assert read(f"{host.url}/box/a.tif") > 0
    assert [seen.status for seen in host.seen][:3] == [503, 503, 200]


def test_a_retry_asks_again_although_gdal_remembers(pixels: Path, serve_files: ServeFiles) -> None:
    from rasterio.errors import RasterioIOError

    host = serve_files(pixels)
    host.fail("b.tif", status=404, times=1)
    for _ in range(2):
        with pytest.raises(RasterioIOError):
            read(f"{host.url}/box/b.tif")
    assert len(host.seen) == 1
    assert read(f"{host.url}/box/b.tif", retry=True) > 0


# --- signatures -------------------------------------------------------------------------------


def test_signer_of_each_catalog() -> None:
    assert isinstance(signer_for(SearchConfig()), PlanetaryComputerSigner)
    assert isinstance(signer_for(SearchConfig(catalog="items.json")), PlanetaryComputerSigner)
    assert isinstance(signer_for(SearchConfig(catalog="earth-search")), NoSigner)
    assert isinstance(signer_for(SearchConfig(catalog="demo")), NoSigner)
    assert isinstance(signer_for(SearchConfig(catalog="https://stac.example.org")), NoSigner)
    where = "https://tokens.example.org/{container}"
    assert isinstance(signer_for(SearchConfig(catalog="demo", token_url=where)), TokenSigner)
    with pytest.raises(ConfigError, match=r"^token_url .*plain http"):
        signer_for(SearchConfig(token_url=where.replace("https", "http")))


def test_public_hrefs_and_paths_are_left_alone() -> None:
    for href in ("/data/B02.tif", "https://sentinel-cogs.s3.us-west-2.amazonaws.com/x/B02.tif"):
        assert PlanetaryComputerSigner().sign(href) == href
        assert NoSigner().sign(href) == href
    assert TokenSigner("https://t/{container}").sign("/data/B02.tif") == "/data/B02.tif"


@pytest.fixture
def planetary_computer(
    serve_tokens: ServeTokens, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mint]:
    """The planetary-computer package, its endpoint on loopback."""
    sas = signing._planetary_computer()
    settings = sas.Settings
    server = serve_tokens()
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/token")
    settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()
    yield server.mint
    settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()


def test_planetary_computer_signs_and_forgets(planetary_computer: Mint) -> None:
    signer = PlanetaryComputerSigner()
    first = signer.sign(HREF)
    assert first.startswith(f"{HREF}?se=")
    assert signer.sign(HREF.replace("B02", "B03")).partition("?")[2] == first.partition("?")[2]
    assert planetary_computer.issued == ["sentinel2-l2"]
    signer.forget()
    again = signer.sign(first)  # signed already: the package alone would give it back as it is
    assert again != first
    assert unsigned(again) == HREF
    assert len(planetary_computer.issued) == 2


def test_signed_items_and_their_originals(planetary_computer: Mint) -> None:
    item = Item(raw())
    (one,) = signed([item], signer_for(SearchConfig()))
    assert all("sig=" in asset["href"] for asset in one.assets.values())
    assert "?" not in json.dumps(item.raw)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the signers' clock: ``clock(seconds ahead of now)``."""

    def ahead(seconds: float) -> None:
        moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        monkeypatch.setattr(signing, "_now", lambda: moment)

    return ahead


@pytest.mark.parametrize(("life", "kept", "renewed"), [(3600, 3200, 3400), (120, 50, 70)])
def test_a_token_is_replaced_before_it_ends(
    serve_tokens: ServeTokens, clock: Callable[[float], None], life: int, kept: int, renewed: int
) -> None:
    server = serve_tokens(Mint(lifetime_s=life))
    signer = TokenSigner(f"{server.url}/token/{{account}}/{{container}}")
    clock(0)
    first = signer.sign(f"{HOST}/one/B02.tif")
    clock(kept)
    assert signer.sign(f"{HOST}/one/B02.tif?sig=old") == first
    clock(renewed)
    assert signer.sign(f"{HOST}/one/B02.tif") != first
    signer.sign(f"{HOST}/two/B02.tif")
    assert server.mint.issued == ["one", "one", "two"]
    assert "sig=" not in repr(signer)
    assert pickle.loads(pickle.dumps(signer)) == signer  # noqa: S301


def test_planetary_computer_tokens_are_replaced_before_they_end(
    planetary_computer: Mint, clock: Callable[[float], None]
) -> None:
    signer = PlanetaryComputerSigner()
    clock(0)
    first = signer.sign(HREF)
    clock(3200)
    assert signer.sign(HREF) == first
    clock(3400)
    assert signer.sign(HREF) != first
    assert planetary_computer.issued == ["sentinel2-l2"] * 2


def test_an_expired_token_is_refused_then_renewed(
    pixels: Path, serve_files: ServeFiles, serve_tokens: ServeTokens
) -> None:
    tokens = serve_tokens()
    host = serve_files(pixels, mint=tokens.mint)
    signer = TokenSigner(f"{tokens.url}/token/{{container}}")
    assert read(signer.sign(f"{host.url}/box/a.tif")) > 0
    tokens.mint.revoke()
    with pytest.raises(Exception, match="403"):
        read(signer.sign(f"{host.url}/box/b.tif"))
    signer.forget()
    assert read(signer.sign(f"{host.url}/box/b.tif")) > 0
    assert tokens.mint.issued == ["box", "box"]


def test_a_token_endpoint_that_fails(
    serve_tokens: ServeTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "RETRIES", 1)
    server = serve_tokens()
    signer = TokenSigner(f"{server.url}/token/{{container}}?key=secret")
    server.failures = [503]
    assert "?se=" in signer.sign(f"{HOST}/one/B02.tif")
    signer.forget()
    server.failures = [503] * 5
    with pytest.raises(CatalogError, match=r"B02\.tif: no token from http") as caught:
        signer.sign(f"{HOST}/one/B02.tif?sig=old")
    assert "secret" not in str(caught.value)
    assert "old" not in str(caught.value)
    server.failures = [404]
    with pytest.raises(CatalogError, match="check the network and the token endpoint"):
        signer.sign(f"{HOST}/one/B02.tif")


# --- hosts and secrets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "href",
    [
        "http://sentinel2l2a01.blob.core.windows.net/x/B02.tif",
        "https://evil.example.org/B02.tif",
        "https://blob.core.windows.net.evil.org/B02.tif",
        "https://evilblob.core.windows.net/B02.tif",
        "https://user:pass@sentinel2l2a01.blob.core.windows.net/x/B02.tif",
        "https://127.0.0.1/B02.tif",
        "http://169.254.169.254/latest/meta-data/B02.tif",
        "s3://bucket/B02.tif",
        "ftp://sentinel2l2a01.blob.core.windows.net/B02.tif",
        "file:///etc/passwd",
        "/etc/passwd",
        "/vsicurl/https://sentinel2l2a01.blob.core.windows.net/x/B02.tif",
        "/vsizip//etc/x.zip/B02.tif",
        "VRT://x.tif",
        "https://sentinel2l2a01.blob.core.windows.net/x/B02.vrt",
        "https://sentinel2l2a01.blob.core.windows.net/x/B02.vrt?x=.tif",
        "https://sentinel2l2a01.blob.core.windows.net:bad/x/B02.tif",
        "https:///B02.tif",
        "<VRTDataset/>",
        "",
    ],
)
def test_an_href_that_may_not_be_read(href: str) -> None:
    with pytest.raises(CatalogError, match=r"^item S2_X: ") as caught:
        check_href("S2_X", href, allowed_for(SearchConfig()))
    assert "\n" not in str(caught.value)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    ("search", "href"),
    [
        ({}, HREF),
        ({"catalog": "earth-search"}, "https://sentinel-cogs.s3.us-west-2.amazonaws.com/a/B02.tif"),
        ({"catalog": "items.json"}, HREF),
        ({"catalog": "https://stac.example.org/v1"}, "https://stac.example.org/pixels/B02.jp2"),
        ({"catalog": "http://127.0.0.1:8080"}, "http://127.0.0.1:9090/B02.TIF"),
        ({"hosts": ["*.example.org"]}, "https://tiles.example.org/B02.tiff"),
        ({"hosts": ["http://minio.local:9000"]}, "http://minio.local:9000/B02.tif"),
        ({"catalog": "items.json", "hosts": ["127.0.0.1"]}, "http://127.0.0.1:1234/B02.tif"),
    ],
)
def test_an_href_that_may_be_read(search: dict[str, Any], href: str) -> None:
    check_href("S2_X", href, allowed_for(SearchConfig(**search)))


def test_a_port_and_a_scheme_of_hosts_bind() -> None:
    allowed = Allowed(("http://minio.local:9000", "plain.org"))
    assert allowed.takes("http", "minio.local", 9000)
    assert not allowed.takes("http", "minio.local", 80)
    assert not allowed.takes("http", "plain.org", None)
    for wrong in ("", "*", "ftp://x", "host:port"):
        with pytest.raises(ConfigError, match=r"^hosts: "):
            Allowed((wrong,)).takes("https", "plain.org", None)


def test_files_stay_below_the_folder_of_their_list(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out.tif"
    inside.mkdir()
    outside.touch()
    (inside / "B02.tif").touch()
    (inside / "link.tif").symlink_to(outside)
    (inside / "B02.txt").touch()
    allowed = Allowed(root=inside)
    check_href("S2_X", str(inside / "B02.tif"), allowed)
    for path, fact in {
        "../out.tif": "lies outside",
        "link.tif": "lies outside",
        "B03.tif": "is not there",
        "B02.txt": "does not end in",
        ".": "is not there",
        "x\0.tif": "",
    }.items():
        with pytest.raises(CatalogError, match=f"^item S2_X: .*{fact}"):
            check_href("S2_X", str(inside / path), allowed)


@pytest.mark.parametrize(
    "catalog", ["http://stac.example.org/v1", "s3://x/y", "https://me:pw@h.org", "https://", "https://["]
)  # fmt: skip
def test_a_catalog_address_that_is_refused(catalog: str) -> None:
    with pytest.raises(ConfigError, match=r"^--catalog ") as caught:
        api_url(SearchConfig(catalog=catalog))
    assert "me:pw" not in str(caught.value)


def test_secrets_are_stripped() -> None:
    url = f"{HREF}?se=2024-07-01T00%3A00%3A00Z&sig=abc%2B"
    assert unsigned(url) == HREF
    assert unsigned("/a/b?c.tif") == "/a/b?c.tif"
    told = strip_secrets(f"RuntimeError('/vsicurl/{url}', \"{url}\"): see ({url}), then go.")
    assert "abc" not in told
    assert told.count(HREF) == 3
    assert told.endswith("?***), then go.") or told.endswith(", then go.")
    assert strip_secrets("https://me:pw@host/x.tif is off") == "https://host/x.tif is off"
    assert "hush" not in strip_secrets("bad token=hush, sig=hush&sp=r")
    assert strip_secrets("no address here") == "no address here"


def test_logs_are_stripped(caplog: pytest.LogCaptureFixture) -> None:
    access.guard_logs()
    access.guard_logs()
    logging.getLogger("odc.loader._rio").error("Failed to load %s due to %d", f"{HREF}?sig=abc", 1)
    assert "sig=abc" not in caplog.text
    assert f"Failed to load {HREF}" in caplog.text
    assert len(caplog.records) == 1


# --- what a failed read tells -----------------------------------------------------------------


def items(tmp: str = "/data") -> list[Item]:
    return [
        Item(raw({b: {"href": f"{root}/{b}.tif"} for b in ("B02", "B03")}) | {"id": root})
        for root in (f"{HOST}/s2/one", f"{HOST}/s2/one-more", f"{tmp}/three")
    ]


def nested(inner: str) -> Exception:
    try:
        try:
            raise OSError(inner)
        except OSError as error:
            raise RuntimeError("Read failed. See previous exception for details.") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "which"),
    [
        (RuntimeError(f"Error opening '{HOST}/s2/one/B02.tif?sig=x': 403"), 0),
        (nested(f"/vsicurl/{HOST}/s2/one-more/B03.tif?sig=x not recognized"), 1),
        (nested("path /s2/one/B03.tif: gone"), 0),
        (ReadError("a block failed", href=f"{HOST}/s2/one-more/B02.tif?sig=y"), 1),
        (ExceptionGroup("two", [ValueError("no"), OSError("/data/three/B02.tif: short")]), 2),
        (RuntimeError("B02.tif, band 1: IReadBlock failed"), None),
        (RuntimeError("something else"), None),
    ],
)
def test_culprit(error: Exception, which: int | None) -> None:
    found = culprit(error, items())
    assert found == (None if which is None else items()[which])


def test_culprit_by_a_name_only_one_item_has() -> None:
    one, other = items()[0], Item(raw({"B02": {"href": "https://h/x/T21MWR_20240701_B02.tif"}}))
    error = nested("T21MWR_20240701_B02.tif, band 1: IReadBlock failed at X offset 1")
    assert culprit(error, [one, other]) == other
