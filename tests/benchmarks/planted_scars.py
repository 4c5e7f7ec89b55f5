"""Recall on planted scars against the share of cells sent to the classifier.

What: squares and 30 m wide strips of 0.3 to 5 ha are planted in synthetic forest
(``scanner.imagery.demo.scar_grid``, clear skies, plain SCL; a grid a seed). A scar is *found* if
any cell it lies in is suspicious, and *mining* if one of those cells also scores at or above the
classifier's threshold. A scar that shares a cell with another one is not judged. The other side is
the share of the AOI's cells that are suspicious where nothing is planted: on the same forest, and
on the demo's full landscape (river, sandbars, streams, road, pasture; clear skies). With
``--real DIR`` (an items.json with its ``aoi_*.geojson``) also on real scenes, which do hold mines:
what a limit costs there, not how often it is wrong.

How: each tile is composed and segmented once, by the pipeline's own functions in this process;
then the smoothing and the two limits are swept over that class map. ``by chance`` is the recall
that the same scars would get on the forest without them. Nothing is kept between calls.

The forest is synthetic and easier than a real one: shares of suspicious cells are lower bounds.

    python -m tests.benchmarks.planted_scars [--segmenter DIR] [--classifier DIR] [--out FILE]
        [--real DIR]
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from scanner.area.grid import CORE_PX, HALO_PX, Tile, cell_polygons
from scanner.config import PixelConfig
from scanner.detection.cells import CELL_AREA_PX, CellStats, suspicious_cells
from scanner.detection.classify import score_cells
from scanner.detection.segment import class_map, windows_of
from scanner.imagery.demo import PlantedMine, make_scenes, planted, scar_grid
from scanner.run.tile import Models
from tests.benchmarks.common import (
    chosen_models,
    compose_tile,
    for_model,
    machine,
    named,
    parser,
    percent,
    read_scenes,
    table,
    tell,
)

SIZES: Final = (0.3, 0.5, 1.0, 2.0, 5.0)
SHAPES: Final = ("square", "strip")
SMOOTHINGS: Final = tuple(product((0, 3, 5), (0, 3, 5)))
SHARES: Final = (0.005, 0.01, 0.02, 0.05)
PIXELS: Final = (10, 15, 20, 30, 50)
NEVER: Final = 10**6
"""A limit in pixels that no cell reaches, for settings that go by share alone."""

CellKey = tuple[str, int, int]


@dataclass(frozen=True)
class Setting:
    """Smoothing diameters and limits."""

    close: int
    open_: int
    share: float
    pixels: int

    @property
    def label(self) -> str:
        limits = f"> {percent(self.share)} %"
        return limits if self.pixels == NEVER else f"{limits} or >= {self.pixels} px"

    @property
    def smoothing(self) -> str:
        return f"close {self.close}, open {self.open_}"


OURS: Final = Setting(
    PixelConfig().smoothing_close,
    PixelConfig().smoothing_open,
    PixelConfig().suspicious_share,
    PixelConfig().suspicious_pixels,
)

TOLD: Final = (
    ("original", Setting(5, 5, 0.05, NEVER)),
    ("original smoothing, our limits", replace(OURS, close=5, open_=5)),
    ("our smoothing, original limit", replace(OURS, share=0.05, pixels=NEVER)),
    ("no smoothing", replace(OURS, close=0, open_=0)),
    ("default", OURS),
    ("default, 10 px", replace(OURS, pixels=10)),
    ("default, 30 px", replace(OURS, pixels=30)),
    ("default, 50 px", replace(OURS, pixels=50)),
)
"""Settings of the first two tables."""


@dataclass(frozen=True)
class Ground:
    """A tile seen once: what every setting needs of it, arrays (42, 42)."""

    tile: Tile
    judged_px: NDArray[np.int64]
    hits: dict[tuple[int, int], NDArray[np.int64]]
    """Suspicious pixels a cell, by smoothing."""
    score: NDArray[np.float64]
    """NaN where no setting asks for it."""

    def chosen(self, setting: Setting) -> NDArray[np.bool_]:
        """Return the cells that go to the classifier, by the rule of ``suspicious_cells``."""
        hits = self.hits[setting.close, setting.open_]
        share = np.divide(hits, self.judged_px, out=np.zeros(hits.shape), where=self.judged_px > 0)
        wanted = (share > setting.share) | (hits >= setting.pixels)
        return np.asarray(wanted & self.tile.mask & (self.judged_px > 0))


@dataclass(frozen=True)
class Planting:
    """A scene set with scars: its ground and, for each scar that is judged, its cells."""

    ground: list[Ground]
    scars: list[tuple[PlantedMine, list[CellKey]]]


def look(items_json: Path, models: Models, area: str = "aoi.geojson") -> list[Ground]:
    """Compose, segment, count and score every tile of a scene set."""
    scenes = read_scenes(items_json, area)
    return [_look_tile(tile, scenes.items, models) for tile in scenes.tiles]


def _look_tile(tile: Tile, items: list, models: Models) -> Ground:
    segmenter, classifier = models.segmenter.load(), models.classifier.load()
    image, n_days = compose_tile(tile, items, models.bands, PixelConfig())
    classes = class_map(for_model(image, models, segmenter), windows_of(tile.mask), segmenter)
    core = image[-1, HALO_PX : HALO_PX + CORE_PX, HALO_PX : HALO_PX + CORE_PX]
    judged_px = (core > 0).reshape(42, 48, 42, 48).sum(axis=(1, 3))
    hits: dict[tuple[int, int], NDArray[np.int64]] = {}
    ground = Ground(tile, judged_px, hits, np.full((42, 42), np.nan))
    for close, open_ in SMOOTHINGS:
        pixels = replace(PixelConfig(), smoothing_close=close, smoothing_open=open_)
        stats = suspicious_cells(image, classes, tile.mask, n_days, pixels)
        hits[close, open_] = np.rint(stats.suspicious_fraction * CELL_AREA_PX).astype(np.int64)
        _check_rule(ground, stats, replace(OURS, close=close, open_=open_))
    cells = _ever_chosen(ground)
    wanted = (*classifier.card.bands, *classifier.card.optional_bands)
    index = [models.bands.index(band) for band in wanted if band in models.bands]
    mask = suspicious_cells(image, classes, tile.mask, n_days, PixelConfig()).mask
    scores = score_cells(image, cells, mask, index, classifier)
    for (row, col), score in zip(cells, scores, strict=True):
        ground.score[row, col] = score
    return ground


def _check_rule(ground: Ground, stats: CellStats, setting: Setting) -> None:
    """Stop where the sweep's rule is no longer the pipeline's."""
    if not np.array_equal(ground.chosen(setting), stats.suspicious):
        raise RuntimeError("Ground.chosen differs from detection.cells.suspicious_cells")


def _ever_chosen(ground: Ground) -> list[tuple[int, int]]:
    loosest = [Setting(*smoothing, min(SHARES), min(PIXELS)) for smoothing in SMOOTHINGS]
    ever = np.any([ground.chosen(setting) for setting in loosest], axis=0)
    return [(int(row), int(col)) for row, col in np.argwhere(ever)]


def plant(folder: Path, seed: int, models: Models) -> Planting:
    """Plant a grid of scars, look at it, and attribute cells to scars."""
    grid = scar_grid(SIZES, SHAPES, seed=seed)
    path = make_scenes(folder, grid, ground="forest", clouds=False, scl_errors=False)
    ground = look(path, models)
    return Planting(ground, own_cells(planted(grid), [one.tile for one in ground]))


def own_cells(
    mines: Sequence[PlantedMine], area: Iterable[Tile]
) -> list[tuple[PlantedMine, list[CellKey]]]:
    """Return the mines that share no cell with another one, each with the cells it lies in."""
    cells: list[list[CellKey]] = [[] for _ in mines]
    tree = shapely.STRtree([mine.polygon for mine in mines])
    for tile in area:
        boxes = cell_polygons(tile)
        for cell, mine in zip(*tree.query(boxes, predicate="intersects"), strict=True):
            cells[mine].append((tile.tile_id, *tile.cells[cell]))
    users: dict[CellKey, int] = {}
    for key in (key for mine in cells for key in mine):
        users[key] = users.get(key, 0) + 1
    return [
        (mine, keys)
        for mine, keys in zip(mines, cells, strict=True)
        if keys and all(users[key] == 1 for key in keys)
    ]


def found(planting: Planting, ground: list[Ground], setting: Setting, score: float) -> list[bool]:
    """Tell for each judged scar whether one of its cells is chosen and scores ``score``."""
    hit: dict[str, NDArray[np.bool_]] = {
        one.tile.tile_id: one.chosen(setting) & (np.nan_to_num(one.score) >= score)
        for one in ground
    }
    return [any(hit[tile][row, col] for tile, row, col in keys) for _, keys in planting.scars]


def share(ground: list[Ground], setting: Setting, score: float = 0.0) -> float:
    """Return the share of the AOI's cells that are chosen and score ``score``."""
    hits = sum(int((g.chosen(setting) & (np.nan_to_num(g.score) >= score)).sum()) for g in ground)
    return hits / sum(len(one.tile.cells) for one in ground)


class Measured:
    """All scene sets, looked at once with one pair of models."""

    def __init__(self, folder: Path, seeds: int, models: Models, real: Path | None) -> None:
        self.threshold = float(models.classifier_card.threshold or 0.5)
        self.plantings = [plant(folder / f"scars-{seed}", seed, models) for seed in range(seeds)]
        clear = {"clouds": False, "scl_errors": False}
        self.forest = look(make_scenes(folder / "forest", (), ground="forest", **clear), models)
        self.full = look(make_scenes(folder / "full", (), ground="full", **clear), models)
        self.bare = {"forest": self.forest, "landscape": self.full}
        if real is not None:
            areas = sorted(path.name for path in real.glob("aoi_*.geojson"))
            self.bare["real"] = [
                one for area in areas for one in look(real / "items.json", models, area)
            ]
        mines = [mine for planting in self.plantings for mine, _ in planting.scars]
        self.kinds = [(mine.area_ha, mine.name.split("-")[0]) for mine in mines]

    def found(self, setting: Setting, score: float = 0.0, bare: bool = False) -> NDArray[np.bool_]:
        """Tell for each judged scar of every planting whether it is found."""
        told = [
            found(one, self.forest if bare else one.ground, setting, score)
            for one in self.plantings
        ]
        return np.array([value for one in told for value in one])

    def of(self, size: float, shape: str) -> NDArray[np.bool_]:
        """Tell which scars are of a kind."""
        return np.array([kind == (size, shape) for kind in self.kinds])


def by_kind(measured: Measured, score: float) -> str:
    """Return recall in percent of each kind of scar at the settings of ``TOLD``."""
    kinds = list(product(SIZES, SHAPES))
    head = ["setting", "smoothing", "limits", *(f"{size:g} {shape}" for size, shape in kinds)]
    head += ["all", "by chance", *(f"{name} cells" for name in measured.bare)]
    rows: list[list[object]] = []
    counts = [str(int(measured.of(*kind).sum())) for kind in kinds]
    rows.append(["*scars judged*", "", "", *counts, str(len(measured.kinds)), "",
                 *[""] * len(measured.bare)])  # fmt: skip
    for name, setting in TOLD:
        hit = measured.found(setting, score)
        recall = [percent(hit[measured.of(*kind)].mean(), 0) for kind in kinds]
        chance = measured.found(setting, score, bare=True).mean()
        shares = [percent(share(one, setting, score)) for one in measured.bare.values()]
        rows.append([name, setting.smoothing, setting.label, *recall, percent(hit.mean()),
                     percent(chance), *shares])  # fmt: skip
    return table(head, rows)


def sweep(measured: Measured) -> list[dict[str, object]]:
    """Return one row a setting of the whole sweep, shares 0..1."""
    small = np.array([size <= 0.5 for size, _ in measured.kinds])
    rows: list[dict[str, object]] = []
    for (close, open_), limit, pixels in product(SMOOTHINGS, SHARES, PIXELS):
        setting = Setting(close, open_, limit, pixels)
        hit, mining = measured.found(setting), measured.found(setting, measured.threshold)
        row = {"close": close, "open": open_, "share": limit, "pixels": pixels}
        figures = {
            "found": hit.mean(),
            "found_small": hit[small].mean(),
            "mining": mining.mean(),
            **{name: share(ground, setting) for name, ground in measured.bare.items()},
        }
        rows.append(row | {name: round(float(value), 4) for name, value in figures.items()})
    return rows


def front(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the settings that no other beats in both recall and share of cells sent."""

    def beaten(one: dict[str, object]) -> bool:
        mine = (-one["found"], one["forest"] + one["landscape"])
        others = ((-other["found"], other["forest"] + other["landscape"]) for other in rows)
        return any(all(a <= b for a, b in zip(o, mine, strict=True)) and o != mine for o in others)

    kept: dict[tuple[object, object], dict[str, object]] = {}
    for row in rows:
        if not beaten(row):
            kept.setdefault((row["found"], row["landscape"]), row)
    return sorted(kept.values(), key=lambda row: row["landscape"])


def front_table(rows: list[dict[str, object]]) -> str:
    """Return the front as a table in percent."""
    counts = ("close", "open", "pixels")
    plain = [
        [v if name in counts else percent(float(v)) for name, v in row.items()] for row in rows
    ]
    return table([name.replace("_", ", ") for name in rows[0]], plain)


def run(args: argparse.Namespace, folder: Path) -> None:
    """Measure and print."""
    models = chosen_models(args)
    measured = Measured(folder, args.seeds, models, args.real)
    rows = sweep(measured)
    if args.sweep is not None:
        with args.sweep.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    tell(
        args,
        "All figures in percent. Columns of scars: ha and shape.",
        "Scars found (a cell of theirs goes to the classifier), and cells sent where nothing is "
        "planted:",
        by_kind(measured, 0.0),
        "Scars called mining (such a cell scores at least "
        f"{measured.threshold:g}), and cells called mining where nothing is planted:",
        by_kind(measured, measured.threshold),
        f"Of {len(rows)} settings, those that no other beats in recall and in cells of the two "
        "synthetic grounds sent (small: 0.3 and 0.5 ha):",
        front_table(front(rows)),
        named(models),
        machine(),
    )


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=2, help="grids of scars to plant")
    options.add_argument("--sweep", type=Path, help="write every setting's figures, CSV")
    options.add_argument("--scenes", type=Path, help="keep scene sets here (no model in them)")
    options.add_argument("--real", type=Path, help="folder of real scenes, for one more column")
    args = options.parse_args()
    if args.scenes is not None:
        run(args, args.scenes)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(args, Path(folder))


if __name__ == "__main__":
    main()
