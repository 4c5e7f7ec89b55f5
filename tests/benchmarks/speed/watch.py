"""Runs a command as a process tree of its own and tells what it used: time, memory, bytes read."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

EVERY_S: Final = 0.5
PSS_EVERY: Final = 4
"""Looks from one count of shared memory to the next: it takes the kernel a while."""
LONGEST_S: Final = 1200.0
"""Seconds after which a command is killed."""
TAIL: Final = 2000
"""Characters of what a failed command printed that are told."""


@dataclass
class Seen:
    """What was last seen of one process."""

    peak: int = 0
    """Bytes, the kernel's ``VmHWM``."""
    cpu: float = 0.0
    read: int = 0
    """Bytes that calls of read gave it, from files and sockets alike."""


@dataclass(frozen=True)
class Used:
    """What a tree of processes used."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    """Of its largest process."""
    tree_mib: float
    """Of all of them at once, shared pages counted once (PSS), highest look."""
    read_mb: float
    printed: str


@dataclass
class _Tree:
    root: psutil.Process
    seen: dict[int, Seen] = field(default_factory=dict)
    highest_pss: int = 0

    def look(self, with_pss: bool) -> None:
        pss = 0
        try:
            family = [self.root, *self.root.children(recursive=True)]
        except psutil.Error:
            return
        for one in family:
            try:
                with one.oneshot():
                    here = self.seen.setdefault(one.pid, Seen())
                    here.peak = max(here.peak, peak_of(one.pid), one.memory_info().rss)
                    here.cpu = max(here.cpu, sum(one.cpu_times()[:2]))
                    here.read = max(here.read, one.io_counters().read_chars)
                pss += one.memory_full_info().pss if with_pss else 0
            except (psutil.Error, OSError):
                continue
        self.highest_pss = max(self.highest_pss, pss)


def peak_of(pid: int) -> int:
    """Return the most memory a process ever had, bytes; 0 where the kernel does not tell."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(one.split()[1]) * 1024 for one in lines if one.startswith("VmHWM")), 0)


def watched(command: Sequence[str], env: Mapping[str, str], log: Path) -> Used:
    """Run a command to its end; ``RuntimeError`` with what it printed where it fails."""
    begun = time.perf_counter()
    with log.open("wb") as out:
        started = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=dict(env))
        tree = _Tree(psutil.Process(started.pid))
        over = threading.Event()
        thread = threading.Thread(target=_watch, args=(tree, over))
        thread.start()
        killer = threading.Timer(LONGEST_S, started.kill)
        killer.start()
        _, status, usage = os.wait4(started.pid, 0)
        wall = time.perf_counter() - begun
        started.returncode = os.waitstatus_to_exitcode(status)
        killer.cancel()
        over.set()
        thread.join()
    printed = log.read_text(errors="replace")
    if started.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: ended with {started.returncode}: {printed[-TAIL:]}"
        )
    # the kernel's sum holds those that were waited for, ours those that were seen: neither too much
    cpu = max(usage.ru_utime + usage.ru_stime, sum(one.cpu for one in tree.seen.values()))
    return Used(
        wall_s=wall,
        cpu_s=cpu,
        peak_mib=max(max((one.peak for one in tree.seen.values()), default=0), 0) / 2**20,
        tree_mib=tree.highest_pss / 2**20,
        read_mb=sum(one.read for one in tree.seen.values()) / 1e6,
        printed=printed,
    )


def _watch(tree: _Tree, over: threading.Event) -> None:
    count = 0
    while not over.wait(EVERY_S):
        tree.look(with_pss=count % PSS_EVERY == 0)
        count += 1
