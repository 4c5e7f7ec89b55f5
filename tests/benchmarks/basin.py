"""The arithmetic of scale: Xingu as a plan, the Amazon basin in core hours; writes docs/scale.md.

Rates and assumptions come from ``docs/scale.toml``, what growth was measured from
``docs/growth.json`` (``--growth FOLDER`` takes it anew from what ``tests.benchmarks.growth`` wrote,
and what is to be said of it from ``notes.txt`` there). Bytes, requests, days and times are those of
``--plan``: the same functions, given made-up scenes that cover their granules on every pass.

    python -m tests.benchmarks.basin [--growth build/growth] [--out docs/scale.md]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely

from scanner.area.aoi import read_aoi
from scanner.area.grid import TILE_CELLS, Tile, Zone, from_geographic, tiles, to_geographic
from scanner.config import PixelConfig
from scanner.imagery.item import Item
from scanner.run.costs import MANY, Costs, Pace, TilePlan
from scanner.run.outlook import Outlooks
from scanner.run.times import Times, on_gpu, on_workers
from tests.benchmarks.scale_text import write

DOCS: Final = Path(__file__).parents[2] / "docs"
BANDS: Final = ("B02", "B03", "B04", "B08", "B11", "B12")
"""What the shipped models want."""
FULL: Final = TILE_CELLS**2


@dataclass(frozen=True)
class Inputs:
    """What ``scale.toml`` holds."""

    raw: dict[str, Any]

    def __getitem__(self, name: str) -> float:
        return float(self.raw[name]["value"])

    def pace(self, window: str) -> Pace:
        """Return a machine of two such cores."""
        return Pace(2, 2, None, self[window], self["chip_s"])


def scenes(ground: Sequence[Tile], inputs: Inputs) -> list[Item]:
    """Return the scenes of the season: each granule that meets a tile's zone there, each pass."""
    zones = sorted({tile.zone.number for tile in ground})
    area = shapely.union_all([tile.footprint for tile in ground])
    west, south, east, north = area.bounds
    side = 1000 * inputs["granule_km"]
    passes = int(inputs["season_days"] / inputs["revisit_days"])
    kept = round(passes * inputs["passed_max_cloud"])
    # days in order of time, their clouds in none
    days = {
        round(float(place)): 100 * inputs["cloud"] * ((7 * number % kept) / max(kept - 1, 1)) ** 2
        for number, place in enumerate(np.linspace(0, inputs["season_days"] - 1, kept))
    }
    found: list[Item] = []
    for number in zones:
        zone = Zone(number, True)
        x, y = from_geographic(zone.epsg, np.array([west, east]), np.array([south, north]))
        for col in range(int(x.min() // 1e5) - 1, int(x.max() // 1e5) + 2):
            for row in range(int(y.min() // 1e5) - 1, int(y.max() // 1e5) + 2):
                box = shapely.segmentize(
                    shapely.box(col * 1e5, row * 1e5, col * 1e5 + side, row * 1e5 + side), 2e4
                )
                outline = shapely.transform(
                    box, lambda c, z=zone: np.column_stack(to_geographic(z.epsg, *c.T))
                )
                if not 6 * number - 186.5 <= outline.centroid.x <= 6 * number - 179.5:
                    continue
                if shapely.intersects(outline, area):
                    name = f"{number}_{col}_{row}"
                    found += [_scene(name, outline, *one) for one in days.items()]
    return found


def _scene(name: str, outline: shapely.Polygon, day: int, cloud: float) -> Item:
    return Item(
        {
            "id": f"{name}_{day:03d}",
            "geometry": shapely.geometry.mapping(outline),
            "properties": {
                "datetime": f"{dt.date(2024, 6, 1) + dt.timedelta(day)}T13:50:00Z",
                "eo:cloud_cover": round(cloud, 1),
            },
            "assets": {
                band: {"href": f"https://example.org/{band}.tif"} for band in (*BANDS, "SCL")
            },
        }
    )


@dataclass(frozen=True)
class Area:
    """An area as a plan sees it."""

    name: str
    tiles: list[TilePlan]
    scenes: int

    @property
    def pixels(self) -> int:
        """Pixels of 10 m of its cells."""
        return sum(tile.cells for tile in self.tiles) * 48 * 48


def planned(name: str, ground: Sequence[Tile], inputs: Inputs, pixels: PixelConfig) -> Area:
    """Return the plan of an area."""
    items = scenes(ground, inputs)
    costs, outlooks = Costs(items, BANDS), Outlooks(items, pixels)
    told = [
        costs.tile(tile, outlook, done=False, screen=pixels.screen == "on")
        for tile, outlook in zip(ground, outlooks.of(ground), strict=True)
    ]
    return Area(name, told, len(items))


def machines(area: Area, inputs: Inputs) -> list[tuple[str, Times, Times]]:
    """Return (machine, from local pixels, over a network), in seconds."""
    found = []
    for name, window in (("torch", "window_s"), ("fast", "window_fast_s")):
        pace = inputs.pace(window)
        for workers, where in ((2, "2 cores"), (MANY, f"{MANY} workers")):
            both = [on_workers(area.tiles, pace, workers, local=local) for local in (True, False)]
            found.append((f"{where}, {name}", *both))
    pace = inputs.pace("window_fast_s")
    both = [on_gpu(area.tiles, pace, local=local) for local in (True, False)]
    return [*found, (f"one GPU and {MANY} workers", *both)]


@dataclass(frozen=True)
class Basin:
    """The Amazon basin, so many times the mean full tile."""

    tiles: int
    scenes: int
    each: TilePlan
    """The mean full tile."""
    inputs: Inputs

    def bytes(self, share: float) -> float:
        """Read where windows of a share of the tiles need a look."""
        return self.tiles * (self.each.scl_bytes + share * self.each.band_bytes)

    def requests(self) -> float:
        """For all windows."""
        return self.tiles * self.each.requests

    def core_hours(self, share: float, window: str | None) -> float:
        """Of one core; ``window=None`` where a GPU segments."""
        models = 9 * self.inputs[window] if window else 0.0
        models += 0.2 * self.each.cells * self.inputs["chip_s"]
        looked_at = self.each.rest_s - self.each.scl_s + models
        return self.tiles * (self.each.scl_s + share * looked_at) / 3600

    def gpu_hours(self, share: float) -> float:
        """Of one GPU."""
        return self.tiles * share * 9 * 0.64 / self.inputs["gpu_mpx_s"] / 3600


def basin_of(sample: Area, inputs: Inputs) -> Basin:
    """Scale the full tiles of a sample up."""
    full = [tile for tile in sample.tiles if tile.cells == FULL]
    names = ("scenes", "days", "days_read", "days_most", "scl_bytes", "band_bytes")
    names += ("band_bytes_most", "requests", "rest_s", "scl_s")
    each = replace(full[0], **{n: float(np.mean([getattr(t, n) for t in full])) for n in names})
    km2 = inputs["basin_km2"]
    count = round(km2 / (FULL * 0.2304) * inputs["basin_tiles_a_full_tile"])
    passes = round(int(inputs["season_days"] / inputs["revisit_days"]) * inputs["passed_max_cloud"])
    return Basin(count, round(km2 / 10_000 * passes), each, inputs)


def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--growth", type=Path, help="folder of tests.benchmarks.growth")
    options.add_argument("--out", type=Path, default=DOCS / "scale.md")
    args = options.parse_args()
    kept = DOCS / "growth.json"
    if args.growth is not None:
        told = {p.stem: json.loads(p.read_text()) for p in sorted(args.growth.glob("*.json"))}
        for text in args.growth.glob("*.txt"):  # the machine, and notes
            told[text.stem] = text.read_text(encoding="utf-8").strip()
        kept.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    inputs = Inputs(tomllib.loads((DOCS / "scale.toml").read_text(encoding="utf-8")))
    growth = json.loads(kept.read_text(encoding="utf-8"))
    xingu = planned(
        "Xingu", tiles(read_aoi(DOCS.parent / "aois" / "xingu.geojson")), inputs, PixelConfig()
    )
    across = [Tile(Zone(21, True), col, row) for col in range(9, 39) for row in range(20, 25)]
    mean = basin_of(planned("across a zone", across, inputs, PixelConfig()), inputs)
    write(args.out, inputs, xingu, machines(xingu, inputs), mean, growth)
    print(args.out)


if __name__ == "__main__":
    main()
