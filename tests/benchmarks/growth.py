"""Growth: what more area costs, from one tile to a hundred thousand.

1. Real scans of 1, 4, 16 and 64 tiles with tiny models, three small scenes and one window a tile
   (``tests.benchmarks.memory`` has the scenes): seconds a tile, the first one apart, since it waits
   for the workers to start; memory of the client, which holds the scheduler, and of the worker.
2. Dry runs of the scheduler (``tests.benchmarks.growth_dry``): 10,000 and 100,000 tiles.
3. What comes before and after (``tests.benchmarks.growth_finish``): 1,000 and 10,000 tiles.

Each measurement runs in a process of its own. What is measured goes into a folder as JSON, a file
each; those that are there already are not measured again. ``docs/scale.md`` is written from them
and from ``docs/scale.toml`` by ``python -m tests.benchmarks.basin``.

    python -m tests.benchmarks.growth --into build/growth [--minutes 60] [--only scan,dry,finish]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from scanner.config import ScanConfig
from tests.benchmarks.common import machine
from tests.benchmarks.memory import many_tiles, scan_watched, write_area
from tests.models_tiny import tiny_classifier, tiny_segmenter
from tests.synth import write_collection

SCANS: Final = (1, 4, 16, 64)
DRY: Final = (10_000, 100_000)
FINISH: Final = (1_000, 10_000)


def scan_part(count: int) -> dict[str, Any]:
    """Scan so many tiles with one worker; returns memory and times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        area, items = many_tiles(folder, count)
        write_collection(folder / "items.json", items)
        told = scan_watched(
            ScanConfig().with_values(
                aoi=write_area(folder / "many.geojson", area),
                catalog=str(folder / "items.json"),
                out=folder / "run",
                workers=1,
                screen="off",
                segmenter=str(tiny_segmenter(folder / "segmenter")),
                classifier=str(tiny_classifier(folder / "classifier")),
            )
        )
    if told["failed"]:
        raise SystemExit(f"failed tiles: {told['failed']}")
    return {"tiles": count, **told}


def measure(into: Path, name: str, *command: str) -> None:
    """Run a module in a process of its own, which writes ``name``, unless that is there."""
    told = into / f"{name}.json"
    if not told.exists():
        print(f"{name} ...", flush=True)
        subprocess.run([sys.executable, "-m", *command, "--told", str(told)], check=True)


def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--into", type=Path, default=Path("build/growth"))
    options.add_argument("--only", default="scan,dry,finish", help="parts, with commas")
    options.add_argument("--minutes", type=float, default=60, help="for each dry run, at most")
    options.add_argument("--scan", type=int, help=argparse.SUPPRESS)
    options.add_argument("--told", type=Path, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.scan is not None:
        args.told.write_text(json.dumps(scan_part(args.scan), indent=1), encoding="utf-8")
        return
    args.into.mkdir(parents=True, exist_ok=True)
    wanted, this = args.only.split(","), "tests.benchmarks.growth"
    for count in SCANS if "scan" in wanted else ():
        measure(args.into, f"scan-{count}", this, "--scan", str(count))
    for count in FINISH if "finish" in wanted else ():
        measure(args.into, f"finish-{count}", f"{this}_finish", "--tiles", str(count))
    for count in DRY if "dry" in wanted else ():
        stop = str(60 * args.minutes)
        measure(args.into, f"dry-{count}", f"{this}_dry", "--tiles", str(count), "--stop", stop)
    (args.into / "machine.txt").write_text(machine() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
