"""An estimate in plain words: a small table, and what to know before quoting a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from scanner.detection.detections import CELL_HA
from scanner.results.audit.labels import MINE, NOT, UNSURE

if TYPE_CHECKING:
    from scanner.results.audit.accuracy import Estimate, Stratum

FEW: Final = 5
"""A stratum with fewer labels of either kind is too uneven for intervals of +- 1.96 errors."""

WHOLE_CELLS: Final = (
    "a cell counts whole when mining is seen anywhere in it, and so do cells on the area's edge: "
    "hectares are those of 480 m cells, an upper bound of mined ground"
)
NO_GROUND: Final = (
    "mined ground itself is not estimated: outlines were not checked, and mines the map missed "
    "have none"
)
SAME_PIXELS: Final = (
    "labels from the page are of the same picture the map was made of; what a 10 m picture does "
    "not show, neither can tell: check against finer pictures or the ground where you can"
)


def notes(
    strata: Sequence[Stratum], outside: Mapping[str, int], labels: Mapping[str, int]
) -> tuple[str, ...]:
    """Return what is weak about this very sample, then what is true of every one."""
    found = [told for one in strata if (told := _weakness(one)) is not None]
    doubtful = labels[UNSURE] + labels["skipped"]
    if doubtful:
        found.append(
            f"{doubtful} cells were left unsure or passed over; figures leave them out, as if they "
            "were like the others of their stratum"
        )
    hectares = CELL_HA * sum(outside.values())
    if hectares:
        found.append(f"nothing here speaks for the {hectares:,.0f} ha that were unseen or failed")
    return (*found, WHOLE_CELLS, NO_GROUND, SAME_PIXELS)


def _weakness(one: Stratum) -> str | None:
    """Return why the standard error of a stratum tells too little, if it does."""
    if one.labelled == one.cells:
        return None
    if one.labelled == 1:
        return (
            f"{one.name}: one labelled cell of {one.cells} tells nothing of its spread, so there "
            "is no standard error; label two or more"
        )
    if one.mine in (0, one.labelled):
        kind = "no mine" if one.mine == 0 else "nothing but mines"
        return (
            f"{one.name}: {kind} among {one.labelled} labelled of {one.cells} cells, which adds "
            "nothing to the standard error though others may differ; quote the cautious interval"
        )
    if min(one.mine, one.labelled - one.mine) < FEW:
        return (
            f"{one.name}: {one.mine} mine, {one.labelled - one.mine} not, fewer than {FEW} of one "
            "kind; quote the cautious interval"
        )
    return None


def tell_estimate(found: Estimate) -> str:
    """Return an estimate as a small table in plain words."""
    said = found.labels
    doubtful = said[UNSURE] + said["skipped"]
    lines = [
        f"{found.area}: {said[MINE] + said[NOT]} cells labelled ({said[MINE]} mine, {said[NOT]} "
        f"not), {doubtful} unsure or skipped, {said['open']} not come to"
    ]
    if found.synthetic:
        lines.append("SYNTHETIC scenes: these figures say nothing of any place on Earth")
    rows = [
        ("cells with mining, hectares", found.mined_ha, _hectares),
        ("map is right", found.overall, _percent),
        ("mapped as mining, is mining (user's accuracy)", found.users, _percent),
        ("is mining, mapped so (producer's accuracy)", found.producers, _percent),
    ]
    weak = [note for one in found.strata if (note := _weakness(one)) is not None]
    mark = "*" if weak else ""
    table: list[tuple[str, ...]] = [
        ("", "estimate", f"standard error{mark}", f"95 % interval{mark}", "95 %, cautious")
    ]
    for name, one, unit in rows:
        pairs = [
            "none" if pair is None else f"{unit(pair[0])} to {unit(pair[1])}"
            for pair in (one.interval, one.cautious)
        ]
        table.append((name, unit(one.value), unit(one.se), *pairs))
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for row in table:
        padded = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *padded[1:]]))
    lines.append(
        f"the map itself calls {found.mapped_ha:,.0f} ha of cells mining, out of "
        f"{CELL_HA * found.cells:,.0f} ha seen"
    )
    if doubtful:
        most, least = found.unsure[MINE], found.unsure[NOT]
        lines.append(
            f"were all {doubtful} unsure cells mines: {_hectares(most.value)} ha; were none: "
            f"{_hectares(least.value)} ha"
        )
    return "\n".join([*lines, *(f"{'*' if n in weak else '-'} {n}" for n in found.notes)])


def _hectares(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"
