"""The sites most worth a flight, and why, in words.

What a site is worth is a product, so that each reason weighs the same whatever the others say:

    worth = sure x size x fresh x views

- sure: its score p, and a bonus for doubt, ``DOUBT`` * 4 p (1 - p): to look settles it. The bonus
  is largest at a score of a half and small enough that a higher score is always worth more, so
  confirmed mines come first. In a place of consequence (within an overlay) it is
  ``DOUBT_THERE``: a middling score there is worth a look.
- size: log(1 + hectares). A mine ten times as large is worth more, not ten times as much.
- fresh: ``FRESH``, by what became of it since an earlier run; 1 where none was compared.
- views: 1 - ``ONE_VIEW`` / days that saw it clear: what was seen once may be haze or a shadow.

Then spread: sites are picked one by one, and each pick takes from the worth of those around it,
``NEARBY`` of it at no distance and less by exp(-distance / reach), every pick anew. The reach is
half the distance that so many picks would have if they were spread evenly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import Geod

from scanner.errors import ConfigError, RunError, shown
from scanner.files import write_text
from scanner.results.changes.change_table import FILE, FOLDER, changes_of, read_changes
from scanner.results.csv_files import harmless
from scanner.results.finished import FinishedRun
from scanner.results.formats.overlays import overlays_of

DOUBT: Final = 0.1
DOUBT_THERE: Final = 0.25
"""Largest bonus that leaves a higher score worth more: p + 4 c p (1 - p) rises up to p = 1 as long
as c is a quarter at most."""
FRESH: Final = {"new": 1.5, "growing": 1.3, "first seen": 1.2, "shrinking": 0.8}
"""``first seen``: found where the earlier run had no clear view, so it may be new."""
ONE_VIEW: Final = 0.15
NO_VIEW: Final = 0.7
"""What a site counts that no day saw clear (ground the SCL takes for cloud)."""
WHOLLY: Final = 0.995
"""Share of a site within a feature from which it needs no telling."""
NEARBY: Final = 0.6
MIN_REACH_KM: Final = 1.0

HIGH: Final = 8.0
MIDDLING: Final = 2.0
"""A score is called high, or middling, where its odds are so many times those of the threshold."""

COMPARED: Final = (
    "site_id", "change", "mining_in", "unseen_reason", "first_seen_after", "first_seen_by",
    "growth_ha",
)  # fmt: skip
"""What is taken over from changes.parquet."""
COLUMNS: Final = (
    "rank", "detection_id", "worth", "score", "area_ha", "n_cells", "clear_observations",
    "first_observed", "last_observed", *COMPARED, "overlays", "lat", "lon", "distance_km",
    "reason",
)  # fmt: skip
"""Columns of a ranking besides ``geometry``; ``distance_km`` is to the nearest pick above."""

_GEOD: Final = Geod(ellps="WGS84")


def rank_sites(run: FinishedRun, budget: int, changes: Path | None = None) -> gpd.GeoDataFrame:
    """Return the ``budget`` sites of a run most worth a flight, best first (``COLUMNS``).

    All of them, in order, where there are no more. The same files give the same order.

    Args:
        run: The run.
        budget: How many sites.
        changes: Folder of a comparison whose NEW is this run; else the run's own ``changes``,
            where there is one.

    Raises:
        ConfigError: ``changes`` holds no comparison of this run, or the budget is none.
        RunError: ``overlays.parquet`` of the run cannot be read.
    """
    if budget < 1:
        raise ConfigError(f"--budget {budget}: nothing to pick; give 1 or more")
    sites = run.sites.sort_values("detection_id", ignore_index=True)
    sites = sites.merge(_compared(run, changes), on="detection_id", how="left")
    sites = sites.merge(_overlays(run), on="detection_id", how="left")
    points = sites.geometry.representative_point()
    sites["lon"], sites["lat"] = points.x.round(6), points.y.round(6)
    sites["worth"] = np.round(_worth(sites), 6)
    order, distance = _spread(sites, budget)
    picked = sites.iloc[order].reset_index(drop=True)
    picked["rank"] = range(1, len(picked) + 1)
    picked["distance_km"] = distance
    picked["reason"] = [_reason(row, run.threshold) for row in picked.to_dict("records")]
    ranking = picked[[*COLUMNS, "geometry"]]
    ranking.attrs = {"sites": len(sites)}
    return ranking


def write_ranking(ranking: gpd.GeoDataFrame, path: Path) -> None:
    """Write a ranking as CSV; no text in it is taken for a formula by a spreadsheet."""
    table = pd.DataFrame(ranking.drop(columns="geometry"))
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = [_plain(value) for value in table[name]]
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def tell_ranking(ranking: gpd.GeoDataFrame) -> str:
    """Return a ranking as a table for the terminal."""
    if not len(ranking):
        return "no sites to rank"
    total = ranking.attrs.get("sites", len(ranking))
    lines = [f"{len(ranking)} of {total} sites, the one most worth a flight first"]
    for row in ranking.itertuples():
        lines.append(
            f"{row.rank:>4}  {row.detection_id}  {row.lat:.5f},{row.lon:.5f}  {row.reason}"
        )
    return "\n".join(lines)


def _worth(sites: gpd.GeoDataFrame) -> NDArray[np.float64]:
    p = sites.score.to_numpy(np.float64)
    doubt = np.where(sites.overlays.notna(), DOUBT_THERE, DOUBT)
    days = sites.clear_observations.to_numpy(np.float64)
    views = np.where(days > 0, 1 - ONE_VIEW / np.maximum(days, 1), NO_VIEW)
    fresh = np.array([FRESH.get(_news(row), 1.0) for row in sites.to_dict("records")], np.float64)
    size = np.log1p(sites.area_ha.to_numpy(np.float64))
    return np.asarray((p + doubt * 4 * p * (1 - p)) * size * fresh * views)


def _spread(sites: gpd.GeoDataFrame, budget: int) -> tuple[list[int], list[float]]:
    """Pick greedily; returns positions and the kilometres to the nearest pick before each."""
    if not len(sites):
        return [], []
    lon, lat = sites.lon.to_numpy(), sites.lat.to_numpy()
    reach = _reach_km(lon, lat, budget)
    value = sites.worth.to_numpy(np.float64).copy()
    nearest = np.full(len(sites), np.nan)
    order: list[int] = []
    distance: list[float] = []
    for _ in range(min(budget, len(sites))):
        best = int(np.argmax(np.round(value, 9)))  # of equals the first, and ids are sorted
        order.append(best)
        distance.append(round(float(nearest[best]), 3))
        away = _km(lon, lat, lon[best], lat[best])
        nearest = np.fmin(nearest, away)
        value *= 1 - NEARBY * np.exp(-away / reach)
        value[order] = -1.0
    return order, distance


def _reach_km(lon: NDArray[np.float64], lat: NDArray[np.float64], budget: int) -> float:
    west, south, east, north = lon.min(), lat.min(), lon.max(), lat.max()
    wide = _GEOD.inv(west, (south + north) / 2, east, (south + north) / 2)[2] / 1000
    high = _GEOD.inv(west, south, west, north)[2] / 1000
    return max(MIN_REACH_KM, float(np.sqrt(wide * high / budget)) / 2)


def _km(
    lon: NDArray[np.float64], lat: NDArray[np.float64], to_lon: float, to_lat: float
) -> NDArray[np.float64]:
    _, _, metres = _GEOD.inv(lon, lat, np.full(len(lon), to_lon), np.full(len(lat), to_lat))
    return np.asarray(metres) / 1000


def _news(row: dict[str, Any]) -> str:
    """Return the key of ``FRESH``."""
    if row["change"] != "unseen":
        return str(row["change"])
    if "new:" in str(row["unseen_reason"]):
        return "through cloud"
    return "unseen" if _seen_before(row) else "first seen"


def _seen_before(row: dict[str, Any]) -> bool:
    """Tell whether a ledger knows the site from before the views of this run."""
    by, first = row["first_seen_by"], row["first_observed"]
    return bool(pd.notna(by) and pd.notna(first) and by < first)


def _reason(row: dict[str, Any], threshold: float) -> str:
    parts = [
        f"{_score_word(row['score'], threshold)} ({row['score']:.2f})",
        f"{row['area_ha']:.1f} ha",
        _change_words(row),
        _view_words(int(row["clear_observations"])),
    ]
    if isinstance(row["overlays"], str):
        parts.append(f"within {row['overlays']}")
    if np.isfinite(row["distance_km"]):
        parts.append(f"{row['distance_km']:.0f} km from the nearest above")
    return ", ".join(part for part in parts if part)


def _score_word(score: float, threshold: float) -> str:
    for word, times in (("high score", HIGH), ("middling score", MIDDLING)):
        if score * (1 - threshold) >= times * threshold * (1 - score):
            return word
    return "score near the threshold"


def _change_words(row: dict[str, Any]) -> str:
    after, by = row["first_seen_after"], row["first_seen_by"]
    words = {
        "new": f"back, known since {by}" if _seen_before(row) else f"new since {after}",
        "growing": f"growing ({row['growth_ha']:+.1f} ha)",
        "shrinking": f"shrinking ({row['growth_ha']:+.1f} ha)",
        "stable": f"known since {by}" if pd.notna(by) else "known",
        "first seen": "first seen now, hidden before",
        "through cloud": "through cloud only",
        "unseen": f"known since {by}, hidden in the run before",
    }
    return words.get(_news(row), "")


def _view_words(days: int) -> str:
    if days == 0:
        return "clear on no single day"
    return "seen clear once" if days == 1 else f"seen clear on {days} days"


def _compared(run: FinishedRun, folder: Path | None) -> pd.DataFrame:
    """Return what became of each detection of the run, by ``detection_id``."""
    names = ["detection_id", *COMPARED]
    where = folder or run.path / FOLDER
    try:
        table = changes_of(run) if folder is None else read_changes(folder / FILE)
    except RunError as error:
        raise ConfigError(
            f"{where}: holds no {FILE} that can be read; give the --out of mining-report compare"
        ) from error
    if table is None:
        return pd.DataFrame(columns=names)
    if others := set(table.run_new) - {run.run_id}:
        raise ConfigError(
            f"{where / FILE}: compares another run ({min(others)[:12]}...) than {run.path} "
            f"({run.run_id[:12]}...); call mining-report compare OLD {run.path}"
        )
    table = pd.DataFrame(table.drop(columns="geometry"))
    each = table.explode("detection_ids_new").dropna(subset="detection_ids_new")
    each["detection_id"] = each.pop("detection_ids_new")
    return pd.DataFrame(each[names].drop_duplicates("detection_id"))


def _overlays(run: FinishedRun) -> pd.DataFrame:
    """Return the overlays' features each detection lies in, as text, by ``detection_id``."""
    table = overlays_of(run, ["detection_id", "overlay", "feature", "share"])
    if table is None:
        return pd.DataFrame(columns=["detection_id", "overlays"])
    table = table[table.feature.notna()]  # null: what lies in no feature of that overlay
    table = table.sort_values(["detection_id", "share"], ascending=[True, False], kind="stable")
    table["overlays"] = [
        shown(feature, 60) + (f" ({share:.0%})" if share < WHOLLY else "")
        for feature, share in zip(table.feature, table.share, strict=True)
    ]
    names: dict[str, list[str]] = {}
    for row in table.itertuples():
        names.setdefault(str(row.detection_id), []).append(str(row.overlays))
    joined = {"detection_id": list(names), "overlays": [" and ".join(n) for n in names.values()]}
    return pd.DataFrame(joined, dtype=object)


def _plain(value: Any) -> Any:
    """Return what is no number as harmless text, and nothing for what is missing."""
    if value is None or value is pd.NaT or value != value:
        return None
    return harmless(str(value))
