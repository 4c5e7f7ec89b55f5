"""What reading an area costs: ``python -m tests.area.cost`` takes paths, one JSON text a line.

For each it prints exit code, memory and CPU time, of a fresh process that imports what the command
imports to read an area and nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from scanner.area.aoi import read_aoi
from scanner.errors import AoiError


def cost(path: Path) -> dict[str, float]:
    """Read an area in a process of its own; returns its exit code, MB and CPU seconds."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(out)
        try:
            read_aoi(path)
            code = 0
        except AoiError as error:
            code = error.exit_code if len(str(error).splitlines()) == 1 else 1
        except BaseException:
            code = 99
        used = resource.getrusage(resource.RUSAGE_SELF)
        below = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = {
            "code": code,
            "mb": used.ru_maxrss / 1024,
            "cpu": used.ru_utime + used.ru_stime,
            "child_mb": below.ru_maxrss / 1024,
        }
        os.write(into, json.dumps(told).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        told = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return told


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(cost(Path(json.loads(line)))), flush=True)
