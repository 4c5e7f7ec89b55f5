"""mining-scan against a cluster of separate processes: same rows, whatever its machines do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from distributed import Client, get_worker

from scanner.config import RunConfig
from scanner.run.cluster import open_client
from scanner.run.secure import connection_security
from tests.deploy.conftest import TILES
from tests.deploy.files import pods
from tests.deploy.machines import wait_for
from tests.processes import parts_done

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")


def rows(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def took_part(machines, name: str) -> bool:
    return "Starting Worker plugin mining-scan" in machines.log(name).read_text()


@pytest.mark.slow
def test_machines_with_addresses_of_their_own(namespaced, area, tmp_path):
    """Three workers, one killed, one unplugged, one that joins late: the laptop's own rows."""
    machines, network = namespaced
    address = machines.start_scheduler()
    assert address == "tls://10.77.0.1:8786"
    for name in ("one", "two", "three"):
        machines.start_worker(name)
    out = tmp_path / "cluster-run"
    scan = machines.scan("laptop", *area.arguments, "--out", out)
    wait_for(lambda: parts_done(out) or scan.poll() is not None, "a tile")
    assert scan.poll() is None, scan.communicate()
    with machines.paused("one"):  # or it would be done before the fourth has started
        machines.kill("two")
        network.unplug("three")
        machines.start_worker("four")
        wait_for(lambda: took_part(machines, "four"), "the fourth worker")
        done = len(parts_done(out))
    _, told = scan.communicate()
    assert scan.returncode == 0, told
    assert 1 <= done < TILES
    assert rows(out) == rows(area.out)


def test_a_worker_is_lost_and_one_joins_on_the_way(machines, area, tmp_path):
    """The same on loopback and small: TLS by deploy/'s own commands, configuration and script."""
    for name in ("first", "second"):
        machines.start_worker(name)
    out = tmp_path / "cluster-run"
    scan = machines.scan("laptop", *area.arguments, "--out", out)
    wait_for(lambda: parts_done(out) or scan.poll() is not None, "a tile")
    assert scan.poll() is None, scan.communicate()
    machines.kill("second")
    machines.start_worker("third")
    _, told = scan.communicate()
    assert scan.returncode == 0, told
    assert rows(out) == rows(area.out)
    machines.kill("first")
    machines.kill("third")


def security(machines):
    run = RunConfig(
        scheduler=machines.address,
        tls_ca=machines.tls / "ca.pem",
        tls_cert=machines.tls / "client.pem",
        tls_key=machines.tls / "client.key",
    )
    return run, connection_security(run)


def where():
    return get_worker().name


def test_tasks_that_ask_for_a_gpu_go_to_the_worker_that_offers_one(machines):
    """A mixed pool: what is annotated runs on the owner of the GPU, the rest anywhere."""
    run, _ = security(machines)
    machines.start_worker("reader")
    machines.start_worker("owner", service="worker-gpu")
    with Client(machines.address, security=security(machines)[1], set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)
    with open_client(run) as client:
        offers = {
            one["name"]: one["resources"]
            for one in client.scheduler_info(n_workers=-1)["workers"].values()
        }
        assert offers == {"reader": {}, "owner": {"GPU": 1}}
        with dask.annotate(resources={"GPU": 1}):
            asked = [dask.delayed(where)(dask_key_name=f"infer-{n}") for n in range(6)]
        free = [dask.delayed(where)(dask_key_name=f"read-{n}") for n in range(6)]
        answers = client.gather(client.compute(asked + free, optimize_graph=False))
    assert set(answers[:6]) == {"owner"}
    assert "reader" in answers[6:]
    machines.kill("reader")
    machines.kill("owner")


def test_the_operator_can_scale_a_scheduler_that_speaks_tls_alone(namespaced):
    """It asks over HTTP, as the manifest lets it; nothing else is served there."""
    machines, _ = namespaced
    (container,) = pods()["cluster.yaml: DaskCluster mining-scan scheduler"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    machines.start("scheduler", container["args"], **environment)
    ask = (
        "import json, sys, urllib.request as r\n"
        "def ask(path, data=None):\n"
        "    q = r.Request('http://127.0.0.1:8787' + path, data)\n"
        "    q.add_header('Content-Type', 'application/json')\n"
        "    try: return r.urlopen(q, timeout=10).read().decode()\n"
        "    except r.HTTPError as e: return e.code\n"
        "print(json.dumps([ask('/health'), ask('/api/v1/adaptive_target'),\n"
        "  ask('/api/v1/retire_workers', b'{\"n\": 0}'), ask('/info/main/workers.html'),\n"
        "  ask('/json/identity.json')]))\n"
    )
    prefix, _ = machines._network.enter("scheduler")

    def answered():
        done = subprocess.run(
            [*prefix, sys.executable, "-c", ask], capture_output=True, text=True, check=False
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    wait_for(answered, "an answer")
    health, target, retired, page, identity = answered()
    assert health == "ok"
    assert json.loads(target) == {"workers": 0}
    assert json.loads(retired) == {}
    assert (page, identity) == (404, 404)
