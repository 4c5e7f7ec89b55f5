"""Class agreement at window and tile seams against windows with twice the margin.

What: a window of 800 px keeps its inner 672 px, so what it says at the rim of these has seen 64 px
of surroundings on that side. The reference keeps the same 672 px of windows of 928 px (margin 128),
from a chunk with 64 px more on each side. Agreement is the share of pixels with the same class: in
the whole core, and within 8 and 16 px of the lines where windows meet. A seam would also show as
classes that change more often from one side of such a line to the other than between any two
neighbouring pixels: both shares are told, for the map and for the reference.

At a tile seam the same is done for two neighbouring tiles, each mapped from its own chunk, against
windows of 928 px centred on the seam. ``apron`` is the agreement of what each tile says of the
first 16 px of its neighbour (kept for smoothing) with what the neighbour says itself.

How: the demo's scenes (clouds, SCL errors), the tile of most cells, and the two tiles of zone 21S;
composites and class maps by the pipeline's own functions in this process.

    python -m tests.benchmarks.seams [--segmenter DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from scanner.area.grid import CELL_PX, CORE_PX, HALO_PX, Tile
from scanner.config import PixelConfig
from scanner.detection.cells import SUSPICIOUS
from scanner.detection.segment import (
    APRON,
    NOT_SEGMENTED,
    STRIDE,
    WINDOW,
    class_map,
    windows_of,
)
from scanner.imagery.demo import make_scenes
from scanner.models.segmenter import Segmenter
from scanner.run.tile import Models
from tests.benchmarks.common import (
    Scenes,
    chosen_models,
    compose_box,
    for_model,
    machine,
    named,
    parser,
    percent,
    read_scenes,
    table,
    tell,
)

MARGIN: Final = 128
"""Pixels of context of the reference."""

REFERENCE: Final = STRIDE + 2 * MARGIN
"""Window of the reference: 928 = 29 x 32."""

NEAR: Final = (8, 16)
"""Distances from a seam, pixels."""

MOST: Final = 4
"""Pairs of classes told."""

SEAMS: Final = tuple(range(STRIDE, CORE_PX, STRIDE))
"""Rows and columns of the core where one window ends and the next begins."""

Classes = NDArray[np.uint8]


def read_wide(box: GeoBox, tile: Tile, scenes: Scenes, models: Models) -> NDArray[np.float32]:
    """Return the segmenter's planes of a composite of any grid."""
    image, _ = compose_box(box, tile, scenes.items, models.bands, PixelConfig())
    return for_model(image, models, models.segmenter.load())


def reference_map(wide: NDArray[np.float32], mask: NDArray[np.bool_], model: Segmenter) -> Classes:
    """Return the core's classes from windows with the wide margin, on the same lattice."""
    out = np.full((CORE_PX, CORE_PX), NOT_SEGMENTED, dtype=np.uint8)
    cells = STRIDE // CELL_PX
    for i, j in np.ndindex(CORE_PX // STRIDE, CORE_PX // STRIDE):
        if mask[i * cells : (i + 1) * cells, j * cells : (j + 1) * cells].any():
            top, left = i * STRIDE, j * STRIDE
            window = wide[:, top : top + REFERENCE, left : left + REFERENCE]
            classes = model.class_map(window[None])[0]
            out[top : top + STRIDE, left : left + STRIDE] = inner(classes, MARGIN)
    return out


def inner(image: NDArray, margin: int) -> NDArray:
    """Cut ``margin`` pixels off each side of the last two axes."""
    return image[..., margin:-margin, margin:-margin]


def near_seams(distance: int) -> NDArray[np.bool_]:
    """Return the core's pixels that lie within ``distance`` of a line where windows meet."""
    at = np.zeros(CORE_PX, dtype=bool)
    for seam in SEAMS:
        at[seam - distance : seam + distance] = True
    return at[:, None] | at[None, :]


def agreement(ours: Classes, other: Classes, where: NDArray[np.bool_]) -> list[object]:
    """Return pixels compared, and the share with the same class and the same side of suspicious."""
    one, two = ours[where], other[where]
    same = (one == two).mean()
    suspicious = (np.isin(one, SUSPICIOUS) == np.isin(two, SUSPICIOUS)).mean()
    return [int(where.sum()), percent(same, 2), percent(suspicious, 2)]


def differences(
    ours: Classes, other: Classes, where: NDArray[np.bool_], names: Sequence[str]
) -> str:
    """Return the table of the pairs of classes that differ most, in percent of all pixels."""
    pairs = ours[where].astype(np.int64) * 256 + other[where]
    values, counts = np.unique(pairs, return_counts=True)
    rows = []
    for index in np.argsort(-counts, kind="stable"):
        one, two = divmod(int(values[index]), 256)
        if one != two:
            rows.append([f"{names[one]} / {names[two]}", percent(counts[index] / where.sum(), 2)])
    return table(["our class / reference", "pixels"], rows[:MOST])


def changes(classes: Classes, valid: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the share of neighbouring pixels that differ in class: across window lines, else."""
    across: list[NDArray[np.bool_]] = []
    else_: list[NDArray[np.bool_]] = []
    for one, ok in ((classes, valid), (classes.T, valid.T)):
        differs = one[1:] != one[:-1]
        both = ok[1:] & ok[:-1]
        line = np.isin(np.arange(1, len(one)), SEAMS)
        across.append(differs[line][both[line]])
        else_.append(differs[~line][both[~line]])
    return float(np.concatenate(across).mean()), float(np.concatenate(else_).mean())


def window_seams(tile: Tile, scenes: Scenes, models: Models) -> tuple[str, str, str]:
    """Return the tables of agreement, of what differs and of class changes inside one tile."""
    model = models.segmenter.load()
    wide = read_wide(tile.geobox.pad(MARGIN - HALO_PX), tile, scenes, models)
    ours = inner(class_map(inner(wide, MARGIN - HALO_PX), windows_of(tile.mask), model), APRON)
    other = reference_map(wide, windows_of(tile.mask), model)
    seen = ~np.isnan(inner(wide[0], MARGIN))
    valid = seen & (ours != NOT_SEGMENTED) & (other != NOT_SEGMENTED)
    rows = [["whole core", *agreement(ours, other, valid)]]
    for distance in NEAR:
        where = valid & near_seams(distance)
        rows.append([f"within {distance} px of a window's edge", *agreement(ours, other, where)])
    far = valid & ~near_seams(max(NEAR))
    rows.append([f"farther than {max(NEAR)} px", *agreement(ours, other, far)])
    table_ = table(["pixels", "compared", "same class", "same side of suspicious"], rows)
    rates = [
        [name, *(percent(rate, 2) for rate in changes(classes, valid))]
        for name, classes in (("800 px, margin 64", ours), ("928 px, margin 128", other))
    ]
    told = differences(ours, other, valid, model.card.classes)
    return (
        table_,
        told,
        table(["windows", "change across a window's edge", "change elsewhere"], rates),
    )


def tile_seam(west: Tile, east: Tile, scenes: Scenes, models: Models) -> tuple[str, str]:
    """Return the tables of a seam between two tiles of one zone, side by side."""
    model = models.segmenter.load()
    left, right = (
        class_map(read_wide(tile.geobox, tile, scenes, models), windows_of(tile.mask), model)
        for tile in (west, east)
    )
    reach = max(NEAR)
    rows = slice(APRON, APRON + CORE_PX)
    ours = np.hstack([left[rows, APRON + CORE_PX - reach : APRON + CORE_PX],
                      right[rows, APRON : APRON + reach]])  # fmt: skip
    other, seen = across_seam(west, scenes, models)
    valid = seen & (ours != NOT_SEGMENTED) & (other != NOT_SEGMENTED)
    told: list[list[object]] = []
    for distance in NEAR:
        where = valid & (np.abs(np.arange(2 * reach) - reach + 0.5) < distance)
        told.append([f"within {distance} px of the tile seam", *agreement(ours, other, where)])
    beyond = np.hstack([right[rows, :APRON], left[rows, -APRON:]])
    told.append(["apron", *agreement(beyond, ours, valid & (beyond != NOT_SEGMENTED))])
    rates = []
    for name, classes in (("two tiles", ours), ("one map across", other)):
        differs = classes[:, 1:] != classes[:, :-1]
        both = valid[:, 1:] & valid[:, :-1]
        line = np.arange(1, 2 * reach) == reach
        rates.append([name, percent(differs[:, line][both[:, line]].mean(), 2),
                      percent(differs[:, ~line][both[:, ~line]].mean(), 2)])  # fmt: skip
    return (
        table(["pixels", "compared", "same class", "same side of suspicious"], told),
        table(["map", "change across the seam", "change beside it"], rates),
    )


def across_seam(west: Tile, scenes: Scenes, models: Models) -> tuple[Classes, NDArray[np.bool_]]:
    """Return classes of 16 px on both sides of a tile's east edge, and where there is data.

    They come from windows of 928 px whose middle column is the seam.
    """
    model = models.segmenter.load()
    half, reach = REFERENCE // 2, max(NEAR)
    wide_box = west.geobox.pad(half)
    column = half + HALO_PX + CORE_PX  # of the seam, in wide_box
    top = half + HALO_PX - MARGIN
    box = wide_box[top : top + CORE_PX + 2 * MARGIN, column - half : column + half]
    wide = read_wide(box, west, scenes, models)
    parts = []
    for start in range(0, CORE_PX, STRIDE):
        classes = model.class_map(wide[None, :, start : start + REFERENCE])[0]
        parts.append(classes[MARGIN : MARGIN + STRIDE, half - reach : half + reach])
    seen = ~np.isnan(wide[0, MARGIN:-MARGIN, half - reach : half + reach])
    return np.vstack(parts), seen


def pair(tiles: list[Tile]) -> tuple[Tile, Tile]:
    """Return two tiles of one zone that lie side by side."""
    for one in tiles:
        for two in tiles:
            if (one.zone, one.row, one.col + 1) == (two.zone, two.row, two.col):
                return one, two
    raise RuntimeError("no two tiles side by side in the demo's area")


def run(args: argparse.Namespace, folder: Path) -> None:
    """Measure and print."""
    models = chosen_models(args)
    scenes = read_scenes(make_scenes(folder / "scenes"))
    tile = max(scenes.tiles, key=lambda one: len(one.cells))
    west, east = pair(scenes.tiles)
    windows, told, rates = window_seams(tile, scenes, models)
    seam, seam_rates = tile_seam(west, east, scenes, models)
    tell(
        args,
        f"Agreement in percent of pixels; windows of {WINDOW} px against {REFERENCE} px with the "
        f"same {STRIDE} px kept, tile {tile.tile_id}:",
        windows,
        "What differs most:",
        told,
        "Neighbouring pixels that differ in class, percent:",
        rates,
        f"Two tiles, {west.tile_id} and {east.tile_id}, against windows centred on their seam:",
        seam,
        seam_rates,
        named(models),
        machine(),
    )


def main() -> None:
    """Run from the command line."""
    args = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(args, Path(folder))


if __name__ == "__main__":
    main()
