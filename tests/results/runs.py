"""Finished runs of a known truth, made in a moment: no scene, no model, no worker.

Every AOI cell is given what a scan would have measured there; the real merge makes the files.

    cells = {cell(5, 5): Cell(0.9, barren_ha=4), cell(5, 6): UNSEEN}
    run = make_run(tmp_path / "run", cells, days=["2024-07-01", "2024-07-11"])

An AOI cell that is not named is not suspicious and was seen clear on every day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from scanner.area.aoi import Aoi
from scanner.area.grid import CELL_M, Tile, Zone, tiles, to_geographic
from scanner.config import ScanConfig
from scanner.imagery.item import Item
from scanner.imagery.snapshot import ItemSet
from scanner.models.card import (
    CLASSIFIER_CLASSES,
    SEGMENTER_CLASSES,
    Calibration,
    ModelCard,
    Scaling,
)
from scanner.models.ref import ModelRef
from scanner.results.coverage import TileReport
from scanner.results.finished import FinishedRun, open_run
from scanner.results.outputs import PART_SCHEMA
from scanner.run.folder import RunFolder
from scanner.run.identity import identify
from scanner.run.merge import merge_parts
from scanner.run.pipeline import Run
from scanner.run.tile import Models

TILE = Tile(Zone(21, True), 31, 34)
"""A tile in Para, away from seams of zones."""
THRESHOLD = 0.5
DAYS = ("2024-06-12", "2024-07-17")


@dataclass(frozen=True)
class Cell:
    """What was measured in one cell."""

    score: float | None = None
    """``None``: not suspicious, never classified."""
    clear: float = 1.0
    """Share of the cell seen clear."""
    days: Collection[int] | None = None
    """Which of the tile's days saw it clear, by position; ``None`` is all of them."""
    barren_ha: float = 0.0
    """Bare ground: a strip as wide as the cell along its southern side, so neighbours' meet."""
    water_ha: float = 0.0
    """A pond: a strip along its northern side."""
    pieces: Sequence[Mapping[str, Any]] = field(default=())
    """More pieces (``outputs.PIECE``), geometry in metres as shapely shapes or WKB."""


UNSEEN = Cell(clear=0.0, days=())
"""Clouds all the time."""


def cell(row: int, col: int, tile: Tile = TILE) -> str:
    """Return the id of the cell at (row, col) of a tile."""
    return tile.cell_id(row, col)


def area(
    rows: tuple[int, int] = (0, 10),
    cols: tuple[int, int] = (0, 10),
    tile: Tile = TILE,
    name: str = "area",
) -> Aoi:
    """Return the area of the cells in ``rows`` x ``cols``, half-open; they may leave the tile."""
    xmin, _, _, ymax = tile.core_bounds
    box = shapely.box(
        xmin + cols[0] * CELL_M + 1,
        ymax - rows[1] * CELL_M + 1,
        xmin + cols[1] * CELL_M - 1,
        ymax - rows[0] * CELL_M - 1,
    )
    ring = np.asarray(shapely.segmentize(box, CELL_M).exterior.coords)
    return Aoi(name, shapely.Polygon(np.column_stack(to_geographic(tile.epsg, *ring.T))))


def make_run(
    folder: Path,
    cells: Mapping[str, Cell] | None = None,
    *,
    aoi: Aoi | None = None,
    days: Sequence[str] = DAYS,
    date: str | None = None,
    failed: Iterable[str] = (),
    without_items: Iterable[str] = (),
    models: str = "m",
    prevalence: float = 0.5,
    rasters: Mapping[str, Mapping[str, bytes]] | None = None,
    every: Cell | None = None,
    **settings: Any,
) -> FinishedRun:
    """Write a run folder and open it.

    Args:
        folder: where it is to lie.
        cells: by cell id; those outside the area are passed over.
        aoi: ten by ten cells of ``TILE`` unless given.
        days: solar days, ISO, in order; one item each, named ``item-<day>``. None: no scene.
        date: window searched, ``START/END``; from the first day to the last unless given.
        failed: ids of tiles that have no part.
        without_items: ids of tiles that no item covers.
        models: other names are other models.
        prevalence: of the classifier's card.
        rasters: tile id -> name -> GeoTIFF file.
        every: what cells not named are, instead of clear forest.
        settings: of ``ScanConfig``, by name; ``threshold`` is 0.5 unless given.
    """
    aoi = aoi or area()
    settings = {"threshold": THRESHOLD, "also": (), **settings}
    span = date or (f"{days[0]}/{days[-1]}" if days else None)
    config = ScanConfig().with_values(date=span, **settings)
    found = ItemSet(tuple(_item(day, aoi) for day in days), (), span or "../..")
    pair = _models(models, prevalence)
    digests = {"segmenter": pair.segmenter.sha256, "classifier": pair.classifier.sha256}
    home = RunFolder(folder)
    home.freeze(config, aoi, found, digests)
    identity = identify(aoi, found, config, digests, home.items)
    run = Run(config, aoi, tiles(aoi), found, pair, home, identity)
    failed, without_items = set(failed), set(without_items)
    for tile in run.tiles:
        if tile.tile_id in failed:
            run.failed[tile.tile_id] = TileReport(tile.tile_id, "failed", "its pixels broke")
            continue
        bare = tile.tile_id in without_items or not days
        report = TileReport(
            tile.tile_id,
            "done",
            reason="no scene covers it" if bare else None,
            days=() if bare else tuple(days),
            item_ids=() if bare else tuple((f"item-{day}",) for day in days),
        )
        table = part(tile, {} if bare else cells or {}, len(days), UNSEEN if bare else every)
        pictures = (rasters or {}).get(tile.tile_id)
        run.parts.write(tile.tile_id, table, report.to_json(), pictures)
    merge_parts(run)
    return open_run(folder)


def part(tile: Tile, cells: Mapping[str, Cell], n_days: int, every: Cell | None = None) -> pa.Table:
    """Return the part of a tile."""
    rows = []
    for row, col in tile.cells:
        known = cells.get(tile.cell_id(row, col), every or Cell())
        seen = range(n_days) if known.days is None else known.days
        pieces = _pieces(tile, row, col, known)
        rows.append(
            {
                "cell_id": tile.cell_id(row, col),
                "row": row,
                "col": col,
                "clear_fraction": float(known.clear),
                "suspicious_fraction": 0.0 if known.score is None else 0.5,
                "score": known.score,
                "days": sum(1 << day for day in seen),
                "screened": False,
                "pieces": pieces,
            }
        )
    return pa.Table.from_pylist(rows, schema=PART_SCHEMA)


def piece(kind: str, polygon: shapely.Polygon, body: int = 0, body_px: int = 0) -> dict[str, Any]:
    """Return a piece of ground (``outputs.PIECE``), ``polygon`` in metres of the tile."""
    return {
        "kind": kind,
        "component": body,
        "component_px": body_px,
        "px": round(polygon.area / 100),
        "geometry": shapely.to_wkb(shapely.MultiPolygon([polygon])),
    }


def _pieces(tile: Tile, row: int, col: int, known: Cell) -> list[dict[str, Any]]:
    xmin, ymin, xmax, ymax = tile.cell_bounds(row, col)
    pieces = [dict(one) for one in known.pieces]
    if known.barren_ha:
        strip = shapely.box(xmin, ymin, xmax, ymin + known.barren_ha * 10_000 / CELL_M)
        pieces += [piece("barren", strip), piece("suspicious", strip)]
    if known.water_ha:
        strip = shapely.box(xmin, ymax - known.water_ha * 10_000 / CELL_M, xmax, ymax)
        body = 1 + row * 100 + col
        pieces.append(piece("water", strip, body, round(strip.area / 100)))
    return pieces


def _item(day: str, aoi: Aoi) -> Item:
    """Return an item that covers the area, sensed on ``day`` at half past ten, local time."""
    west, south, east, north = aoi.geometry.bounds
    noon = dt.datetime.fromisoformat(f"{day}T10:30:00+00:00")
    sensed = noon - dt.timedelta(hours=(west + east) / 2 / 15)
    bands = ("B02", "B03", "B04", "SCL")
    box = shapely.box(west - 0.3, south - 0.3, east + 0.3, north + 0.3)
    return Item(
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"item-{day}",
            "collection": "sentinel-2-l2a",
            "bbox": list(box.bounds),
            "geometry": shapely.geometry.mapping(box),
            "properties": {
                "datetime": sensed.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "eo:cloud_cover": 5.0,
                "s2:processing_baseline": "05.10",
                "proj:code": "EPSG:32721",
            },
            "links": [],
            "assets": {b: {"href": f"https://example.org/{day}/{b}.tif"} for b in bands},
        }
    )


def _models(name: str, prevalence: float) -> Models:
    bands = ("B02", "B03", "B04")
    scaling = Scaling(mean=(0.05,) * 3, std=(0.05,) * 3)
    digest = "".join(f"{ord(letter):02x}" for letter in name).ljust(64, "0")[:64]
    segmenter = ModelCard(
        name=f"segmenter-{name}",
        task="semantic-segmentation",
        architecture="none",
        bands=bands,
        scaling=scaling,
        sha256=digest,
        config={},
        classes=SEGMENTER_CLASSES,
    )
    classifier = ModelCard(
        name=f"classifier-{name}",
        task="classification",
        architecture="none",
        bands=bands,
        scaling=scaling,
        sha256=digest,
        config={},
        classes=CLASSIFIER_CLASSES,
        chip_size=48,
        threshold=THRESHOLD,
        calibration=Calibration(a=1.0, b=0.0, prevalence=prevalence),
    )
    return Models(
        ModelRef("segmenter", name, segmenter.digest),
        ModelRef("classifier", name, classifier.digest),
        segmenter,
        classifier,
    )
