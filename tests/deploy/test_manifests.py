"""deploy/ against its schemas, its linters, and what it names: files, commands, images, sizes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import dask.config
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dask.utils import parse_bytes
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker

from scanner.cli import command as mining_scan
from scanner.config import RunConfig
from scanner.run.cluster import THREADS, WORKER_BYTES, open_client
from scanner.version import __version__
from tests.deploy.files import DEPLOY, KUBERNETES, ROOT, commands, compose, manifests, pods

KUBERNETES_VERSION = "1.34"
BIN = Path(sys.executable).parent
SCHEMAS = Path(__file__).parent / "schemas"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
DOCS = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
WORKERS = [name for name, line in commands().items() if line[:2] == ["dask", "worker"]]


def each(what: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("name", sorted(what))


def option(line: list[str], name: str) -> str:
    (found,) = (part.partition("=")[2] for part in line if part.startswith(f"--{name}="))
    return found


def locked(path: Path) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    assert len(re.findall(r"^\S+==", text, re.M)) == len(
        re.findall(r"^\S+==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.M)
    ), "each package has a digest"
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.M))


# --- schemas


def test_compose_file_fits_the_compose_specification():
    folder = files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.validate(compose(), schema)
    spoilt = compose()
    spoilt["services"]["worker"]["memory"] = "3g"
    with pytest.raises(jsonschema.ValidationError, match="memory"):
        jsonschema.validate(spoilt, schema)


@each(manifests())
def test_manifests_fit_their_schemas(name):
    document = manifests()[name]
    if document["apiVersion"] != "kubernetes.dask.org/v1":
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
        return
    stored = json.loads((SCHEMAS / f"{document['kind'].lower()}.json").read_text(encoding="utf-8"))
    assert (document["kind"], document["apiVersion"]) == (stored["kind"], stored["version"])
    jsonschema.validate(document, stored["openAPIV3Schema"])


@each(pods())
def test_pods_fit_their_schema_and_may_do_little(name):
    """The operator's schema lets unknown fields pass; as a pod of its own none does."""
    spec = pods()[name]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= set(container["resources"])
    assert not any("value" in one and "KEY" in one["name"] for one in container.get("env", []))
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    assert {"/run/secrets/tls", "/tmp"} <= mounted  # noqa: S108


def test_kustomize_renders_what_it_names(tmp_path):
    (kustomization,) = yaml.safe_load_all((KUBERNETES / "kustomization.yaml").read_text())
    for name in (*kustomization["resources"], *kustomization["configurations"]):
        assert (KUBERNETES / name).is_file(), name
    made = {one["name"] for one in kustomization["secretGenerator"]}
    asked = {
        volume["secret"]["secretName"]
        for pod in pods().values()
        for volume in pod["volumes"]
        if "secret" in volume
    }
    assert asked == made
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl to render with; what it names was checked")
    folder = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    (folder / "tls").mkdir(exist_ok=True)
    for name in ("ca.pem", "cluster.pem", "cluster.key", "client.pem", "client.key"):
        (folder / "tls" / name).write_text(name)
    text = (folder / "kustomization.yaml").read_text()
    (folder / "kustomization.yaml").write_text(
        text.replace("newName: mining-scan", "newName: registry.example.org/mining-scan")
    )
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    (cluster,) = (one for one in rendered if one["kind"] == "DaskCluster")
    for part in ("scheduler", "worker"):
        (container,) = cluster["spec"][part]["spec"]["containers"]
        assert container["image"] == f"registry.example.org/mining-scan:{__version__}"
    assert {one["metadata"].get("namespace", "mining-scan") for one in rendered} == {"mining-scan"}


# --- what runs


@each(commands())
def test_commands_are_taken_by_the_programs_they_name(name):
    line = commands()[name]
    if line[0] == "mining-scan":
        given = [part for part in line[1:] if part != "--help"]
        mining_scan.make_context("mining-scan", given, resilient_parsing=False)
        (address,) = (part for part in line if part.startswith("--scheduler="))
        assert address.startswith("--scheduler=tls://")
        return
    program = {"scheduler": dask_scheduler, "worker": dask_worker}[line[1]]
    parsed = program.make_context(line[1], list(line[2:])).params
    if line[1] == "worker":
        assert parsed["scheduler"].startswith("tls://")
        assert parsed["nthreads"] == THREADS
    else:
        assert parsed["protocol"] == "tls"
    assert not any(part.startswith("--tls") for part in line), "tls.yaml names the certificates"


def test_workers_have_the_memory_a_tile_takes():
    assert len(WORKERS) == 4
    limits = {
        f"compose.yaml: {name}": service["mem_limit"].upper().replace("G", "GiB")
        for name, service in compose()["services"].items()
    }
    for name, pod in pods().items():
        limits[name] = f"{pod['containers'][0]['resources']['limits']['memory']}B"
    for name in WORKERS:
        own = parse_bytes(option(commands()[name], "memory-limit"))
        assert WORKER_BYTES <= own < parse_bytes(limits[name]), name


def test_workers_with_a_gpu_offer_it_to_dask():
    for name in WORKERS:
        offers = "--resources=GPU=1" in commands()[name]
        assert offers == ("gpu" in name), name
    (devices,) = compose()["services"]["worker-gpu"]["deploy"]["resources"]["reservations"][
        "devices"
    ]
    assert devices == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_the_settings_of_dask_are_those_of_a_local_cluster():
    given = yaml.safe_load((DEPLOY / "dask.yaml").read_text(encoding="utf-8"))
    flat: dict[str, Any] = {}

    def walk(node: dict[str, Any], path: str) -> None:
        for key, value in node.items():
            inner = f"{path}{key}"
            walk(value, f"{inner}.") if isinstance(value, dict) else flat.update({inner: value})

    walk(given, "")
    assert len(flat) == 11
    before = {name: dask.config.get(name, None) for name in flat}
    with open_client(RunConfig(workers=1)):
        assert {name: dask.config.get(name) for name in flat} == flat
    assert before != flat


# --- who reaches whom


def test_no_container_is_reached_from_outside():
    found = compose()
    assert found["networks"]["cluster"] == {"internal": True}
    for name, service in found["services"].items():
        assert "ports" not in service, name
        assert "environment" not in service, name
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "MINING_SCAN_USER:?" in service["user"]
    assert found["services"]["scheduler"]["networks"] == ["cluster"]
    assert option(commands()["compose.yaml: scheduler"], "dashboard-address") == "127.0.0.1:8787"


def test_each_has_its_own_certificates_alone():
    tls = yaml.safe_load((DEPLOY / "tls.yaml").read_text(encoding="utf-8"))["distributed"]["comm"]
    assert tls["require-encryption"] is True
    cluster = {tls["tls"]["ca-file"], *tls["tls"]["scheduler"].values()}
    assert cluster == {tls["tls"]["ca-file"], *tls["tls"]["worker"].values()}
    client = {tls["tls"]["ca-file"], *tls["tls"]["client"].values()}
    for name, service in compose()["services"].items():
        given = {one["target"] for one in service["secrets"]} - {
            "/tmp/.planetarycomputer/settings.env"  # noqa: S108
        }
        assert given == (client if name == "scan" else cluster), name
        assert {one["source"] for one in service["secrets"]} <= set(compose()["secrets"])


def test_network_policies_open_the_ports_that_are_used():
    rules = {
        name.partition("NetworkPolicy ")[2]: one["spec"]
        for name, one in manifests().items()
        if one["kind"] == "NetworkPolicy"
    }
    assert rules["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    worker = next(line for name, line in commands().items() if name.startswith("cluster.yaml")
                  and "worker" in line)  # fmt: skip
    ports = {int(option(worker, f"{kind}-port")) for kind in ("worker", "nanny")}
    assert ports == {one["port"] for one in rules["workers"]["ingress"][0]["ports"]}
    assert ports == {one["port"] for one in rules["scheduler"]["egress"][0]["ports"]}
    named = {
        tuple(peer["namespaceSelector"]["matchLabels"].values())
        for peer in rules["scheduler"]["ingress"][1]["from"]
    }
    assert named == {("dask-operator",)}, "the port without a password is the operator's alone"
    job = next(one for one in manifests().values() if one["kind"] == "Job")
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert rules["scan"]["podSelector"]["matchLabels"].items() <= labels.items()


# --- the image


def test_dockerfile_is_linted():
    done = subprocess.run(
        [BIN / "hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_copies_what_is_there_and_let_through():
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert kept[1] == "*"
    through = [line[1:] for line in kept if line.startswith("!")]
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
        for name in line.split()
    ]
    assert "${LOCK}" in copied
    for name in ["deploy/requirements.lock" if part == "${LOCK}" else part for part in copied]:
        assert (ROOT / name).exists(), name
        assert any(Path(name).match(pattern) for pattern in through), name


def test_images_are_of_this_version_and_their_base_has_no_invented_digest():
    images = {pod["containers"][0]["image"] for pod in pods().values()}
    assert images == {f"mining-scan:{__version__}"}
    assert {service["image"] for service in compose()["services"].values()} == {
        f"${{MINING_SCAN_IMAGE:-mining-scan:{__version__}}}"
    }
    assert f"-t mining-scan:{__version__} ." in DOCKERFILE
    assert re.search(r"^ARG BASE_DIGEST=$", DOCKERFILE, re.M)
    assert not re.search(r"sha256:[0-9a-f]", DOCKERFILE)
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.M)
    assert not re.search(r"PASSWORD|TOKEN|SUBSCRIPTION_KEY", DOCKERFILE)


def test_packages_of_the_image_are_those_of_the_tests_without_their_tools():
    ours, all_of_them = locked(DEPLOY / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert {name: all_of_them.get(name) for name in ours} == ours
    assert {"torch", "dask", "distributed", "rasterio", "stackstac"} <= set(ours)
    assert not {"pytest", "ruff", "mypy", "lightning", "uvicorn", "playwright"} & set(ours)
    assert "hatchling" in locked(DEPLOY / "build.lock")


# --- scripts and words


@pytest.mark.parametrize("path", ["certificates.sh", "slurm/scan.sbatch"])
def test_scripts_are_linted(path):
    done = subprocess.run(
        [BIN / "shellcheck", DEPLOY / path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_page_names_what_is_there():
    for name in re.findall(r"(?<!tests/)deploy/[\w./-]*\w", DOCS):
        made = name.startswith(("deploy/tls", "deploy/kubernetes/tls", "deploy/planetary"))
        assert made or name == "deploy/requirements-cpu.lock" or (ROOT / name).exists(), name
    for name in re.findall(r"\$\{(MINING_SCAN_\w+)", (DEPLOY / "compose.yaml").read_text()):
        assert name in DOCS, name
