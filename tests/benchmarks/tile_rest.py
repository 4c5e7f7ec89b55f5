"""What a full tile takes beside the models, in seconds of one core: the constants of ``run.costs``.

The tile of ``tests.benchmarks.memory`` (36 dates of local COGs, three bands), in this process: the
look at the SCL of all dates, with screening and without, six days of bands to a composite, then all
of the tile with tiny models whose windows are timed and taken off, and no cell suspicious: what
those take comes on top (a random network would find every cell so). Processor time, the least of
three, under the settings of memory that local workers have.

    python -m tests.benchmarks.tile_rest [--out FILE]
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import dask

from scanner.config import ScanConfig
from scanner.detection.cells import CELL_AREA_PX
from scanner.detection.segment import WINDOW
from scanner.imagery.access import gdal_env
from scanner.models.segmenter import set_threads
from scanner.run.pipeline import load_models
from scanner.run.tile import look, of_days, scan_tile
from scanner.run.worker import TORCH_THREADS
from tests.benchmarks.common import HEAP_ENV, compose_tile, least, machine, parser, table, tell
from tests.benchmarks.memory import DATES, TILE, full_tile_items
from tests.models_tiny import tiny_classifier, tiny_segmenter


def main() -> None:
    """Measure and print."""
    args = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name, dask.config.set(scheduler="synchronous"):
        folder = Path(name)
        items = full_tile_items(folder)
        config = ScanConfig().with_values(
            screen="off",
            suspicious_share=1.0,
            suspicious_pixels=CELL_AREA_PX + 1,
            segmenter=str(tiny_segmenter(folder / "segmenter")),
            classifier=str(tiny_classifier(folder / "classifier")),
        )
        set_threads(TORCH_THREADS)
        models, pixels, env = load_models(config), config.pixels, gdal_env(config.search)
        choice = look(TILE, items, pixels, env).compute()[()]
        chosen = choice.days
        used = of_days(items, chosen)
        looking = least(lambda: look(TILE, items, pixels, env).compute())
        screened = replace(pixels, screen="on")
        screening = least(lambda: look(TILE, items, screened, env).compute())
        composing = least(lambda: compose_tile(TILE, used, models.bands, pixels))
        every = least(lambda: scan_tile(TILE, used, choice, pixels, models, env).compute())
        segmenter = models.segmenter.load()
        image, _ = compose_tile(TILE, used, models.bands, pixels)
        window = image[None, :3, :WINDOW, :WINDOW]
        windows = 9 * least(lambda: segmenter.class_map(window))
    scl_s = looking / DATES
    bands_s = composing - scl_s * len(used)
    rows = [
        ["SCL of a date, screening too (SCL_S)", f"{screening / DATES:.3f}"],
        ["... without screening", f"{scl_s:.3f}"],
        ["a band of a day (BAND_S)", f"{bands_s / (len(chosen) * len(models.bands)):.3f}"],
        ["the rest of a tile without suspicious cells", f"{every - composing - windows:.2f}"],
        [f"all of it, {DATES} dates, {len(chosen)} days of {len(models.bands)} bands",
         f"{looking + every - windows:.1f}"],
    ]  # fmt: skip
    tell(args, table(["step", "core seconds"], rows), machine())


if __name__ == "__main__":
    if not HEAP_ENV.items() <= os.environ.items():  # the C library reads them at the start alone
        command = [sys.executable, "-m", "tests.benchmarks.tile_rest", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | HEAP_ENV)  # noqa: S606 - this very module
    main()
