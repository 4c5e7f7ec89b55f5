"""What the benchmarks share: scenes to composites without Dask's workers, tables, command line."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from scanner.area.aoi import Aoi, read_aoi
from scanner.area.grid import Tile, tiles
from scanner.config import PixelConfig, ScanConfig, SearchConfig
from scanner.imagery.access import gdal_env
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.catalog import items_of_tile, search_items
from scanner.imagery.composite import composite
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset
from scanner.models.segmenter import Segmenter, set_threads
from scanner.run.cluster import HEAP
from scanner.run.pipeline import load_models
from scanner.run.tile import Models
from scanner.run.worker import TORCH_THREADS

NAMED = ("torch", "numpy", "dask", "distributed", "stackstac", "rasterio", "opencv-python-headless")
"""Packages whose versions go under a table."""


HEAP_ENV = {name: str(value) for name, value in HEAP.items()}
"""Environment of a process that is to measure what a worker does."""

VISIBLE = {"B02", "B03", "B04"}
"""Bands every model of the project asks for; others may be absent."""


@dataclass(frozen=True)
class Scenes:
    """A scene set on disk, its tiles and its items."""

    aoi: Aoi
    tiles: list[Tile]
    items: list[Item]


def read_scenes(items_json: Path, area: str = "aoi.geojson") -> Scenes:
    """Read a scene set as the pipeline would: AOI (a file beside it) to tiles, catalog to items."""
    aoi = read_aoi(items_json.parent / area)
    found = search_items(aoi, SearchConfig(catalog=str(items_json)))
    return Scenes(aoi, tiles(aoi), list(found.items))


def compose_box(
    box: GeoBox, tile: Tile, items: Sequence[Item], bands: Sequence[str], pixels: PixelConfig
) -> tuple[NDArray[np.float32], int]:
    """Return the composite (band + 1, y, x) of any grid and its number of days, in this process.

    Every date is read: the scene sets have fewer than ``max_scenes``. ``tile`` only tells which
    items come first where two show the same day (its zone's own).
    """
    order = sorted(items, key=lambda i: (i.solar_day, i.epsg != tile.epsg, i.datetime, i.id))
    env = gdal_env(SearchConfig())
    coarse = box.zoom_out(SCL_RESOLUTION // RESOLUTION)
    has_scl = [item.asset_key("SCL") is not None for item in order]
    known = [item for item, has in zip(order, has_scl, strict=True) if has]
    scl = load_cube(known, coarse, ("SCL",), engine=pixels.engine, env=env) if known else None
    image = composite(
        load_cube(order, box, bands, engine=pixels.engine, env=env),
        scl,
        offsets=[resolve_offset(item) for item in order],
        has_scl=has_scl,
        clear_scl=pixels.clear_scl,
        method=pixels.composite,
        optional=set(bands) - VISIBLE,
    )
    return image.data.compute(scheduler="synchronous"), len(image.attrs["days"])


def compose_tile(
    tile: Tile, items: Sequence[Item], bands: Sequence[str], pixels: PixelConfig
) -> tuple[NDArray[np.float32], int]:
    """Return the composite of a tile's core and halo and its number of days."""
    return compose_box(tile.geobox, tile, items_of_tile(list(items), tile), bands, pixels)


def for_model(
    image: NDArray[np.float32], models: Models, segmenter: Segmenter
) -> NDArray[np.float32]:
    """Return the planes of a composite that the segmenter wants, in its order."""
    wanted = (*segmenter.card.bands, *segmenter.card.optional_bands)
    return image[[models.bands.index(band) for band in wanted if band in models.bands]]


def parser(text: str | None) -> argparse.ArgumentParser:
    """Return a command line with what every benchmark takes."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--segmenter", help="model directory or hub id; default: the shipped one")
    made.add_argument("--classifier", help="model directory; default: the shipped one")
    made.add_argument("--out", type=Path, help="also write the tables to this file")
    return made


def chosen_models(args: argparse.Namespace) -> Models:
    """Return references to the models of the command line; torch gets a worker's threads."""
    set_threads(TORCH_THREADS)
    config = ScanConfig().with_values(segmenter=args.segmenter, classifier=args.classifier)
    return load_models(config)


def named(models: Models) -> str:
    """Return one line that tells which models a table was made with."""
    cards = (models.segmenter_card, models.classifier_card)
    return "Models: " + ", ".join(f"{card.name} `{card.sha256[:12]}`" for card in cards) + "."


def least(work: Callable[[], object], times: int = 3) -> float:
    """Return the least processor time of a few turns, in seconds."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a markdown table, all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(one) for one in line) + " |" for line in lines)


def percent(share: float, digits: int = 1) -> str:
    """Return a share 0..1 in percent."""
    return f"{100 * share:.{digits}f}"


def machine() -> str:
    """Return one line on the machine and the versions."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in NAMED)
    return (
        f"{os.cpu_count()} cores ({_cpu()}), {platform.system()}, "
        f"Python {platform.python_version()}; {versions}."
    )


def tell(args: argparse.Namespace, *parts: str) -> None:
    """Print the parts, and write them to ``--out`` where asked."""
    text = "\n\n".join(parts) + "\n"
    print(text)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="utf-8")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown CPU"
