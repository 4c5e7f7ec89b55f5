"""How a run ends before its time: SIGTERM, Ctrl-C twice, an end that hangs, a lost reader."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import psutil
import pytest

from tests.processes import COMMAND, Started, parts_done

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")

SLOW_END = """
import time
from distributed import LocalCluster
from scanner import ending
ending.PATIENCE_S = float({patience})
def slow(self, *args, **kwargs):
    print("ending in order", flush=True)
    time.sleep(600)
LocalCluster.close = slow
"""
"""A cluster that never closes; ``patience`` seconds are waited for it."""


@pytest.fixture
def arguments(seam_aoi, demo_scenes, tiny_models, tmp_path):
    """A scan with one worker, into ``tmp_path / "run"``."""
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    where = ["--workers", "1", "--out", str(tmp_path / "run"), "--fresh"]
    return [str(seam_aoi), "--catalog", str(demo_scenes), *where, *models]


def ended(started):
    """Return exit code and texts of a command, once it and all it started are gone."""
    children = started.family.children(recursive=True)
    out, err = started.process.communicate(timeout=300)
    _, alive = psutil.wait_procs(children, timeout=120)
    assert alive == []
    return started.process.returncode, out, err


def test_sigterm_ends_in_order_as_ctrl_c_does(arguments, tmp_path):
    """Batch systems send it to the process they started, and after some time SIGKILL."""
    started = Started(*arguments)
    started.wait_for(lambda: parts_done(tmp_path / "run"))
    started.process.send_signal(signal.SIGTERM)
    code, _, err = ended(started)
    assert code == 130
    assert err.splitlines()[-1].startswith("interrupted; resume with: mining-scan ")
    assert "--fresh" not in err
    assert "Traceback" not in err
    assert len(list((tmp_path / "run" / "parts").glob("*.json"))) == 1
    assert not (tmp_path / "run" / "detections.parquet").exists()


@pytest.mark.parametrize(
    ("patience", "presses"), [(600, 2), pytest.param(1, 1, marks=pytest.mark.slow)]
)
def test_an_end_that_hangs_is_cut_short(arguments, tmp_path, patience, presses):
    """By Ctrl-C a second time, or when patience is over."""
    started = Started(*arguments, first=SLOW_END.format(patience=patience))
    started.wait_for(lambda: parts_done(tmp_path / "run"))
    started.process.send_signal(signal.SIGINT)
    while "ending in order" not in started.process.stdout.readline():
        assert started.process.poll() is None
    if presses == 2:
        time.sleep(1)
        started.process.send_signal(signal.SIGINT)
    code, _, err = ended(started)
    assert code == 130
    assert err.splitlines()[-1].startswith("interrupted; resume with: mining-scan ")


def test_a_reader_that_hangs_up_costs_nothing(calm, arguments, scheduler, tmp_path):
    """As ``mining-scan ... 2>&1 | head -0`` does."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, *arguments, "--scheduler", scheduler], stdout=write, stderr=write, check=False
    )
    os.close(write)
    assert done.returncode == 0
    for name in ("detections.parquet", "cells.parquet", "coverage.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (calm.run.out / name).read_bytes()
    assert (tmp_path / "run" / "report.html").exists()
