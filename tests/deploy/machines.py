"""A cluster of separate machines, played: each process is started by the command of its container.

A machine is a process on loopback, or one in a network namespace of its own, with an address of its
own on a bridge that joins them and reaches nothing else. All talk TLS, with certificates made by
``deploy/certificates.sh``. The commands are those of ``deploy/compose.yaml``; only names that
containers have (the host ``scheduler``, ``/run/secrets/tls``) are put in place.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, ROOT, compose

WAIT_S = 500
"""A test that waits longer hangs; pytest's own limit is 600 s."""
SCAN = [sys.executable, "-c", "from scanner.cli import main; main()"]


def certificates(folder: Path) -> Path:
    """Make a cluster's certificates with the script of deploy/."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with; install it")
    subprocess.run([DEPLOY / "certificates.sh", folder, "1"], check=True, capture_output=True)
    return folder


def wait_for(happened: Callable[[], object], what: str) -> None:
    """Wait until ``happened()``."""
    until = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < until, f"{what}: not in {WAIT_S} s"
        time.sleep(0.05)


class Loopback:
    """All machines are this one."""

    def enter(self, machine: str) -> tuple[list[str], str]:
        """Return what a command is prefixed with to run there, and the machine's address."""
        return [], "127.0.0.1"


class Namespaces:
    """Each machine is a network namespace; all hang on a bridge in one more of them."""

    def __init__(self) -> None:
        self._stem = f"scan{os.getpid()}"
        self._hub = f"{self._stem}-hub"
        self._made: dict[str, str] = {}
        if os.name != "posix" or shutil.which("ip") is None or os.geteuid() != 0:
            pytest.skip("network namespaces need root and the command ip (iproute2)")
        try:
            _ip("netns", "add", self._hub)
            _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._hub, "link", "set", "bridge", "up")
        except subprocess.CalledProcessError as error:
            self.close()
            pytest.skip(f"no network namespace can be made here ({error.stderr.strip()})")

    def enter(self, machine: str) -> tuple[list[str], str]:
        """Return what a command is prefixed with to run there, and the machine's address."""
        name = f"{self._stem}-{machine}"
        if machine not in self._made:
            number = len(self._made) + 1
            self._made[machine] = f"10.77.0.{number}"
            _ip("netns", "add", name)
            _ip("-n", self._hub, "link", "add", f"m{number}", "type", "veth",
                "peer", "name", "eth0", "netns", name)  # fmt: skip
            _ip("-n", self._hub, "link", "set", f"m{number}", "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{self._made[machine]}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        return ["ip", "netns", "exec", name], self._made[machine]

    def unplug(self, machine: str) -> None:
        """Take a machine's cable out: nothing is closed, nothing answers any more."""
        _ip("-n", f"{self._stem}-{machine}", "link", "set", "eth0", "down")

    def close(self) -> None:
        """Remove what was made."""
        for machine in [*self._made, "hub"]:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", f"{self._stem}-{machine}")


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True)


class Machines:
    """A scheduler, workers and clients of one cluster."""

    def __init__(self, folder: Path, network: Loopback | Namespaces) -> None:
        self._folder = folder
        self._network = network
        folder.mkdir(exist_ok=True)
        self.tls = certificates(folder / "tls")
        self._config = folder / "etc"
        self._config.mkdir()
        for name in ("dask.yaml", "tls.yaml"):
            text = (DEPLOY / name).read_text(encoding="utf-8")
            text = text.replace("/run/secrets/tls", str(self.tls))
            (self._config / name).write_text(text, encoding="utf-8")
        self.running: dict[str, subprocess.Popen[Any]] = {}
        self.address = ""
        """Of the scheduler."""

    def start_scheduler(self) -> str:
        """Start the scheduler; returns its address."""
        told = self._folder / "scheduler.json"
        command = compose()["services"]["scheduler"]["command"]
        _, ip = self._network.enter("scheduler")
        swap = {"--port=8786": f"--host={ip}"}
        if isinstance(self._network, Loopback):  # many clusters on one address
            swap["--port=8786"] = f"--host=tls://{ip}:0"
            swap["--dashboard-address=127.0.0.1:8787"] = "--dashboard-address=127.0.0.1:0"
        line = [swap.get(part, part) for part in command]
        self.start("scheduler", [*line, "--scheduler-file", str(told)])

        def written() -> bool:
            with contextlib.suppress(OSError, ValueError):
                self.address = json.loads(told.read_text())["address"]
            return bool(self.address)

        wait_for(written, "the scheduler's address")
        return self.address

    def start_worker(self, name: str, service: str = "worker", **environment: str) -> None:
        """Start a worker, by the command of a service of compose.yaml."""
        command = compose()["services"][service]["command"]
        line = [self.address if part == "tls://scheduler:8786" else part for part in command]
        scratch = self._folder / name
        line = [part.replace("=/tmp", f"={scratch}") for part in line]
        if isinstance(self._network, Loopback):
            line.append("--host=127.0.0.1")
        self.start(name, [*line, f"--name={name}"], **environment)

    def start(self, name: str, command: list[str], **environment: str) -> None:
        """Start a process on the machine of that name."""
        prefix, _ = self._network.enter(name)
        if command[0] == "dask":
            command = [sys.executable, "-m", "dask", *command[1:]]
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(**environment),
                process_group=0,
            )

    def scan(self, machine: str, *args: object) -> subprocess.Popen[str]:
        """Start ``mining-scan`` on a machine, against the cluster."""
        prefix, _ = self._network.enter(machine)
        where = f"--scheduler={self.address}"
        process = subprocess.Popen(
            [*prefix, *SCAN, *map(str, args), where],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            process_group=0,
        )
        self.running[machine] = process
        return process

    def environment(self, **more: str) -> dict[str, str]:
        """Return what a process of the cluster finds around it."""
        path = os.pathsep.join(
            part
            for part in (more.pop("first", ""), str(ROOT), os.environ.get("PYTHONPATH"))
            if part
        )
        told = {"DASK_CONFIG": str(self._config), "DASK_LOGGING__DISTRIBUTED": "info"}
        return {**os.environ, **told, "PYTHONPATH": path, **more}

    def log(self, name: str) -> Path:
        """Return the file with what a process said."""
        return self._folder / f"{name}.log"

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Let a machine stand still within the block."""
        self._signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(name, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End a machine at once: nanny and worker, without a word to anyone."""
        self._signal(name, signal.SIGKILL)
        self.running.pop(name).wait(timeout=WAIT_S)

    def _signal(self, name: str, number: signal.Signals) -> None:
        root = self.running[name].pid
        for pid in (root, *(int(one) for one in _descendants(root))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        """End everything."""
        for name in list(self.running)[::-1]:
            self.kill(name)


def _descendants(pid: int) -> Iterator[int]:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            yield child.pid
