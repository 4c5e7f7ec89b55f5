"""Local pictures as chips: ``*_512.jpg`` of a folder where there are any, else all jpg and png.

A picture is taken over as it is, byte for byte, beside its row in the index; it has no place on
the ground unless its name is known elsewhere. A corrupt one is named and counted, never replaced.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.errors import TrainingError
from scanner.files import atomic_path
from scanner.results.chip_files import CHIPS, RGB
from training.collect.fetch import Tell, reindex
from training.collect.manifest import PENDING, Manifest, Sample
from training.collect.places import slug
from training.collect.store import brightness_of
from training.pictures import decode_image

FIRST: Final = "_512.jpg"
"""Pictures whose names end so are taken alone: others beside them are previews or copies."""

SUFFIXES: Final = (".jpg", ".jpeg", ".png")
MAX_BYTES: Final = 200_000_000


@dataclass(frozen=True)
class Imported:
    """What came of a folder of pictures."""

    taken: int
    failed: tuple[tuple[str, str], ...]
    """(file, why) of those that could not be read or were too dark or bright."""


def find_images(folder: Path) -> list[Path]:
    """Return the pictures of a folder and those below it, in order of their names."""
    if not folder.is_dir():
        raise TrainingError(f"{folder}: is no folder; give one that holds jpg or png files")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = [path for path in files if path.is_file()]
    first = [path for path in files if path.name.lower().endswith(FIRST)]
    if not files:
        raise TrainingError(f"{folder}: holds no jpg or png; give another folder")
    return first or files


def collect_images(
    folder: Path,
    out: Path,
    *,
    label: int | None,
    source: str | None = None,
    brightness: tuple[float, float] = (20, 230),
    retry_failed: bool = False,
    tell: Tell | None = None,
) -> Imported:
    """Take the pictures of ``folder`` into the chip folder ``out``; the same call resumes it.

    Args:
        folder: where the pictures lie.
        out: the chip folder.
        label: 1 mine, 0 not, ``None`` unknown.
        source: the chips' source; ``None`` takes the folder's name.
        brightness: a picture is kept if its mean lies between the two.
        retry_failed: try again those that failed before.
        tell: called as each picture ends.
    """
    files = find_images(folder)
    origin = source or folder.resolve().name
    names = {_sample_id(path.relative_to(folder), origin): path for path in files}
    with Manifest(out) as manifest:
        manifest.plan((Sample(one, label, origin) for one in names), retry_failed)
        try:
            for row in manifest.rows():
                path = names.get(row["sample_id"])
                if path is None or row["status"] != PENDING:
                    continue
                why = _take(path, row, out, manifest, brightness)
                if tell is not None:
                    tell(row["sample_id"], why)
        finally:
            reindex(out, manifest)
        rows = [row for row in manifest.rows() if row["sample_id"] in names]
    bad = [(str(names[r["sample_id"]]), str(r["reason"])) for r in rows if r["reason"]]
    return Imported(len(rows) - len(bad), tuple(bad))


def _take(
    path: Path,
    row: dict[str, Any],
    out: Path,
    manifest: Manifest,
    brightness: tuple[float, float],
) -> str | None:
    """Copy one picture and note it; return why it is not kept, or ``None``."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TrainingError(f"{path}: more than {MAX_BYTES / 1e6:.0f} MB; cut it into chips")
        data = path.read_bytes()
        picture = decode_image(data, str(path))
    except (TrainingError, OSError) as error:
        manifest.failed(row["sample_id"], str(error))
        return str(error)
    mean = brightness_of(picture, np.ones(picture.shape[:2], dtype=bool))
    if not brightness[0] < mean < brightness[1]:
        why = f"{path}: brightness {mean:.1f} is not within {brightness[0]:g}..{brightness[1]:g}"
        manifest.failed(row["sample_id"], why)
        return why
    copy = out / CHIPS / f"{row['sample_id']}{path.suffix.lower()}"
    with atomic_path(copy) as scratch:
        scratch.write_bytes(data)
    manifest.done(row["sample_id"], _info(row, copy.relative_to(out), picture, mean))
    return None


def _info(
    row: dict[str, Any], path: Path, picture: NDArray[np.uint8], mean: float
) -> dict[str, Any]:
    height, width = picture.shape[:2]
    unknown = ("lon", "lat", "crs", "transform", "size_m", "resolution_m", "dates", "cloud_cover")
    return {
        "chip_id": row["sample_id"],
        "label": row["label"],
        "source": row["source"],
        **dict.fromkeys((*unknown, "clear_fraction", "item_ids", "review", "review_score")),
        "path": path.as_posix(),
        "height": height,
        "width": width,
        "bands": list(RGB),
        "brightness": mean,
    }


def _sample_id(path: Path, source: str) -> str:
    """Return an id: source, name, and a digest of the path, as files in folders share names."""
    digest = hashlib.sha256(path.as_posix().encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{slug(source)}-{slug(path.stem, 60)}-{digest}"
