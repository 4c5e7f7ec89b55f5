"""Sites joined to the user's own territories, parks and concessions.

A site's hectares are shared out within each overlay so that they may be summed, as INPE's DETER
does with municipalities: ground that two features of one overlay claim counts once, for the first
of them in the file's order, and what lies in none is a row of its own, whose feature is null.
Hectares of *two* overlays must not be summed: a park and a concession may be the same ground.

We never infer that mining is illegal. ``presumed_illegal`` repeats what the user's own file states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from shapely.geometry.base import BaseGeometry

from scanner.area.aoi import only_area
from scanner.area.coordinates import from_geographic, to_geographic
from scanner.area.zones import Zone
from scanner.errors import ConfigError, RunError
from scanner.results.finished import FinishedRun
from scanner.results.formats.overlay_files import Overlay, read_overlays
from scanner.results.outputs import write_geoparquet

__all__ = [
    "OVERLAY_SCHEMA",
    "Overlay",
    "join_overlay",
    "overlays_of",
    "read_overlays",
    "write_overlays",
]

FILE: Final = "overlays.parquet"

OVERLAY_SCHEMA: Final = pa.schema(
    [
        ("overlay", pa.string()),
        ("feature", pa.string()),
        ("detection_id", pa.string()),
        ("area_ha", pa.float64()),
        ("share", pa.float64()),
        ("presumed_illegal", pa.string()),
    ]
)
"""Columns of overlays.parquet besides ``geometry`` (the piece of the site that lies there)."""

MIN_M2: Final = 1.0
"""Smaller pieces are the noise of two outlines drawn along one line; they stay with their rest."""

_AROUND_DEG: Final = 0.01
"""What a feature has beyond a site by more than this is cut off before it is projected."""


def write_overlays(run: FinishedRun, overlays: Sequence[Overlay]) -> Path:
    """Write ``overlays.parquet``: a row for each overlay, feature and site that share ground.

    Within one overlay the hectares of a site's rows add up to the site's ``area_ha``.

    Raises:
        ConfigError: Two overlays have one name.
    """
    names = [overlay.name for overlay in overlays]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two overlays are called {twice[0]!r}; rename one of the files")
    rows = [row for overlay in overlays for row in join_overlay(run.sites, overlay)]
    frame = gpd.GeoDataFrame(
        pd.DataFrame(rows, columns=OVERLAY_SCHEMA.names),
        geometry=[row["geometry"] for row in rows],
        crs="EPSG:4326",
    )
    path = run.path / FILE
    write_geoparquet(path, frame, OVERLAY_SCHEMA)
    return path


def overlays_of(
    run: FinishedRun, columns: Sequence[str] = OVERLAY_SCHEMA.names
) -> pd.DataFrame | None:
    """Return columns of a run's ``overlays.parquet``, ``None`` where it was joined to no overlay.

    ``feature`` is null in the rows of what lies in none of an overlay's features. Raises
    ``RunError`` where the file cannot be read.
    """
    path = run.path / FILE
    if not path.is_file():
        return None
    try:
        frame: pd.DataFrame = pq.read_table(path, columns=list(columns)).to_pandas()
        return frame[list(columns)]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RunError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); call mining-scan "
            "again with its --overlay"
        ) from error


def join_overlay(sites: gpd.GeoDataFrame, overlay: Overlay) -> list[dict[str, Any]]:
    """Share the ground of sites out among the features of one overlay; rows with geometry.

    Most sites lie deep inside one feature, or far from all. Their boxes tell, and nothing is cut;
    only sites near an edge are.
    """
    boxes = shapely.envelope(sites.geometry.to_numpy())
    shapely.prepare(overlay.shapes)
    features, met = shapely.STRtree(boxes).query(overlay.shapes, predicate="intersects")
    whole = shapely.contains_properly(overlay.shapes[features], boxes[met])
    touched: dict[int, list[tuple[int, bool]]] = {}
    for feature, site, holds in sorted(
        zip(features.tolist(), met.tolist(), whole.tolist(), strict=True)
    ):
        touched.setdefault(site, []).append((feature, holds))
    rows = []
    for index, site in enumerate(sites.itertuples(index=False)):
        pieces = list(_pieces(site, touched.get(index, []), overlay))
        hectares = _shared_out([area for _, area, _ in pieces], float(site.area_ha))
        for (feature, _, geometry), area_ha in zip(pieces, hectares, strict=True):
            rows.append(
                {
                    "overlay": overlay.name,
                    "feature": None if feature is None else overlay.features[feature],
                    "detection_id": site.detection_id,
                    "area_ha": area_ha,
                    "share": round(area_ha / site.area_ha, 4) if site.area_ha else 0.0,
                    "presumed_illegal": (
                        None if feature is None else overlay.presumed_illegal[feature]
                    ),
                    "geometry": geometry,
                }
            )
    return rows


def _pieces(
    site: Any, features: Sequence[tuple[int, bool]], overlay: Overlay
) -> Iterator[tuple[int | None, float, BaseGeometry]]:
    """Cut a site along features, the first taking all it holds; yields feature, size and piece.

    As for detections, areas are taken in the UTM zone of the site's first cell.
    """
    if not features or features[0][1]:
        yield (features[0][0] if features else None), 1.0, site.geometry
        return
    code = site.detection_id.split("_")[1]
    epsg = Zone(int(code[:-1]), code.endswith("S")).epsg
    rest = only_area(_moved(site.geometry, epsg, back=False))
    whole = rest
    for feature, holds in features:
        if rest.area < MIN_M2:
            return
        if holds:
            piece, rest = rest, shapely.Polygon()
        else:
            ground = _around(overlay.shapes[feature], site.geometry, epsg)
            piece = only_area(shapely.intersection(rest, ground))
            if piece.area < MIN_M2:
                continue
            rest = only_area(shapely.difference(rest, ground))
        yield feature, piece.area, _drawn(piece, whole, site, epsg)
    if rest.area >= MIN_M2:
        yield None, rest.area, _drawn(rest, whole, site, epsg)


def _around(shape: BaseGeometry, outline: BaseGeometry, epsg: int) -> BaseGeometry:
    """Return what of a feature lies near a site, in metres: straight edges stay short there."""
    west, south, east, north = outline.bounds
    near = shapely.box(
        west - _AROUND_DEG, south - _AROUND_DEG, east + _AROUND_DEG, north + _AROUND_DEG
    )
    return only_area(_moved(only_area(shapely.intersection(shape, near)), epsg, back=False))


def _drawn(piece: BaseGeometry, whole: BaseGeometry, site: Any, epsg: int) -> BaseGeometry:
    """Return a piece in EPSG:4326; the site's own outline where it is all of it."""
    return site.geometry if piece is whole else only_area(_moved(piece, epsg, back=True))


def _moved(geometry: BaseGeometry, epsg: int, *, back: bool) -> BaseGeometry:
    """Take degrees to metres of a UTM zone, or back."""
    change = to_geographic if back else from_geographic
    moved = shapely.transform(geometry, lambda c: np.column_stack(change(epsg, c[:, 0], c[:, 1])))
    return moved if moved.is_valid else shapely.make_valid(moved)


def _shared_out(areas: Sequence[float], hectares: float) -> list[float]:
    """Share a site's hectares out by area, to 4 decimals, so that they add up to it exactly."""
    if not areas:
        return []
    ends = np.round(np.cumsum(areas) / np.sum(areas) * hectares, 4)
    ends[-1] = hectares
    return [round(float(share), 4) for share in np.diff(ends, prepend=0.0)]
