"""Which cells are looked at: a stratified random sample of what a run saw, kept beside its page.

Olofsson et al. (2014, section 5.1) advise to give rare classes a sample of their own size, so that
what is said of them is worth something, and to share the rest by area, so that what is said of the
whole is too. Cells that were unseen or failed are no part of the population: nothing can be said
of them, and their hectares are told beside every figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from scanner.area.grid import Tile
from scanner.config import digest
from scanner.detection.detections import CELL_HA
from scanner.errors import ConfigError
from scanner.files import write_json, write_text
from scanner.imagery.snapshot import read_json
from scanner.results.finished import FinishedRun
from scanner.results.outputs import write_geoparquet

STRATA: Final = ("mining", "not_mining", "not_suspicious")
"""Statuses a seen cell can have; ``not_mining`` is suspicious ground that scored too low."""

OUTSIDE: Final = ("unseen", "failed")
"""Statuses no sample can speak for."""

FLOORS: Final = {"mining": 50, "not_mining": 25, "not_suspicious": 25}
"""Cells of each stratum that are looked at, at least: all of them where there are fewer."""

SMALLEST: Final = 10
"""Fewest cells a sample may have; one of less than 150 gives a third of it to mining at least, and
a sixth to each other stratum."""

MANIFEST: Final = "audit.json"
TABLE: Final = "sample.parquet"
CSV: Final = "sample.csv"

SCHEMA: Final = pa.schema(
    [
        ("cell_id", pa.string()),
        ("order", pa.int32()),
        ("stratum", pa.string()),
        ("stratum_cells", pa.int64()),
        ("stratum_share", pa.float64()),
        ("inclusion", pa.float64()),
        ("lat", pa.float64()),
        ("lon", pa.float64()),
        ("tile_id", pa.string()),
        ("audit", pa.string()),
    ]
)
"""Columns of sample.parquet besides ``geometry``: ``order`` is the cell's place on the page,
``stratum_share`` the weight W of its stratum, ``inclusion`` the chance it had to be drawn."""


@dataclass(frozen=True)
class Sample:
    """A sample of a run's cells; its rows stand in the order of the page."""

    audit: str
    """Identifies the sample: labels carry it, so that those of another are not taken for its own.
    """
    cells: gpd.GeoDataFrame
    """Columns of ``SCHEMA`` and ``geometry``."""
    sizes: Mapping[str, int]
    """Cells of the population by stratum."""
    outside: Mapping[str, int]
    """Cells of the AOI by the statuses of ``OUTSIDE``."""
    seed: int
    size: int


def allocate(sizes: Mapping[str, int], size: int) -> dict[str, int]:
    """Share ``size`` cells out among the strata, whose cells are counted in ``sizes``.

    Strata that would get less than their floor (``FLOORS``) by their share of the area get the
    floor, or all their cells; the others share the rest by area.
    """
    size = min(size, sum(sizes.values()))
    floors = {
        name: min(count, FLOORS[name], max(2, size // (3 if name == "mining" else 6)))
        for name, count in sizes.items()
    }
    given: dict[str, int] = {}
    while True:
        rest = size - sum(given.values())
        open_ = {name: count for name, count in sizes.items() if name not in given}
        whole = sum(open_.values())
        shares = {name: rest * count / whole for name, count in open_.items() if whole}
        short = [name for name, share in shares.items() if share < floors[name]]
        if not short:
            break
        given |= {name: floors[name] for name in short}
    given |= {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (int(shares[name]) - shares[name], name))
    for name in by_remainder[: size - sum(given.values())]:
        given[name] += 1
    return {name: given.get(name, 0) for name in sizes}


def draw_sample(run: FinishedRun, size: int, seed: int) -> Sample:
    """Draw ``size`` seen cells of a run; the same seed draws the same.

    Raises ``ConfigError`` for a size or seed that cannot be, or where no cell was seen.
    """
    if size < SMALLEST:
        raise ConfigError(f"--size {size}: too few to say anything; give {SMALLEST} or more")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: cannot be negative; give 0 or more")
    cells = run.cells[run.cells.status.isin(STRATA)].sort_values("cell_id", ignore_index=True)
    if cells.empty:
        raise ConfigError(
            f"{run.path}: not one cell was seen, so there is nothing to audit; scan with more "
            "dates, or a lower --min-clear"
        )
    sizes = {name: int((cells.status == name).sum()) for name in STRATA}
    given = allocate(sizes, size)
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(np.flatnonzero(cells.status == name), given[name], replace=False)
        for name in STRATA
    ]
    chosen = cells.iloc[rng.permutation(np.sort(np.concatenate(drawn)))].reset_index(drop=True)
    stratum, middle = chosen.status, shapely.centroid(chosen.geometry.to_numpy())
    frame = gpd.GeoDataFrame(
        {
            "cell_id": chosen.cell_id,
            "order": np.arange(1, len(chosen) + 1),
            "stratum": stratum,
            "stratum_cells": stratum.map(sizes),
            "stratum_share": (stratum.map(sizes) / len(cells)).round(9),
            "inclusion": (stratum.map(given) / stratum.map(sizes)).round(9),
            "lat": shapely.get_y(middle).round(6),
            "lon": shapely.get_x(middle).round(6),
            "tile_id": chosen.tile_id,
        },
        geometry=chosen.geometry,
        crs="EPSG:4326",
    )
    audit = _identity(run.run_id, _population(run), sizes, frame, seed, size)
    outside = {name: int((run.cells.status == name).sum()) for name in OUTSIDE}
    return Sample(audit, frame.assign(audit=audit), sizes, outside, seed, size)


def write_sample(run: FinishedRun, sample: Sample, out: Path) -> None:
    """Write sample.parquet, sample.csv and audit.json into ``out``."""
    write_geoparquet(out / TABLE, sample.cells, SCHEMA)
    plain = pd.DataFrame(sample.cells[SCHEMA.names])
    write_text(out / CSV, plain.to_csv(index=False, lineterminator="\n"))
    write_json(
        out / MANIFEST,
        {
            "audit": sample.audit,
            "run_id": run.run_id,
            "seed": sample.seed,
            "size": sample.size,
            "population": _population(run),
            "threshold_when_drawn": run.threshold,
            "synthetic": run.synthetic,
            "strata": {
                name: {
                    "cells": count,
                    "hectares": round(CELL_HA * count, 2),
                    "drawn": int((sample.cells.stratum == name).sum()),
                }
                for name, count in sample.sizes.items()
            },
            "outside": {
                name: {"cells": count, "hectares": round(CELL_HA * count, 2)}
                for name, count in sample.outside.items()
            },
        },
    )


def read_sample(run: FinishedRun, out: Path) -> Sample:
    """Read the sample that ``mining-report audit`` wrote into ``out``.

    Raises ``ConfigError`` where there is none, it is another run's, it was changed, or the run has
    since been made anew so that other cells count as seen.
    """
    path = out / MANIFEST
    if not path.is_file():
        raise ConfigError(f"{out}: holds no audit; draw one first: mining-report audit {run.path}")
    told = read_json(path)
    again = f"draw it again: mining-report audit {run.path} --out {out}"
    if told.get("run_id") != run.run_id:
        raise ConfigError(f"{path}: is the audit of another run; give its --out, or {again}")
    try:
        cells = gpd.read_parquet(out / TABLE).sort_values("order", ignore_index=True)
        sizes = {name: int(told["strata"][name]["cells"]) for name in STRATA}
        outside = {name: int(told["outside"][name]["cells"]) for name in OUTSIDE}
        seed, size = int(told["seed"]), int(told["size"])
        audit = _identity(run.run_id, str(told["population"]), sizes, cells, seed, size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{out / TABLE}: cannot be read ({error}); {again}") from error
    if audit != told.get("audit"):
        raise ConfigError(f"{out}: its sample was changed since it was drawn; {again}")
    if told["population"] != _population(run):
        raise ConfigError(
            f"{out}: other cells count as seen since it was drawn (another --threshold, --prior or "
            f"--min-clear); make the run as it was, or {again}"
        )
    return Sample(audit, cells, sizes, outside, seed, size)


def tile_of(run: FinishedRun, tile_id: str) -> Tile:
    """Return a tile of the run by its id."""
    return next(tile for tile in run.tiles if tile.tile_id == tile_id)


def _population(run: FinishedRun) -> str:
    """Return the digest of the seen cells, whatever they were taken for."""
    return digest(sorted(run.cells.cell_id[run.cells.status.isin(STRATA)]))


def _identity(
    run_id: str, population: str, sizes: Mapping[str, int], cells: pd.DataFrame, *drawn_by: int
) -> str:
    rows = cells[["cell_id", "stratum"]].to_numpy().tolist()
    return digest([run_id, population, dict(sizes), rows, drawn_by])[:16]
