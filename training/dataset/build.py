"""A dataset folder from sources: read and check, split, look for leaks, write, augment.

Images are read twice, one at a time: once to check and fingerprint them, once to write them. The
split comes first and copies after, on the training side only. A folder that is not ready carries
a marker; the same call begins it anew.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scanner.errors import TrainingError
from scanner.files import write_json, write_text
from scanner.models.style import check_style
from training.dataset.check import at_odds, check_origins
from training.dataset.folder import METADATA, SPLITS
from training.dataset.forms import open_source
from training.dataset.leakage import Leak, find_leaks
from training.dataset.recipe import DatasetRecipe
from training.dataset.sources import Origin, SourceSpec
from training.dataset.split import Division, SplitPlan, check_sides, divide
from training.dataset.write import Writer, file_names
from training.pictures import WHITE
from training.style import refuse_corrupt

LOG = logging.getLogger(__name__)
MARKER: Final = ".unfinished"
LEAKS: Final = "leakage.csv"
LISTED: Final = 1000
"""Lines of a kind that ``dataset_metadata.json`` lists; counts are whole."""


def build_dataset(
    sources: Sequence[SourceSpec], out: Path, recipe: DatasetRecipe, fresh: bool = False
) -> dict[str, Any]:
    """Write a dataset folder and return what ``dataset_metadata.json`` says.

    Raises ``TrainingError`` if sources cannot be read, for corrupt images (unless skipped), if a
    side lacks a class, for leaks (unless dropped), and if ``out`` holds something already.
    """
    if recipe.style is not None:
        check_style(recipe.style)
    if bool(recipe.copies) != (recipe.augment != "none" or recipe.air is not None):
        raise TrainingError(
            f"--copies {recipe.copies} with --augment {recipe.augment}: give both, or neither and "
            "let the training run change images as it sees them"
        )
    _prepare(out, fresh)
    origins = [open_source(spec, recipe.keep_review) for spec in sources]
    checked = check_origins(origins)
    refuse_corrupt(checked.corrupt, checked.total, recipe.skip_corrupt)
    table = checked.table
    plan = SplitPlan(recipe.hold_out, recipe.block_degrees, recipe.val_share, recipe.seed)
    division = divide(table, plan)
    leaks = find_leaks(table, division.val, recipe.leak_km * 1000)
    kept = _without(table, division, leaks, out, recipe)
    writer = Writer(out, origins, recipe.style, recipe.seed)
    told = writer.write(
        table.assign(
            split=np.where(division.val, SPLITS[1], SPLITS[0]),
            block=np.array(division.block, object),
            file=file_names(table),
        )[kept],
        recipe.augment,
        recipe.copies,
        recipe.air,
    )
    metadata = told | {
        "sources": [_of_origin(origin) for origin in origins],
        "split": _of_split(plan, division),
        "seed": recipe.seed,
        "leakage": _of_leaks(table, leaks, division, recipe),
        "corrupt": {"count": len(checked.corrupt), "images": checked.corrupt[:LISTED]},
        "labels_at_odds": at_odds(table)[:LISTED],
        "augmentation": {"level": recipe.augment, "copies": recipe.copies, "air": recipe.air},
        "style": recipe.style,
        "white": WHITE,
    }
    write_json(out / METADATA, metadata)
    (out / MARKER).unlink()
    return metadata


def _prepare(out: Path, fresh: bool) -> None:
    """Make room: an unfinished folder is begun anew, a finished one only with ``fresh``."""
    if fresh or (out / MARKER).exists():
        for name in (*SPLITS, METADATA, LEAKS):
            path = out / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (out / MARKER).unlink(missing_ok=True)
    if out.exists() and (not out.is_dir() or any(p.name != LEAKS for p in out.iterdir())):
        raise TrainingError(f"{out}: not empty; give another --out, or --fresh for a dataset")
    out.mkdir(parents=True, exist_ok=True)


def _without(
    table: pd.DataFrame, division: Division, leaks: list[Leak], out: Path, recipe: DatasetRecipe
) -> NDArray[np.bool_]:
    """Return the rows to write; list the leaks in a file, and refuse or drop them."""
    kept = np.ones(len(table), bool)
    (out / LEAKS).unlink(missing_ok=True)
    if not leaks:
        write_text(out / MARKER, "made by mining-train dataset; it is not ready\n")
        return kept
    pairs = _pairs(table, leaks)
    write_text(out / LEAKS, pd.DataFrame(pairs).to_csv(index=False))
    if recipe.on_leak == "refuse":
        first = "; ".join(f"{p['train']} and {p['val']} ({p['why']})" for p in pairs[:3])
        raise TrainingError(
            f"{len(leaks)} training chips show ground of the validation side: {first}"
            f"{'; ...' if len(leaks) > 3 else ''} (all in {out / LEAKS}); "
            "give --on-leak drop to leave them out of training, or split otherwise"
        )
    LOG.warning("%d training chips show ground of the validation side and are left out", len(leaks))
    kept[[leak.train for leak in leaks]] = False
    check_sides(table["label"].to_numpy(np.int64)[kept], division.val[kept])
    write_text(out / MARKER, "made by mining-train dataset; it is not ready\n")
    return kept


def _pairs(table: pd.DataFrame, leaks: list[Leak]) -> list[dict[str, str]]:
    names = table["name"].to_numpy(object)
    return [{"train": names[k.train], "val": names[k.val], "why": k.why} for k in leaks]


def _of_origin(origin: Origin) -> dict[str, Any]:
    spec = origin.spec
    return {
        "path": str(spec.path),
        "name": spec.name,
        "label": spec.label,
        "images": len(origin.table),
        "left_out": origin.left_out,
    }


def _of_split(plan: SplitPlan, division: Division) -> dict[str, Any]:
    known = sorted({name for name in division.block if name is not None})
    held = {block for block, val in zip(division.block, division.val, strict=True) if val and block}
    return {
        "hold_out": list(plan.hold_out),
        "block_degrees": division.degrees,
        "val_share": plan.val_share,
        "blocks": len(known),
        "val_blocks": sorted(held),
        "split_at_random": division.at_random,
    }


def _of_leaks(
    table: pd.DataFrame, leaks: list[Leak], division: Division, recipe: DatasetRecipe
) -> dict[str, Any]:
    return {
        "km": recipe.leak_km,
        "on_leak": recipe.on_leak,
        "dropped": len(leaks),
        "same_pixels": sum(leak.why == "same pixels" for leak in leaks),
        "no_place": int((~np.isfinite(table[["lon", "lat"]].to_numpy()).all(1)).sum()),
        "pairs": _pairs(table, leaks[:LISTED]),
    }
