"""Known coordinates to samples: a labelled CSV, its chips fetched as the scan would read them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from scanner.config import ScanConfig
from scanner.errors import TrainingError
from scanner.imagery.bands import RESOLUTION
from scanner.models.card import ModelCard
from training.collect.places import Place
from training.collect.table import read_table
from training.evaluate.samples import Samples, draw_rows, open_samples, words_to_labels

LABEL_NAMES: Final = ("label", "class", "category", "type")
ANY_BRIGHTNESS: Final = (-1.0, 256.0)
"""A scan judges every chip, however dark or bright; so does an evaluation."""
SOURCE_NAMES: Final = ("source", "dataset", "campaign")


@dataclass(frozen=True)
class Known:
    """The labelled places of a CSV, and what was left out of it."""

    places: tuple[Place, ...]
    left_out: dict[str, int]
    """Label that is neither mine nor other -> rows."""
    bad: list[dict[str, Any]]
    """Rows without a usable place, with ``reason``."""

    def draw(self, size: int | None, seed: int) -> Known:
        """Return ``size`` places drawn at random, each label in its share; ``None`` takes all."""
        if size is None or size >= len(self.places):
            return self
        rows = draw_rows(np.array([place.label for place in self.places], np.float64), size, seed)
        return Known(tuple(self.places[row] for row in rows), self.left_out, self.bad)


def read_known(path: Path) -> Known:
    """Read a CSV with lat, lon and label; ``TrainingError`` if it has no row that can be used."""
    table = read_table(path)
    column, source = table.column(LABEL_NAMES), table.column(SOURCE_NAMES)
    if column is None:
        raise TrainingError(
            f"{path}: no column {LABEL_NAMES[0]} among {', '.join(table.columns)}; add one of "
            "mining, mine, positive, 1 / forest, not_mine, negative, 0"
        )
    labels, left_out = words_to_labels([row.values[column] for row in table.rows])
    places = tuple(
        Place(
            row.lon,
            row.lat,
            int(label),
            (row.values[source] if source else "") or path.stem,
            f"line{row.line}",
        )
        for row, label in zip(table.rows, labels, strict=True)
        if np.isfinite(label)
    )
    bad = [{"sample_id": f"line{line}", "reason": why} for line, why in table.bad]
    if not places:
        told = ", ".join(f"{name} ({count})" for name, count in left_out.items())
        raise TrainingError(
            f"{path}: no row to evaluate: {len(bad)} bad, other labels: {told or 'none'}; "
            "labels are mining, mine, positive, 1 / forest, not_mine, negative, 0"
        )
    return Known(places, left_out, bad)


def fetch_known(
    known: Known, folder: Path, card: ModelCard, search: dict[str, Any], access: dict[str, Any]
) -> Samples:
    """Fetch the chips of known places into the chip folder ``folder``, as a scan would read them.

    A chip has the size and bands of ``card``. The same call again fetches only what is missing.

    Args:
        known: the places.
        folder: made where there is none.
        card: of the classifier.
        search: settings of ``SearchConfig`` that are not the default.
        access: ``workers``, and ``retry_failed`` to try those again that failed before.

    Raises ``TrainingError`` or ``ConfigError`` for what must be changed, ``CatalogError`` where
    the catalog does not answer.
    """
    from training.collect.fetch import Access, fetch_chips
    from training.collect.manifest import read_manifest

    settings = ScanConfig().with_values(workers=access.get("workers"), **search)
    size = card.chip_size or 48
    with tqdm(total=len(known.places), unit="chip", disable=None, file=sys.stderr) as bar:
        fetch_chips(
            known.places,
            settings.search,
            folder,
            size_m=size * card.resolution,
            pixels=None if card.resolution == RESOLUTION else size,
            bands=card.bands + card.optional_bands,
            access=Access(settings.run, retry_failed=bool(access.get("retry_failed"))),
            tell=lambda *_: _count(bar),
            brightness=ANY_BRIGHTNESS,
        )
    ids = [place.chip_id for place in known.places]
    found = open_samples(folder).labelled()
    wanted = found.take(np.flatnonzero(found.table["sample_id"].isin(ids)))
    manifest = read_manifest(folder)
    lost = manifest[(manifest["status"] != "done") & manifest["sample_id"].isin(ids)]
    failed = [
        {
            **{name: row[name] for name in ("sample_id", "source", "lon", "lat")},
            "label": int(row["label"]),
            "reason": f"{row['sample_id']}: {row['reason'] or 'not fetched'}",
        }
        for row in lost.to_dict("records")
    ]
    return replace(wanted, left_out=known.left_out, failed=[*known.bad, *failed])


def _count(bar: tqdm[Any]) -> None:
    bar.update()
