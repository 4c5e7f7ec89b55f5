"""Likely mines among forest samples, for a person to look at: the scan's classifier on each cell.

Nothing is thrown away here: a sample whose highest score reaches the classifier's threshold gets a
note in the index, and ``review.csv`` lists them, the likeliest first.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.detection.classify import DECIMALS
from scanner.errors import TrainingError
from scanner.files import write_text
from training.collect.fetch import reindex
from training.collect.manifest import DONE, Manifest
from training.pictures import BANDS, read_image

if TYPE_CHECKING:
    from scanner.models.classifier import Classifier

REVIEW_FILE: Final = "review.csv"
COLUMNS: Final = ("chip_id", "source", "lon", "lat", "score", "path")
SCALE: Final = 1.1
"""A chip whose pixels differ from the classifier's by more than this factor is resized first."""


def review(
    out: Path, chip_ids: Iterable[str], classifier: Classifier, threshold: float | None = None
) -> list[dict[str, Any]]:
    """Score chips labelled 0, note likely mines in the index, and write ``review.csv``.

    Args:
        out: the chip folder.
        chip_ids: chips to look at; those scored before, or not labelled 0, are passed over.
        classifier: the model.
        threshold: score from which a sample is listed; ``None`` takes the card's.

    Returns the rows of ``review.csv``: all samples of the folder that are listed.
    """
    cut = classifier.card.cut(threshold)
    wanted = set(chip_ids)
    with Manifest(out) as manifest:
        for row in manifest.rows():
            info = row["info"]
            if row["status"] != DONE or row["label"] != 0 or row["sample_id"] not in wanted:
                continue
            if info["review_score"] is None:
                score = highest_score(out, info, classifier)
                note = f"likely mine in a forest sample: score {score:.2f}"
                manifest.review(row["sample_id"], score, note if score >= cut else None)
        reindex(out, manifest)
        listed = _listed(manifest)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    write_text(out / REVIEW_FILE, text.getvalue())
    return listed


def highest_score(out: Path, info: Mapping[str, Any], classifier: Classifier) -> float:
    """Return the highest score of any cell of a chip, 0..1.

    A chip as large as the classifier's own is one look; a larger one is cut into cells that
    overlap where its side is no multiple of theirs.
    """
    card = classifier.card
    image = read_image(out / str(info["path"]))
    bands = [*card.bands, *card.optional_bands]
    names = list(BANDS[: len(image)])
    if missing := [band for band in card.bands if band not in names]:
        raise TrainingError(
            f"{card.name}: wants {', '.join(missing)}, which the chips lack; collect with --bands"
        )
    picked = np.stack(
        [image[names.index(b)] if b in names else np.full_like(image[0], np.nan) for b in bands]
    )
    if info["resolution_m"]:
        picked = _at(picked, float(info["resolution_m"]) / card.resolution)
    cells = cut_cells(picked, card.chip_size or 48)
    return float(np.round(classifier.predict(cells).astype(np.float64), DECIMALS).max())


def cut_cells(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Cut (band, y, x) into squares (n, band, size, size) that cover it, the last ones overlapping.

    An image smaller than a square is padded with NaN.
    """
    short = [max(0, size - side) for side in image.shape[1:]]
    if any(short):
        image = np.pad(image, ((0, 0), (0, short[0]), (0, short[1])), constant_values=np.nan)
    starts = [sorted({*range(0, side - size + 1, size), side - size}) for side in image.shape[1:]]
    return np.stack([image[:, y : y + size, x : x + size] for y in starts[0] for x in starts[1]])


def _at(image: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Resize an image whose pixels are ``scale`` times those of the classifier."""
    if 1 / SCALE <= scale <= SCALE:
        return image
    import cv2

    height, width = (max(1, round(side * scale)) for side in image.shape[1:])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.stack(
        [cv2.resize(band, (width, height), interpolation=method) for band in image]
    ).astype(np.float32)


def _listed(manifest: Manifest) -> list[dict[str, Any]]:
    rows = [row["info"] for row in manifest.rows() if row["info"] and row["info"]["review"]]
    rows.sort(key=lambda info: (-info["review_score"], info["chip_id"]))
    return [
        {**{name: info[name] for name in COLUMNS if name != "score"}, "score": info["review_score"]}
        for info in rows
    ]
