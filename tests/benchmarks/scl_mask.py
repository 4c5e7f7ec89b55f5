"""What the SCL's clear mask drops of the demo's planted mines: python -m tests.benchmarks.scl_mask

Real SCL often calls bright bare soil cloud, and turbid ponds vegetation or unclassified; the demo's
SCL makes the same mistakes on purpose. For several choices of ``clear_scl``: the share of the
mines' pixels that is clear on a date, on at least one, and never; and the share of true cloud that
the choice lets in.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio.features
from affine import Affine

import scanner
from scanner.area.grid import from_geographic
from scanner.imagery.bands import CLEAR_SCL, Scl
from scanner.imagery.composite import clear_mask
from scanner.imagery.demo import PLANTED, make_scenes

CHOICES = {
    "default (2, 4, 5, 6, 7)": CLEAR_SCL,
    "without unclassified": tuple(c for c in CLEAR_SCL if c != Scl.UNCLASSIFIED),
    "and medium cloud": (*CLEAR_SCL, Scl.CLOUD_MEDIUM),
    "vegetation, soil, water": (Scl.VEGETATION, Scl.BARE_SOIL, Scl.WATER),
}


def measure(scenes: Path) -> pd.DataFrame:
    """Return one row a choice of clear classes."""
    aoi = scanner.read_aoi(scenes.parent / "aoi.geojson")
    cube = scanner.open_cube(aoi, bands=("SCL",), catalog=str(scenes))
    days = np.unique(cube.solar_day.values, return_inverse=True)[1]
    classes = cube.values[:, 0]
    by_day = np.stack([classes[days == day].max(axis=0) for day in range(days.max() + 1)])
    mine = _mine_mask(cube)
    cloudy = np.isin(by_day, (Scl.CLOUD_MEDIUM, Scl.CLOUD_HIGH)) & ~mine
    rows = []
    for name, choice in CHOICES.items():
        clear = clear_mask(by_day, choice)
        ever = clear.any(axis=0)[mine]
        rows.append(
            {
                "clear classes": name,
                "mine pixels clear on a date, %": 100 * clear[:, mine].mean(),
                "... on at least one, %": 100 * ever.mean(),
                "... never, %": 100 * (1 - ever.mean()),
                "cloud elsewhere let in, %": 100 * clear[cloudy].mean(),
            }
        )
    return pd.DataFrame(rows).round(1)


def _mine_mask(cube: object) -> np.ndarray:
    """Rasterise the planted outlines on the cube's grid."""
    epsg = int(cube.attrs["crs"].split(":")[1])  # type: ignore[attr-defined]
    shapes = []
    for mine in PLANTED:
        ring = np.asarray(mine.polygon.exterior.coords)
        x, y = from_geographic(epsg, ring[:, 0], ring[:, 1])
        shapes.append({"type": "Polygon", "coordinates": [list(zip(x, y, strict=True))]})
    transform = Affine(*cube.attrs["transform"])  # type: ignore[attr-defined]
    shape = cube.shape[2:]  # type: ignore[attr-defined]
    return rasterio.features.geometry_mask(shapes, shape, transform, invert=True)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, help="folder of the demo's scenes (made if absent)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        table = measure(make_scenes(asked.scenes or Path(scratch) / "scenes"))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
