"""A disk that is full, files that grow too large, a folder that cannot be written."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from scanner.errors import OutputError
from scanner.files import SCRATCH
from scanner.run.pipeline import prepare, scan
from tests.processes import COMMAND

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such limits")

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")


def rows(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def scratch(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(SCRATCH)]


@contextmanager
def no_file_larger_than(size):
    """The kernel itself refuses to write more (EFBIG), in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_part_that_cannot_be_written_ends_the_run_and_costs_nothing(calm, config):
    reports = scan(config)
    next(reports)
    with no_file_larger_than(1500), pytest.raises(OutputError) as told:
        next(reports)
    assert str(config.run.out / "parts") in str(told.value)
    for words in ("cannot be written", "File too large", "MiB are free there", "--out"):
        assert words in str(told.value)
    assert told.value.exit_code == 3
    assert scratch(config.run.out) == []
    assert len(prepare(config).todo()) == 1
    assert all(list(scan(config)))
    assert rows(config.run.out) == rows(calm.run.out)


@pytest.mark.parametrize("size", [300, 3000, 9000, 40_000])
def test_a_result_that_cannot_be_written_leaves_the_one_before(calm, tmp_path, size):
    """Whatever file is the first too large: cells, detections, pictures, the report."""
    out = tmp_path / "run"
    shutil.copytree(calm.run.out, out)
    before = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    with no_file_larger_than(size), pytest.raises(OutputError, match="cannot be written"):
        list(scan(calm.with_values(out=out, also=("gpkg", "kml"))))
    assert scratch(out) == []
    for path in out.glob("*.parquet"):
        assert path.read_bytes() == before[path.name], "the same question has the same answer"
    assert list(scan(calm.with_values(out=out))) == []
    assert rows(out) == rows(calm.run.out)


def in_namespace(script, *values):
    """Run a shell script where it may mount file systems; skip where the system does not let us."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    probe = [*unshare, 'mount -t tmpfs none "$0"', str(values[0])]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False).returncode:
        pytest.skip("no user namespaces here, so no disk can be filled")
    return subprocess.run(
        [*unshare, script, *map(str, values)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def command(seam_aoi, demo_scenes, scheduler, tiny_models):
    """A scan on the shared cluster, into the folder ``run`` below the first argument."""
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    given = [*COMMAND, seam_aoi, "--catalog", demo_scenes, "--scheduler", scheduler, *models]
    return shlex.join(map(str, given)) + ' --out "$0/run"'


def test_a_full_disk_is_told_with_what_is_free(calm, command, tmp_path):
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size=100k none "$0"; code=0; '
        f'{command} || code=$?; cp -r "$0/run" "$1"; exit $code'
    )
    done = in_namespace(script, disk, copy)
    assert done.returncode == 3, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("mining-scan: ")
    for words in (str(disk / "run"), "No space left on device", "MiB are free there"):
        assert words in line
    assert "Traceback" not in done.stderr
    assert scratch(copy) == []
    assert not (copy / "detections.parquet").exists()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_searched(command, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o ro none "$0"; {command}'
    done = in_namespace(script, disk)
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"mining-scan: {disk / 'run'}: cannot be written"
    )
    assert "Read-only file system" in done.stderr
