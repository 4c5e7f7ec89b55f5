"""Find mines around a point: an overview, its suspicious cells, a large chip of each, a score.

overview -> class map -> suspicious cells -> chips of the classifier's size -> scores -> files
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import shapely

from scanner.area.grid import pixel_to_geographic
from scanner.config import SearchConfig
from scanner.models.card import ModelCard
from scanner.models.classifier import Classifier, load_classifier
from scanner.models.segmenter import Segmenter, load_segmenter
from training.classic.overview import Overview, cells, cover, read_overview, shares
from training.classic.recipe import DetectConfig
from training.classic.results import Cell, write_results
from training.collect.fetch import Access, fetch_chips
from training.collect.manifest import read_manifest
from training.collect.places import Place
from training.collect.settings import chip_config
from training.pictures import BANDS, read_image

ANY_CHIP: Final[dict[str, Any]] = {"min_clear": 0.0, "brightness": (-1.0, 256.0)}
"""A chip is scored however cloudy or bright it is; the cell's clear share tells."""


def detect(
    wanted: DetectConfig,
    search: SearchConfig,
    out: Path,
    segmenter: str | Path | None = None,
    classifier: str | Path | None = None,
    access: Access | None = None,
) -> gpd.GeoDataFrame:
    """Look for mines around ``wanted.center``; returns the mining cells and writes all files.

    Into ``out``: detections.parquet and .csv (mining cells), cells.parquet (all), detect.json,
    overview.png, overview_grid.png (mining red, clean green, unseen or failed grey).
    """
    cover_model, chip_model = load_segmenter(segmenter), load_classifier(classifier)
    lat, lon = wanted.place
    bands = _bands(cover_model.card, chip_model.card)
    chip = chip_config(bands=bands, max_scenes=wanted.max_scenes)
    seen = read_overview(lat, lon, wanted.radius_km, wanted.overview_size, search, chip, out)
    found = look_for_suspects(seen, cover_model, wanted, bands)
    suspects = [cell for cell in found if cell.suspicious_share > wanted.suspicious_share]
    print(f"{len(suspects)} of {len(found)} cells are suspicious", flush=True)
    score_cells(suspects, chip_model, bands, search, out / "chips", access or Access())
    threshold = wanted.threshold if wanted.threshold is not None else chip_model.card.cut()
    return write_results(found, threshold, seen, wanted, (cover_model.card, chip_model.card), out)


def look_for_suspects(
    seen: Overview, segmenter: Segmenter, wanted: DetectConfig, bands: Sequence[str]
) -> list[Cell]:
    """Return every cell of the overview with its suspicious and its clear share."""
    index = [list(bands).index(band) for band in segmenter.card.bands]
    classes = cover(seen.reflectance[index], segmenter)
    found = []
    for rows, cols in cells(seen.geobox, wanted.classification_distance_km):
        suspicious, clear = shares(classes[rows, cols], seen.clear[rows, cols])
        name = f"r{rows.start:04d}_c{cols.start:04d}"
        outline = _outline(seen, rows, cols)
        found.append(Cell(name, rows, cols, outline, round(suspicious, 4), round(clear, 4)))
    return found


def score_cells(
    suspects: Sequence[Cell],
    classifier: Classifier,
    bands: Sequence[str],
    search: SearchConfig,
    out: Path,
    access: Access,
) -> None:
    """Fetch a chip around the middle of each cell and score it; a cell that fails says why.

    Chips are kept in ``out``, so a run that was broken off fetches only what is missing.
    """
    if not suspects:
        return
    card = classifier.card
    assert card.chip_size is not None  # noqa: S101 - every classifier's card has one
    places = [Place(*cell.middle, None, "overview") for cell in suspects]
    index = fetch_chips(
        places,
        search,
        out,
        size_m=card.chip_size * card.resolution,
        pixels=card.chip_size,
        bands=bands,
        access=access,
        **ANY_CHIP,
    )
    paths = dict(zip(index["chip_id"], index["path"], strict=True))
    failed = read_manifest(out).set_index("sample_id")["reason"]
    rows = [BANDS.index(band) for band in card.bands]
    for cell, place in zip(suspects, places, strict=True):
        if place.chip_id not in paths:
            cell.reason = str(failed[place.chip_id])
            continue
        pixels = read_image(out / paths[place.chip_id])
        cell.score = round(float(classifier.predict(pixels[rows][None])[0]), 4)


def _bands(*cards: ModelCard) -> tuple[str, ...]:
    wanted = dict.fromkeys(("B02", "B03", "B04"))
    for card in cards:
        wanted |= dict.fromkeys(card.bands)
    return tuple(wanted)


def _outline(seen: Overview, rows: slice, cols: slice) -> shapely.Polygon:
    """Return a cell as a polygon in EPSG:4326, counter-clockwise."""
    r = np.array([rows.stop, rows.stop, rows.start, rows.start])
    c = np.array([cols.start, cols.stop, cols.stop, cols.start])
    lon, lat = pixel_to_geographic(seen.geobox, r, c)
    return shapely.Polygon(np.column_stack([lon, lat]))
