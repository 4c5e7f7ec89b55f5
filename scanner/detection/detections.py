"""Cells to statuses, mining cells to sites, over tile and zone seams.

A part holds numbers that no threshold has touched, so statuses and sites can be made again in
seconds with another threshold, without a pixel being read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

from scanner.area.coordinates import from_geographic, to_geographic
from scanner.area.grid import CELL_M, Tile

DETECTION_SCHEMA: Final = pa.schema(
    [
        ("detection_id", pa.string()),
        ("outline", pa.string()),
        ("score", pa.float64()),
        ("n_cells", pa.int32()),
        ("area_ha", pa.float64()),
        ("area_in_aoi_ha", pa.float64()),
        ("barren_ha", pa.float64()),
        ("water_ha", pa.float64()),
        ("first_observed", pa.date32()),
        ("last_observed", pa.date32()),
        ("clear_observations", pa.int32()),
        ("item_ids", pa.list_(pa.string())),
        ("aoi", pa.string()),
        ("tile_ids", pa.list_(pa.string())),
        ("segmenter", pa.string()),
        ("classifier", pa.string()),
        ("run_id", pa.string()),
    ]
)
"""Columns of detections.parquet besides ``geometry``; an empty result has them all."""

CELL_SCHEMA: Final = pa.schema(
    [
        ("cell_id", pa.string()),
        ("status", pa.string()),
        ("screened", pa.bool_()),
        ("suspicious_fraction", pa.float64()),
        ("score", pa.float64()),
        ("clear_fraction", pa.float64()),
        ("clear_observations", pa.int32()),
        ("tile_id", pa.string()),
    ]
)
"""Columns of cells.parquet besides ``geometry``; numbers are null in a failed cell."""


CELL_HA: Final = CELL_M * CELL_M / 10_000
"""Hectares of a cell: 23.04."""

STATUSES: Final = ("failed", "mining", "unseen", "not_mining", "not_suspicious")
"""What a cell can end as, by precedence."""

POND_SHARE: Final = 0.5
"""Water belongs to a site when at least this share of its body lies in the site's mining cells."""

ADJOINING_M: Final = 1.0
"""Cells this close adjoin: by a side, by a corner, or across the seam of two UTM zones."""


@dataclass(frozen=True)
class MiningCells:
    """The mining cells of one tile, and what its sites may be drawn from.

    ``table`` has the rows of the part with status mining; ``days`` are the tile's solar days and
    ``item_ids`` the items read on each.
    """

    tile: Tile
    table: pd.DataFrame
    days: tuple[dt.date, ...]
    item_ids: tuple[tuple[str, ...], ...]


def cell_status(
    score: NDArray[np.float64],
    clear_fraction: NDArray[np.float64],
    *,
    threshold: float,
    min_clear: float,
) -> NDArray[np.object_]:
    """Return the status of each read cell; ``score`` is NaN where a cell was not suspicious."""
    scored = ~np.isnan(score)
    return np.select(
        [scored & (score >= threshold), clear_fraction < min_clear, scored],
        ["mining", "unseen", "not_mining"],
        default="not_suspicious",
    ).astype(object)


def day_dates(bits: int, days: Sequence[dt.date]) -> list[dt.date]:
    """Return the days of a bit set, in order."""
    return [day for index, day in enumerate(days) if bits >> index & 1]


def to_detections(
    cells: Iterable[MiningCells],
    aoi: BaseGeometry,
    footprints: Mapping[str, BaseGeometry],
    common: Mapping[str, Any],
) -> gpd.GeoDataFrame:
    """Join adjoining mining cells to sites and outline each; returns rows of ``DETECTION_SCHEMA``.

    Args:
        cells: mining cells, tile by tile.
        aoi: polygon in EPSG:4326, for ``area_in_aoi_ha``.
        footprints: of the items, EPSG:4326; an item is named where it meets the site.
        common: values all rows share: aoi, segmenter, classifier, run_id.
    """
    tiles = [group for group in cells if len(group.table)]
    rows = [
        {"group": group, "row": row, "cell": _cell_polygon(group.tile, row)}
        for group in tiles
        for row in group.table.itertuples(index=False)
    ]
    sites = [_site(members, aoi, footprints, common) for members in adjoining(rows)]
    sites.sort(key=lambda site: str(site["detection_id"]))
    return gpd.GeoDataFrame(
        pd.DataFrame(sites, columns=DETECTION_SCHEMA.names),
        geometry=[site["geometry"] for site in sites],
        crs="EPSG:4326",
    )


def _cell_polygon(tile: Tile, row: Any) -> shapely.Polygon:
    return shapely.box(*tile.cell_bounds(int(row.row), int(row.col)))


def adjoining(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group cells that adjoin by side or corner; cells of two zones meet in degrees."""
    if not rows:
        return []
    grown = []
    for row in rows:
        square = row["cell"].buffer(ADJOINING_M / 2, join_style="mitre")
        ring = np.asarray(shapely.segmentize(square, CELL_M / 4).exterior.coords)
        grown.append(
            shapely.Polygon(np.column_stack(to_geographic(row["group"].tile.epsg, *ring.T)))
        )
    left, right = shapely.STRtree(grown).query(grown, predicate="intersects")
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(len(rows), len(rows)))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[dict[str, Any]]] = {}
    for label, row in zip(labels.tolist(), rows, strict=True):
        groups.setdefault(label, []).append(row)
    return list(groups.values())


def _site(
    members: list[dict[str, Any]],
    aoi: BaseGeometry,
    footprints: Mapping[str, BaseGeometry],
    common: Mapping[str, Any],
) -> dict[str, Any]:
    """Outline one site and sum it up. Areas are taken in the UTM zone of its first cell."""
    members = sorted(members, key=lambda m: m["row"].cell_id)
    epsg = members[0]["group"].tile.epsg
    barren, water, suspicious = materials(members, epsg)
    drawn = shapely.union_all([barren, water])
    outline = "barren"
    if drawn.is_empty:
        drawn, outline = suspicious, "suspicious"
    if drawn.is_empty:
        squares = [in_zone(m["cell"], m["group"].tile.epsg, epsg) for m in members]
        drawn, outline = shapely.union_all(squares), "cells"
    geometry = _to_degrees(drawn, epsg)
    west, south, east, north = geometry.bounds
    nearby = shapely.intersection(
        aoi, shapely.box(west - 0.01, south - 0.01, east + 0.01, north + 0.01)
    )
    inside = shapely.intersection(drawn, _to_zone(nearby, epsg))
    dates = sorted({day for m in members for day in day_dates(int(m["row"].days), m["group"].days)})
    used = {
        item
        for m in members
        for index, ids in enumerate(m["group"].item_ids)
        if int(m["row"].days) >> index & 1
        for item in ids
        if footprints[item].intersects(geometry)
    }
    return {
        "detection_id": f"site_{members[0]['row'].cell_id}",
        "geometry": geometry,
        "outline": outline,
        "score": max(float(m["row"].score) for m in members),
        "n_cells": len(members),
        "area_ha": round(drawn.area / 10_000, 4),
        "area_in_aoi_ha": round(inside.area / 10_000, 4),
        "barren_ha": round(barren.area / 10_000, 4),
        "water_ha": round(water.area / 10_000, 4),
        "first_observed": dates[0] if dates else None,
        "last_observed": dates[-1] if dates else None,
        "clear_observations": max(int(m["row"].days).bit_count() for m in members),
        "item_ids": sorted(used),
        "tile_ids": sorted({m["group"].tile.tile_id for m in members}),
        **common,
    }


def materials(
    members: list[dict[str, Any]], epsg: int
) -> tuple[BaseGeometry, BaseGeometry, BaseGeometry]:
    """Return the barren ground, the ponds and the suspicious ground of a site, in metres of a zone.

    A body of water is a pond of the site when most of it lies in the site's cells; a river is not.
    """
    inside: dict[tuple[str, int], int] = {}
    for member in members:
        for piece in member["row"].pieces:
            if piece["kind"] == "water":
                key = (member["group"].tile.tile_id, piece["component"])
                inside[key] = inside.get(key, 0) + piece["px"]
    kinds: dict[str, list[BaseGeometry]] = {"barren": [], "water": [], "suspicious": []}
    for member in members:
        tile = member["group"].tile
        for piece in member["row"].pieces:
            if piece["kind"] == "water":
                share = inside[tile.tile_id, piece["component"]] / piece["component_px"]
                if share < POND_SHARE:
                    continue
            shape = in_zone(shapely.from_wkb(piece["geometry"]), tile.epsg, epsg)
            kinds[piece["kind"]].append(shape)
    barren, water, suspicious = (
        shapely.union_all(kinds[k]) for k in ("barren", "water", "suspicious")
    )
    return barren, water, suspicious


def in_zone(geometry: BaseGeometry, epsg: int, to_epsg: int) -> BaseGeometry:
    """Take metres of one UTM zone to those of another."""
    if epsg == to_epsg:
        return geometry
    return _to_zone(_to_degrees(geometry, epsg), to_epsg)


def _to_degrees(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    """Take metres of a UTM zone to EPSG:4326."""
    return _transform(geometry, lambda x, y: to_geographic(epsg, x, y))


def _to_zone(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    """Take degrees to metres of a UTM zone."""
    return _transform(geometry, lambda x, y: from_geographic(epsg, x, y))


def _transform(geometry: BaseGeometry, change: Any) -> BaseGeometry:
    moved = shapely.transform(geometry, lambda c: np.column_stack(change(c[:, 0], c[:, 1])))
    return moved if moved.is_valid else shapely.make_valid(moved)
