"""One site and all that is known of it, gathered before anything is written."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from scanner.detection.detections import DETECTION_SCHEMA
from scanner.errors import ConfigError
from scanner.imagery.item import Item
from scanner.results.evidence.ground import Ground, ground_of
from scanner.results.evidence.models import UsedModel, used_models
from scanner.results.evidence.pixels import Seen, View, look
from scanner.results.finished import FinishedRun
from scanner.results.maps.rasters import warped

USES = ("before", "after", "score", "series")


@dataclass(frozen=True)
class Case:
    """A site, its ground, what its scenes show and the models that found it."""

    run: FinishedRun
    site: Any
    """Its row of ``run.sites``."""
    ground: Ground
    seen: Seen
    models: list[UsedModel]
    earlier: FinishedRun | None = None
    """The run 'before' is taken from, where it is another one."""
    seen_earlier: Seen | None = None

    @property
    def detection_id(self) -> str:
        """Its id; ``ground_of`` has checked that it may be part of a path."""
        return str(self.site.detection_id)

    @property
    def synthetic(self) -> bool:
        """Whether any scene was made by a computer."""
        runs = [self.run, *([self.earlier] if self.earlier else [])]
        return any(run.synthetic for run in runs)

    @property
    def before(self) -> View | None:
        """What the picture 'before' is of; ``None`` where it would be that of 'after' again."""
        if self.seen_earlier is not None:
            return self.seen_earlier.first
        same = self.seen.first is None or self.seen.first is self.seen.last
        return None if same else self.seen.first

    @property
    def after(self) -> View | None:
        """What the picture 'after' is of."""
        return self.seen.last

    @property
    def series(self) -> list[dict[str, Any]]:
        """Rows of the series of both runs, in order; of days in both, that of the run itself."""
        rows = [{**row, "run_id": self.run.run_id, "earlier": False} for row in self.seen.series]
        if self.seen_earlier is not None:
            days = {row["date"] for row in rows}
            rows += [
                {**row, "run_id": self.seen_earlier.run_id, "earlier": True}
                for row in self.seen_earlier.series
                if row["date"] not in days
            ]
        return sorted(rows, key=lambda row: row["date"])

    @property
    def days(self) -> dict[dt.date, float]:
        """Clear share of the outline on every day that was looked at."""
        earlier = self.seen_earlier.days if self.seen_earlier else {}
        return dict(sorted({**earlier, **self.seen.days}.items()))

    @property
    def left_out(self) -> dict[str, str]:
        """Scenes that could not be used, and why."""
        earlier = self.seen_earlier.left_out if self.seen_earlier else {}
        return dict(sorted({**earlier, **self.seen.left_out}.items()))

    @property
    def used(self) -> list[tuple[Item, frozenset[str]]]:
        """Scenes with what they were used for (``USES``), in order of time."""
        uses: dict[str, set[str]] = {}
        for row in self.series:
            for name in row["scenes"]:
                uses.setdefault(name, set()).add("series")
        for use, view in (("before", self.before), ("after", self.after)):
            for name in view.item_ids if view else ():
                uses.setdefault(name, set()).add(use)
        for name in self.site.item_ids:
            uses.setdefault(str(name), set()).add("score")
        items = {item.id: item for item in (*self._earlier_items, *self.run.items.items)}
        found = [(items[name], frozenset(what)) for name, what in uses.items() if name in items]
        return sorted(found, key=lambda pair: (pair[0].datetime, pair[0].id))

    @property
    def _earlier_items(self) -> tuple[Item, ...]:
        return self.earlier.items.items if self.earlier else ()

    def map(self, name: str) -> NDArray[np.uint8] | None:
        """Return a raster of the run (``detection.rasters.RASTERS``) on the site's ground.

        A picture (4, y, x); ``None`` where the run kept none there.
        """
        picture = warped(
            self.run, name, f"EPSG:{self.ground.zone.epsg}", self.ground.bounds,
            self.ground.inside.shape,
        )  # fmt: skip
        return picture if picture[3].any() else None

    def composite_days(self) -> list[str]:
        """Return the days of the picture the models saw, ISO, in order."""
        reports = [self.run.report(tile_id) for tile_id in self.site.tile_ids]
        return sorted({day for report in reports if report for day in report.days})

    def feature(self) -> dict[str, Any]:
        """Return the site as a GeoJSON Feature: its outline and its row of detections.parquet."""
        row = {name: _plain(getattr(self.site, name)) for name in DETECTION_SCHEMA.names}
        return {
            "type": "Feature",
            "id": self.detection_id,
            "properties": {**row, **({"synthetic": True} if self.synthetic else {})},
            "geometry": json.loads(shapely.to_geojson(self.site.geometry)),
        }


def gather(run: FinishedRun, site: Any, earlier: FinishedRun | None) -> Case:
    """Read all that is known of a site, a row of ``run.sites``.

    Raises ``ConfigError`` where the earlier run never looked at that ground.
    """
    ground = ground_of(run, site)
    seen_earlier = None if earlier is None else look(earlier, ground)
    if earlier and seen_earlier and not (seen_earlier.days or seen_earlier.left_out):
        raise ConfigError(
            f"{earlier.path}: has no scene over {site.detection_id}; "
            "give an earlier run over the same ground, or leave --before out"
        )
    return Case(run, site, ground, look(run, ground), used_models(run), earlier, seen_earlier)


def _plain(value: Any) -> Any:
    """Turn a cell of a table into JSON."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dt.date):
        return value.isoformat()
    return value
