"""What deploy/certificates.sh makes: an authority for one cluster, and certificates for one use."""

from __future__ import annotations

import ssl
import subprocess

import pytest

from tests.deploy.files import DEPLOY
from tests.deploy.machines import certificates


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("own") / "tls")


def shaken(tls, server: str, client: str) -> str:
    """Shake hands in memory; returns the cipher, or raises what one side refuses with."""
    ca = str(tls / "ca.pem")
    there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    there.verify_mode = ssl.CERT_REQUIRED
    here = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    here.check_hostname = False
    for context, name in ((there, server), (here, client)):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(tls / f"{name}.pem", tls / f"{name}.key")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [here.wrap_bio(down, up), there.wrap_bio(up, down, server_side=True)]
    left = list(ends)
    for _ in range(10):
        for end in list(left):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            left.remove(end)
    assert not left
    return str(ends[0].cipher())


def test_scheduler_workers_and_clients_know_each_other(tls):
    assert shaken(tls, "cluster", "client")
    assert shaken(tls, "cluster", "cluster")


def test_a_clients_certificate_cannot_pose_as_a_scheduler(tls):
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shaken(tls, "client", "client")


def test_keys_are_for_their_owner_and_nothing_is_replaced(tls):
    keys = sorted(tls.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "client.key", "cluster.key"]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    before = {path: path.read_bytes() for path in tls.iterdir()}
    certificates(tls)
    assert {path: path.read_bytes() for path in tls.iterdir()} == before


def test_a_lost_certificate_needs_the_authoritys_key(tls, tmp_path):
    folder = certificates(tmp_path / "tls")
    (folder / "ca.key").unlink()
    (folder / "client.pem").unlink()
    done = subprocess.run(
        [DEPLOY / "certificates.sh", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ca.key: not there, so client.pem cannot be signed; put it back" in done.stderr
