"""The three forms a source may have, told apart by what lies there, and the labels they carry."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform

from scanner.errors import TrainingError
from scanner.results.chip_files import INDEX_FILE
from training.collect.store import read_index
from training.dataset.folder import is_copy, read_metadata
from training.dataset.sources import COLUMNS, Origin, SourceSpec
from training.pictures import RASTERS
from training.style import image_paths

CLASSIC: Final = "_512.jpg"
"""Images of this ending are taken first, the rest of their folder then left alone."""
LABEL_NAMES: Final = {
    **dict.fromkeys(("1", "true", "positive", "positives", "mining", "mine", "mines"), 1),
    **dict.fromkeys(
        ("0", "false", "negative", "negatives", "forest", "not_mine", "not_mining", "no_mine"), 0
    ),
}


def open_source(spec: SourceSpec, keep_review: bool = False) -> Origin:
    """Return the images a path holds; rows without a label, or to be reviewed, are left out.

    Raises ``TrainingError`` naming the path, if it is none of the three forms, if a label is not
    known or misread, or if nothing is left.
    """
    if spec.path.is_file():
        origin = parquet(spec)
    elif (spec.path / INDEX_FILE).is_file():
        origin = chip_folder(spec)
    elif spec.path.is_dir():
        origin = image_folder(spec)
    else:
        raise TrainingError(
            f"{spec.path}: not found; give a chip folder, a folder of images, or a chips.parquet"
        )
    return _chosen(origin, keep_review)


def _chosen(origin: Origin, keep_review: bool) -> Origin:
    """Fill in the columns every source has, and leave out what has no label."""
    spec, table = origin.spec, origin.table
    table = table.reindex(columns=[*COLUMNS, *(c for c in table.columns if c not in COLUMNS)])
    table["label"] = (
        spec.label if spec.label is not None else _labels(table["label"], str(spec.path))
    )
    table["source"] = spec.name or table["source"].fillna(spec.path.stem).astype(str)
    ids = table["chip_id"].astype(object)
    table["chip_id"] = ids.where(ids.notna(), [f"{spec.path.stem}-{n}" for n in range(len(table))])
    table["chip_id"] = table["chip_id"].astype(str)
    for name in ("lon", "lat", "size_m"):
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
    keep = table["label"].notna().to_numpy()
    _count(origin, "no label", ~keep)
    if "review" in table and not keep_review:
        doubtful = keep & table["review"].notna().to_numpy()
        _count(origin, "to be reviewed", doubtful)
        keep &= ~doubtful
    if not keep.any():
        raise TrainingError(
            f"{spec.path}: no image with a label ({origin.left_out or 'empty'}); "
            "name it by --positive or --negative, or use folders positive/ and negative/"
        )
    origin.table = table[keep].astype({"label": np.int64})
    if origin.files is not None:
        origin.files = [path for path, kept in zip(origin.files, keep, strict=True) if kept]
    return origin


def _labels(values: pd.Series[Any], name: str) -> list[int | None]:
    found: list[int | None] = []
    for value in values:
        if pd.isna(value):
            found.append(None)
            continue
        text = str(int(value)) if isinstance(value, float | np.floating) else str(value).lower()
        if text not in LABEL_NAMES:
            raise TrainingError(
                f"{name}: label {value!r}, known are {', '.join(LABEL_NAMES)}; correct it"
            )
        found.append(LABEL_NAMES[text])
    return found


def _count(origin: Origin, why: str, rows: NDArray[np.bool_]) -> None:
    if rows.any():
        origin.left_out[why] = int(rows.sum())


def parquet(spec: SourceSpec) -> Origin:
    """Return the rows of a file of encoded chips: column ``image``, others as far as known."""
    try:
        with pq.ParquetFile(spec.path) as source:
            names = source.schema_arrow.names
            if "image" not in names:
                raise TrainingError(
                    f"{spec.path}: no column image (columns are {', '.join(names)}); "
                    "give a file of encoded chips"
                )
            table = source.read([name for name in names if name != "image"]).to_pandas()
            table.index = pd.RangeIndex(source.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise TrainingError(
            f"{spec.path}: cannot be read as parquet ({error}); give a chips.parquet"
        ) from error
    return Origin(spec, table, None)


def chip_folder(spec: SourceSpec) -> Origin:
    """Return the chips that ``mining-train collect`` wrote."""
    table = pd.DataFrame(read_index(spec.path)).reset_index(drop=True)
    files = [spec.path / str(path) for path in table.pop("path")]
    return Origin(spec, table, files)


def image_folder(spec: SourceSpec) -> Origin:
    """Return the images below a folder, labelled by the folders they lie in.

    Those called ``*_512.jpg`` come first: where there are any, the others are left alone. Copies
    that an earlier dataset made are left out.
    """
    paths = [path for path in image_paths(spec.path) if not is_copy(path)]
    classic = [path for path in paths if path.name.endswith(CLASSIC)]
    files = classic or paths
    rows = []
    for path in files:
        aside = path.with_suffix(".json")
        told = read_metadata(aside) if aside.is_file() else {}
        rows.append(_place(path, told) | {"label": _label_of(path, spec)} | _named(path, told))
    taken = Origin(spec, pd.DataFrame(rows), files)
    if classic and len(classic) < len(paths):
        taken.left_out[f"not {CLASSIC}"] = len(paths) - len(classic)
    return taken


def _named(path: Path, told: dict[str, Any]) -> dict[str, Any]:
    source, _, rest = path.stem.rpartition("__")
    return {
        "chip_id": told.get("chip_id") or rest,
        "source": told.get("source") or source or None,
    }


def _label_of(path: Path, spec: SourceSpec) -> int | None:
    """Tell the label by the folders an image lies in, the nearest first."""
    for part in reversed(path.relative_to(spec.path).parts[:-1]):
        if part.lower() in LABEL_NAMES:
            return LABEL_NAMES[part.lower()]
    return None


def _place(path: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Return lon, lat and size_m as metadata tell them, or else a GeoTIFF itself."""
    place = {name: told[name] for name in ("lon", "lat", "size_m") if told.get(name) is not None}
    if "lon" in place or path.suffix.lower() not in RASTERS:
        return place
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                if source.crs is None:
                    return place
                box = source.bounds
                middle = [(box.left + box.right) / 2], [(box.bottom + box.top) / 2]
                lon, lat = transform(source.crs, "EPSG:4326", *middle)
                if source.crs.is_projected:
                    place["size_m"] = abs(source.transform.a) * source.width
    except RasterioError:
        return place  # it is told as corrupt when it is read
    return place | {"lon": lon[0], "lat": lat[0]}
