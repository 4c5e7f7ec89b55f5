"""What a connection to a running Dask scheduler must be: of this machine, or encrypted both ways.

Dask has no password. Whoever reaches a scheduler can run any code on its workers, and what it sends
back is unpickled here. So an address beyond this machine is taken with certificates alone: each
side shows one that the cluster's own certificate authority (CA) signed. Host names are not
checked, as Dask never does, so a CA must sign for one cluster and for nothing else.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from distributed import Security
from distributed.comm import parse_address, parse_host_port

from scanner.config import RunConfig
from scanner.errors import ConfigError

PORT: Final = 8786
"""Dask's own, where an address names none."""


def connection_security(run: RunConfig) -> Security | None:
    """Return the certificates for ``run.scheduler``; ``None`` for plain tcp, where that is allowed.

    Raises ``ConfigError`` for an address that is none, for plain tcp beyond this machine without
    ``run.trusted_network``, and for tls where a file lacks, cannot be read or does not fit.
    """
    address = run.scheduler or ""
    try:
        scheme, place = parse_address(address)
        host, _ = parse_host_port(place, PORT)
    except ValueError as error:
        raise ConfigError(f"--scheduler {address}: {error}; give tls://HOST:{PORT}") from error
    if not host or scheme not in ("tcp", "tls"):
        raise ConfigError(f"--scheduler {address}: no such address; give tls://HOST:{PORT}")
    if scheme == "tls":
        return _certificates(run)
    if not (run.trusted_network or _is_loopback(host)):
        raise ConfigError(
            f"--scheduler {address}: plain tcp beyond this machine lets anyone on the way read and "
            "run code; give tls:// with certificates ([run] tls_ca, tls_cert, tls_key in a config "
            "file), or set trusted_network = true there where nobody else is on that network"
        )
    return None


def _is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, told from its text: a name is not looked up."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host.lower() == "localhost"


def _certificates(run: RunConfig) -> Security:
    """Return the settings' certificates, Dask's own configuration for those they leave out."""
    given = {
        "tls_ca_file": run.tls_ca,
        "tls_client_cert": run.tls_cert,
        "tls_client_key": run.tls_key,
    }
    try:
        security = Security(
            require_encryption=True,
            **{name: str(path) for name, path in given.items() if path is not None},
        )
    except ValueError as error:  # of Dask's configuration: a version of TLS that is none
        raise ConfigError(f"Dask's configuration: {error}; correct it") from error
    ca, cert, key = security.tls_ca_file, security.tls_client_cert, security.tls_client_key
    if not ca or not cert:
        raise ConfigError(
            f"--scheduler {run.scheduler}: tls:// without certificates; set tls_ca, tls_cert and "
            "tls_key under [run] in a config file, or distributed.comm.tls in Dask's configuration"
        )
    _check_files(ca, cert, key or None)
    return security


def _check_files(ca: str, cert: str, key: str | None) -> None:
    """Load what Dask will load, so that what does not fit is told in one line and asks nothing.

    Dask also takes the text of a certificate for its name; such are left to it.
    """
    if any("\n" in text for text in (ca, cert, key or "")):
        return
    for name, file in (("tls_ca", ca), ("tls_cert", cert), ("tls_key", key)):
        try:
            if file is not None:
                Path(file).read_bytes()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"{name} {file}: cannot be read ({why}); give a PEM file") from error
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise ConfigError(
            f"tls_ca {ca}: holds no certificate ({error.reason}); give the CA's PEM file"
        ) from error
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(
            f"tls_cert {cert} with tls_key {key or cert}: not a certificate and its key "
            f"({error.reason or error}); give PEM files that belong together"
        ) from error


def _no_password() -> str:
    """Refuse a locked key, for which OpenSSL would ask at the terminal and wait."""
    raise ConfigError("tls_key: is locked by a password; give a key file without one, mode 600")
