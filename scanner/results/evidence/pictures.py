"""Pictures of a site: chips with outline and scale bar, reflectance as GeoTIFF, the series drawn.

Drawn with fixed colours, sizes and stretch, so that two chips can be compared and the same pixels
give the same bytes.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import rasterio
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from scanner.detection.rasters import TRUE_COLOUR, shown
from scanner.results.evidence.ground import Ground
from scanner.results.evidence.pixels import View
from scanner.results.evidence.reader import BANDS

DPI: Final = 144
SIDE_IN: Final = 5.0
STRIP_IN: Final = 0.36
"""Below the picture, with its date: a chip that is cut out of the page still tells it."""
SITE, AROUND = "#d55e00", "#0072b2"
"""Vermilion and blue: told apart by colour-blind readers, and in grey."""
LIMITS: Final = {"ndvi": (-0.2, 1.0), "bsi": (-0.8, 0.6), "brightness": (0.0, 0.4)}
"""Fixed axes: no change is made to look larger than another."""
SOME_DAYS: Final = 15
"""A series shorter than this has its own first and last day on the axis."""

_CASED: Final = [Stroke(linewidth=2.2, foreground="black"), Normal()]
_LETTERS: Final = [Stroke(linewidth=2.5, foreground="black"), Normal()]


def true_colour(view: View) -> NDArray[np.uint8]:
    """Return a view as a picture (4, y, x), the scan's own stretch."""
    return shown(view.reflectance[[BANDS.index(band) for band in TRUE_COLOUR]])


def draw_chip(
    path: Path, picture: NDArray[np.uint8], ground: Ground, labels: tuple[str, str], mark: str = ""
) -> None:
    """Draw a picture (4, y, x) of a ground with outline and scale bar, and save it as PNG.

    Args:
        path: file to write.
        picture: its pixels.
        ground: where they lie.
        labels: written below, left and right.
        mark: written across its top, so that it cannot be taken for what it is not.
    """
    high = SIDE_IN + STRIP_IN
    figure = Figure(figsize=(SIDE_IN, high), dpi=DPI, facecolor="#202020")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, STRIP_IN / high, 1, SIDE_IN / high))
    xmin, ymin, xmax, ymax = ground.bounds
    axes.set_facecolor("#606060")
    axes.imshow(
        np.moveaxis(picture, 0, -1), extent=(xmin, xmax, ymin, ymax), interpolation="nearest"
    )
    for ring in _rings(ground.outline):
        axes.plot(*ring, color="white", linewidth=0.9, path_effects=_CASED)
    axes.set(xlim=(xmin, xmax), ylim=(ymin, ymax))
    axes.set_axis_off()
    _scale_bar(axes, ground)
    axes.text(
        0.5, 0.985, mark, transform=axes.transAxes, color="white", fontsize=12, weight="bold",
        ha="center", va="top", path_effects=_LETTERS, parse_math=False,
    )  # fmt: skip
    for x, text, align in ((0.02, labels[0], "left"), (0.98, labels[1], "right")):
        figure.text(
            x, STRIP_IN / high / 2, text, color="white", ha=align, va="center", fontsize=10.5,
            parse_math=False,
        )  # fmt: skip
    figure.savefig(path, format="png", metadata={"Software": None})


def write_reflectance(path: Path, view: View, ground: Ground, synthetic: bool) -> None:
    """Write a view as a GeoTIFF of reflectance 0..1, float32, NaN where there is none."""
    rows, cols = ground.geobox.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=cols, height=rows, count=len(BANDS), dtype="float32",
        crs=f"EPSG:{ground.zone.epsg}", transform=ground.geobox.affine, nodata=math.nan,
        compress="DEFLATE", predictor=3, interleave="band",
    ) as out:  # fmt: skip
        out.write(view.reflectance)
        for number, band in enumerate(BANDS, start=1):
            out.set_band_description(number, band)
        out.update_tags(
            TIFFTAG_IMAGEDESCRIPTION=f"Sentinel-2 reflectance 0..1, {view.day}",
            SCENES=" ".join(view.item_ids),
            **({"SYNTHETIC": "yes: no satellite image"} if synthetic else {}),
        )


def draw_series(
    svg: Path, png: Path, rows: Sequence[Mapping[str, Any]], words: Mapping[str, str]
) -> list[str]:
    """Draw the series of a site as SVG and PNG; returns the indices that are in it.

    Where the scenes hold no B08 or B11, brightness stands in for what is lacking. ``words``:
    ``site``, ``around``, ``earlier`` and the name of each index.
    """
    drawn = [name for name in ("ndvi", "bsi") if any(row[name] is not None for row in rows)]
    if len(drawn) < 2:
        drawn.append("brightness")
    figure = Figure(figsize=(6.6, 1.5), dpi=2 * DPI)
    FigureCanvasAgg(figure)
    for number, name in enumerate(drawn, start=1):
        axes = figure.add_subplot(1, len(drawn), number)
        _panel(axes, rows, name, words)
    figure.subplots_adjust(left=0.055, right=0.985, top=0.87, bottom=0.28, wspace=0.14)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, fontsize=7, frameon=False, loc="lower center")
    _save_svg(figure, svg)
    figure.savefig(png, format="png", metadata={"Software": None})
    return drawn


def draw_locator(svg: Path, area: Any, lon: float, lat: float) -> None:
    """Draw where a place lies in an area scanned (EPSG:4326), as SVG."""
    west, south, east, north = area.bounds
    wide = max((east - west) * math.cos(math.radians(lat)), north - south)
    figure = Figure(figsize=(1.5, 1.5))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    for ring in _rings(shapely.simplify(area, wide / 400)):
        axes.fill(*ring, facecolor="#e8e8e8", edgecolor="#555555", linewidth=0.7)
    axes.plot([lon], [lat], marker="o", markersize=5, color=SITE, markeredgecolor="black")
    axes.set_aspect(1 / math.cos(math.radians((south + north) / 2)))
    axes.margins(0.06)
    axes.set_axis_off()
    _save_svg(figure, svg)


def _save_svg(figure: Figure, path: Path) -> None:
    """Write the same drawing as the same bytes, letters as lines."""
    with mpl.rc_context({"svg.hashsalt": "mining-scan", "svg.fonttype": "path"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _panel(
    axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, words: Mapping[str, str]
) -> None:
    for key, colour, mark, label in (
        (name, SITE, "o", words["site"]),
        (f"{name}_around", AROUND, "s", words["around"]),
    ):
        dated = [(_day(row["date"]), row[key]) for row in rows if row[key] is not None]
        if dated:
            axes.plot(
                *zip(*dated, strict=True), color=colour, marker=mark, markersize=4, linewidth=1.1,
                linestyle="--" if mark == "s" else "-", label=label,
            )  # fmt: skip
    earlier = [(_day(r["date"]), r[name]) for r in rows if r["earlier"] and r[name] is not None]
    if earlier:
        axes.plot(
            *zip(*earlier, strict=True), color=SITE, marker="o", markersize=7,
            markerfacecolor="none", linestyle="none", label=words["earlier"],
        )  # fmt: skip
    low, high = LIMITS[name]
    values = [row[key] for row in rows for key in (name, f"{name}_around") if row[key] is not None]
    axes.set_ylim(min([low, *values]), max([high, *values]))
    days = [_day(row["date"]) for row in rows]
    spare = max(5.0, 0.06 * (max(days) - min(days)))
    axes.set_xlim(min(days) - spare, max(days) + spare)
    if max(days) - min(days) < SOME_DAYS:
        axes.set_xticks(sorted({min(days), max(days)}))
    else:
        locator = AutoDateLocator(minticks=2, maxticks=4)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))  # type: ignore[no-untyped-call]
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.set_title(words[name], fontsize=8, loc="left", parse_math=False)


def _scale_bar(axes: Axes, ground: Ground) -> None:
    """Draw a bar of a round length, about a quarter of the side, at the lower left."""
    xmin, ymin, _, _ = ground.bounds
    side = ground.side_m
    length = max(m for m in (100, 200, 250, 500, 1000) if m <= side / 4)
    x, y = xmin + 0.035 * side, ymin + 0.035 * side
    axes.add_patch(
        Rectangle((x, y), length, 0.012 * side, facecolor="white", edgecolor="black", linewidth=1)
    )
    axes.text(
        x + length / 2, y + 0.02 * side, f"{length} m", color="white", fontsize=11, ha="center",
        va="bottom", path_effects=_LETTERS,
    )  # fmt: skip


def _rings(geometry: Any) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the rings of polygons, holes too, as (x, y)."""
    polygons = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    rings = [ring for one in polygons for ring in (one.exterior, *one.interiors)]
    return [(points[:, 0], points[:, 1]) for points in map(shapely.get_coordinates, rings)]


def _day(day: dt.date) -> float:
    return float(date2num(day))  # type: ignore[no-untyped-call]
