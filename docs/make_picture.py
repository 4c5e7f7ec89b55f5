"""Draw a run over its own composite: python docs/make_picture.py RUN_FOLDER PICTURE.png

Shows what the models saw (the clear median, true colour) and a box around each site. For areas of
some thousand square kilometres: the whole of it is held in memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas as gpd
import matplotlib as mpl
import numpy as np

import scanner
from scanner.imagery.bands import CLEAR_SCL
from scanner.imagery.catalog import read_items
from scanner.imagery.composite import NO_VIEW, compose, scl_rank
from scanner.imagery.reflectance import resolve_offset, to_reflectance

mpl.use("Agg")
import matplotlib.pyplot as plt

WHITE = 0.25
"""Reflectance shown as white."""


def true_colour(run: Path) -> tuple[np.ndarray, str, tuple[float, float, float, float]]:
    """Return the composite (y, x, 3) in 0..1, its CRS and its extent (west, east, south, north)."""
    config = scanner.ScanConfig.from_toml(run / "config.toml")
    aoi = scanner.read_aoi(run / "aoi.geojson")
    source = {"catalog": config.search.catalog, "date": config.search.date}
    if config.search.catalog == "demo":
        source["catalog"] = str(run / "scenes" / "items.json")
    bands = scanner.open_cube(aoi, **source)
    items = read_items(run / "items.json").items
    offsets = {item.id: resolve_offset(item) for item in items}
    dn = bands.values
    if any(item.asset_key("SCL") is None for item in items):  # clear wherever there is data
        ranks = np.where((dn == 0).any(axis=1), NO_VIEW, 0).astype(np.uint8)
    else:
        classes = scanner.open_cube(aoi, bands=("SCL",), **source)
        ranks = scl_rank(classes.values[:, 0], CLEAR_SCL)
    days = np.unique(bands.solar_day.values, return_inverse=True)[1]
    values = to_reflectance(dn, np.array([offsets[i] for i in bands.id.values]))
    picture, _ = compose(values, ranks, days.tolist())
    west, east = float(bands.x[0]) - 5, float(bands.x[-1]) + 5
    south, north = float(bands.y[-1]) - 5, float(bands.y[0]) + 5
    shown = np.nan_to_num(np.moveaxis(picture, 0, -1) / WHITE).clip(0, 1) ** 0.7
    return shown, bands.attrs["crs"], (west, east, south, north)


def draw(run: Path, out: Path) -> None:
    """Write the picture of one run."""
    image, crs, extent = true_colour(run)
    sites = gpd.read_parquet(run / "detections.parquet").to_crs(crs)
    aoi = gpd.read_file(run / "aoi.geojson").to_crs(crs)
    west, south, east, north = aoi.total_bounds
    figure, axes = plt.subplots(figsize=(9, 9 * (north - south) / (east - west) + 0.6))
    axes.imshow(image, extent=extent, interpolation="bilinear")
    aoi.boundary.plot(ax=axes, color="white", linewidth=1, linestyle="--")
    for site in sites.itertuples():
        x, y = site.geometry.centroid.coords[0]
        half = max(250.0, (site.geometry.bounds[3] - site.geometry.bounds[1]) / 2 + 120)
        box = plt.Rectangle((x - half, y - half), 2 * half, 2 * half, fill=False, color="#ff4d4d")
        axes.add_patch(box)
        axes.annotate(
            f"{site.score:.2f}  {site.area_ha:.1f} ha", (x, y + half), color="white", fontsize=7,
            ha="center", va="bottom",
        )  # fmt: skip
    axes.set(
        xlim=(west - 300, east + 300),
        ylim=(south - 300, north + 300),
        xticks=[],
        yticks=[],
        xlabel="",
        ylabel="",
    )
    demo = scanner.ScanConfig.from_toml(run / "config.toml").search.catalog == "demo"
    axes.set_title(
        ("SYNTHETIC scenes: " if demo else "") + f"{len(sites)} sites, with score and hectares",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"picture in {sys.argv[2]}")
