"""The file host in a process of its own: answers ranges after a pause, counts what it was asked.

    python -m tests.benchmarks.speed.server FOLDER LATENCY_S

prints its address; each line it is sent is answered with what was asked since the last, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.servers.range_server import RangeServer

LATENCY_S: Final = 0.04


class Host:
    """The host as its users see it."""

    def __init__(self, folder: Path, latency_s: float = LATENCY_S) -> None:
        command = [sys.executable, "-m", __name__, str(folder), str(latency_s)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self._line()

    def counts(self) -> dict[str, int]:
        """Return ``requests`` and ``bytes`` since the last call."""
        if self._process.stdin is None:
            raise RuntimeError("the host has no input")
        self._process.stdin.write("count\n")
        self._process.stdin.flush()
        return dict(json.loads(self._line()))

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"the host of files ended with {self._process.wait()}")
        return line.strip()

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)
        if self._process.stdout is not None:
            self._process.stdout.close()


def sent(server: RangeServer) -> dict[str, int]:
    """Return requests and bytes of the bodies a server answered since the last call."""
    seen, server.seen = server.seen, []
    total = 0
    for one in seen:
        path = server.folder / one.path.lstrip("/")
        if one.method != "GET" or one.status not in (200, 206) or not path.is_file():
            continue
        size = path.stat().st_size
        first, _, last = (one.range or "").removeprefix("bytes=").partition("-")
        end = min(int(last) + 1, size) if last else size
        total += end - int(first or 0)
    return {"requests": len(seen), "bytes": total}


def main() -> None:
    """Serve until the input ends."""
    server = RangeServer(Path(sys.argv[1]), latency_s=float(sys.argv[2]))
    print(server.url, flush=True)
    for _ in sys.stdin:
        print(json.dumps(sent(server)), flush=True)
    server.stop()


if __name__ == "__main__":
    main()
