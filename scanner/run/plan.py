"""``--plan``: what a scan would read and take, told before any pixel is read.

Counts and gaps follow from the items alone; cover, bytes and hours are estimates. What depends on
this machine (free memory, the pace of its processor) is told but not written, so that the same
items give the same ``plan.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import shapely
from pyproj import Geod

from scanner.area.aoi import PRECISION_DEG, Aoi, only_area
from scanner.files import write_json
from scanner.imagery.screen import solar_days
from scanner.run.cluster import WORKER_BYTES
from scanner.run.costs import (
    BAND_S,
    HEADER_BYTES,
    MANY,
    PIXEL_BYTES,
    SCL_BYTES,
    SCL_S,
    TABLE_S,
    Costs,
    Pace,
    TilePlan,
    pace_of,
)
from scanner.run.outlook import BLOCK_PX, ENOUGH, UNKNOWN_CLOUD, Outlooks
from scanner.run.plan_text import UNSEEN_FILE
from scanner.run.plan_text import tell_plan as tell_plan
from scanner.run.times import Times, on_gpu, on_workers

if TYPE_CHECKING:
    from scanner.run.pipeline import Run

FILE: Final = "plan.json"

PIXEL_HA: Final = 0.01
"""Gaps smaller than a pixel are none."""

_GEOD: Final = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Plan:
    """What a scan would read and take; made by :func:`plan`."""

    aoi: str
    area_ha: float
    run_id: str
    tiles: tuple[TilePlan, ...]
    scenes: int
    left_out: int
    """Items found and refused, but for those listed twice."""
    days: tuple[str, ...]
    """Solar days with a scene, in order."""
    max_scenes: int
    clear_views: int
    """Wanted of each pixel."""
    screen: bool
    """Whether windows of nothing but dense forest are passed over."""
    bands: tuple[str, ...]
    """Bands the models want and scenes have."""
    without_cloud: int
    """Items that tell no cloud cover."""
    without_scl: int
    unseen: Any
    """Part of the AOI that no item shows, EPSG:4326; ``None`` where all of it is shown."""
    unseen_ha: float
    local: bool
    """Whether the pixels lie on this machine's disks."""
    rasters: bool
    advice: str | None
    """Of the search, where it found nothing."""
    pace: Pace

    @property
    def todo(self) -> list[TilePlan]:
        """Tiles without a part."""
        return [tile for tile in self.tiles if not tile.done]

    @property
    def bytes_to_read(self) -> int:
        """Of the tiles to do, for the days expected and all windows."""
        return sum(tile.scl_bytes + tile.band_bytes for tile in self.todo)

    @property
    def bytes_at_most(self) -> int:
        """... for as many days as ``max_scenes`` allows."""
        return sum(tile.scl_bytes + tile.band_bytes_most for tile in self.todo)

    @property
    def bytes_at_least(self) -> int:
        """... where all is dense forest, so that windows are passed over."""
        return sum(tile.least_bytes for tile in self.todo)

    @property
    def expected_clear(self) -> float:
        """Share of all AOI cells expected to be seen clear at least once."""
        cells = sum(tile.cells for tile in self.tiles)
        return sum(tile.cells * tile.expected_clear for tile in self.tiles) / max(cells, 1)

    @property
    def here(self) -> Times:
        """By the clock on this machine (with ``--scheduler``, on one worker like it)."""
        return on_workers(self.todo, self.pace, self.pace.at_once, local=self.local)

    @property
    def compute_seconds(self) -> float:
        """Of ``here``, what computing takes at most."""
        return on_workers(self.todo, self.pace, self.pace.at_once, local=True).most

    @property
    def on_many(self) -> Times:
        """... on ``costs.MANY`` workers."""
        return on_workers(self.todo, self.pace, MANY, local=self.local)

    @property
    def on_gpu(self) -> Times:
        """... on as many, with one GPU."""
        return on_gpu(self.todo, self.pace, local=self.local)


def plan(run: Run) -> Plan:
    """Return what a scan of ``run`` would read and take; reads no pixel, starts no worker.

    Where tiles are to do, the models run on made-up pixels for a moment, to be timed.
    """
    items, pixels = run.found.items, run.config.pixels
    bands = run.models.bands
    costs = Costs(items, bands)
    todo = {tile.tile_id for tile in run.todo()}
    tiles, gaps = [], []
    outlooks, screen = Outlooks(items, pixels).of(run.tiles), pixels.screen == "on"
    for tile, outlook in zip(run.tiles, outlooks, strict=True):
        tiles.append(costs.tile(tile, outlook, done=tile.tile_id not in todo, screen=screen))
        if not outlook.gap.is_empty:
            gaps.append(outlook.gap)
    unseen = _unseen(run.aoi, gaps)
    return Plan(
        aoi=run.aoi.name,
        area_ha=run.aoi.area_km2 * 100,
        run_id=run.run_id,
        tiles=tuple(tiles),
        scenes=len(items),
        left_out=sum(not one.superseded for one in run.found.dropped),
        days=tuple(day.isoformat() for day in solar_days(items)),
        max_scenes=pixels.max_scenes,
        clear_views=pixels.clear_views,
        screen=screen,
        bands=tuple(band for band in bands if any(item.asset_key(band) for item in items)),
        without_cloud=sum(item.cloud_cover is None for item in items),
        without_scl=sum(item.asset_key("SCL") is None for item in items),
        unseen=unseen,
        unseen_ha=0.0 if unseen is None else _hectares(unseen),
        local=not any("://" in str(item.href(bands[0])) for item in items),
        rasters=run.config.run.rasters,
        advice=run.found.advice,
        pace=pace_of(run.models, run.config.run, [tile for tile in tiles if not tile.done]),
    )


def write_plan(plan: Plan, folder: Path) -> Path:
    """Write ``plan.json``, and ``plan_unseen.geojson`` of ground without scenes; return the former.

    Nothing of this machine or moment is in them.
    """
    outline = folder / UNSEEN_FILE
    if plan.unseen is None:
        outline.unlink(missing_ok=True)
    else:
        shape = shapely.set_precision(plan.unseen, PRECISION_DEG)
        feature = {
            "type": "Feature",
            "properties": {
                "name": plan.aoi,
                "reason": "no usable scene",
                "area_ha": round(plan.unseen_ha, 2),
            },
            "geometry": json.loads(shapely.to_geojson(shape)),
        }
        write_json(outline, feature)
    write_json(folder / FILE, _document(plan))
    return folder / FILE


def _document(plan: Plan) -> dict[str, Any]:
    """Return ``plan.json``: everything but the machine's part."""
    return {
        "aoi": plan.aoi,
        "run_id": plan.run_id,
        "area_ha": round(plan.area_ha, 2),
        "no_scene_ha": round(plan.unseen_ha, 2),
        "scenes": plan.scenes,
        "scenes_left_out": plan.left_out,
        "scenes_without_scl": plan.without_scl,
        "scenes_without_cloud_cover": plan.without_cloud,
        "solar_days": list(plan.days),
        "max_scenes": plan.max_scenes,
        "clear_views": plan.clear_views,
        "screen": "on" if plan.screen else "off",
        "bands": list(plan.bands),
        "expected_clear": round(plan.expected_clear, 3),
        "bytes_to_read": plan.bytes_to_read,
        "bytes_at_most": plan.bytes_at_most,
        "bytes_at_least": plan.bytes_at_least,
        "requests": sum(tile.requests for tile in plan.todo),
        "advice": plan.advice,
        "assumed": {
            "bytes_a_pixel": PIXEL_BYTES,
            "bytes_a_pixel_scl": SCL_BYTES,
            "bytes_a_header": HEADER_BYTES,
            "block_px": BLOCK_PX,
            "cloud_where_untold": UNKNOWN_CLOUD,
            "share_with_clear_views": ENOUGH,
            "core_seconds_a_date_scl": SCL_S,
            "core_seconds_a_band": BAND_S,
            "core_seconds_a_table": TABLE_S,
            "worker_bytes": WORKER_BYTES,
        },
        "tiles": [asdict(tile) for tile in plan.tiles],
    }


def _unseen(aoi: Aoi, gaps: list[Any]) -> Any:
    """Return the part of the AOI in the gaps of its tiles, ``None`` if there is none."""
    if not gaps:
        return None
    area = only_area(shapely.intersection(shapely.union_all(gaps), aoi.geometry))
    parts = [part for part in shapely.get_parts(area) if _hectares(part) >= PIXEL_HA]
    return shapely.normalize(shapely.union_all(parts)) if parts else None


def _hectares(geometry: Any) -> float:
    dense = shapely.orient_polygons(shapely.segmentize(geometry, 0.1))
    area, _ = _GEOD.geometry_area_perimeter(dense)
    return abs(float(area)) / 10_000
