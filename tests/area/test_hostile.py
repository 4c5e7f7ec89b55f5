"""Areas nobody vouches for, through the whole command: exit 2, one line, little memory, no search.

Each case is in ``test_aoi.py`` or ``test_formats.py``; here each costs a process of its own, whose
memory and time are what the system says they were.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.area.aoi import Aoi, read_aoi
from scanner.config import ScanConfig
from scanner.run.folder import run_folder
from tests.area.test_aoi import REFUSED as OF_GEOJSON
from tests.area.test_aoi import SQUARE, feature, write
from tests.area.test_formats import REFUSED as OF_FORMATS

Call = Callable[..., tuple[int, str, str]]

MOST_MB = 200
CPU_S = 5
"""Generous: an idle machine takes under a second for each."""
CHILD_MB = 1024
"""What the process that reads other formats may take (``Caps.memory``)."""
HEAVY = (
    *("a column of gigabytes", "two thousand million points", "many records", "a zip bomb"),
    *("a lying zip bomb", "thousands of entries", "a billion laughs", "deep KML"),
    *("120,000 positions", "too large a file"),
)
"""Cases of other formats that want memory; each takes a process more."""


def sparse(folder: Path, name: str) -> Path:
    path = folder / name
    with path.open("wb") as file:
        file.truncate(200_000_000)
    return path


MORE: dict[str, Callable[[Path], Path]] = {
    "200 MB of GeoJSON": lambda f: sparse(f, "big.geojson"),
    "200 MB of KML": lambda f: sparse(f, "big.kml"),
    "200 MB of zip": lambda f: sparse(f, "big.zip"),
    "20 MB of brackets": lambda f: write(f, b"[" * 19_999_999, "deep.geojson"),
    "20 MB of numbers": lambda f: write(f, b"[" + b"1," * 9_999_998 + b"1]", "list.geojson"),
    "20 MB of one text": lambda f: write(f, b'"' + b"x" * 19_999_990 + b'"', "text.geojson"),
    "20 MB of blanks": lambda f: write(f, b" " * 19_999_999, "blank.geojson"),
    "20 MB of letters that are six bytes each": lambda f: write(
        f, b'{"type":"' + b"\\u00e4" * 3_300_000 + b'"}', "wide.geojson"
    ),
    "a million commas": lambda f: write(f, b'{"a":[' + b"{}," * 999_000 + b"{}]}", "a.geojson"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All hostile files, by case."""
    folder = tmp_path_factory.mktemp("hostile")
    files = {}
    for number, (case, (content, _)) in enumerate(OF_GEOJSON.items()):
        files[case] = write(folder, content, f"g{number}.geojson")
    for number, case in enumerate(HEAVY):
        place = folder / f"f{number}"
        place.mkdir()
        files[f"{case} (format)"] = OF_FORMATS[case][0](place)
    return files | {case: make(folder) for case, make in MORE.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="measures with what Linux tells")
def test_no_area_costs_much(files: dict[str, Path]) -> None:
    assert len(files) > 75
    done = subprocess.run(
        [sys.executable, "-m", "tests.area.cost"],
        input="".join(json.dumps(str(path)) + "\n" for path in files.values()),
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    told = dict(zip(files, map(json.loads, done.stdout.splitlines()), strict=True))
    print("most", *(max((v[k], c) for c, v in told.items()) for k in ("mb", "cpu", "child_mb")))
    assert {case: one["code"] for case, one in told.items() if one["code"] != 2} == {}
    assert {case: one["mb"] for case, one in told.items() if one["mb"] > MOST_MB} == {}
    assert {case: one["cpu"] for case, one in told.items() if one["cpu"] > CPU_S} == {}
    assert {case: one["child_mb"] for case, one in told.items() if one["child_mb"] > CHILD_MB} == {}


NO_CATALOG = "http://127.0.0.1:9/stac"
"""Nothing listens there: a search would end the command with 3, not with 2."""


def test_the_command_refuses_each_before_any_search(
    files: dict[str, Path], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for case, path in files.items():
        if "(format)" in case:  # each starts a process; the way of the error is the same
            continue
        code, out, err = call(path, "--catalog", NO_CATALOG)
        assert (code, out) == (2, ""), case
        lines = err.splitlines()
        assert len(lines) == 1, case
        assert lines[0].startswith(f"mining-scan: AOI {path}: "), case
        assert "; " in lines[0], case
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "name",
    [
        "https://example.org/a.geojson",
        "/vsicurl/https://example.org/a.geojson",
        "/vsizip/a.zip/a.geojson",
        "file:///etc/passwd",
        "s3://bucket/a.geojson",
        "../../../../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
        "no such\nfile\x1b[2J.geojson",
        "nö süch file.geojson",
    ],
)
def test_the_command_refuses_paths_that_are_no_area(
    name: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(name, "--catalog", NO_CATALOG)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "\x1b" not in err
    assert "root:" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Terra Indígena Kayapó (são félix).geojson", "Terra Indígena Kayapó (são félix)"),
        (" leading and trailing .geojson", "leading and trailing"),
        ("亚马逊 😀.json", "亚马逊 😀"),
        ("%2e%2e%2fetc.geojson", "%2e%2e%2fetc"),
        ("--help.geojson", "--help"),
        ("CON.geojson", "CON"),
    ],
)
def test_odd_file_names_are_taken(tmp_path: Path, name: str, told: str) -> None:
    folder = tmp_path / "a földer; with 'quotes'"
    folder.mkdir()
    aoi = read_aoi(write(folder, SQUARE, name))
    assert aoi.name.strip() == told
    assert aoi == Aoi(aoi.name, read_aoi(write(folder, SQUARE)).geometry)


@pytest.mark.parametrize(
    "name",
    ["...geojson", "..geojson", ".geojson", "a\nb.geojson", "a\x1b[2Jb.geojson", "... .json"],
)
def test_no_file_name_leads_out_of_the_folder_of_runs(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, feature(SQUARE, name="../../x"), name)
    found = run_folder(ScanConfig().with_values(aoi=path), read_aoi(path)).path
    assert found.parent.name == "runs"
    assert found.resolve() == Path("runs").resolve() / found.name
    assert found.name.isprintable()
    assert found.name.strip(".")
