"""The files of deploy/, read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def compose() -> dict[str, Any]:
    """Return compose.yaml."""
    (found,) = documents(DEPLOY / "compose.yaml")
    return found


def manifests() -> dict[str, dict[str, Any]]:
    """Return what kubectl is given, by ``file: kind name``."""
    return {
        f"{path.name}: {one['kind']} {one['metadata'].get('name', '')}": one
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if path.name not in ("kustomization.yaml", "names.yaml")
        for one in documents(path)
    }


def pods() -> dict[str, dict[str, Any]]:
    """Return the spec of every pod that is made of the manifests, by whose it is."""
    found = {}
    for name, one in manifests().items():
        spec = one.get("spec", {})
        for part in ("scheduler", "worker"):
            if "spec" in spec.get(part, {}):
                found[f"{name} {part}"] = spec[part]["spec"]
        if one["kind"] == "Job":
            found[name] = spec["template"]["spec"]
    return found


def commands() -> dict[str, list[str]]:
    """Return every command line of a container, by whose it is."""
    found = {name: pod["containers"][0]["args"] for name, pod in pods().items()}
    for name, service in compose()["services"].items():
        line = [*service.get("entrypoint", []), *service["command"]]
        found[f"compose.yaml: {name}"] = line
    return found
