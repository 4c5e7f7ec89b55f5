"""What each day shows of a site: its pixels, read again from the scenes a run looked at.

The SCL of every scene over the site is read first; then, of the days that show its outline clear,
the bands, through the scan's own cube, offsets and checks, so that scan and evidence cannot
disagree on what a pixel is. A scene that cannot be read, or whose radiometry is doubted, is left
out and named.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.imagery.bands import Scl
from scanner.imagery.composite import NO_VIEW, UNCLEAR_RANKS, compose
from scanner.imagery.item import Item
from scanner.results.evidence.ground import Ground
from scanner.results.evidence.reader import VISIBLE, Planes, SceneReader
from scanner.results.finished import FinishedRun

CLEAR_SHARE: Final = 0.8
"""A day shows a site when this share of its outline is clear, by the classes of the config."""
SECOND_BEST: Final = 3
"""Days tried, the clearest first, where none is clear."""
INDICES: Final = ("ndvi", "bsi", "brightness")

Ranks = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class View:
    """What one solar day shows of a site."""

    day: dt.date
    item_ids: tuple[str, ...]
    """Scenes with data there."""
    clear: float
    """Share of the outline's pixels seen clear."""
    reflectance: Planes
    """(band, y, x) in the order of ``BANDS``, NaN where there is none."""
    clear_px: NDArray[np.bool_]


@dataclass
class Seen:
    """All that the scenes of one run show of a site; pixels are kept of two days alone."""

    run_id: str
    series: list[dict[str, Any]] = field(default_factory=list)
    """A row a clear day, in order; see :func:`measures`."""
    first: View | None = None
    """The earliest clear view; where no day is clear, the clearest one."""
    last: View | None = None
    days: dict[dt.date, float] = field(default_factory=dict)
    """Clear share of the outline on every day that was looked at, in order."""
    used: list[Item] = field(default_factory=list)
    """Scenes whose pixels are in a view."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Scenes that could not be used, and why."""


def look(run: FinishedRun, ground: Ground) -> Seen:
    """Read what the scenes of a run show of a site."""
    reader = SceneReader(run, ground)
    ranks: dict[str, NDArray[np.uint8]] = {}
    days: dict[dt.date, list[Item]] = {}
    for item, rank in reader.each(reader.scenes(), reader.ranks):
        ranks[item.id] = rank
        days.setdefault(item.solar_day, []).append(item)
    seen = Seen(run.run_id, left_out=reader.left_out)
    for day, items in days.items():
        best = np.min([ranks[item.id] for item in items], axis=0)
        seen.days[day] = _share(best == 0, ground)
    clear = [day for day, share in seen.days.items() if share >= CLEAR_SHARE]
    for view in _views(reader, [item for day in clear for item in days[day]], ranks, ground):
        seen.days[view.day] = view.clear
        if view.clear >= CLEAR_SHARE:
            seen.series.append(measures(view, ground))
            seen.first, seen.last = seen.first or view, view
    if not seen.series:
        seen.first = seen.last = _clearest(seen, reader, days, ranks, ground)
    shown = {name for row in seen.series for name in row["scenes"]}
    shown |= set(seen.first.item_ids) if seen.first else set()
    seen.used = [item for items in days.values() for item in items if item.id in shown]
    return seen


def _clearest(
    seen: Seen,
    reader: SceneReader,
    days: Mapping[dt.date, list[Item]],
    ranks: Ranks,
    ground: Ground,
) -> View | None:
    """Return the clearest day where none is clear: better than nothing, if told to be so."""
    order = sorted(days, key=lambda day: (seen.days[day], day), reverse=True)
    for day in order[:SECOND_BEST]:
        for view in _views(reader, days[day], ranks, ground):
            if np.isfinite(view.reflectance[0][ground.inside]).any():
                return view
    return None


def _views(
    reader: SceneReader, items: Sequence[Item], ranks: Ranks, ground: Ground
) -> Iterator[View]:
    """Yield a view a day from the scenes of some days, in order; each pixel of its better scene.

    Days are never mixed.
    """
    read = reader.each(items, reader.bands)
    for day, pairs in groupby(read, key=lambda pair: pair[0].solar_day):
        named = list(pairs)
        values = np.stack([value for _, value in named])
        rank = np.stack([ranks[item.id] for item, _ in named])
        blank: NDArray[np.bool_] = ~np.all(np.isfinite(values[:, :VISIBLE]), axis=1)
        rank[rank == NO_VIEW] = UNCLEAR_RANKS[Scl.NODATA]  # as the scan's composite takes it
        rank[blank] = NO_VIEW
        picture, clear = compose(values, rank, [0] * len(named), needed=range(VISIBLE))
        with_data = [
            item.id for (item, _), none in zip(named, blank, strict=True) if not none.all()
        ]
        yield View(day, tuple(with_data), _share(clear == 1, ground), picture, clear == 1)


def measures(view: View, ground: Ground) -> dict[str, Any]:
    """Return a row of the series: means over the clear pixels of the outline and around it.

    Each is the mean of the pixels' own index, ``None`` where a band is lacking.
    """
    row: dict[str, Any] = {
        "date": view.day,
        "clear_share": round(view.clear, 4),
        "pixels": int((view.clear_px & ground.inside).sum()),
    }
    planes = indices(view.reflectance)
    for suffix, area in (("", ground.inside), ("_around", ground.around)):
        for name in INDICES:
            row[name + suffix] = _mean(planes[name][area & view.clear_px])
    return {**row, "scenes": view.item_ids}


def indices(reflectance: Planes) -> dict[str, Planes]:
    """Return NDVI, BSI (bare soil) and the mean of the visible bands, pixel by pixel.

    NDVI = (B08 - B04) / (B08 + B04); BSI = (B11 + B04 - B08 - B02) / (B11 + B04 + B08 + B02).
    """
    blue, _, red, nir, swir = reflectance
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "ndvi": (nir - red) / (nir + red),
            "bsi": (swir + red - nir - blue) / (swir + red + nir + blue),
            "brightness": reflectance[:VISIBLE].mean(axis=0),
        }


def _mean(values: Planes) -> float | None:
    finite = values[np.isfinite(values)].astype(np.float64)
    return round(float(finite.mean()), 4) if finite.size else None


def _share(clear: NDArray[np.bool_], ground: Ground) -> float:
    return float(clear[ground.inside].mean()) if ground.inside.any() else 0.0
