"""Addresses of pixels: which may be read, and how they look without their secrets.

A STAC item is untrusted text. GDAL would follow any address in it (local files, services inside a
network, other drivers), so each one is checked against an allow-list before anything opens it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from scanner.config import SearchConfig
from scanner.errors import CatalogError, ConfigError

ENDPOINTS: Final = {
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
    "earth-search": "https://earth-search.aws.element84.com/v1",
}
"""STAC APIs known by name."""

KNOWN_HOSTS: Final = {
    "planetary-computer": ("*.blob.core.windows.net",),
    "earth-search": (
        "sentinel-cogs.s3.us-west-2.amazonaws.com",
        "e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com",
    ),
}
"""Where those catalogs keep their Sentinel-2 pixels (the hosts in their items' hrefs)."""

SUFFIXES: Final = (".tif", ".tiff", ".jp2")
"""Endings an asset may have; the same list stands in GDAL's CPL_VSIL_CURL_ALLOWED_EXTENSIONS."""

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
"""Names of this machine; plain http is taken from these."""

_URL = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://(?P<rest>[^\s\"'<>|\\^`{}\]]+)")
_USER = re.compile(r"//[^/]*@")
_BARE_SECRET = re.compile(
    r"(?i)\b(sig|token|access_token|api_key|apikey|subscription-key|x-amz-signature"
    r"|x-amz-credential|x-amz-security-token|key|password)=[^\s&\"'<>)]+"
)


@dataclass(frozen=True)
class Allowed:
    """What may be read: ``hosts`` over the network, and files under ``root`` where it is set.

    A host is a name, ``*.name`` for all below it, or ``http://name[:port]`` to accept plain http.
    """

    hosts: tuple[str, ...] = ()
    root: Path | None = None

    def takes(self, scheme: str, host: str, port: int | None) -> bool:
        """Tell whether ``scheme://host:port`` may be read."""
        for pattern in self.hosts:
            plain, name, wanted = _pattern(pattern)
            if wanted is not None and port != wanted:
                continue
            if scheme == "http" and not plain and host not in LOOPBACK:
                continue
            if host == name or (name.startswith("*.") and host.endswith(name[1:])):
                return True
        return False


@lru_cache(maxsize=256)
def _pattern(text: str) -> tuple[bool, str, int | None]:
    """Split an entry of ``hosts`` in (plain http is taken, host, port)."""
    address = text if "://" in text else f"https://{'[::1]' if text == '::1' else text}"
    try:
        parts = urlsplit(address)
        name, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        parts, name, port = urlsplit(""), "", None
    if not name or name in ("*", "*.") or parts.scheme not in ("http", "https"):
        raise ConfigError(f"hosts: {text!r} is no host; give a name such as *.example.org")
    return parts.scheme == "http", name, port


def api_url(search: SearchConfig) -> str | None:
    """Return the root of the STAC API that ``search.catalog`` stands for; ``None`` for a file."""
    catalog = search.catalog
    if catalog in ENDPOINTS:
        return ENDPOINTS[catalog]
    if catalog.startswith(("http://", "https://")):
        check_endpoint(catalog, search, "--catalog")
        return catalog
    if "://" in catalog:
        raise ConfigError(
            f"--catalog {strip_secrets(catalog)}: not http(s); give a STAC API's https address, "
            f"an ItemCollection file, or one of {', '.join(ENDPOINTS)}, demo"
        )
    return None


def check_endpoint(url: str, search: SearchConfig, option: str) -> None:
    """Refuse an address to ask (``ConfigError``) that is plain http or holds a password or key.

    Settings are written into run folders, so what must stay secret belongs to the environment.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise ConfigError(f"{option} {strip_secrets(url)}: {error}; correct the address") from error
    if not host or parts.username or parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"{option} {strip_secrets(url)}: needs a host and no user name; give https://HOST/..."
        )
    if _BARE_SECRET.search(parts.query):
        raise ConfigError(
            f"{option} {strip_secrets(url)}: holds a key, which would be written into the run "
            "folder; leave it out, keys come from the environment (PC_SDK_SUBSCRIPTION_KEY)"
        )
    plain = tuple(h for h in search.hosts if h.startswith("http://"))
    if parts.scheme == "http" and not Allowed((*LOOPBACK, *plain)).takes("http", host, port):
        raise ConfigError(
            f"{option} {strip_secrets(url)}: plain http can be altered on the way; give https, or "
            f'add "http://{host}" to the setting hosts'
        )


def allowed_for(search: SearchConfig, root: Path | None = None) -> Allowed:
    """Return what items of this catalog may point at; ``root`` is a file catalog's folder.

    Raises ``ConfigError`` for an entry of ``search.hosts`` that is no host.
    """
    for host in search.hosts:
        _pattern(host)
    known = KNOWN_HOSTS.get(search.catalog)
    if known is None:
        known = tuple(host for hosts in KNOWN_HOSTS.values() for host in hosts)
        own = urlsplit(api_url(search) or "").hostname
        known += (own, *(LOOPBACK if own in LOOPBACK else ())) if own else ()
    return Allowed((*known, *search.hosts), root)


def check_href(item_id: str, href: str, allowed: Allowed, *, there: bool = True) -> None:
    """Refuse (``CatalogError`` naming item, fact and fix) an absolute href that may not be read.

    ``there=False`` takes files that are allowed but gone, of which reading tells.
    """
    shown = strip_secrets(href)[:200]
    if not is_remote(href):
        _check_file(item_id, href, allowed, there)
        return
    try:
        parts = urlsplit(href)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise CatalogError(f"item {item_id}: {shown} is no address ({error})") from error
    plain = re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", host)  # a reader may end others elsewhere
    if (
        scheme not in ("http", "https")
        or not plain
        or "@" in parts.netloc
        or not href.isprintable()
    ):
        raise CatalogError(
            f"item {item_id}: {shown} is not a plain https address; "
            "use a catalog that offers its pixels over https"
        )
    if not allowed.takes(scheme, host, port):
        raise CatalogError(
            f"item {item_id}: {shown} stands on {scheme}://{host}, which is not allowed; "
            f'if you trust it, add "{host if scheme == "https" else f"http://{host}"}" to '
            "the setting hosts"
        )
    if not unquote(parts.path).lower().endswith(SUFFIXES):
        raise CatalogError(f"item {item_id}: {shown} does not end in {', '.join(SUFFIXES)}")


def _check_file(item_id: str, href: str, allowed: Allowed, wanted: bool) -> None:
    path = Path(href)
    if allowed.root is None:
        raise CatalogError(
            f"item {item_id}: {href[:200]} is a local file; save the items as an ItemCollection "
            "file beside their pixels"
        )
    try:
        inside = path.resolve().is_relative_to(allowed.root.resolve())
        there = inside and (path.is_file() or not wanted)
    except (OSError, ValueError, RuntimeError) as error:
        raise CatalogError(f"item {item_id}: {href[:200]!r} is no path ({error})") from error
    if not inside:
        raise CatalogError(
            f"item {item_id}: {href[:200]} lies outside {allowed.root}; "
            "move the pixels below the folder of the ItemCollection file"
        )
    if not there:
        raise CatalogError(f"item {item_id}: {href[:200]} is not there; put it back")
    if path.suffix.lower() not in SUFFIXES:
        raise CatalogError(f"item {item_id}: {href[:200]} does not end in {', '.join(SUFFIXES)}")


def is_remote(href: str) -> bool:
    """Tell an address (``scheme://...``) from a path; a drive letter is no scheme."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", href) is not None


def absolute(href: str, folder: Path | None) -> str:
    """Return ``href`` absolute: addresses as they are, paths and file:// taken from ``folder``."""
    if href.lower().startswith("file://"):
        href = url2pathname(urlsplit(href).path)
    if is_remote(href) or folder is None:
        return href
    return (folder / href).as_posix()


def unsigned(href: str) -> str:
    """Return an address without its query and fragment; paths come back as they are.

    All of the query goes: which of its parts is a secret differs with every host, and pixels that
    need one to be found are not supported.
    """
    return re.split("[?#]", href, maxsplit=1)[0] if is_remote(href) else href


def strip_secrets(text: str) -> str:
    """Return ``text`` with queries and user names cut out of every address in it."""
    return _BARE_SECRET.sub(r"\1=***", _URL.sub(_without_query, str(text)))


def _without_query(match: re.Match[str]) -> str:
    rest, mark, _ = match["rest"].partition("?")
    rest = _USER.sub("//", "//" + rest.partition("#")[0])  # one address may hang on another
    closing = match["rest"][-1] if mark and match["rest"][-1] in ").,;:" else ""
    mark = "?***" if mark else ""
    return f"{match['scheme']}:{rest}{mark}{closing}"
