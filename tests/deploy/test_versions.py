"""Machines of a cluster that differ: told in one line, or sent away where they joined late."""

from __future__ import annotations

import logging

import pytest
from distributed import Client

from scanner.config import RunConfig
from scanner.errors import ConfigError, ModelError
from scanner.models.ref import ModelRef
from scanner.run import versions
from scanner.run.cluster import open_client
from scanner.run.secure import connection_security
from scanner.run.versions import REFUSED, WARNED, Difference, differences, versions_here
from scanner.version import __version__
from tests.deploy.machines import wait_for

HERE = {
    "mining-scan": "0.1.0", "python": "3.11.7", "dask": "2026.8.0", "distributed": "2026.8.0",
    "numpy": "2.4.6", "cloudpickle": "3.1.2", "msgpack": "1.1.2", "torch": "2.15.0+cu132",
    "openvino": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("there", "refused", "warned"),
    [
        ({}, [], []),
        ({"mining-scan": "0.1.1"}, ["mining-scan"], []),
        ({"mining-scan": None}, ["mining-scan"], []),
        ({"python": "3.12.7"}, ["python"], []),
        ({"python": "3.11.9"}, [], []),
        ({"dask": "2026.8.1"}, ["dask"], []),
        ({"distributed": "2026.7.0"}, ["distributed"], []),
        ({"numpy": "3.0.0"}, ["numpy"], ["numpy"]),
        ({"numpy": "2.4.7"}, [], ["numpy"]),
        ({"cloudpickle": "3.2.0", "msgpack": "1.9"}, [], []),
        ({"cloudpickle": "4.0.0"}, ["cloudpickle"], []),
        ({"torch": "2.15.0+cpu"}, [], []),
        ({"torch": "2.14.1"}, [], ["torch"]),
        ({"openvino": "2026.4.1"}, [], ["openvino"]),
    ],
)
def test_what_is_refused_and_what_is_warned_of(there, refused, warned):
    found = HERE | there
    assert [one.package for one in differences(found, HERE, REFUSED)] == refused
    assert [one.package for one in differences(found, HERE, WARNED)] == warned


def test_a_line_names_the_worst_first_and_where():
    there = {f"worker tls://10.0.0.{n}:1": HERE | {"mining-scan": "0.0.9"} for n in range(2, 7)}
    there["the scheduler"] = HERE | {"dask": "2025.1.0"}
    assert versions._told(there, HERE, REFUSED) == (
        "worker tls://10.0.0.2:1, worker tls://10.0.0.3:1, worker tls://10.0.0.4:1 and 2 more: "
        "mining-scan 0.0.9, here 0.1.0 (dask differs too)"
    )
    assert versions._told({"the scheduler": HERE}, HERE, REFUSED) is None


def test_this_machine_knows_what_it_runs():
    found = versions_here()
    assert found["mining-scan"] == __version__
    assert all(found[name] for name in REFUSED)
    assert str(Difference("torch", None, "2.15.0")) == "torch not installed, here 2.15.0"


# --- on a cluster of processes


def pretend(folder, package: str, version: str) -> str:
    """Return a folder in which another version of a package seems to be installed."""
    about = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return str(folder)


@pytest.fixture(scope="module")
def run(machines):
    """The settings that reach the cluster of this module, which has one good worker."""
    machines.start_worker("good")
    return RunConfig(
        scheduler=machines.address,
        tls_ca=machines.tls / "ca.pem",
        tls_cert=machines.tls / "client.pem",
        tls_key=machines.tls / "client.key",
    )


@pytest.fixture
def other(machines, tmp_path):
    """``other(package, version)`` starts a worker that differs, and ends it after the test."""
    started = []

    def start(package: str, version: str) -> str:
        name = f"other-{package}-{version}"
        machines.start_worker(name, first=pretend(tmp_path / name, package, version))
        started.append(name)
        return name

    yield start
    for name in started:
        machines.kill(name)


def count(machines, run, number: int) -> set[str]:
    """Wait until the scheduler knows ``number`` workers; returns their addresses."""
    with Client(run.scheduler, security=connection_security(run), set_as_default=False) as client:
        wait_for(
            lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == number, f"{number} there"
        )
        return set(client.scheduler_info(n_workers=-1)["workers"])


def test_workers_of_another_version_are_refused_in_one_line(machines, run, other):
    good = count(machines, run, 1)
    other("mining-scan", "0.0.9")
    (bad,) = count(machines, run, 2) - good
    with pytest.raises(ConfigError) as caught, open_client(run):
        pass
    told = str(caught.value)
    python = ".".join(versions_here()["python"].split(".")[:2])
    assert told == (
        f"--scheduler {run.scheduler}: worker {bad}: mining-scan 0.0.9, here {__version__}; "
        f"install mining-scan {__version__} there from the same lock file, on Python {python}, or "
        "run one image on both sides"
    )
    assert caught.value.exit_code == 2


def test_what_may_move_a_last_digit_is_warned_of(machines, run, other, caplog):
    count(machines, run, 1)
    other("torch", "2.9.0")
    count(machines, run, 2)
    with caplog.at_level(logging.WARNING), open_client(run):
        pass
    (line,) = (one.getMessage() for one in caplog.records if one.name == versions.__name__)
    assert "torch 2.9.0, here" in line
    assert line.endswith("; rows may differ in their last digits")


def test_who_joins_late_and_differs_is_sent_away(machines, run, other, caplog):
    good = count(machines, run, 1)
    with caplog.at_level(logging.WARNING), open_client(run) as client:
        name = other("mining-scan", "0.0.8")
        wait_for(lambda: machines.running[name].poll() is not None, "the end of the late one")
        wait_for(lambda: "joined late" in caplog.text, "word of it")
        assert client.submit(abs, -1).result() == 1
        assert set(client.scheduler_info(n_workers=-1)["workers"]) == good
    (line,) = (one.getMessage() for one in caplog.records if "joined late" in one.getMessage())
    assert line.startswith("worker tls://127.0.0.1:")
    assert "joined late and is not used: mining-scan 0.0.8, here" in line
    assert "mining-scan 0.0.8, here" in machines.log(name).read_text()


def test_a_worker_with_another_model_is_named(machines, run, tiny_models):
    (good,) = count(machines, run, 1)
    ref = ModelRef("classifier", tiny_models["classifier"], "0" * 64)
    with (
        pytest.raises(ModelError, match=rf"^worker {good}: classifier .*; install the same model"),
        open_client(run, [ref]),
    ):
        pass
