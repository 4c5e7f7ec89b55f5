"""deploy/slurm: the jobs it asks for, and a scan by them with a stand-in for Slurm's commands.

The stand-in (``sbatch``, ``scancel``) runs the very job scripts as processes of this machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys

import dask.config
import pytest
import yaml

from scanner.run.cluster import WORKER_BYTES
from tests.deploy.files import DEPLOY, ROOT
from tests.deploy.machines import certificates

FILES = ("detections.parquet", "cells.parquet", "coverage.parquet")
SCRIPT = DEPLOY / "slurm" / "scan.py"

SBATCH = """#!/bin/sh
# runs a job script given as a file or on standard input; tells the number of its process
script=$(mktemp "$SLURM_STAND_IN/job.XXXXXX")
last=
for last in "$@"; do :; done
case "$last" in ''|--*) cat > "$script" ;; *) cat "$last" > "$script" ;; esac
setsid bash "$script" > "$script.log" 2>&1 < /dev/null &
echo $! >> "$SLURM_STAND_IN/started"
case "$*" in *--parsable*) echo $! ;; *) echo "Submitted batch job $!" ;; esac
"""
SCANCEL = """#!/bin/sh
echo "$1" >> "$SLURM_STAND_IN/cancelled"
kill -TERM -- "-$1" 2> /dev/null || true
"""


@pytest.fixture(scope="module")
def script():
    """The module deploy/slurm/scan.py."""
    spec = importlib.util.spec_from_file_location("slurm_scan", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_jobs_of_readers_and_of_gpus(script, tmp_path):
    tls = certificates(tmp_path / "tls")
    given = script._parser().parse_args(
        ["--tls", str(tls), "--per-job", "8", "--logs", str(tmp_path / "logs"), "--", "a.geojson"]
    )
    assert given.scan == ["a.geojson"]
    settings = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())
    named = {f"jobqueue.slurm.{key}": value for key, value in settings["jobqueue"]["slurm"].items()}
    with dask.config.set(named):
        security = script.certificates(tls)
        options = script.common(given, security)
        address = "tls://10.0.0.1:8786"
        jobs = {
            "gpu": script.gpu_job(address, given, options, security, 0),
            "cpu": script.SLURMJob(
                address, name="r-0", security=security, **options, **script.readers(given)
            ),
        }
        for name, job in jobs.items():
            text = job.job_script()
            checked = subprocess.run(["bash", "-n"], input=text, text=True, check=False)
            assert checked.returncode == 0, text
            assert f"--tls-cert {tls}/cluster.pem --tls-key {tls}/cluster.key" in text
            assert f"--tls-ca-file {tls}/ca.pem" in text
            assert "--protocol tls://" in text
            assert "--nthreads 2" in text
            assert f"export DASK_CONFIG={DEPLOY / 'dask.yaml'}" in text
            assert (" --resources GPU=1" in text) == (name == "gpu")
            assert ("#SBATCH --gres=gpu:1" in text) == (name == "gpu")
            assert "client.key" not in text
        text = jobs["cpu"].job_script()
        assert "--nworkers 8" in text
        assert "#SBATCH --cpus-per-task=8" in text
        assert f"#SBATCH --mem={8 * WORKER_BYTES // 2**30}G" in text


def test_certificates_that_are_not_there_are_told(script, tmp_path):
    with pytest.raises(argparse.ArgumentTypeError, match=r"no certificates; deploy/certificates"):
        script._folder(str(tmp_path))


@pytest.mark.slow
def test_a_scan_by_jobs_gives_the_laptops_rows(area, tmp_path):
    tls = certificates(tmp_path / "tls")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    jobqueue = tmp_path / "jobqueue.yaml"
    settings = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())
    settings["jobqueue"]["slurm"] |= {"interface": "lo", "local-directory": str(tmp_path)}
    jobqueue.write_text(yaml.safe_dump(settings))
    stand_in = tmp_path / "slurm"
    stand_in.mkdir()
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path,
        "SLURM_STAND_IN": str(stand_in),
    }  # fmt: skip
    out = tmp_path / "by-jobs"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--tls", tls, "--workers", "2", "--per-job", "1", "--gpus", "1",
         "--jobqueue", jobqueue, "--logs", tmp_path / "logs", "--", *area.arguments, "--out", out],
        env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    logs = "".join(log.read_text() for log in stand_in.glob("*.log"))
    assert done.returncode == 0, done.stderr + logs
    for name in FILES:
        assert (out / name).read_bytes() == (area.out / name).read_bytes()
    started = (stand_in / "started").read_text().split()
    assert len(started) == 3
    assert set(started) <= set((stand_in / "cancelled").read_text().split())
    assert "tls://127.0.0.1" in done.stdout
