"""Certificates of an authority of one's own, made by openssl for a test and good for a day."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from distributed import Security

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority; ``ca`` is its own certificate, ``pair`` signs another's."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl to make certificates with; install it")
        folder.mkdir(parents=True)
        self._folder = folder
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl("req", "-x509", *CURVE, "-days", "1", "-subj", "/CN=authority",
                 "-keyout", self._key, "-out", self.ca)  # fmt: skip

    def pair(self, name: str) -> tuple[Path, Path]:
        """Return a new certificate and its key."""
        cert, key, asked = (self._folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        _openssl("req", *CURVE, "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
        _openssl("x509", "-req", "-in", asked, "-CA", self.ca, "-CAkey", self._key,
                 "-CAcreateserial", "-days", "1", "-out", cert)  # fmt: skip
        return cert, key

    def settings(self, name: str) -> dict[str, Path]:
        """Return the settings of a run that shows a new certificate."""
        cert, key = self.pair(name)
        return {"tls_ca": self.ca, "tls_cert": cert, "tls_key": key}

    def security(self) -> Security:
        """Return what a scheduler and its workers are started with."""
        cert, key = map(str, self.pair("cluster"))
        return Security(
            require_encryption=True,
            tls_ca_file=str(self.ca),
            tls_scheduler_cert=cert,
            tls_scheduler_key=key,
            tls_worker_cert=cert,
            tls_worker_key=key,
            tls_client_cert=cert,
            tls_client_key=key,
        )


def _openssl(*args: object) -> None:
    done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
