"""Runs mining-scan on a Slurm cluster: a scheduler here, workers as jobs, TLS between them.

    deploy/certificates.sh tls
    python deploy/slurm/scan.py --tls tls --workers 40 --per-job 8 -- aois/xingu.geojson

What follows ``--`` goes to mining-scan. The scheduler lives in this process, so start it where it
may stay for hours: in tmux on a login node where that is allowed, or as a job (scan.sbatch). With
``--gpus N``, N jobs of one GPU each join; the inference goes to them, reading stays with the
others. The same command again resumes the scan. It needs ``pip install dask-jobqueue``, this
folder and the certificates on a file system that all nodes see, and paths without blanks.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import dask.config
import yaml
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed import Client, Security

from scanner.run.cluster import THREADS, WORKER_BYTES

HERE: Final = Path(__file__).resolve().parent
SETTINGS: Final = HERE.parent / "dask.yaml"
GPU_BYTES: Final = 7 * 2**30
"""Memory of a worker that has a GPU: it holds tiles of several readers."""


def main(args: Sequence[str] | None = None) -> int:
    """Start everything, scan, end everything; returns mining-scan's exit code."""
    given = _parser().parse_args(args)
    for path in (SETTINGS, given.jobqueue):
        dask.config.update(dask.config.config, yaml.safe_load(path.read_text(encoding="utf-8")))
    signal.signal(signal.SIGTERM, _end)  # Slurm sends it to a job whose time is up
    security = certificates(given.tls)
    options = common(given, security)
    jobs = -(-given.workers // given.per_job)
    with SLURMCluster(
        security=security,
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        **options,
        **readers(given),
    ) as cluster:
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # a job that ends is replaced
        address = str(cluster.scheduler_address)
        print(f"scheduler {address}; {jobs} jobs of {given.per_job} workers asked for", flush=True)
        with gpu_jobs(address, given, options, security):
            with Client(cluster, set_as_default=False) as client:
                client.wait_for_workers(1)  # however long the queue is
            return scan([*given.scan, "--scheduler", address], given.tls)


def certificates(folder: Path) -> Security:
    """Return what ``deploy/certificates.sh`` made in ``folder``."""
    found = {name: str(folder / name) for name in ("ca.pem", "cluster.pem", "cluster.key")}
    return Security(
        require_encryption=True,
        tls_ca_file=found["ca.pem"],
        tls_scheduler_cert=found["cluster.pem"],
        tls_scheduler_key=found["cluster.key"],
        tls_worker_cert=found["cluster.pem"],
        tls_worker_key=found["cluster.key"],
        tls_client_cert=str(folder / "client.pem"),
        tls_client_key=str(folder / "client.key"),
    )


def common(given: argparse.Namespace, security: Security) -> dict[str, Any]:
    """Return what every job is asked for with."""
    prologue = list(dask.config.get("jobqueue.slurm.job-script-prologue"))
    return {
        "protocol": "tls://",
        "log_directory": str(given.logs),
        "job_script_prologue": [*prologue, f"export DASK_CONFIG={SETTINGS}"],
    }


def readers(given: argparse.Namespace) -> dict[str, Any]:
    """Return a job of workers on CPUs: one a core, with two threads, as on a laptop."""
    return {
        "job_name": "mining-scan",
        "cores": THREADS * given.per_job,  # what dask-jobqueue calls threads
        "job_cpu": given.per_job,
        "processes": given.per_job,
        "memory": f"{WORKER_BYTES * given.per_job} B",
        "worker_extra_args": ["--no-dashboard"],
    }


def gpu_job(address: str, given: argparse.Namespace, options: dict[str, Any],
            security: Security, number: int) -> SLURMJob:  # fmt: skip
    """Return a job of one worker that offers a GPU to Dask as the resource ``GPU=1``."""
    return SLURMJob(
        address,
        name=f"gpu-{number}",
        job_name="mining-scan-gpu",
        cores=THREADS,
        job_cpu=1,
        processes=1,
        memory=f"{GPU_BYTES} B",
        security=security,
        worker_extra_args=["--no-dashboard", "--resources", "GPU=1"],
        job_extra_directives=[given.gpu_directive],
        **options,
    )


@contextmanager
def gpu_jobs(address: str, given: argparse.Namespace, options: dict[str, Any],
             security: Security) -> Iterator[None]:  # fmt: skip
    """Have ``--gpus`` jobs run beside the others while the block lasts."""
    ids = []
    try:
        for number in range(given.gpus):
            script = gpu_job(address, given, options, security, number).job_script()
            asked = ["sbatch", "--parsable"]
            done = subprocess.run(asked, input=script, text=True, check=True, capture_output=True)
            ids.append(done.stdout.strip().partition(";")[0])
        yield
    finally:
        for job in ids:
            subprocess.run(["scancel", job], check=False)


def scan(args: Sequence[str], tls: Path) -> int:
    """Run mining-scan to its end; it is told to stop where this process is."""
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    shown = {"CA_FILE": "ca.pem", "CLIENT__CERT": "client.pem", "CLIENT__KEY": "client.key"}
    environment = os.environ | {prefix + name: str(tls / file) for name, file in shown.items()}
    command = [sys.executable, "-c", "from scanner.cli import main; main()", *args]
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.terminate()
        process.wait()
        raise


def _end(*_: object) -> NoReturn:
    raise SystemExit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tls", type=_folder, required=True, help="folder of certificates.sh")
    parser.add_argument("--workers", type=int, default=8, help="on CPUs [8]")
    parser.add_argument("--per-job", type=int, default=4, help="of them in one job [4]")
    parser.add_argument("--gpus", type=int, default=0, help="jobs with one GPU each [0]")
    parser.add_argument("--gpu-directive", default="--gres=gpu:1", help="[--gres=gpu:1]")
    parser.add_argument("--jobqueue", type=Path, default=HERE / "jobqueue.yaml")
    parser.add_argument("--logs", type=Path, default=Path("slurm-logs"), help="of the jobs")
    parser.add_argument("scan", nargs="+", help="after --: what mining-scan is given")
    return parser


def _folder(text: str) -> Path:
    path = Path(text).resolve()
    if not (path / "cluster.pem").is_file():
        raise argparse.ArgumentTypeError(f"{path}: no certificates; deploy/certificates.sh {text}")
    return path


if __name__ == "__main__":
    sys.exit(main())
