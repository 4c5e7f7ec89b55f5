"""False sites on real ground without mines: what a pair of models costs the people who look.

What: the real scan runs over real pictures of ground that shows no mine, and every site it prints
there is a false one. Three grounds, none of them part of the project (``--data``):

- ``forest``: 44 pictures of the Amazon and its edge: forest, pasture, fields, towns, rivers. They
  are 8-bit pictures whose level and stretch are unknown. The main reading takes value / 255 as
  reflectance / 0.3, the form of mine-chips. The second takes 0.4 as white: then their forest is as
  bright as that of ``landscapes``, which is top of atmosphere (its colours are in the same ratio).
- ``landscapes``: those of 53 pictures of mining country (L1C) that show no other mine by eye
  (``LANDSCAPES``); cells within 500 m of any tailings mask are left out.
- ``scenes``: three scenes with a mine each: which sites are found, and whether the mine is.

How: each picture is warped to its UTM zone at 10 m and written as COGs with an ItemCollection; the
scan (``scanner.run.pipeline``, one worker, a thread of this process) looks at the cells that lie
wholly in a picture. A cell of overlapping pictures counts once. The files are thrown away at the
end; the sites are drawn on a contact sheet beside ``--out``, for a person to judge (a mine
seen there goes to ``MINES``). There is one date and no cloud mask; a median of dates is calmer.

    python -m tests.benchmarks.false_sites --data DIR [--segmenter DIR] [--classifier DIR]
        [--cut high-precision --cut 0.5] [--white 0.3] [--limit N] [--out FILE.md] [--sheet PNG]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import shapely
from distributed import LocalCluster
from scipy.stats import chi2

from scanner.detection.detections import CELL_HA
from scanner.files import write_json
from scanner.imagery.item import Item
from scanner.run.tile import Models
from tests.benchmarks.common import chosen_models, machine, named, parser, table, tell
from tests.benchmarks.real_ground import (
    Ground,
    Picture,
    Scanned,
    eight_bit,
    grown,
    level_1c,
    mask_outline,
    read_pictures,
    scan,
)
from tests.benchmarks.site_sheet import Shown, write_sheet

APART_M: Final = 500.0
"""Ground this close to a tailings mask says nothing about false sites."""

MOSTLY_FOREST: Final = 0.8
"""Share of forest from which a picture counts as forest, below as forest's edge."""

WHITES: Final = (0.3, 0.4)
"""Reflectance that 255 stands for in the forest pictures: main reading, other one (``--white``)."""

MINES: Final[dict[str, tuple[tuple[float, float], ...]]] = {}
"""Forest pictures that do show a mine by eye: (lon, lat) of each. Cells near are left out."""

LANDSCAPES: Final = {
    "001": "quarries", "002": "diggings", "003": "diggings", "005": "pits", "007": "garimpo",
    "015": "clean", "017": "pits", "018": "heap", "021": "pits", "022": "pit", "024": "pits",
    "025": "pits", "026": "pits", "027": "basins", "028": "basins", "032": "pits",
    "035": "diggings", "038": "pit", "039": "gullies", "041": "pits", "043": "pits", "044": "pits",
    "045": "pit", "049": "pits", "051": "quarries", "055": "plant", "056": "pits", "057": "basins",
    "058": "clean", "064": "pits", "066": "garimpo", "068": "pits", "069": "pits",
    "070": "benches", "071": "quarry", "072": "quarry", "073": "clean", "074": "quarry",
    "075": "clean", "077": "clean", "078": "heaps", "079": "terraces", "081": "pit", "083": "pits",
    "086": "pits", "087": "pit", "088": "basins", "090": "pits", "091": "clean", "092": "terraces",
    "106": "pits", "107": "strips", "111": "garimpo",
}  # fmt: skip
"""What a person sees farther than 500 m from the masks; only the clean ones are looked at."""

SCENE_MINES: Final = {
    "tapajos_jardim_do_ouro": ("007", "066"),
    "juruti_pa": ("056", "068", "069"),
    "paragominas_pa": ("035", "055"),
}
"""Landscapes tiles whose masks mark the mine of a scene (that of 035 takes in forest as well)."""


def interval(count: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the mean of a Poisson count."""
    low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return float(low), float(chi2.ppf(0.975, 2 * count + 2) / 2)


HEAD: Final = (
    "ground", "pictures", "with a false site", "km2", "cells sent",
    "false mining cells", "per 1,000 km2", "false ha", "per 1,000 km2",
    "false sites", "per 1,000 km2", "95 %",
)  # fmt: skip


def row(one: Scanned) -> list[str]:
    """Return a row of the table."""
    km2 = float(one.cells.clear_fraction.fillna(0).sum()) * CELL_HA / 100
    count, hectares = len(one.sites), float(one.sites.area_ha.sum())
    low, high = (1000 * end / km2 for end in interval(count))
    cells, sent = int((one.cells.status == "mining").sum()), one.cells.score.notna()
    return [
        one.name, f"{one.cells.picture.nunique()}", f"{one.sites.picture.nunique()}", f"{km2:.0f}",
        f"{sent.sum()} ({100 * sent.mean():.1f} %)",
        f"{cells}", f"{1000 * cells / km2:.0f}",
        f"{hectares:.1f}", f"{1000 * hectares / km2:.0f}",
        f"{count}", f"{1000 * count / km2:.1f}", f"{low:.1f} to {high:.1f}",
    ]  # fmt: skip


def parts(one: Scanned, pictures: Sequence[Picture]) -> list[Scanned]:
    """Return a ground of forest pictures, and it in two parts by their share of forest."""
    forest = [p for p in pictures if p.share_forest >= MOSTLY_FOREST]
    edge = [p for p in pictures if p not in forest]
    told = f"{100 * MOSTLY_FOREST:.0f} % forest"
    split = [one.of(f"- at least {told}", forest), one.of(f"- less than {told}", edge)]
    return [one, *(part for part in split if len(part.cells))]


def grounds(data: Path, folder: Path, limit: int | None, whites: Sequence[float]) -> list[Ground]:
    """Write all grounds of the first table, the forest once for each of ``whites``."""
    forest = read_pictures(data / "forest")[:limit]
    seen = [
        grown(shapely.MultiPoint(MINES[p.name]), p.epsg, APART_M) for p in forest if p.name in MINES
    ]
    mines = shapely.union_all(seen)
    made = [
        Ground(f"forest, white {white:g}", forest, eight_bit(white), folder / f"f{white}", mines)
        for white in whites
    ]
    every = read_pictures(data / "landscapes")
    clean = [p for p in every if LANDSCAPES[p.name.removeprefix("tile_")] == "clean"][:limit]
    near = [grown(mask_outline(_mask(p.path)), p.epsg, APART_M) for p in every]
    name = f"landscapes (over {APART_M:.0f} m off a mask)"
    return [*made, Ground(name, clean, level_1c, folder / "land", shapely.union_all(near))]


def _mask(image: Path) -> Path:
    return image.parent.parent / "mask" / image.name


def scene_table(data: Path, folder: Path, args: argparse.Namespace) -> tuple[str, list[Shown]]:
    """Scan the three scenes; returns the table of their sites, and what a sheet shows of them."""
    scenes, rows, shown = data / "scenes", [], []
    areas = {name: json.loads((scenes / f"aoi_{name}.geojson").read_text()) for name in SCENE_MINES}
    features = [f for area in areas.values() for f in area.get("features", [area])]
    write_json(folder / "area.geojson", {"type": "FeatureCollection", "features": features})
    area = folder / "area.geojson"
    cells, sites, items = scan(folder / "run", scenes / "items.json", area, args)
    mining = cells[cells.status == "mining"].geometry
    for name, tiles in SCENE_MINES.items():
        ground = gpd.read_file(scenes / f"aoi_{name}.geojson").union_all()
        masks = {t: mask_outline(data / "landscapes" / "mask" / f"tile_{t}.tif") for t in tiles}
        here = sites[sites.intersects(ground)].sort_values("area_ha", ascending=False)
        own = mining[mining.intersects(ground)]
        for tile, mask in masks.items():
            touch, cell = bool(here.intersects(mask).any()), bool(own.intersects(mask).any())
            rows.append([name, f"mask of tile {tile}", "", "", "", _told(touch, cell)])
        for site in here.itertuples():
            on = [tile for tile, mask in masks.items() if site.geometry.intersects(mask)]
            told = f"on the mask of {', '.join(on)}" if on else "off the masks"
            rows.append([name, site.detection_id, f"{site.area_ha:.1f}", site.n_cells,
                         f"{site.score:.2f}", told])  # fmt: skip
        shown += _shown(name, here, own, items)
    head = ["scene", "mine or site", "ha", "cells", "score", ""]
    return table(head, rows), shown


def _told(site: bool, cell: bool) -> str:
    if site:
        return "**touched by a site**"
    return "missed; a mining cell meets it, no outline" if cell else "missed"


def _shown(name: str, sites: Any, mining: Any, items: tuple[Item, ...]) -> list[Shown]:
    shown = []
    for site in sites.itertuples():
        own = mining[mining.intersects(site.geometry.envelope)]
        cells = shapely.union_all(own.to_numpy()) if len(own) else site.geometry
        second = f"{site.detection_id[5:]}  {site.score:.2f}  {site.area_ha:.1f} ha"
        shown.append(Shown(site.geometry, cells, (name, second), items))
    return shown


def run(args: argparse.Namespace, folder: Path) -> None:
    """Measure and print."""
    models = chosen_models(args)
    rows: list[list[str]] = []
    others: list[list[str]] = []
    shown: list[Shown] = []
    for ground in grounds(args.data, folder, args.limit, args.white or WHITES):
        found = ground.scan(args)
        by_forest = not np.isnan([p.share_forest for p in ground.pictures]).any()
        rows += [row(one) for one in (parts(found, ground.pictures) if by_forest else [found])]
        mining = found.cells[found.cells.status == "mining"]
        for picture, sites in found.sites.groupby("picture"):
            told = f"{picture} {ground.name.partition(', ')[2][:9]}"
            shown += _shown(told, sites, mining.geometry, found.items)
        for cut in _cuts(args, models):
            others.append([*row(ground.scan(args, cut))])
            others[-1][0] += f", at {cut}"
    scenes, of_scenes = scene_table(args.data, folder, args)
    sheet = args.sheet or (args.out and args.out.with_suffix(".png"))
    tell(args, *_report(models, rows, others, scenes))
    written: list[Path] = write_sheet(sheet, shown + of_scenes) if sheet else []
    print("Sites drawn on:", ", ".join(map(str, written)) or "nothing: no site, or no --out")


def _cuts(args: argparse.Namespace, models: Models) -> list[str]:
    own = [name.replace("_", "-") for name in models.classifier_card.thresholds]
    return [*own, *args.cut]


def _report(
    models: Models, rows: list[list[str]], others: list[list[str]], scenes: str
) -> list[str]:
    threshold = models.classifier_card.cut()
    text = [
        f"False sites on ground without mines; a cell is mining from a score of {threshold:g}:",
        table(HEAD, rows),
        "Level and stretch of the forest pictures are unknown; `white` is the reflectance that 255 "
        f"is taken for: {WHITES[0]:g} in the form of mine-chips (main reading), {WHITES[1]:g} as "
        "bright as the forest of landscapes. `95 %` is the exact Poisson interval of the rate of "
        "sites; those of one picture are alike, so the true one is wider.",
    ]
    if others:
        text += ["The same at other thresholds:", table(HEAD, others)]
    return [*text, "Scenes with a mine:", scenes, named(models), machine()]


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder of the real pictures")
    options.add_argument("--limit", type=int, help="look at the first N pictures of each ground")
    options.add_argument("--white", action="append", type=float, help="a reading of the forest")
    options.add_argument("--cut", action="append", default=[], help="a further threshold")
    options.add_argument("--sheet", type=Path, help="png of the sites; default: beside --out")
    args = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
    ):
        args.scheduler = cluster.scheduler_address
        run(args, Path(folder))


if __name__ == "__main__":
    main()
