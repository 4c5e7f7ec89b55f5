"""What the evidence page tells: labels and lines, in the words of a language."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Final, NamedTuple

import shapely
from shapely.geometry.base import BaseGeometry

from scanner.area.grid import PIXEL_M, from_geographic
from scanner.imagery.hrefs import is_remote, strip_secrets
from scanner.results.evidence.case import Case
from scanner.results.evidence.ground import Ground
from scanner.results.evidence.models import UsedModel, figures
from scanner.results.evidence.words import Words, dms
from scanner.results.finished import FinishedRun
from scanner.results.formats.overlays import overlays_of

MOST_SCENES: Final = 8
"""Rows of the page's table of scenes; all are in scenes.csv."""
MOST_LEFT_OUT: Final = 3
_WEIGHT: Final = {"before": 3, "after": 3, "score": 2, "series": 1}


class Line(NamedTuple):
    """A line of text; ``code`` where it is a digest or the like."""

    text: str
    code: bool = False


Rows = list[tuple[str, list[Line]]]


def where(case: Case, words: Words) -> Rows:
    """Return where the site lies."""
    geometry, zone = case.site.geometry, case.ground.zone
    lon, lat, inside = middle(geometry)
    x, y = (float(v) for v in from_geographic(zone.epsg, lon, lat))
    utm = words("where.utm", zone=zone.code, crs=f"EPSG:{zone.epsg}")
    parts = words.many("where.parts", len(shapely.get_parts(geometry)))
    position = [
        Line(f"{lat:.6f}, {lon:.6f} ({words('where.latlon')})"),
        Line(dms(lat, lon)),
        Line(f"{x:.0f} E, {y:.0f} N, {utm}"),
    ]
    outline = f"{parts}, {words(f'where.outline_{case.site.outline}')} (site.geojson)"
    rows: Rows = [
        (words("where.centre" if inside else "where.point"), position),
        (words("where.outline"), [Line(outline)]),
    ]
    overlays = _overlays(case, words)
    return [*rows, (words("where.overlay"), overlays)] if overlays else rows


def middle(geometry: BaseGeometry) -> tuple[float, float, bool]:
    """Return (lon, lat) of a site's centre and True, or of a point in it where that lies outside.

    A site along a stream may be bent round its centre.
    """
    centre = shapely.centroid(geometry)
    inside = bool(shapely.intersects(geometry, centre))
    point = centre if inside else shapely.point_on_surface(geometry)
    return float(point.x), float(point.y), inside


def _overlays(case: Case, words: Words) -> list[Line]:
    """Return which territories, parks or concessions the site lies in, where the run was told."""
    table = overlays_of(case.run)
    if table is None:
        return []
    table = table[(table.detection_id == case.detection_id) & table.feature.notna()]
    lines = []
    for row in table.to_dict("records"):
        area, share = words.number(row["area_ha"], 2), words.percent(row["share"])
        text = words(
            "where.overlay_share", name=row["feature"], layer=row["overlay"], area=area, share=share
        )
        if isinstance(row["presumed_illegal"], str) and row["presumed_illegal"]:
            text += "; " + words("where.overlay_illegal", reason=row["presumed_illegal"])
        lines.append(Line(text))
    return lines


def what(case: Case, words: Words) -> Rows:
    """Return what was found there."""
    site, run = case.site, case.run
    area, barren, water, inside = (
        words.number(value, 2)
        for value in (site.area_ha, site.barren_ha, site.water_ha, site.area_in_aoi_ha)
    )
    give = words.number(edge_ha(case.ground), 2)
    score, prevalence = words.number(site.score, 2), words.percent(run.prevalence)
    threshold = words.plain(run.threshold)
    used = "what.seen_text" if site.clear_observations else "what.seen_never"
    return [
        (
            words("what.area"),
            [
                Line(words("what.area_text", area=area, give=give)),
                Line(words("what.area_parts", barren=barren, water=water, inside=inside)),
            ],
        ),
        (
            words("what.score"),
            [
                Line(words("what.score_text", score=score, prevalence=prevalence)),
                Line(words.many("what.score_cells", int(site.n_cells), threshold=threshold)),
            ],
        ),
        (
            words("what.seen"),
            [
                Line(words(used, first=site.first_observed, last=site.last_observed)),
                Line(words("what.looked", looked=len(case.days), clear=len(case.series))),
            ],
        ),
    ]


def edge_ha(ground: Ground) -> float:
    """Return the hectares of half a pixel along an outline: what its area is uncertain by."""
    return float(ground.outline.length) * PIXEL_M / 2 / 10_000


def made(case: Case, words: Words) -> Rows:
    """Return how the answer was made: run, scenes, settings, models."""
    run, search, pixels = case.run, case.run.config.search, case.run.config.pixels
    version = str(run.summary.get("versions", {}).get("mining-scan", "?"))
    rows: Rows = [
        (
            words("made.run"),
            [Line(run.run_id, True), Line(words("made.run_text", version=version))],
        )
    ]
    if case.earlier is not None:
        rows.append((words("made.before"), [Line(case.earlier.run_id, True)]))
    scenes = words(
        "made.search_text",
        catalog=catalog_name(run),
        date=search.date or "",
        cloud=words.plain(search.max_cloud),
        n=len(run.items.items),
    )
    settings = words(
        "made.settings_text",
        composite=pixels.composite,
        scenes=pixels.max_scenes,
        scl=" ".join(map(str, pixels.clear_scl)),
    )
    rows += [(words("made.search"), [Line(scenes)]), (words("made.settings"), [Line(settings)])]
    return rows + [(words(f"made.{one.kind}"), _model(one, words)) for one in case.models]


def _model(model: UsedModel, words: Words) -> list[Line]:
    lines = [Line(f"{model.name}; {words('made.digest')}"), Line(model.digest, True)]
    if model.card is None:
        return [*lines, Line(words("made.other_card"))]
    if model.kind != "classifier":
        return lines
    told = figures(model.card, words)
    if told is None:
        return [*lines, Line(words("made.no_metrics"))]
    group, numbers = told
    text = words("made.metrics", group=group, figures=numbers, file=model.copy_name)
    return [*lines, Line(text)]


def catalog_name(run: FinishedRun) -> str:
    """Return a catalog as it may be told: its name, its address, or its file's name."""
    catalog = run.config.search.catalog
    return strip_secrets(catalog) if is_remote(catalog) else PurePath(catalog).name


def scene_rows(case: Case) -> tuple[list[dict[str, Any]], int]:
    """Return the page's table of scenes and how many are left to scenes.csv.

    Kept are first those of the pictures, then those of the score, then those of the series.
    """
    rows = [
        {"id": item.id, "day": item.solar_day.isoformat(), "uses": uses} for item, uses in case.used
    ]
    weight = [max(_WEIGHT[use] for use in row["uses"]) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: -weight[index])
    kept = sorted(order[:MOST_SCENES])
    return [rows[index] for index in kept], len(rows) - len(kept)


def scene_notes(case: Case, words: Words, more: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Return what is said below the table of scenes, and the scenes left out with reasons."""
    notes = [words("scenes.more", n=more)] if more else []
    without = sum(item.asset_key("SCL") is None for item, _ in case.used)
    if without:
        notes.append(words("scenes.without_scl", n=without))
    left_out = list(case.left_out.items())
    if left_out:
        known = {*case.left_out, *(item.id for item, _ in case.used)}
        notes.append(words("scenes.left_out", n=len(left_out), of=len(known)))
    rest = len(left_out) - MOST_LEFT_OUT
    told = left_out[:MOST_LEFT_OUT]
    if rest > 0:
        told.append(("...", words("scenes.left_out_more", n=rest)))
    return notes, told
