"""One tile from scenes to a cells table, as two small lazy graphs.

First the SCL of every candidate item decides which solar days are worth reading, and which cells
need a look (:func:`look`); then the 10 m bands of those days, in the windows of those cells, become
a composite, a class map, suspicious cells, chips, scores and at last a small table
(:func:`scan_tile`). Each graph is a chain over one chunk, so Dask fuses
it into a few tasks that run on one worker, and nothing but the table travels.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final

import dask
import dask.array as da
import numpy as np
import pyarrow as pa
import xarray as xr
from numpy.typing import NDArray

from scanner.area.grid import Tile
from scanner.computing import computing
from scanner.config import PixelConfig
from scanner.detection.cells import cell_pieces, suspicious_cells
from scanner.detection.classify import score_cells
from scanner.detection.rasters import tile_rasters
from scanner.detection.segment import Segmented, areas_of, cells_of, segment, windows_of
from scanner.imagery.bands import RESOLUTION, SCL_RESOLUTION
from scanner.imagery.composite import composite
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.readers import take_count
from scanner.imagery.reflectance import resolve_offset
from scanner.imagery.screen import DayChoice, choose_days
from scanner.imagery.trust import doubts, has_scl, load_scl
from scanner.models.card import ModelCard
from scanner.models.ref import ModelRef
from scanner.run.part import scanned_part

PROBE: Final = 16
"""The offset is checked on every 16th pixel of blue (160 m, from an overview)."""


GPU: Final = "GPU"
"""Name of the resource a worker with a GPU offers (``dask worker --resources GPU=1``)."""


@dataclass(frozen=True)
class Models:
    """The pair of models of a run: references that travel, cards that tell what they want."""

    segmenter: ModelRef
    classifier: ModelRef
    segmenter_card: ModelCard
    classifier_card: ModelCard

    @property
    def bands(self) -> tuple[str, ...]:
        """Every band either model wants, required ones first."""
        cards = (self.segmenter_card, self.classifier_card)
        either = [*(band for card in cards for band in card.bands), *self.optional_bands]
        return tuple(dict.fromkeys(either))

    @property
    def optional_bands(self) -> tuple[str, ...]:
        """Bands that neither model must have."""
        cards = (self.segmenter_card, self.classifier_card)
        needed = {band for card in cards for band in card.bands}
        either = [band for card in cards for band in card.optional_bands]
        return tuple(band for band in dict.fromkeys(either) if band not in needed)


@dataclass(frozen=True)
class TileResult:
    """What a worker sends back: the part's table and the items whose pixels were refused."""

    table: pa.Table
    refused: tuple[tuple[str, str], ...]
    bytes_read: int = 0
    """Of the bands, as far as their format tells."""
    backend: str = ""
    """What the models ran on, ``openvino 2026.4.1 f32``."""
    rasters: Mapping[str, bytes] = field(default_factory=dict)
    """GeoTIFF files by the names of ``detection.rasters.RASTERS``; empty where none are wanted."""


def look(
    tile: Tile, items: Sequence[Item], pixels: PixelConfig, env: Mapping[str, str]
) -> da.Array:
    """Return, lazily, the ``DayChoice`` of a tile from the SCL of its (signed) candidate items."""
    key = f"{tile.tile_id} SCL"
    return choose_days(
        _load_scl(items, tile, pixels, env, key),
        items,
        tile,
        max_scenes=pixels.max_scenes,
        clear_scl=pixels.clear_scl,
        latest=pixels.composite == "latest-clear",
        clear_views=pixels.clear_views,
        screen=pixels.screen == "on",
        count=key,
    )


def scan_tile(
    tile: Tile,
    items: Sequence[Item],
    choice: DayChoice,
    pixels: PixelConfig,
    models: Models,
    env: Mapping[str, str],
    rasters: bool = True,
    gpu: bool = False,
) -> da.Array:
    """Return, lazily, the :class:`TileResult` of a tile from the items of its chosen days.

    All AOI cells in a window of a cell that needs a look get one. With ``gpu`` the models run on
    workers that offer Dask's resource ``GPU``, and any worker reads; else one worker does both.
    """
    windows = windows_of(choice.cells)
    areas = areas_of(windows, joined=all(item.epsg == tile.epsg for item in items))
    key = f"{tile.tile_id} bands"
    scl = _load_scl(items, tile, pixels, env)
    cube = load_cube(
        items, tile.geobox, models.bands, engine=pixels.engine, env=env, areas=areas, count=key
    )
    refused = doubts(
        items,
        tile.geobox.zoom_out(PROBE),
        scl,
        step=PROBE * RESOLUTION // SCL_RESOLUTION,
        engine=pixels.engine,
        env=env,
    )
    image = composite(
        cube,
        scl,
        offsets=[resolve_offset(item) for item in items],
        has_scl=has_scl(items),
        clear_scl=pixels.clear_scl,
        method=pixels.composite,
        optional=models.optional_bands,
        refused=refused,
        areas=areas,
    )
    bands = _bands_in(models.segmenter_card, models.bands)
    where = dask.annotate(resources={GPU: 1}) if gpu else nullcontext()
    with where:
        scanned = segment(image, windows, models.segmenter, bands).map_blocks(
            _read_cells,
            tile=tile,
            seen=tile.mask & cells_of(windows),
            choice=choice,
            count=key,
            pixels=pixels,
            models=(models.segmenter, models.classifier),
            bands=models.bands if rasters else None,
            index=[models.bands.index(b) for b in _bands_in(models.classifier_card, models.bands)],
            dtype=object,
            meta=np.empty((), dtype=object),
        )
    return da.map_blocks(
        _with_refused,
        scanned,
        refused,
        item_ids=[item.id for item in items],
        drop_axis=[0],
        dtype=object,
        meta=np.empty((), dtype=object),
    )


def _with_refused(
    scanned: NDArray[np.object_], refused: NDArray[np.object_], *, item_ids: list[str]
) -> NDArray[np.object_]:
    """Tell in a tile's result which items were not used, and why."""
    result: Any = scanned[()]
    told = tuple((item, why) for item, why in zip(item_ids, refused, strict=True) if why)
    return _boxed(replace(result, refused=told))


@computing
def _read_cells(
    segmented: NDArray[Any],
    *,
    tile: Tile,
    seen: NDArray[np.bool_],
    choice: DayChoice,
    count: str,
    pixels: PixelConfig,
    models: tuple[ModelRef, ModelRef],
    bands: tuple[str, ...] | None,
    index: list[int],
) -> NDArray[Any]:
    both: Segmented = segmented.item()
    image, classes = both.image, both.classes
    segmenter, classifier = (ref.load() for ref in models)
    stats = suspicious_cells(image, classes, seen, len(choice.days), pixels)
    chosen = [(int(r), int(c)) for r, c in np.argwhere(stats.suspicious)]
    scores = score_cells(image, chosen, stats.mask, index, classifier)
    score_of = dict(zip(chosen, scores.tolist(), strict=True))
    pieces = cell_pieces(classes, stats, tile)
    table = scanned_part(tile, stats, score_of, pieces, tile.mask & ~seen, choice)
    pictures = tile_rasters(image, classes, stats.mask, tile, bands) if bands else {}
    backend = ", ".join(dict.fromkeys((segmenter.backend, classifier.backend)))
    return _boxed(TileResult(table, (), take_count(count), backend, pictures))


def _boxed(result: TileResult) -> NDArray[np.object_]:
    """Return a result as what a block of an array must be."""
    out = np.empty((), dtype=object)
    out[()] = result
    return out


def of_days(items: Sequence[Item], days: Sequence[dt.date]) -> list[Item]:
    """Return the items of these solar days, in their order."""
    return [item for item in items if item.solar_day in set(days)]


def _load_scl(
    items: Sequence[Item],
    tile: Tile,
    pixels: PixelConfig,
    env: Mapping[str, str],
    count: str | None = None,
) -> xr.DataArray | None:
    """Return the SCL cube at 20 m of the items that have one, or ``None``."""
    geobox = tile.geobox.zoom_out(SCL_RESOLUTION // RESOLUTION)
    return load_scl(items, geobox, engine=pixels.engine, env=env, count=count)


def _bands_in(card: ModelCard, bands: Sequence[str]) -> tuple[str, ...]:
    """Return the bands a model is given, in its order, out of those that are loaded."""
    return tuple(band for band in (*card.bands, *card.optional_bands) if band in bands)
