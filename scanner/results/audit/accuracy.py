"""From labels to figures: how right the map is, and how much mining there is, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scanner.detection.detections import CELL_HA
from scanner.errors import ConfigError
from scanner.files import write_json
from scanner.results.audit.labels import MINE, NOT, UNSURE, Labels, read_labels
from scanner.results.audit.olofsson import Figure, Labelled
from scanner.results.audit.sample import STRATA, Sample, read_sample
from scanner.results.audit.told import notes
from scanner.results.finished import FinishedRun
from scanner.results.outputs import sha256

ESTIMATE: Final = "estimate.json"

METHOD: Final = (
    "stratified estimators of Olofsson et al. 2014 (doi:10.1016/j.rse.2014.02.015) in the general "
    "form of Stehman 2014 (doi:10.1080/01431161.2014.930207); cautious intervals from exact "
    "limits by stratum (Korn and Graubard 1998, Surv. Methodol. 24; put together as by Zou, Huang "
    "and Zhang 2009, Comput. Stat. Data Anal. 53)"
)


@dataclass(frozen=True)
class Stratum:
    """One stratum: its cells, how many were drawn and labelled, how many hold mining."""

    name: str
    cells: int
    drawn: int
    labelled: int
    """... as ``mine`` or ``not``."""
    mine: int


@dataclass(frozen=True)
class Estimate:
    """What an audit tells of a run; :func:`estimate` makes it."""

    area: str
    """Name of the AOI."""
    synthetic: bool
    identity: Mapping[str, Any]
    """Audit, run, threshold, seed and the digest of the labels."""
    strata: tuple[Stratum, ...]
    outside: Mapping[str, int]
    """Cells that were unseen or failed: nothing here speaks for them."""
    labels: Mapping[str, int]
    """Cells by what was said of them: mine, not, unsure, skipped (passed over on the page) and
    open (not come to)."""
    mapped_ha: float
    """Hectares of the cells that the map calls mining."""
    mined_ha: Figure
    """Hectares of the cells that hold mining."""
    overall: Figure
    """Share of the cells that the map has right."""
    users: Figure
    """Share of the cells mapped as mining that hold it (user's accuracy, precision)."""
    producers: Figure
    """Share of the cells that hold mining which are mapped so (producer's accuracy, recall)."""
    matrix: Mapping[str, Mapping[str, Figure]]
    """Error matrix: map's class -> label -> share of the population (Olofsson et al., eq. 4)."""
    counts: Mapping[str, Mapping[str, int]]
    """The same as cells counted."""
    unsure: Mapping[str, Figure]
    """``mined_ha`` with unsure and skipped cells taken as all mine, and as all not."""
    notes: tuple[str, ...]
    """What to know before quoting a figure."""

    @property
    def cells(self) -> int:
        """Cells of the population."""
        return sum(one.cells for one in self.strata)

    def to_json(self) -> dict[str, Any]:
        """Return what estimate.json holds."""
        return {
            **self.identity,
            "area": self.area,
            "synthetic": self.synthetic,
            "method": METHOD,
            "population": {
                "cells": self.cells,
                "hectares": round(CELL_HA * self.cells, 2),
                "outside": {
                    name: {"cells": count, "hectares": round(CELL_HA * count, 2)}
                    for name, count in self.outside.items()
                },
            },
            "labels": dict(self.labels),
            "strata": [vars(one) for one in self.strata],
            "mapped_mining_ha": self.mapped_ha,
            "mined_cells_ha": self.mined_ha.to_json(2),
            "mined_cells_ha_if_unsure_are": {k: v.to_json(2) for k, v in self.unsure.items()},
            "overall_accuracy": self.overall.to_json(),
            "users_accuracy_of_mining": self.users.to_json(),
            "producers_accuracy_of_mining": self.producers.to_json(),
            "error_matrix_shares": {
                row: {label: one.to_json() for label, one in fields.items()}
                for row, fields in self.matrix.items()
            },
            "error_matrix_counts": {row: dict(fields) for row, fields in self.counts.items()},
            "notes": list(self.notes),
        }


def estimate(run: FinishedRun, out: Path, labels: Path) -> Estimate:
    """Estimate accuracy and mined area of a run from ``labels`` of the sample in ``out``.

    Writes estimate.json into ``out``. Raises ``ConfigError`` where the sample or the labels are not
    this run's, or too few to estimate anything.
    """
    sample = read_sample(run, out)
    said = read_labels(labels, sample)
    word = _words(sample, said)
    told = np.isin(word, (MINE, NOT))
    _check_strata(sample, told, labels)
    drawn = Drawn(sample, _mapped(run, sample))
    data, mine = drawn.of(told), word[told] == MINE
    mapped = drawn.mapped[told]
    fields = {
        row: {MINE: side & mine, NOT: side & ~mine}
        for row, side in (("mining", mapped), ("not_mining", ~mapped))
    }
    inside = drawn.strata_of_mining(run)
    strata = _strata(sample, word)
    counts = {name: int((word == name).sum()) for name in (MINE, NOT, UNSURE, "skipped", "open")}
    hectares = CELL_HA * int(data.sizes.sum())
    found = Estimate(
        area=run.aoi.name,
        synthetic=run.synthetic,
        identity={
            "audit": sample.audit,
            "run_id": run.run_id,
            "threshold": run.threshold,
            "seed": sample.seed,
            "labels_sha256": sha256(labels),
        },
        strata=strata,
        outside=sample.outside,
        labels=counts,
        mapped_ha=round(CELL_HA * int((run.cells.status == "mining").sum()), 2),
        mined_ha=data.mean(mine).scaled(hectares),
        overall=data.mean(mapped == mine),
        users=data.ratio(mapped & mine, mapped, inside, inside),
        producers=data.ratio(mapped & mine, mine, inside, None if inside is None else ~inside),
        matrix={r: {k: data.mean(v) for k, v in f.items()} for r, f in fields.items()},
        counts={r: {k: int(v.sum()) for k, v in f.items()} for r, f in fields.items()},
        unsure={
            answer: drawn.of(word != "open").mean(_as(word, answer)).scaled(hectares)
            for answer in (MINE, NOT)
        },
        notes=notes(strata, sample.outside, counts),
    )
    write_json(out / ESTIMATE, found.to_json())
    return found


@dataclass(frozen=True)
class Drawn:
    """The drawn cells: their strata, and what the map takes them for now."""

    sample: Sample
    mapped: NDArray[np.bool_]

    def of(self, rows: NDArray[np.bool_]) -> Labelled:
        """Return the part of the sample that is in ``rows``."""
        stratum = self.sample.cells.stratum.map({name: i for i, name in enumerate(STRATA)})
        sizes = np.array([self.sample.sizes[name] for name in STRATA])
        return Labelled(stratum.to_numpy(np.intp)[rows], sizes)

    def strata_of_mining(self, run: FinishedRun) -> NDArray[np.bool_] | None:
        """Return which strata hold the map's mining cells, ``None`` where they might be in any.

        They are whole strata unless the threshold moved since the sample was drawn.
        """
        inside = self.sample.cells.stratum[self.mapped]
        strata = np.isin(STRATA, inside)
        cells = sum(self.sample.sizes[name] for name in STRATA if name in set(inside))
        return strata if cells == int((run.cells.status == "mining").sum()) else None


def _mapped(run: FinishedRun, sample: Sample) -> NDArray[np.bool_]:
    """Return which drawn cells the map calls mining; its threshold may have moved since."""
    status = run.cells.set_index("cell_id").status
    return np.asarray(status.loc[sample.cells.cell_id].to_numpy() == "mining")


def _words(sample: Sample, said: Labels) -> NDArray[np.str_]:
    """Return what was said of each drawn cell: a label, ``skipped`` or ``open``."""
    return np.array(
        [
            said.of.get(cell, "skipped" if cell in said.skipped else "open")
            for cell in sample.cells.cell_id
        ]
    )


def _as(word: NDArray[np.str_], answer: str) -> NDArray[np.bool_]:
    """Return which labels are mine, doubtful ones taken as ``answer``; open ones are left out."""
    doubtful = np.isin(word, (UNSURE, "skipped"))
    taken = np.where(doubtful, answer, word)
    return np.asarray((taken == MINE)[word != "open"])


def _check_strata(sample: Sample, told: NDArray[np.bool_], labels: Path) -> None:
    for name in STRATA:
        here = (sample.cells.stratum == name).to_numpy()
        if here.any() and not (here & told).any():
            raise ConfigError(
                f"{labels}: not one of the {int(here.sum())} drawn cells of stratum {name} has a "
                "label of mine or not; label more cells"
            )


def _strata(sample: Sample, word: NDArray[np.str_]) -> tuple[Stratum, ...]:
    frame = pd.DataFrame({"stratum": sample.cells.stratum, "word": word})
    found = []
    for name in STRATA:
        here = frame.word[frame.stratum == name]
        labelled, mine = int(here.isin((MINE, NOT)).sum()), int((here == MINE).sum())
        found.append(Stratum(name, sample.sizes[name], len(here), labelled, mine))
    return tuple(found)
