"""What must not be written in this project, read out of its source: nothing here runs it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for folder in ("scanner", "training") for p in (ROOT / folder).rglob("*.py"))

BANNED_MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml",
    "telnetlib", "ftplib", "imp", "code", "codeop", "pty",
}  # fmt: skip
"""Modules that run what they read, or that nothing here has use for."""

BANNED_CALLS = {
    "eval": "runs text",
    "exec": "runs text",
    "compile": "makes code of text",
    "__import__": "imports by a name from somewhere",
    "torch.load": "unpickles",
    "torch.hub.load": "fetches and runs code",
    "torch.jit.load": "runs code of a file",
    "torch.package.PackageImporter": "runs code of a file",
    "np.loadtxt": "reads any address",
    "np.genfromtxt": "reads any address",
    "os.system": "is a shell",
    "os.popen": "is a shell",
    "subprocess.getoutput": "is a shell",
    "subprocess.getstatusoutput": "is a shell",
    "pd.read_pickle": "unpickles",
    "pandas.read_pickle": "unpickles",
    "yaml.load": "runs tags",
    "tempfile.mktemp": "names a file that another may make first",
}
BANNED_KEYWORDS = {
    ("shell", True): "a shell",
    ("allow_pickle", True): "unpickles",
    ("weights_only", False): "unpickles",
    ("trust_remote_code", True): "runs code of a model",
    ("verify", False): "takes any certificate",
    ("autoescape", False): "pages with tags from outside",
}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(node: ast.expr) -> str:
    """Return ``a.b.c`` of a called name, as it is written."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([*([node.id] if isinstance(node, ast.Name) else ["?"]), *reversed(parts)])


def faults(module: ast.Module, *, own_checkpoints: bool = False) -> list[str]:
    """Return what stands in a module that must not, with its line.

    ``own_checkpoints`` lets ``torch.load(weights_only=True)`` pass: training goes on with what it
    wrote itself; a model that is given is never read so.
    """
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            bad = {(name or "").partition(".")[0] for name in named} & BANNED_MODULES
            found += [f"{node.lineno}: import {name}" for name in bad]
        if isinstance(node, ast.Call):
            called = name_of(node.func)
            safe = any(
                word.arg == "weights_only"
                and isinstance(word.value, ast.Constant)
                and word.value.value
                for word in node.keywords
            )
            if called in BANNED_CALLS and not (called == "torch.load" and safe and own_checkpoints):
                found.append(f"{node.lineno}: {called} {BANNED_CALLS[called]}")
            for word in node.keywords:
                value = word.value.value if isinstance(word.value, ast.Constant) else None
                if isinstance(value, bool) and (word.arg, value) in BANNED_KEYWORDS:
                    found.append(f"{node.lineno}: {word.arg}={value}")
    return found


def test_the_check_finds_what_it_looks_for() -> None:
    samples = [
        "import pickle", "from joblib import load", "import yaml as y", "eval('1')", "exec(x)",
        "import torch\ntorch.load('x')", "torch.load('x', weights_only=False)",
        "np.load('x', allow_pickle=True)", "subprocess.run('ls', shell=True)", "os.system('ls')",
        "Model.from_pretrained('x', trust_remote_code=True)", "requests.get(u, verify=False)",
        "__import__(name)", "torch.hub.load('a', 'b')", "yaml.load(x)",
        "torch.load('x', weights_only=True)",
    ]  # fmt: skip
    for text in samples:
        assert faults(ast.parse(text)), text
    for text in ("import json", "np.load('x')", "subprocess.run(['ls'])", "model.eval()",
                 "re.compile('x')", "load('x', trust_remote_code=False)"):  # fmt: skip
        assert not faults(ast.parse(text)), text


def test_nothing_runs_what_it_reads() -> None:
    assert len(SOURCES) > 100
    found = {}
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        if told := faults(tree(path), own_checkpoints=name == "training/loop.py"):
            found[name] = told
    assert found == {}


def test_where_other_programs_are_started() -> None:
    """One place in the scanner starts a program: our own interpreter, our own file."""
    users = []
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and name_of(node.func).startswith(
                ("subprocess.", "os.exec", "os.spawn", "os.fork", "multiprocessing.Process")
            ):
                users.append(path.relative_to(ROOT).as_posix())
                first = node.args[0]
                assert isinstance(first, ast.List), "a list of arguments, no command line"
    assert sorted(set(users)) == ["scanner/area/formats.py"]


def test_gdal_is_told_the_format_of_every_raster() -> None:
    """Else a ``B02.tif`` that holds a VRT names other files of this machine to be read."""
    opened, untold = 0, []
    for path in (p for p in SOURCES if p.is_relative_to(ROOT / "scanner")):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            called = name_of(node.func)
            assert called not in ("gpd.read_file", "geopandas.read_file"), path
            if called == "rasterio.open":
                opened += 1
                mode = node.args[1].value if len(node.args) > 1 else "r"  # type: ignore[attr-defined]
                if mode == "r" and "driver" not in {word.arg for word in node.keywords}:
                    untold.append(f"{path.relative_to(ROOT).as_posix()}:{node.lineno}")
    assert opened >= 5
    assert untold == []


def test_randomness_that_must_not_be_guessed_is_not_made_here() -> None:
    """There are no passwords or sessions in this project: random numbers draw samples alone."""
    users = [
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and {"secrets", "hmac", "crypt"}
        & {*(a.name for a in node.names), getattr(node, "module", None)}
    ]
    assert users == []


def test_dependencies_are_locked_with_their_digests_and_hold_the_fixes() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = [line for line in lock.splitlines() if line and line[0].isalnum()]
    assert len(entries) > 100
    assert all(line.endswith("\\") for line in entries), "each goes on with its digests"
    assert lock.count("--hash=sha256:") >= len(entries)
    assert "http://" not in lock
    versions = {line.split("==")[0]: line.split("==")[1].split()[0] for line in entries}
    pinned = {name: tuple(map(int, v.split(".")[:2])) for name, v in versions.items()}
    for name, least in {
        "torch": (2, 10),  # CVE-2025-32434, CVE-2026-24747: its loader
        "distributed": (2021, 10),  # CVE-2021-42343: workers on all interfaces
        "rasterio": (1, 4),
        "transformers": (5, 0),
        "jinja2": (3, 1),
        "requests": (2, 32),
        "urllib3": (2, 2),
    }.items():
        assert pinned[name] >= least, name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "torch>=2.10" in project["dependencies"]


@pytest.mark.parametrize("name", [".env", "id_rsa", "credentials", ".netrc", "key.pem"])
def test_no_secret_lies_in_the_repository(name: str) -> None:
    kept = ("scanner", "training", "tests", "docs", "aois", "deploy")
    found = [p for folder in kept for p in (ROOT / folder).rglob(name) if p.is_file()]
    assert found == []
