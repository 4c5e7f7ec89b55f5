"""Clusters over a network: encrypted, with certificates of one CA on both sides, or not at all."""

from __future__ import annotations

import logging
import subprocess
from dataclasses import replace
from pathlib import Path

import dask.config
import pytest
import tomli_w
from distributed import LocalCluster

from scanner.config import RunConfig
from scanner.errors import ConfigError
from scanner.run.cluster import open_client
from scanner.run.pipeline import scan
from scanner.run.secure import connection_security
from tests.security.certificates import Authority

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")
REMOTE = "tls://scheduler.example.org:8786"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The CA of the cluster."""
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Another CA, which signed nothing of the cluster's."""
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
def cluster(authority):
    """Address of a scheduler with one worker process, both of which talk TLS alone."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        host="127.0.0.1",
        protocol="tls://",
        security=authority.security(),
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as started:
        assert all(
            worker.worker_address.startswith("tls://") for worker in started.workers.values()
        )
        yield str(started.scheduler_address)


@pytest.fixture(scope="module")
def certificates(authority):
    return authority.settings("analyst")


@pytest.fixture
def small(calm, tmp_path):
    """The calm run's settings, for a folder of its own."""
    return calm.with_values(out=tmp_path / "run", workers=None)


def test_a_scan_over_tls_gives_the_same_rows(calm, small, cluster, certificates):
    config = small.with_values(scheduler=cluster, **certificates)
    assert cluster.startswith("tls://127.0.0.1:")
    reports = list(scan(config))
    assert len(reports) == 2
    assert all(reports)
    for name in FILES:
        assert (config.run.out / name).read_bytes() == (calm.run.out / name).read_bytes()
    written = b"".join(p.read_bytes() for p in config.run.out.rglob("*") if p.is_file())
    assert str(certificates["tls_key"]).encode() not in written
    assert "tls" not in (config.run.out / "config.toml").read_text(), "how it ran is not what it is"


def test_the_connection_is_encrypted_and_both_sides_are_known(cluster, certificates):
    with open_client(RunConfig(scheduler=cluster, **certificates)) as client:
        comm = client.scheduler_comm.comm
        assert comm.peer_address == cluster
        assert comm.extra_info["cipher"][1] in ("TLSv1.2", "TLSv1.3")
        assert dict(comm.extra_info["peercert"]["subject"][0])["commonName"] == "cluster"
        assert client.security.require_encryption


@pytest.mark.parametrize("who", ["wrong authority", "foreign certificate", "plain tcp"])
def test_who_does_not_belong_is_refused(
    call, small, tmp_path, cluster, authority, stranger, who
):  # fmt: skip
    """Settings of a stranger, our CA with a stranger's certificate, and no encryption at all."""
    run = {name: str(path) for name, path in stranger.settings("stranger").items()}
    run |= {"scheduler": cluster}
    if who == "foreign certificate":
        run["tls_ca"] = str(authority.ca)
    elif who == "plain tcp":
        run = {"scheduler": cluster.replace("tls://", "tcp://")}
    (tmp_path / "there.toml").write_text(tomli_w.dumps({"run": run}))
    models = [f"--{name}={getattr(small.pixels, name)}" for name in ("segmenter", "classifier")]
    code, _, err = call(
        small.aoi, "--catalog", small.search.catalog, "--config", tmp_path / "there.toml",
        "--out", small.run.out, *models,
    )  # fmt: skip
    assert code == 2
    (line,) = (line for line in err.splitlines() if line.startswith("mining-scan: "))
    assert f"--scheduler {run['scheduler']}: no scheduler answers (" in line
    assert ("one CA signed" in line) == (who != "plain tcp")
    assert "Traceback" not in err
    assert not list(small.run.out.glob("parts/*"))


def test_dasks_own_configuration_is_used_where_the_settings_are_silent(certificates, stranger):
    cert, key = stranger.pair("of-dask")
    with dask.config.set(
        {
            "distributed.comm.tls.ca-file": str(stranger.ca),
            "distributed.comm.tls.client.cert": str(cert),
            "distributed.comm.tls.client.key": str(key),
        }
    ):
        found = connection_security(RunConfig(scheduler=REMOTE))
        assert found.tls_client_cert == str(cert)
        ours = connection_security(RunConfig(scheduler=REMOTE, **certificates))
    assert ours.tls_ca_file == str(certificates["tls_ca"])
    assert ours.tls_client_key == str(certificates["tls_key"])
    assert found.require_encryption
    assert ours.require_encryption


@pytest.mark.parametrize(
    "address",
    [
        "tcp://10.0.0.5:8786", "10.0.0.5:8786", "scheduler:8786", "tcp://0.0.0.0:8786",
        "tcp://[2001:db8::1]:8786", "tcp://localhost.example.org:8786", "tcp://127.1.example:1",
        "tcp://127.0.0.1@example.org:8786", "tcp://169.254.169.254:80",
    ],
)  # fmt: skip
def test_plain_tcp_beyond_this_machine_is_refused(address):
    with pytest.raises(ConfigError, match=r"plain tcp beyond this machine.*tls://.*tls_ca"):
        connection_security(RunConfig(scheduler=address))
    assert connection_security(RunConfig(scheduler=address, trusted_network=True)) is None


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:8786", "127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786",
     "tcp://127.8.9.1", "tcp://LocalHost:1"],
)  # fmt: skip
def test_plain_tcp_on_this_machine_is_taken(address):
    assert connection_security(RunConfig(scheduler=address)) is None


@pytest.mark.parametrize(
    "address",
    ["", "tls://", "http://127.0.0.1:8786", "inproc://1", "ws://127.0.0.1:8786", "tcp://::1:x:8786",
     "tcp://127.0.0.1:port", "tcp://tls://127.0.0.1:8786", "tcp://[::1"],
)  # fmt: skip
def test_an_address_that_is_none(address):
    with pytest.raises(ConfigError, match=r"^--scheduler .*give tls://HOST:8786$"):
        connection_security(RunConfig(scheduler=address, trusted_network=True))


def test_tls_without_certificates_is_one_line_before_anything_is_asked(small):
    for run in (RunConfig(scheduler=REMOTE), RunConfig(scheduler=REMOTE, trusted_network=True)):
        with (
            pytest.raises(ConfigError, match=r"tls:// without certificates; set tls_ca, tls_cert"),
            open_client(run),
        ):
            pass


def test_files_that_are_not_certificates_are_named(authority, certificates, stranger, tmp_path):
    run = RunConfig(scheduler=REMOTE, **certificates)
    empty, pickle = tmp_path / "empty.pem", tmp_path / "model.pt"
    empty.touch()
    pickle.write_bytes(b"\x80\x04" * 100)
    locked = _locked(certificates["tls_key"], tmp_path / "locked.key")
    other = stranger.pair("other")[1]
    for change, told in [
        ({"tls_ca": tmp_path / "absent.pem"}, r"tls_ca .*absent\.pem: cannot be read \(No such"),
        ({"tls_ca": tmp_path}, "tls_ca .*cannot be read"),
        ({"tls_ca": empty}, r"tls_ca .*empty\.pem: holds no certificate"),
        ({"tls_ca": pickle}, r"tls_ca .*holds no certificate"),
        ({"tls_cert": tmp_path / "absent.pem"}, r"tls_cert .*cannot be read"),
        ({"tls_cert": empty}, r"tls_cert .*not a certificate and its key"),
        ({"tls_cert": pickle}, r"tls_cert .*not a certificate and its key"),
        ({"tls_key": tmp_path / "absent.key"}, r"tls_key .*cannot be read"),
        ({"tls_key": None}, r"tls_cert .*not a certificate and its key"),
        ({"tls_key": other}, r"belong together"),
        ({"tls_key": locked}, r"locked by a password"),
        ({"tls_key": Path("a\0b")}, r"tls_key .*cannot be read"),
    ]:
        with pytest.raises(ConfigError, match=told) as caught:
            connection_security(replace(run, **change))
        assert len(str(caught.value).splitlines()) == 1
        assert ";" in str(caught.value)


def test_a_key_in_its_certificates_file_is_found(certificates, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(certificates["tls_cert"].read_bytes() + certificates["tls_key"].read_bytes())
    found = connection_security(
        RunConfig(scheduler=REMOTE, tls_ca=certificates["tls_ca"], tls_cert=both)
    )
    assert found.get_connection_args("client")["ssl_context"].get_ca_certs()


def _locked(key: Path, out: Path) -> Path:
    subprocess.run(
        ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:hush", "-out", out],
        check=True,
        capture_output=True,
    )
    return out
