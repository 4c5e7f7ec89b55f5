"""The park as a catalog would deliver it: granules of 109.8 km, two dates, a COG a band, items.

COGs as those of Sentinel-2 L2A archives: blocks of 512 px, DEFLATE with predictor 2, uint16 DN
with the offset of baseline 05.10, overviews; B11, B12 and the SCL at 20 m. Where the park is wider
than a granule, neighbours overlap, as real ones do. Made once and kept; a park of other arguments
or version has another folder.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from scanner.area.grid import to_geographic
from scanner.imagery.item import Item
from tests.benchmarks.speed.air import DAYS, Air
from tests.benchmarks.speed.ground import Ground, pictures
from tests.benchmarks.speed.park import PIXEL, ZONE, Area, Layout, Park, Stamp, draw

VERSION: Final = 2
"""Counted up where the same park has other pixels."""
GRANULE_PX: Final = 10_980
OVERLAP_PX: Final = 980
"""Of two neighbouring granules, at least."""
FINE: Final = ("B02", "B03", "B04", "B08")
COARSE: Final = ("B11", "B12")
STRIP: Final = 512
PART: Final = (2, 2)
"""Tiles across and down of the part that slow contenders run on, and the mosaic shows."""
PAIR: Final = (2, 1)
"""Tiles of the pieces that contenders run on over HTTP: any, and forest alone."""


@dataclass(frozen=True)
class Scenes:
    """A park on disk."""

    folder: Path
    park: Park
    areas: dict[str, Area]
    """``park``, ``half``, ``quarter``, ``part``, ``pair``, and ``intact`` where there is
    forest alone on so many tiles."""
    told: dict[str, Any]
    """Shares of what is in it."""

    def items(self, base: str) -> list[Item]:
        """Return the items, hrefs below ``base`` (a folder or an address)."""
        return [
            _item(self.park, name, box, day, base)
            for name, box in granules(self.park).items()
            for day in range(len(DAYS))
        ]


def granules(park: Park) -> dict[str, tuple[slice, slice]]:
    """Return rows and columns of each granule in the park's grid."""
    rows, cols = (_spread(side) for side in park.shape)
    return {f"{r}{c}": (row, col) for r, row in enumerate(rows) for c, col in enumerate(cols)}


def _spread(side: int) -> list[slice]:
    count = max(1, -(-(side - OVERLAP_PX) // (GRANULE_PX - OVERLAP_PX)))
    size = min(side, GRANULE_PX)
    starts = [round((side - size) * n / max(1, count - 1) / 2) * 2 for n in range(count)]
    return [slice(start, start + size) for start in starts]


def make_scenes(below: Path, park: Park) -> Scenes:
    """Make the park in a folder below ``below``, or use the one that is there."""
    folder = below / f"park-{park.cols}x{park.rows}-v{VERSION}"
    if not (folder / "park.json").exists():
        below.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".park-", dir=below))
        try:
            _write(made, park)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    told = json.loads((folder / "park.json").read_text())
    areas = {name: Area(**area) for name, area in told.pop("areas").items()}
    return Scenes(folder, park, areas, told)


def _write(folder: Path, park: Park) -> None:
    layout = draw(park, [one.inside for one in pictures()])
    np.save(folder / "labels.npy", layout.labels)
    jobs = [(name, box, day) for name, box in granules(park).items() for day in range(len(DAYS))]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        made = [pool.submit(_granule, folder, park, layout.stamps, *job) for job in jobs]
        shares = [one.result() for one in made]
    (folder / "labels.npy").unlink()
    areas = _areas(park, layout)
    whole = areas["park"]
    days = [day.moment.date().isoformat() for day in DAYS]
    called = [[share for job, share in zip(jobs, shares, strict=True) if job[2] == number]
              for number in range(len(DAYS))]  # fmt: skip
    told = {
        "areas": {name: asdict(area) for name, area in areas.items()},
        "disturbed": {name: layout.share(area) for name, area in areas.items()},
        "windows": {name: float(layout.windows(area).mean()) for name, area in areas.items()},
        "river": float(((layout.labels > 0) & ~layout.disturbed)[whole.pixels()].mean()),
        "scars": len(layout.stamps),
        "called cloud": {day: float(np.mean(one)) for day, one in zip(days, called, strict=True)},
        "bytes": sum(path.stat().st_size for path in folder.rglob("*.tif")),
    }
    (folder / "park.json").write_text(json.dumps(told, indent=1))


def _areas(park: Park, layout: Layout) -> dict[str, Area]:
    """Choose the pieces of the park that contenders run on."""
    whole = Area(0, 0, park.cols, park.rows)
    windows, share = layout.windows(whole).mean(), layout.share(whole)

    def unlike(area: Area) -> float:
        """How far a piece is from the whole in disturbed ground and in windows with any."""
        return float(
            abs(layout.share(area) / share - 1) + abs(layout.windows(area).mean() / windows - 1)
        )

    areas = {
        "park": whole,
        "half": Area(0, 0, -(-park.cols // 2), park.rows),
        "quarter": Area(0, 0, -(-park.cols // 4), park.rows),
        "part": min(_pieces(park, PART), key=unlike),
        "pair": min(_pieces(park, PAIR), key=unlike),
    }
    bare = [one for one in _pieces(park, PAIR) if not layout.windows(one).any()]
    return areas | ({"intact": bare[0]} if bare else {})


def _pieces(park: Park, size: tuple[int, int]) -> list[Area]:
    wide, high = min(size[0], park.cols), min(size[1], park.rows)
    return [
        Area(col, row, wide, high)
        for row in range(park.rows - high + 1)
        for col in range(park.cols - wide + 1)
    ]


def _granule(
    folder: Path, park: Park, stamps: tuple[Stamp, ...], name: str,
    box: tuple[slice, slice], number: int,
) -> float:  # fmt: skip
    """Write a granule of a date; returns the share of it that its SCL calls cloud or shadow."""
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    ground = Ground(Layout(labels, stamps, labels.astype(bool)[:0]))
    air = Air(park.shape, number)
    rows, cols = box
    height, width = rows.stop - rows.start, cols.stop - cols.start
    fine = np.empty((len(FINE), height, width), np.uint16)
    coarse = np.empty((len(COARSE), height // 2, width // 2), np.uint16)
    scl = np.empty((height // 2, width // 2), np.uint8)
    for top in range(0, height, STRIP):
        strip = slice(top, min(top + STRIP, height))
        there = slice(rows.start + strip.start, rows.start + strip.stop)
        small = slice(strip.start // 2, strip.stop // 2)
        fine[:, strip], coarse[:, small], scl[small] = air.look(
            *ground.strip(there, cols), there, cols
        )
    west, north = park.corner
    corner = (west + PIXEL * cols.start, north - PIXEL * rows.start)
    place = folder / f"{name}-{number}"
    place.mkdir()
    for band, image in zip(FINE, fine, strict=True):
        _write_cog(place / f"{band}.tif", image, corner, PIXEL)
    for band, image in zip(COARSE, coarse, strict=True):
        _write_cog(place / f"{band}.tif", image, corner, 2 * PIXEL)
    _write_cog(place / "SCL.tif", scl, corner, 2 * PIXEL)
    return float(np.isin(scl, (3, 8, 9)).mean())


def _write_cog(path: Path, image: NDArray[Any], corner: tuple[int, int], pixel: int) -> None:
    with rasterio.open(
        path, "w", driver="COG", height=image.shape[0], width=image.shape[1], count=1,
        dtype=image.dtype, crs=f"EPSG:{ZONE.epsg}",
        transform=Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), nodata=0,
        compress="DEFLATE", level=2, predictor="STANDARD", blocksize=512,
        overview_resampling="nearest" if image.dtype == np.uint8 else "average",
    ) as out:  # fmt: skip
        out.write(image, 1)


def _item(park: Park, name: str, box: tuple[slice, slice], number: int, base: str) -> Item:
    (rows, cols), (west, north) = box, park.corner
    west, north = west + PIXEL * cols.start, north - PIXEL * rows.start
    height, width = rows.stop - rows.start, cols.stop - cols.start
    frame = (west, north - PIXEL * height, west + PIXEL * width, north)
    edges = shapely.segmentize(shapely.box(*frame), 10_000)
    ring = shapely.transform(edges, lambda c: np.column_stack(to_geographic(ZONE.epsg, *c.T)))
    assets = {}
    for band in (*FINE, *COARSE, "SCL"):
        scale = 1 if band in FINE else 2
        assets[band] = {
            "href": f"{base}/{name}-{number}/{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "proj:shape": [height // scale, width // scale],
            "proj:transform": [PIXEL * scale, 0, west, 0, -PIXEL * scale, north],
        }
    return Item(
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"park-{name}-{number}",
            "collection": "sentinel-2-l2a",
            "bbox": list(transform_bounds(f"EPSG:{ZONE.epsg}", "EPSG:4326", *frame)),
            "geometry": shapely.geometry.mapping(ring),
            "properties": {
                "datetime": DAYS[number].moment.isoformat(),
                "eo:cloud_cover": 100 * DAYS[number].cloud,
                "s2:processing_baseline": "05.10",
                "proj:code": f"EPSG:{ZONE.epsg}",
            },
            "links": [],
            "assets": assets,
        }
    )
