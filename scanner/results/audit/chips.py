"""Labelled cells as training chips: a chip folder such as ``mining-train collect`` writes.

The pictures of the page are stretched to 8 bits; a model learns from reflectance. So the pixels are
read again, through the scan's own cube, offsets and composite, from the very scenes the run used;
a cell whose scenes cannot be read any more, or show something else now, is left out and named.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
from odc.geo.geobox import GeoBox

from scanner.area.grid import CELL_M, CELL_PX
from scanner.errors import CatalogError, ConfigError, OutputError, ReadError
from scanner.imagery.bands import NODATA, QUANTIFICATION, RESOLUTION
from scanner.models.style import WHITE
from scanner.results.audit.labels import MINE, NOT, read_labels
from scanner.results.audit.pixels import Pixels, TileReader, cell_geobox
from scanner.results.audit.sample import read_sample
from scanner.results.chip_files import CHIPS, INDEX_FILE, RGB, SCHEMA, write_tif
from scanner.results.csv_files import write_csv
from scanner.results.finished import FinishedRun
from scanner.results.outputs import write_geoparquet

LOG = logging.getLogger(__name__)

LABELS: Final = {MINE: 1, NOT: 0}
LEFT_OUT: Final = "left_out.csv"

MOVED: Final = 0.02
"""A cell seen clear on a share that differs by more than this shows other pixels than the run's."""


def export_chips(run: FinishedRun, out: Path, labels: Path, chips: Path) -> int:
    """Write the cells labelled ``mine`` or ``not`` into the new folder ``chips``; return how many.

    Cells left out stand in left_out.csv there, with the reason, and are warned of. Raises
    ``ConfigError`` where labels or folder are refused, ``ReadError`` where no cell could be read.
    """
    sample = read_sample(run, out)
    said = read_labels(labels, sample).of
    if chips.exists() and (not chips.is_dir() or any(chips.iterdir())):
        raise ConfigError(f"{chips}: is there already; give --chips another folder")
    wanted = sample.cells[[said.get(cell) in LABELS for cell in sample.cells.cell_id]]
    if wanted.empty:
        raise ConfigError(
            f"{labels}: no cell is labelled mine or not, so there is no chip to write"
        )
    scratch = chips.with_name(f".{chips.name}.unfinished")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        rows, failed = _write_chips(run, wanted, said, scratch)
        if not rows:
            first = next(iter(failed.items()))
            raise ReadError(
                f"{run.path}: not one of {len(wanted)} cells could be read again, first "
                f"{first[0]}: {first[1]}; put the scenes back, or check the network"
            )
        for cell, why in failed.items():
            LOG.warning("cell %s is left out: %s", cell, why)
        if failed:
            write_csv(scratch / LEFT_OUT, ("cell_id", "reason"), failed.items())
        points = gpd.points_from_xy([r["lon"] for r in rows], [r["lat"] for r in rows])
        frame = gpd.GeoDataFrame(pd.DataFrame(rows), geometry=points, crs="EPSG:4326")
        write_geoparquet(scratch / INDEX_FILE, frame, SCHEMA)
        if chips.exists():
            chips.rmdir()
        scratch.rename(chips)
    except OSError as error:
        raise OutputError(
            f"{chips}: cannot be written ({error.strerror or error}); give another --chips"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return len(rows)


def _write_chips(
    run: FinishedRun, wanted: gpd.GeoDataFrame, said: Mapping[str, str], folder: Path
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Write the chips tile by tile; return their rows of the index, and why others have none."""
    (folder / CHIPS).mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    tiles = {tile.tile_id: tile for tile in run.tiles}
    clear = run.cells.set_index("cell_id").clear_fraction
    for tile_id, cells in wanted.groupby("tile_id"):
        tile = tiles[str(tile_id)]
        try:
            reader = TileReader(run, tile)
        except CatalogError as error:
            failed |= dict.fromkeys(cells.cell_id, str(error))
            continue
        places = {tile.cell_id(row, col): (row, col) for row, col in tile.cells}
        boxes = [cell_geobox(tile, *places[cell]) for cell in cells.cell_id]
        found = reader.each(zip(cells.geometry, boxes, strict=True))
        for cell, box, read in zip(cells.itertuples(), boxes, found, strict=True):
            if isinstance(read, str):
                failed[cell.cell_id] = read
                continue
            if why := _other_ground(read[1], clear[cell.cell_id]):
                failed[cell.cell_id] = why
                continue
            row = _about(run, reader, cell, box) | {"label": LABELS[said[cell.cell_id]]}
            rows.append(row | _saved(folder / row["path"], read, box, reader.bands))
    return sorted(rows, key=lambda row: str(row["chip_id"])), failed


def _other_ground(clear: float, before: float) -> str | None:
    """Return why pixels are not those the run saw, or ``None``."""
    if abs(clear - before) <= MOVED:
        return None
    return (
        f"seen clear on {clear:.2f} of it, {before:.2f} when it was scanned: its scenes are not "
        "what they were"
    )


def _about(run: FinishedRun, reader: TileReader, cell: Any, box: GeoBox) -> dict[str, Any]:
    """Return what the index tells of a chip before its pixels are known."""
    chip_id = f"{cell.cell_id}_{run.run_id[:8]}"
    items = reader.over(cell.geometry)
    covers = [item.cloud_cover for item in items if item.cloud_cover is not None]
    return {
        "chip_id": chip_id,
        "source": f"audit-{run.aoi.slug}",
        "lon": cell.lon,
        "lat": cell.lat,
        "path": f"{CHIPS}/{chip_id}.tif",
        "crs": str(box.crs),
        "transform": list(box.affine)[:6],
        "height": CELL_PX,
        "width": CELL_PX,
        "bands": list(reader.bands),
        "size_m": float(CELL_M),
        "resolution_m": float(RESOLUTION),
        "dates": sorted({item.solar_day.isoformat() for item in items}),
        "cloud_cover": round(float(np.mean(covers)), 4) if covers else None,
        "item_ids": [item.id for item in items],
        "review": None,
        "review_score": None,
    }


def _saved(path: Path, pixels: Pixels, box: GeoBox, bands: tuple[str, ...]) -> dict[str, Any]:
    """Write a chip's GeoTIFF, and its JPEG for the eye; return what is measured on it."""
    dn, clear = pixels
    write_tif(path, dn, box, bands)
    light = np.clip(dn[: len(RGB)] / (QUANTIFICATION * WHITE), 0, 1)
    picture = np.ascontiguousarray(np.moveaxis(np.rint(light * 255).astype(np.uint8), 0, -1))
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])  # blue first: cv2's
    path.with_suffix(".jpg").write_bytes(encoded.tobytes())
    valid = (dn[: len(RGB)] != NODATA).all(axis=0)
    brightness = round(float(picture[valid].mean()), 2) if valid.any() else None
    return {"clear_fraction": round(clear, 4), "brightness": brightness}
