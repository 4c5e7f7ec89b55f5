"""Speed: this scan, the plain way, public tools and the bare network, side by side.

The work is a generated park (see ``park``, ``air``, ``scenes``), by default 203 Mpx, as local COGs
and over loopback HTTP with 40 ms before each answer. Contenders (``contenders``) are processes of
their own, run one after the other in rounds (a b c d, a b c d, ...), so that what else the machine
does meets all of them. Slow ones run on a stated part of the park, chosen as the one most like the
whole in disturbed ground and in windows with any.

- ``scan``: the command itself with two workers, default settings, screening on and off.
- ``plain``: what one writes first (``plain``), batches of 4 and of 1.
- geoai, terratorch, torchgeo: public tools on the same weights over a mosaic made beforehand
  (``rivals``), where ``make bench-rivals`` installed them; and the scan's segmentation alone on it.
- the floor: the bare network on arrays in memory, two processes of one thread and one of two.

    python -m tests.benchmarks.speed [--mpx 200] [--runs 3] [--quick] [--out FILE]

Each result is added to ``results.jsonl`` beside the scenes as it comes; ``--tell`` makes the tables
of what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.benchmarks.common import chosen_models, machine, named, parser, tell
from tests.benchmarks.speed import report
from tests.benchmarks.speed.contenders import Contender, Result, Ring, best_floor, lineup
from tests.benchmarks.speed.maps import write_mosaic
from tests.benchmarks.speed.park import Park
from tests.benchmarks.speed.scenes import Scenes, make_scenes

QUICK_MPX = 24.0


def race(
    ring: Ring, contenders: list[Contender], runs: int, log: Path, minutes: float
) -> list[str]:
    """Run all contenders round by round, each result to ``log``; returns who failed, and why.

    Those that run once come last. Who fails is told and left out of later rounds; the others go
    on. Who would not end in time, by what it took before, is passed over.
    """
    failed: dict[Contender, str] = {}
    last: dict[Contender, float] = {}
    end = time.monotonic() + 60 * minutes
    often = [one for one in contenders if one.runs is None and ring.has(one)]
    seldom = [one for one in contenders if one.runs is not None and ring.has(one)]
    order = [(turn, one) for turn in range(runs) for one in often]
    for turn, one in [*order, *((0, one) for one in seldom)]:
        begun = time.monotonic()
        if one in failed:
            continue
        if begun + last.get(one, 0.0) > end:
            print(f"round {turn + 1}: {one.name}, {one.area}: no time left", flush=True)
            continue
        try:
            result = ring.run(one, turn)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            failed[one] = f"{one.name}, {one.area}: {error}"[:1000]
            print(f"FAILED: {failed[one]}", flush=True)
            continue
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result.plain()) + "\n")
        took = last[one] = time.monotonic() - begun
        print(f"round {turn + 1}: {result.name}, {one.area}: {result.rate:.2f} Mpx/s, "
              f"{took:.0f} s", flush=True)  # fmt: skip
    return list(failed.values())


def told(args: argparse.Namespace, scenes: Scenes, log: Path, failed: list[str]) -> None:
    """Print the tables of all results in ``log``."""
    lines = log.read_text(encoding="utf-8").splitlines()
    results = report.Results([Result.of(json.loads(line)) for line in lines])
    floor = f"{best_floor()}, 2 x 1"
    tell(
        args,
        "## Speed",
        report.layout_text(scenes),
        "What each used: medians, Mpx/s with least and most; Mpx/s of the floor and of segmented "
        "ground leave margins out. Files lie in the system's cache. MB read is all that reads "
        "gave, from files and sockets, the programs themselves included:",
        report.used_table(results),
        "Ratios of Mpx/s of ground, round by round: median (least to most):",
        report.ratio_table(results, floor),
        "Neighbouring pixels that differ in class, percent, across the lines where windows meet:",
        report.seam_table(results),
        "The scan's memory as the area grows:",
        report.memory_table(results),
        "Where the workers' seconds go, on the part, in a run of its own:",
        report.stage_table(results),
        report.limits_text(results),
        *(f"FAILED: {one}" for one in failed),
        named(chosen_models(args)),
        machine(),
    )


def main() -> int:
    """Run from the command line; returns the exit code."""
    made = parser(__doc__)
    made.add_argument("--mpx", type=float, default=200)
    made.add_argument("--runs", type=int, default=3)
    made.add_argument("--minutes", type=float, default=20, help="no run begins that ends later")
    made.add_argument("--quick", action="store_true", help="a small park, one round, minutes")
    made.add_argument("--scenes", type=Path, default=Path("build/speed"))
    made.add_argument("--backend", help="of the scan, where it can be told")
    made.add_argument("--only", action="append", help="contenders whose name begins so")
    made.add_argument("--tell", action="store_true", help="run nothing, tell what there is")
    args = made.parse_args()
    if args.quick:
        args.mpx, args.runs = QUICK_MPX, 1
    scenes = make_scenes(args.scenes, Park.of_mpx(args.mpx))
    log = scenes.folder / "results.jsonl"
    failed: list[str] = []
    if not args.tell:
        log.unlink(missing_ok=True)
        ring = Ring(scenes, args.scenes / "runs", args.segmenter, args.classifier, args.backend)
        contenders = [
            one
            for one in lineup(args.quick)
            if not args.only or any(one.name.startswith(only) for only in args.only)
        ]
        ring.mosaic = args.scenes / f"{scenes.folder.name}.tif"
        if not ring.mosaic.exists():
            write_mosaic(scenes, ring.mosaic)
        with ring.serving():
            failed = race(ring, contenders, args.runs, log, args.minutes)
    told(args, scenes, log, failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
