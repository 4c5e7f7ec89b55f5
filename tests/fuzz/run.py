"""Fuzz one of our parsers: ``python -m tests.fuzz.run TARGET --seconds 300``.

Atheris guides the search by coverage. Where it cannot be imported (it is made for Linux), or where
each input is read by a process of its own, the seeds are changed at random instead. The corpus and
what was found (``crash-...``) are kept in ``build/fuzz/TARGET``. Ends with 1 on a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random

BUILD = Path(__file__).parents[2] / "build" / "fuzz"
CASES = Path(__file__).parent / "cases"
INPUT_SECONDS = 30
"""Longest that one input may take, on a machine that does other things too."""
MEMORY_MB = 2_000

# targets are imported late: atheris has to watch their modules being imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", help="one of targets.TARGETS")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    from tests.fuzz.targets import TARGETS

    if asked.target not in TARGETS:
        parser.error(f"no target {asked.target!r}; there are {', '.join(TARGETS)}")
    place = BUILD / asked.target
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    target = TARGETS[asked.target]
    cases = CASES / asked.target
    kept = [p.read_bytes() for p in sorted(cases.glob("*"))] if cases.is_dir() else []
    for data in (*target.seeds(), *kept):
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    guided = importlib.util.find_spec("atheris") is not None and not target.slow
    if not guided and not target.slow:
        print("atheris is not installed here: the seeds are changed at random instead")
    how = watched if guided else blind
    print(f"{asked.target}: {how(asked.target, place, asked.seconds, asked.seed)}")


def watched(name: str, place: Path, seconds: int, seed: int) -> str:
    """Fuzz in a process of its own, guided by coverage; returns the figures of it."""
    flags = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={place}/",
        "-print_final_stats=1",
    ]
    child = [sys.executable, "-m", "tests.fuzz.guided", name, *flags, str(place / "corpus")]
    with tempfile.TemporaryDirectory() as scratch:  # libFuzzer ends without cleaning up
        done = subprocess.run(
            child, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            errors="replace", cwd=BUILD.parents[1], env=os.environ | {"TMPDIR": scratch},
        )  # fmt: skip
    (place / "log.txt").write_text(done.stdout)
    told = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stdout))
    covered = re.findall(r" cov: (\d+)", done.stdout)
    figures = (
        f"{told.get('number_of_executed_units', '?')} inputs in {seconds} s, "
        f"{covered[-1] if covered else '?'} edges covered, peak {told.get('peak_rss_mb', '?')} MB, "
        f"slowest input {told.get('slowest_unit_time_sec', '?')} s"
    )
    if done.returncode:
        print(done.stdout[-6000:])
        sys.exit(f"{name}: FINDING, see {place}; {figures}")
    return f"{figures}, no finding"


def blind(name: str, place: Path, seconds: int, seed: int) -> str:
    """Change the corpus at random and check it here; returns the figures of it."""
    from tests.fuzz.changes import changed
    from tests.fuzz.targets import TARGETS, warnings_are_findings

    target, rng = TARGETS[name], Random(seed)
    corpus = [path.read_bytes() for path in sorted((place / "corpus").iterdir())]
    start, slowest, count = time.monotonic(), 0.0, 0
    while time.monotonic() - start < seconds:
        data = changed(rng.choice(corpus), target.form, rng)[: target.max_len]
        begun = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings_are_findings()
                target.check(data)
        except Exception:
            found = place / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
            found.write_bytes(data)
            traceback.print_exc()
            sys.exit(f"{name}: FINDING, see {found}; {count} inputs before")
        slowest = max(slowest, time.monotonic() - begun)
        count += 1
        if slowest > INPUT_SECONDS:
            (place / "slow").write_bytes(data)
            sys.exit(f"{name}: FINDING, {place / 'slow'} took {slowest:.0f} s")
    return f"{count} inputs in {seconds} s, slowest input {slowest:.1f} s, no finding"


if __name__ == "__main__":
    main()
