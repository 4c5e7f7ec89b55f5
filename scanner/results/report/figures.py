"""The summary figures: how much was looked at and seen, with what, and how good that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scanner.detection.detections import CELL_HA, STATUSES
from scanner.errors import ModelError
from scanner.models.card import ModelCard
from scanner.models.store import shipped
from scanner.results.finished import FinishedRun
from scanner.results.report.shapes import tile_state

MOST_ROWS: Final = 300
"""Rows of a list of tiles or items in the page; run.json has them all."""
MOST_MEASURED: Final = 12
"""Rows of figures shown of a card."""


@dataclass(frozen=True)
class Seen:
    """Hectares by what became of their cells; they add up to the area's."""

    area: float
    clear: float
    status: dict[str, float]
    """By name of ``STATUSES``."""

    @property
    def answered(self) -> float:
        """Hectares with an answer, mining or not."""
        return self.area - self.unseen - self.failed

    @property
    def unseen(self) -> float:
        """Hectares nobody could see."""
        return self.status["unseen"]

    @property
    def failed(self) -> float:
        """Hectares whose tile failed."""
        return self.status["failed"]


def seen(run: FinishedRun) -> Seen:
    """Return what was seen of the area."""
    told = run.summary["coverage_ha"]
    cells = told["cells"]
    status = {name: CELL_HA * int(cells.get(name, 0)) for name in STATUSES}
    return Seen(sum(status.values()), float(told["clear"]), status)


def scenes(run: FinishedRun) -> dict[str, Any]:
    """Return which scenes were found and used, and on which days."""
    used: set[str] = set()
    days: set[str] = set()
    for tile in run.tiles:
        report = run.report(tile.tile_id)
        if report is not None:
            days.update(report.days)
            used.update(item for ids in report.item_ids for item in ids)
    return {"found": len(run.items.items), "used": len(used), "days": sorted(days)}


def years(run: FinishedRun) -> str:
    """Return the years the items were sensed in, such as ``2023-2024``; empty without items."""
    found = sorted({item.datetime.year for item in run.items.items})
    return "-".join(str(year) for year in dict.fromkeys((*found[:1], *found[-1:])))


def uncovered_tiles(run: FinishedRun) -> list[dict[str, Any]]:
    """Return the tiles of which something was not seen, worst first."""
    rows = [
        {
            "id": row.tile_id,
            "state": tile_state(row),
            "area": row.area_ha,
            "unseen": row.unseen_ha,
            "failed": row.failed_ha,
            "items": int(row.n_items),
            "reason": row.reason if isinstance(row.reason, str) else None,
        }
        for row in run.coverage.itertuples()
        if tile_state(row) != "seen"
    ]
    return sorted(rows, key=lambda row: (-row["failed"], -row["unseen"], row["id"]))


def cards(run: FinishedRun) -> dict[str, ModelCard | None]:
    """Return the cards of the models a run used, ``None`` where they are not at hand any more."""
    wanted = {"segmenter": run.config.pixels.segmenter, "classifier": run.config.pixels.classifier}
    return {
        kind: _card(shipped(kind) if name is None else Path(name), run.summary["models"][kind])
        for kind, name in wanted.items()
    }


def _card(folder: Path, named: str) -> ModelCard | None:
    """Read a card if its weights are those of ``named``, which ends with their digest."""
    try:
        card = ModelCard.read(folder)
    except ModelError:
        return None
    return card if named.endswith(f"@{card.sha256[:12]}") else None


def measured(card: ModelCard | None) -> list[dict[str, Any]]:
    """Return the figures of a classifier's card that come with an interval, in its order."""
    rows = []
    for name, told in (card.metrics or {} if card else {}).items():
        wanted = ("roc_auc", "recall", "false_alarm_rate")
        if isinstance(told, dict) and all(_interval(told.get(key)) for key in wanted):
            rows.append(
                {
                    "set": name,
                    **{key: told[key] for key in wanted},
                    "mines": told.get("mines"),
                    "others": told.get("others"),
                    "rare": (told.get("precision_at") or {}).get("0.01"),
                }
            )
    return rows[:MOST_MEASURED]


def _interval(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(one, int | float) for one in value)
    )
