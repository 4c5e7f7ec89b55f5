"""The report of a large run: 100 tiles, 2,000 sites."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scanner.results.maps.rasters import assemble
from tests.results.big_run import make_big_run

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by /proc")
def test_a_hundred_tiles_stay_small(tmp_path: Path) -> None:
    """Under 20 MB, made in less memory than one worker of the scan takes (2.5 GiB)."""
    run = make_big_run(tmp_path / "run")
    assert len(run.tiles) == 100
    assert len(run.sites) == 2000
    assemble(run)  # here, so that its memory is not counted below
    made = subprocess.run(
        [sys.executable, "-m", "tests.results.big_run", str(run.path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    told = json.loads(made.stdout)
    assert told["megabytes"] < 20
    assert told["memory_mib"] < 1000
    assert (run.path / "report.html").stat().st_size > 1_000_000
