"""Signatures: what turns a stored address into one a host answers, for less than an hour.

Items are kept unsigned in memory and on disk, and signed when a tile is submitted: a signature
made earlier expires in the queue, and the libraries return a signed address unchanged.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from scanner.config import SearchConfig
from scanner.errors import CatalogError
from scanner.imagery.hrefs import check_endpoint, is_remote, strip_secrets, unsigned
from scanner.imagery.item import Item

MARGIN_S: Final = 300.0
"""Seconds before its end at which a token is replaced: a tile must be read while it lasts.

Tokens live about 45 minutes; of one that lives less than twice this, half its life is used.
"""

TIMEOUT_S: Final = (10.0, 60.0)
"""Seconds to connect and to wait for an answer."""

RETRIES: Final = 5
"""Tries after the first at a token endpoint that answers 429 or 5xx."""

_EPOCH: Final = dt.datetime.fromtimestamp(0, dt.UTC)

BLOB_HOST: Final = ".blob.core.windows.net"
"""Host ending of the Azure storage that the Planetary Computer's tokens open."""


class Signer(Protocol):
    """Turns unsigned hrefs into readable ones."""

    def sign(self, href: str) -> str:
        """Return ``href`` with a valid signature; hrefs that need none come back unchanged."""

    def forget(self) -> None:
        """Drop cached tokens, after a host refused one."""


@dataclass(frozen=True)
class NoSigner:
    """For catalogs whose pixels are public, and for files."""

    def sign(self, href: str) -> str:
        """Return ``href`` unchanged."""
        return href

    def forget(self) -> None:
        """Do nothing."""


@dataclass
class PlanetaryComputerSigner:
    """Signs Azure storage hrefs with tokens of the Planetary Computer (its own package).

    ``PC_SDK_SUBSCRIPTION_KEY`` and ``PC_SDK_SAS_URL`` in the environment are the package's. The
    package asks without a time-out and keeps a token to its last minute, so tokens are put into
    its cache from here.
    """

    _renew: dict[str, dt.datetime] = field(default_factory=dict, repr=False)

    def sign(self, href: str) -> str:
        """Return ``href`` signed, where it stands in Azure storage; ``CatalogError`` without."""
        if not (urlsplit(href).hostname or "").endswith(BLOB_HOST):
            return href
        try:
            return self._sign(unsigned(href))
        except Exception as error:  # requests, urllib3, pydantic, ValueError: whatever it meets
            raise _no_token(href, error, "planetary-computer") from error

    def _sign(self, href: str) -> str:
        sas = _planetary_computer()
        settings = sas.Settings.get()
        where = f"{settings.sas_url}/{'/'.join(_account_and_container(href))}"
        if where not in sas.TOKEN_CACHE or _now() >= self._renew.get(where, _EPOCH):
            key = settings.subscription_key
            answer = _ask(where, {"Ocp-Apim-Subscription-Key": key} if key else {})
            sas.TOKEN_CACHE[where] = sas.SASToken(**answer)
            self._renew[where] = _renew_at(sas.TOKEN_CACHE[where].expiry, MARGIN_S)
        return str(sas.sign_url(href))

    def forget(self) -> None:
        """Empty the package's token cache of this process."""
        _planetary_computer().TOKEN_CACHE.clear()


@dataclass
class TokenSigner:
    """Asks a token endpoint such as ``https://host/token/{container}``, once per container.

    The answer is the Planetary Computer's: ``{"token": "...", "msft:expiry": "<RFC 3339>"}``.
    ``{container}`` stands for the first part of an href's path, ``{account}`` for that of its host.
    """

    token_url: str
    margin_s: float = MARGIN_S
    _tokens: dict[str, tuple[str, dt.datetime]] = field(default_factory=dict, repr=False)

    def sign(self, href: str) -> str:
        """Return ``href`` with a token that lasts; paths come back unchanged."""
        if not is_remote(href):
            return href
        plain = unsigned(href)
        account, container = _account_and_container(plain)
        where = self.token_url.replace("{container}", container).replace("{account}", account)
        token, renew = self._tokens.get(where, ("", _EPOCH))
        if _now() >= renew:
            try:
                answer = _ask(where, {})
                token = str(answer["token"])
                renew = _renew_at(_moment(str(answer["msft:expiry"])), self.margin_s)
            except Exception as error:  # requests, urllib3 or an answer of another form
                raise _no_token(plain, error, where) from error
            self._tokens[where] = token, renew
        return f"{plain}?{token}"

    def forget(self) -> None:
        """Drop all tokens."""
        self._tokens.clear()


def signer_for(search: SearchConfig) -> Signer:
    """Return what signs this catalog's hrefs.

    A ``token_url`` wins. Else Azure storage is signed through the Planetary Computer for that
    catalog and for files (which may hold its items); any other host is taken to be public.
    """
    if search.token_url:
        check_endpoint(search.token_url, search, "token_url")
        return TokenSigner(search.token_url)
    catalog = search.catalog
    if catalog in ("earth-search", "demo"):
        return NoSigner()
    host = urlsplit(catalog).hostname if is_remote(catalog) else None
    if host and not host.endswith("planetarycomputer.microsoft.com"):
        return NoSigner()
    return PlanetaryComputerSigner()


def signed(items: Iterable[Item], signer: Signer) -> list[Item]:
    """Return copies of unsigned ``items`` whose hrefs can be read now."""
    return [item.with_hrefs(signer.sign) for item in items]


def _account_and_container(href: str) -> tuple[str, str]:
    parts = urlsplit(href)
    return (parts.hostname or "").partition(".")[0], parts.path.lstrip("/").partition("/")[0]


def _renew_at(expiry: dt.datetime, margin_s: float) -> dt.datetime:
    """Return when to replace a token: ``margin_s`` before its end, at half its life if shorter."""
    now = _now()
    life = (expiry - now).total_seconds()
    return now + dt.timedelta(seconds=max(life - margin_s, life / 2))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _moment(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _planetary_computer() -> Any:
    """Return the package's ``sas`` module; it warns of its own pydantic style on import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from planetary_computer import sas
    return sas


def _ask(url: str, headers: dict[str, str]) -> dict[str, Any]:
    """Return the JSON object a token endpoint answers."""
    import requests

    with requests.Session() as session:
        session.mount("https://", _adapter())
        session.mount("http://", _adapter())
        response = session.get(url, headers=headers, timeout=TIMEOUT_S)
        response.raise_for_status()
        return dict(response.json())


def _adapter() -> Any:
    from requests.adapters import HTTPAdapter

    return HTTPAdapter(max_retries=retry_policy(RETRIES))


def retry_policy(total: int, backoff: float = 0.5) -> Any:
    """Return urllib3's ``Retry``: 429 and 5xx of any method, ``Retry-After`` obeyed.

    A server may ask for hours of patience; it gets two minutes, where urllib3 can cap it.
    """
    from urllib3 import Retry

    policy = Retry(
        total=total,
        backoff_factor=backoff,
        backoff_max=30,
        status_forcelist=[429, 502, 503, 504],
        allowed_methods=None,
        respect_retry_after_header=True,
    )
    if hasattr(policy, "retry_after_max"):
        policy.retry_after_max = 120
    return policy


def _no_token(href: str, error: Exception, source: str) -> CatalogError:
    return CatalogError(
        f"{strip_secrets(href)}: no token from {strip_secrets(source)} "
        f"({strip_secrets(str(error))[:200]}); check the network and the token endpoint"
    )
