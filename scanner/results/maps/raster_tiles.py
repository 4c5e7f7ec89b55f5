"""Which tiles of a run have rasters, and the grid that holds them all."""

from __future__ import annotations

import math
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from scanner.area.grid import PIXEL_M, Tile
from scanner.detection.rasters import RASTERS
from scanner.errors import RunError
from scanner.results.finished import FinishedRun
from scanner.results.maps.grids import Grid, transformer
from scanner.results.maps.layers import Layer, Source, zone_layers

METRES_PER_DEGREE: Final = 111_320.0


class RasterTiles:
    """The rasters of a run's tiles. A file's digest is checked when it is first read."""

    def __init__(self, run: FinishedRun) -> None:
        self._run = run
        self._layers: dict[str, tuple[Layer, ...]] = {}
        self.current: dict[tuple[str, int, int], bool] = {}
        """Mosaics that were looked at (name, time, size), and whether they fit the tiles."""

    @cached_property
    def digests(self) -> dict[str, dict[str, str]]:
        """Name of a raster -> tile id -> sha256."""
        found: dict[str, dict[str, str]] = {name: {} for name in RASTERS}
        for tile in self._run.tiles:
            if self._run.parts.report(tile.tile_id) is not None:
                for name, digest in self._run.parts.rasters(tile.tile_id).items():
                    found[name][tile.tile_id] = digest
        return found

    def layers(self, name: str) -> tuple[Layer, ...]:
        """Return a layer for each UTM zone that has a raster."""
        if name not in self._layers:
            have = self.digests[name]
            sources: list[Source] = [
                (tile, cache(partial(_checked, self._run, tile.tile_id, name)))
                for tile in self._run.tiles
                if tile.tile_id in have
            ]
            self._layers[name] = zone_layers(sources, 4 if name == "quicklook" else 1)
        return self._layers[name]

    def grid(self, name: str) -> Grid | None:
        """Return the grid around a raster of all tiles, ``None`` where no tile has it.

        That of the UTM zone, or degrees over several: 10 m each way in the middle.
        """
        layers = self.layers(name)
        if len(layers) < 2:
            return layers[0].grid if layers else None
        have = self.digests[name]
        boxes = np.array([t.footprint.bounds for t in self._run.tiles if t.tile_id in have])
        west, south = np.maximum(boxes[:, :2].min(axis=0), (-180, -90)).tolist()
        east, north = np.minimum(boxes[:, 2:].max(axis=0), (180, 90)).tolist()
        dy = PIXEL_M / METRES_PER_DEGREE
        dx = dy / math.cos(math.radians((south + north) / 2))
        shape = (math.ceil((north - south) / dy), math.ceil((east - west) / dx))
        return Grid("EPSG:4326", west, north, dx, dy, shape)

    def around(self, geometry: BaseGeometry, size_px: int, margin_m: float) -> Grid:
        """Return the square around a geometry in EPSG:4326, on the grid of its zone's tiles."""
        tile = self._tile_at(geometry.centroid)
        code = f"EPSG:{tile.epsg}"
        zones = {layer.grid.crs[-2:]: layer.grid.crs for layer in self.layers("classes")}
        crs = zones.get(code[-2:], code)  # both hemispheres of a zone share a grid
        change = transformer("EPSG:4326", crs)
        inside = shapely.transform(
            geometry, lambda c: np.column_stack(change.transform(c[:, 0], c[:, 1]))
        )
        left, bottom, right, top = (round(value, 2) for value in inside.bounds)  # centimetres
        side = max(right - left, top - bottom, PIXEL_M) + 2 * margin_m
        x, y = (left + right - side) / 2, (bottom + top + side) / 2
        return Grid(crs, x, y, side / size_px, side / size_px, (size_px, size_px))

    @cached_property
    def _footprints(self) -> shapely.STRtree:
        return shapely.STRtree([tile.footprint for tile in self._run.tiles])

    def _tile_at(self, point: shapely.Point) -> Tile:
        """Return the tile a point is drawn in: of two zones, the one whose ground it is on."""
        found = self._footprints.query(point, predicate="intersects").tolist()
        nearest = int(self._footprints.nearest(point))
        near = [self._run.tiles[int(index)] for index in found or [nearest]]
        return min(near, key=lambda tile: abs(tile.zone.meridian - point.x))


def raster_tiles(run: FinishedRun) -> RasterTiles:
    """Return the rasters of a run's tiles, looked up once and forgotten with the run."""
    found = vars(run).get("_raster_tiles")
    if not isinstance(found, RasterTiles):
        found = vars(run)["_raster_tiles"] = RasterTiles(run)
    return found


def _checked(run: FinishedRun, tile_id: str, name: str) -> Path:
    path = run.raster(tile_id, name)
    if path is None:
        raise RunError(f"{run.path}/parts/{tile_id}: is gone; run the scan again")
    return path
