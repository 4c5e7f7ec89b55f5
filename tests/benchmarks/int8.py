"""Would int8 hold? The segmenter quantised by NNCF against itself: classes, cells, seconds.

What: OpenVINO's graph of the segmenter, its weights and activations in int8 (NNCF's post-training
quantisation, the preset for transformers), calibrated on the windows of one tile of the demo.
Compared with the same graph in float32, pixel by pixel: the demo's other tiles and the real scenes
of ``MINING_SCAN_DATA`` (L1C crops of 448 px). A cell changes where only one of both finds it
suspicious. The scan offers int8 only if 99.5 % of pixels keep their class and no detection changes.

NNCF is not among the project's packages; it goes where ``make bench-rivals`` puts the others':

    build/rivals/bin/python -m pip install nncf
    build/rivals/bin/python -m tests.benchmarks.int8 [--out FILE]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from numpy.typing import NDArray

from scanner.area.grid import CELL_PX
from scanner.config import PixelConfig
from scanner.detection.cells import SUSPICIOUS
from scanner.detection.segment import STRIDE, WINDOW
from scanner.imagery.demo import make_scenes
from scanner.models.backends.choose import use
from scanner.models.backends.openvino_ops import compiled, graph
from scanner.models.class_map import class_map
from tests.benchmarks.common import (
    chosen_models,
    compose_tile,
    for_model,
    least,
    machine,
    named,
    parser,
    percent,
    read_scenes,
    table,
    tell,
)

CROP: Final = 448
CALIBRATED_ON: Final = 9
"""Windows: those of the first tile."""

Classes = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


def demo_windows(models: Any, segmenter: Any) -> Iterator[NDArray[np.float32]]:
    """Yield the scaled windows (1, band, 800, 800) of all tiles of the demo."""
    with tempfile.TemporaryDirectory() as name:
        scenes = read_scenes(make_scenes(Path(name)))
        for tile in scenes.tiles:
            image, _ = compose_tile(tile, scenes.items, models.bands, PixelConfig())
            scaled = segmenter.card.inputs(for_model(image, models, segmenter)[None])
            for top in range(0, 3 * STRIDE, STRIDE):
                for left in range(0, 3 * STRIDE, STRIDE):
                    yield scaled[:, :, top : top + WINDOW, left : left + WINDOW]


def real_windows(data: Path, segmenter: Any) -> Iterator[NDArray[np.float32]]:
    """Yield the scaled crops (1, band, 448, 448) of the real scenes."""
    for folder in sorted((data / "scenes").glob("S2L1C_*")):
        bands = [rasterio.open(folder / f"{band}.tif").read(1) for band in segmenter.card.bands]
        image = np.stack(bands)[:, :CROP, :CROP].astype(np.float32) / 10_000
        image[:, image[0] == 0] = np.nan
        yield segmenter.card.inputs(image[None])


def classes_by(model: Any) -> Classes:
    """Return what gives the classes of a window, one thread."""
    request = compiled(model, 1).create_infer_request()

    def run(window: NDArray[np.float32]) -> NDArray[np.uint8]:
        request.infer([np.ascontiguousarray(window)])
        return class_map(np.array(request.get_output_tensor(0).data)[0], *window.shape[2:])

    return run


def compared(one: Classes, other: Classes, windows: list[NDArray[np.float32]]) -> list[str]:
    """Return pixels, those of the same class, the same side, and cells that change."""
    pixels = same = sides = changed = 0
    for window in windows:
        first, second = one(window), other(window)
        pixels += first.size
        same += int((first == second).sum())
        marks = [np.isin(classes, SUSPICIOUS) for classes in (first, second)]
        sides += int((marks[0] == marks[1]).sum())
        cells = [_cells(mark) for mark in marks]
        changed += int((cells[0] != cells[1]).sum())
    return [str(pixels), percent(same / pixels, 2), percent(sides / pixels, 2), str(changed)]


def _cells(mark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which whole cells of a window hold enough suspicious pixels (``PixelConfig``)."""
    rows, cols = (side // CELL_PX for side in mark.shape)
    inside = mark[: rows * CELL_PX, : cols * CELL_PX]
    hits = inside.reshape(rows, CELL_PX, cols, CELL_PX).sum(axis=(1, 3))
    limits = PixelConfig()
    share = hits / CELL_PX**2
    return np.asarray((share > limits.suspicious_share) | (hits >= limits.suspicious_pixels))


def main() -> None:
    """Quantise, compare and print."""
    import nncf

    args = parser(__doc__).parse_args()
    models = chosen_models(args)
    use("openvino", 1)
    segmenter = models.segmenter.load()
    network = segmenter._engine._runner._network
    windows = list(demo_windows(models, segmenter))
    data = Path(os.environ.get("MINING_SCAN_DATA", "../shared/data"))
    real = list(real_windows(data, segmenter))
    plain, small = {}, {}
    for side in (WINDOW, CROP):
        shape = (1, windows[0].shape[1], side, side)
        plain[side] = classes_by(graph(network, shape))
        small[side] = classes_by(
            nncf.quantize(
                graph(network, shape),
                nncf.Dataset([one[:, :, :side, :side] for one in windows[:CALIBRATED_ON]]),
                model_type=nncf.ModelType.TRANSFORMER,
            )
        )
    rows = [
        ["demo, other tiles", *compared(plain[WINDOW], small[WINDOW], windows[CALIBRATED_ON:])],
        ["real scenes (L1C)", *compared(plain[CROP], small[CROP], real)],
    ]
    took = [least(partial(one[WINDOW], windows[0]), times=5) for one in (plain, small)]
    tell(
        args,
        "## int8",
        table(["windows", "pixels", "same class, %", "same side, %", "cells that change"], rows),
        f"A window of {WINDOW} px: {took[0]:.3f} s in float32, {took[1]:.3f} s in int8 "
        f"({took[0] / took[1]:.2f} times as fast), class map included, one thread.",
        named(models),
        machine(),
    )


if __name__ == "__main__":
    main()
