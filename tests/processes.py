"""``mining-scan`` as a process of its own, as a shell starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

MAIN = "from scanner.cli import main; main()"
COMMAND = [sys.executable, "-c", MAIN]


def parts_done(run):
    """Return the markers of the tiles that are done in a run folder; scratch files are none."""
    return sorted((run / "parts").glob("[!.]*.json"))


class Started:
    """The command in a process group of its own, as a shell starts it."""

    def __init__(self, *args, first=""):
        """Start it with ``args``, after the statement ``first``."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{first}\n{MAIN}", *(str(arg) for arg in args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self.family = psutil.Process(self.process.pid)

    def wait_for(self, happened):
        """Wait until ``happened()``, five minutes at most."""
        for _ in range(3000):
            if happened():
                return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.1)
        pytest.fail("nothing happened in five minutes")

    def workers(self):
        """Return the worker processes there are."""
        with contextlib.suppress(psutil.Error):
            return [p for p in self.family.children() if "spawn_main" in " ".join(p.cmdline())]
        return []

    def interrupt(self):
        """Press Ctrl-C: every process of the group gets the signal. Returns what was told."""
        children = self.family.children(recursive=True)
        os.killpg(self.process.pid, signal.SIGINT)
        out, err = self.process.communicate(timeout=300)
        for _ in range(300):
            left = [p for p in children if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
            if not left:
                break
            time.sleep(0.1)
        assert not left
        return self.process.returncode, out, err
