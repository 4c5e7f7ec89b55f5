"""Real pictures to what the scan says of them: UTM COGs of 10 m, items, area, run, cells and sites.

Serves :mod:`tests.benchmarks.false_sites`. Nothing of the pictures may enter the repository: the
caller throws the COGs away.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.features
import shapely
import shapely.geometry
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject, transform_bounds
from shapely.geometry.base import BaseGeometry

from scanner.area.aoi import Aoi
from scanner.area.coordinates import from_geographic, to_geographic
from scanner.area.grid import cell_polygons, tiles
from scanner.config import ScanConfig
from scanner.files import write_json
from scanner.imagery.bands import QUANTIFICATION, RESOLUTION
from scanner.imagery.item import Item
from scanner.imagery.reflectance import BOA_ADD_OFFSET
from scanner.run.pipeline import prepare
from tests.synth import make_item, write_collection

BANDS: Final = ("B02", "B03", "B04")
SHRUNK_DEG: Final = 2e-5
"""The AOI ends this far (2 m) inside its outer cells, so that none beyond shares area with it."""
DAY: Final = "2021-07-01T15:00:00Z"
"""All pictures of a ground are of one solar day: overlapping ones are then one mosaic."""

Reading = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Raw bands of a file to reflectance (3, y, x), B02 B03 B04."""


@dataclass(frozen=True)
class Picture:
    """A georeferenced picture in EPSG:4326."""

    path: Path
    bounds: tuple[float, float, float, float]
    share_forest: float = float("nan")

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem

    @property
    def box(self) -> shapely.Polygon:
        """Its outline in EPSG:4326."""
        return shapely.box(*self.bounds)

    @property
    def epsg(self) -> int:
        """EPSG code of the UTM zone its middle lies in."""
        west, south, east, north = self.bounds
        zone = int((west + east) / 2 // 6) + 31
        return (32600 if south + north >= 0 else 32700) + zone


def read_pictures(folder: Path) -> list[Picture]:
    """Return the pictures that a folder's ``tiles.csv`` lists, in its order."""
    rows = pd.read_csv(folder / "tiles.csv")
    shares = rows.get("share_forest", pd.Series(np.nan, rows.index))
    return [
        Picture(folder / "img" / row.tile, (row.west, row.south, row.east, row.north), float(share))
        for row, share in zip(rows.itertuples(), shares, strict=True)
    ]


def warped(picture: Picture, reading: Reading) -> tuple[NDArray[np.uint16], float, float]:
    """Return a picture (3, y, x) in UTM at 10 m, cubic, with its west and north, metres.

    DN carry the offset of today's products, 0 is nodata: without it, a top-of-atmosphere picture
    that is bright in blue would be refused as one whose offset was left in.
    """
    with rasterio.open(picture.path) as source:
        data, before, crs = reading(source.read()), source.transform, source.crs
    ends = np.array(transform_bounds(crs, f"EPSG:{picture.epsg}", *picture.bounds)) / RESOLUTION
    (west, south), (east, north) = np.floor(ends[:2]), np.ceil(ends[2:])
    after = Affine(RESOLUTION, 0, west * RESOLUTION, 0, -RESOLUTION, north * RESOLUTION)
    out = np.full((len(data), int(north - south), int(east - west)), np.nan, dtype=np.float32)
    reproject(
        data, out, src_transform=before, src_crs=crs, src_nodata=np.nan,
        dst_transform=after, dst_crs=f"EPSG:{picture.epsg}", dst_nodata=np.nan,
        resampling=Resampling.cubic,
    )  # fmt: skip
    dn = np.clip(np.round(out * QUANTIFICATION), 1, QUANTIFICATION) - BOA_ADD_OFFSET
    return np.where(np.isnan(out), 0, dn).astype(np.uint16), after.c, after.f


def write_catalog(folder: Path, pictures: Iterable[Picture], reading: Reading) -> Path:
    """Write the COGs and the ItemCollection of some pictures; returns the latter's path."""
    items = []
    for picture in pictures:
        dn, west, north = warped(picture, reading)
        bands = dict(zip(BANDS, dn, strict=True))
        item = make_item(
            folder, picture.name, bands, epsg=picture.epsg, west=west, north=north,
            datetime=DAY, baseline="05.10", cloud=0.0,
        )  # fmt: skip
        item.raw["geometry"] = json.loads(shapely.to_geojson(picture.box))
        items.append(item)
    return write_collection(folder / "items.json", items)


def whole_cells(pictures: Sequence[Picture], apart: BaseGeometry | None = None) -> gpd.GeoDataFrame:
    """Return the grid's cells that lie wholly in the pictures and nowhere in ``apart``.

    One row a cell: ``cell_id``, ``picture`` (see :func:`picture_of`), ``geometry`` in EPSG:4326.
    A cell of two overlapping pictures is there once.
    """
    ground = shapely.union_all([picture.box for picture in pictures])
    area = tiles(Aoi("pictures", ground))
    ids = [tile.cell_id(row, col) for tile in area for row, col in tile.cells]
    cells = np.concatenate([cell_polygons(tile) for tile in area])
    shapely.prepare(ground)
    keep = shapely.covers(ground, cells)
    shapely.prepare(apart)
    keep &= ~shapely.intersects(apart, cells)
    frame = gpd.GeoDataFrame(
        {"cell_id": np.array(ids)[keep]}, geometry=cells[keep], crs="EPSG:4326"
    )
    frame["picture"] = [picture_of(cell, pictures) for cell in frame.geometry]
    return frame


def picture_of(geometry: BaseGeometry, pictures: Sequence[Picture]) -> str:
    """Return the name of the picture that shows most of a geometry, the first of equals."""
    shared = [shapely.intersection(geometry, picture.box).area for picture in pictures]
    return pictures[int(np.argmax(shared))].name


def write_area(path: Path, cells: gpd.GeoDataFrame) -> Path:
    """Write the AOI that has these cells and no other one."""
    ground = shapely.union_all(cells.geometry.to_numpy()).buffer(-SHRUNK_DEG, join_style="mitre")
    aoi = Aoi(path.stem, ground)
    got = {tile.cell_id(row, col) for tile in tiles(aoi) for row, col in tile.cells}
    if got != set(cells.cell_id):
        raise RuntimeError(f"{path}: the AOI has other cells than were asked for")
    write_json(path, aoi.to_geojson())
    return path


def mask_outline(path: Path) -> BaseGeometry:
    """Return the ground that a mask file in EPSG:4326 marks with 1."""
    with rasterio.open(path) as source:
        mask = source.read(1) == 1
        shapes = rasterio.features.shapes(mask.astype(np.uint8), mask, transform=source.transform)
        return shapely.union_all([shapely.geometry.shape(shape) for shape, _ in shapes])


def grown(geometry: BaseGeometry, epsg: int, metres: float) -> BaseGeometry:
    """Return a geometry in EPSG:4326 grown by metres of a UTM zone."""
    return _to_degrees(to_metres(geometry, epsg).buffer(metres), epsg)


def to_metres(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    """Take a geometry in EPSG:4326 to metres of a UTM zone."""
    return shapely.transform(
        geometry, lambda c: np.column_stack(from_geographic(epsg, c[:, 0], c[:, 1]))
    )


def _to_degrees(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    return shapely.transform(
        geometry, lambda c: np.column_stack(to_geographic(epsg, c[:, 0], c[:, 1]))
    )


def eight_bit(white: float) -> Reading:
    """Return the reading of R, G, B pictures in which 255 is reflectance ``white``."""
    return lambda raw: (raw[::-1].astype(np.float32) / 255 * white).astype(np.float32)


def level_1c(raw: NDArray[Any]) -> NDArray[np.float32]:
    """Read B02 B03 B04 as DN without offset."""
    return (raw.astype(np.float32) / QUANTIFICATION).astype(np.float32)


@dataclass(frozen=True)
class Scanned:
    """What a scan of one ground printed at one threshold."""

    name: str
    cells: gpd.GeoDataFrame
    """Of cells.parquet, with ``picture``."""
    sites: gpd.GeoDataFrame
    """Of detections.parquet, with ``picture``."""
    items: tuple[Item, ...]

    def of(self, name: str, pictures: Sequence[Picture]) -> Scanned:
        """Return the part of some pictures."""
        names = {picture.name for picture in pictures}
        cells, sites = (one[one.picture.isin(names)] for one in (self.cells, self.sites))
        return Scanned(name, cells, sites, self.items)


def scan(
    folder: Path, catalog: Path, area: Path, args: argparse.Namespace, cut: str | None = None
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, tuple[Item, ...]]:
    """Run the real scan, or finish it again at another threshold; returns cells, sites, items.

    Raises ``RuntimeError`` where a tile failed or an item was dropped: ground would be missing.
    """
    config = ScanConfig().with_values(
        aoi=area, catalog=str(catalog), out=folder, scheduler=args.scheduler, also=(),
        threshold=_score(cut), segmenter=args.segmenter, classifier=args.classifier,
        rasters=False,  # nobody looks at a mosaic of pictures strewn over the basin
    )  # fmt: skip
    run = prepare(config)
    for _ in run.scan():
        pass
    summary = run.finish()
    if summary["tiles"]["failed"] or summary["dropped_items"]:
        raise RuntimeError(f"{folder}: {summary['tiles']['failed']} {summary['dropped_items']}")
    cells, sites = (gpd.read_parquet(folder / f"{n}.parquet") for n in ("cells", "detections"))
    return cells, sites, run.found.items


def _score(cut: str | None) -> float | str | None:
    try:
        return None if cut is None else float(cut)
    except ValueError:
        return cut


class Ground:
    """Pictures on disk as a catalog, and the cells of them that are looked at."""

    def __init__(
        self,
        name: str,
        pictures: Sequence[Picture],
        reading: Reading,
        folder: Path,
        apart: BaseGeometry,
    ) -> None:
        """Write the catalog and the area; no cell that meets ``apart`` (EPSG:4326) is in it."""
        self.name, self.pictures, self._folder = name, pictures, folder
        self._catalog = write_catalog(folder / "catalog", pictures, reading)
        self._cells = whole_cells(pictures, apart)
        self._area = write_area(folder / "area.geojson", self._cells)

    def scan(self, args: argparse.Namespace, cut: str | None = None) -> Scanned:
        """Scan it; a second call reads no pixel."""
        cells, sites, items = scan(self._folder / "run", self._catalog, self._area, args, cut)
        cells["picture"] = cells.cell_id.map(self._cells.set_index("cell_id").picture)
        sites["picture"] = [picture_of(site, self.pictures) for site in sites.geometry]
        return Scanned(self.name, cells, sites, items)
