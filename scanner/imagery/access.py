"""How pixels are read: GDAL's settings, signatures, and what a failed read tells.

The ways GDAL fails over a network were tried on the versions in the lock file; each setting below
names what happens without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

from scanner.config import SearchConfig
from scanner.errors import ReadError
from scanner.imagery.drivers import SKIPPED_DRIVERS
from scanner.imagery.drivers import harden_gdal as harden_gdal
from scanner.imagery.hrefs import SUFFIXES as SUFFIXES
from scanner.imagery.hrefs import Allowed as Allowed
from scanner.imagery.hrefs import allowed_for as allowed_for
from scanner.imagery.hrefs import check_href as check_href
from scanner.imagery.hrefs import strip_secrets as strip_secrets
from scanner.imagery.hrefs import unsigned as unsigned
from scanner.imagery.item import Item
from scanner.imagery.signing import NoSigner as NoSigner
from scanner.imagery.signing import PlanetaryComputerSigner as PlanetaryComputerSigner
from scanner.imagery.signing import Signer as Signer
from scanner.imagery.signing import TokenSigner as TokenSigner
from scanner.imagery.signing import signed as signed
from scanner.imagery.signing import signer_for as signer_for

GDAL_SETTINGS: Final[dict[str, str]] = {
    # Retries: GDAL's default is none. 429, 500, 502, 503, 504 and connection errors are retried
    # (GDAL_HTTP_RETRY_CODES); 401, 403 and 404 never are, rightly. Three cost 9 s at an open that
    # never works (five: 47 s, measured); the tile's own tries come on top.
    "GDAL_HTTP_MAX_RETRY": "3",
    # First pause in seconds, growing with each retry; the default is 30.
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    # Whole request and connection, seconds; both are unlimited by default and a stalled body hangs.
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    # Slower than LIMIT bytes a second for TIME seconds is taken as a stall.
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    # No listing of the file's folder, and no look for .aux.xml, .ovr or .msk beside it: each is a
    # request, and a server that breaks on the listing hung the open past a minute.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # Nothing but images over the network (the path's ending counts; a signature may follow).
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ",".join(SUFFIXES),
    # One range after the other: parallel ranges are not retried (OSGeo/gdal#12933).
    "GDAL_HTTP_MULTIRANGE": "SERIAL",
    # Neighbouring blocks come in one request.
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # Bytes kept of each open file, and of all of them: a COG's header is read once.
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "5000000",
    "CPL_VSIL_CURL_CACHE_SIZE": "67108864",
}
"""GDAL options for reading pixels (https://gdal.org/en/stable/user/configoptions.html).

``GDAL_NUM_THREADS`` is left out on purpose: threaded GeoTIFF reads are not retried before GDAL
3.11 (OSGeo/gdal#12426), and parallelism is Dask's.
"""

TALKATIVE: Final = (
    "odc.loader._rio", "stackstac.rio_reader", "stackstac.timer",
    "rasterio", "rasterio._base", "rasterio._env", "rasterio._err", "rasterio._filepath",
    "rasterio._io", "rasterio._vsiopener", "rasterio._warp", "rasterio.env", "rasterio.io",
    "rasterio.session", "pystac_client.stac_api_io",
    "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.util.retry",
)  # fmt: skip
"""Loggers that may print an address with its signature; some do so at level DEBUG alone."""


def gdal_env(search: SearchConfig, *, retry: bool = False) -> dict[str, str]:
    """Return GDAL's options for reading this catalog's pixels.

    GDAL remembers in a process that an address failed to open and then fails again without
    asking. ``retry=True`` sets ``CPL_VSIL_CURL_NON_CACHED``, so that a second try is a real one;
    else it is set to nothing, for options of an earlier try stay in force in a process (measured:
    every tile after a retry asked 1.7 times as much).
    """
    return {**GDAL_SETTINGS, "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/" if retry else ""}


def check_hardened() -> None:
    """Raise ``ReadError`` when GDAL was loaded with a driver that follows other files."""
    import rasterio

    with rasterio.Env() as env:
        left = sorted({*SKIPPED_DRIVERS, "GDALG"} & set(env.drivers()))
    if left:
        raise ReadError(
            f"GDAL: its driver {', '.join(left)} is active, with which a scene could name any "
            "file of this machine; import scanner before rasterio, or set GDAL_SKIP="
            f"{','.join(SKIPPED_DRIVERS)}"
        )


class _Stripped(logging.Filter):
    """Rewrites a record's text without secrets; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "?" in text or "@" in text:
            record.msg, record.args = strip_secrets(text), ()
        return True


_STRIPPED = _Stripped()


def guard_logs() -> None:
    """Keep signatures out of what libraries log: odc-loader prints each address that failed.

    To be called once in every process that reads; more calls change nothing.
    """
    for name in TALKATIVE:
        logging.getLogger(name).addFilter(_STRIPPED)


def failure_text(error: BaseException) -> str:
    """Return an error's text on one line, bounded, without signatures, with the asset's address."""
    text = strip_secrets(" ".join(str(error).split())) or type(error).__name__
    href = unsigned(getattr(error, "href", None) or "")
    return (text if href in text else f"{href}: {text}")[:300]


def culprit(error: BaseException, items: Iterable[Item]) -> Item | None:
    """Return the item whose asset an exception (or its causes) names, or ``None``.

    Looked for, outermost text first: the unsigned href, then its path, then the file's name where
    one item alone has it (GDAL tells no more than that when a block fails).
    """
    needles = [(item, href) for item in items for href in _hrefs(item)]
    texts = [unquote(text) for one in _chain(error) for text in _texts(one)]
    for shorten in (_whole, _path, _name):
        for text in texts:
            found = [(len(n), i) for i, h in needles if (n := shorten(unquote(h))) and n in text]
            longest = max((size for size, _ in found), default=0)
            hit = {id(item): item for size, item in found if size == longest}
            if len(hit) == 1 or (hit and shorten is _whole):
                return next(iter(hit.values()))
    return None


def _hrefs(item: Item) -> list[str]:
    return [unsigned(str(a["href"])) for a in item.assets.values() if a.get("href")]


def _whole(href: str) -> str:
    return href


def _path(href: str) -> str:
    path = urlsplit(href).path
    return path if path.count("/") > 1 else ""


def _name(href: str) -> str:
    return href.rpartition("/")[2]


def _texts(error: BaseException) -> Iterator[str]:
    href = getattr(error, "href", None)
    if isinstance(href, str):
        yield unsigned(href)
    yield str(error)
    yield from (repr(one) for one in error.args if isinstance(one, BaseException))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its causes, contexts and the exceptions in its arguments, once each."""
    seen: set[int] = set()
    todo = [error]
    while todo and len(seen) < 100:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inside = [arg for arg in one.args if isinstance(arg, BaseException)]
        todo += [*inside, one.__cause__, one.__context__]
        todo += list(getattr(one, "exceptions", ()))
