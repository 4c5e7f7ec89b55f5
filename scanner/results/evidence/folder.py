"""The folder of evidence: files made aside, their checksums, then put in place as a whole."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from scanner.errors import ConfigError, OutputError
from scanner.files import whole_folder, write_json, write_text
from scanner.imagery.hrefs import is_remote, strip_secrets
from scanner.imagery.item import Item
from scanner.results.csv_files import write_csv
from scanner.results.digests import file_digests
from scanner.results.evidence import repeat
from scanner.results.evidence.case import USES, Case, gather
from scanner.results.evidence.facts import middle
from scanner.results.evidence.ground import zone_of
from scanner.results.evidence.page import page
from scanner.results.evidence.pictures import (
    draw_chip,
    draw_locator,
    draw_series,
    true_colour,
    write_reflectance,
)
from scanner.results.evidence.words import Words
from scanner.results.finished import FinishedRun
from scanner.results.reread import local_root

PAGE: Final = "evidence.html"
CHECKSUMS: Final = "checksums.sha256"
NEAREST: Final = 5
"""Ids told where one is not known."""
FROZEN: Final = ("aoi.geojson", "config.toml", "run.json")
"""What is copied of a run as it is: run.json holds the digests of the others."""
SERIES: Final = (
    "date", "clear_share", "pixels", "ndvi", "bsi", "brightness", "ndvi_around", "bsi_around",
    "brightness_around", "run_id", "scenes",
)  # fmt: skip
"""Columns of series.csv."""


def write_evidence(
    run: FinishedRun,
    detection_id: str,
    out: Path | None,
    *,
    before: FinishedRun | None = None,
    lang: str = "en",
) -> Path:
    """Write what another person needs to check and repeat one site of a run; returns the folder.

    The site's pixels are read again, from the scenes the run looked at. A scene that cannot be read
    is named on the page; without any, the page is made of what the run kept.

    Args:
        run: the run that found the site.
        detection_id: of the site.
        out: folder to write, ``RUN/evidence/ID`` unless given; evidence that lies there already is
            replaced, other files are not.
        before: an earlier run, whose earliest clear view becomes the picture before.
        lang: ``en``, ``pt`` or ``es``.

    Raises:
        ConfigError: There is no such site; the nearest ids are told. Or ``out`` is in use.
        RunError: A file of the run was changed.
        OutputError: The disk refuses.
    """
    words = Words.of(lang)
    site = _site(run, detection_id)
    folder = run.path / "evidence" / str(site.detection_id) if out is None else out
    _check_free(folder)
    case = gather(run, site, before)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder.parent}: cannot be made ({error.strerror}); choose another --out"
        ) from error
    with whole_folder(folder) as scratch:
        _write(scratch, case, words)
    return folder


def _site(run: FinishedRun, detection_id: str) -> Any:
    """Return the site's row; ``ConfigError`` with the nearest ids where there is none."""
    ids = [str(one) for one in run.sites.detection_id]
    if detection_id in ids:
        zone_of(run, detection_id)  # it becomes part of a path
        return next(run.sites.iloc[[ids.index(detection_id)]].itertuples(index=False))
    if not ids:
        raise ConfigError(f"{run.path}: found no site, so there is no evidence to gather")
    near = difflib.get_close_matches(detection_id, ids, NEAREST, 0.8) or ids[:NEAREST]
    raise ConfigError(
        f"{run.path}: has no site {detection_id[:80]!r}; it has {', '.join(near)}"
        + (f" and {len(ids) - len(near)} more" if len(ids) > len(near) else "")
        + "; give one of detections.parquet"
    )


def _check_free(folder: Path) -> None:
    """Refuse a folder that holds other things than evidence."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{folder}: is no folder; choose another --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CHECKSUMS).is_file():
        raise ConfigError(f"{folder}: holds other files; choose a new folder for --out")


def _write(folder: Path, case: Case, words: Words) -> None:
    _copy_run(folder, case.run)
    if case.earlier is not None:
        _copy_run(folder / repeat.EARLIER, case.earlier)
    for model in case.models:
        if model.card_file is not None:
            shutil.copyfile(model.card_file, folder / model.copy_name)
    write_json(folder / "site.geojson", case.feature())
    write_json(folder / "items.json", _items(case))
    _write_scenes(folder / "scenes.csv", case)
    _draw(folder, case, words)
    shown = [*folder.glob("*.png"), *folder.glob("*.svg")]
    text = page(case, words, {path.name: path.read_bytes() for path in shown}, _digests(folder))
    write_text(folder / PAGE, text)
    sums = [f"{digest}  {name}\n" for name, digest in _digests(folder).items()]
    write_text(folder / CHECKSUMS, "".join(sums))


def _copy_run(folder: Path, run: FinishedRun) -> None:
    folder.mkdir(exist_ok=True)
    for name in FROZEN:
        shutil.copyfile(run.path / name, folder / name)
    write_text(folder / repeat.SETTINGS, repeat.settings(run).to_toml())


def _draw(folder: Path, case: Case, words: Words) -> None:
    """Draw chips and series, and write reflectance to measure in."""
    mark = words("synthetic_short") if case.synthetic else ""
    for name, view in (("before", case.before), ("after", case.after)):
        if view is not None:
            write_reflectance(folder / f"{name}.tif", view, case.ground, case.synthetic)
            labels = view.day.isoformat(), case.detection_id
            draw_chip(folder / f"{name}.png", true_colour(view), case.ground, labels, mark)
    days = case.composite_days()
    labels = " ... ".join(dict.fromkeys([days[0], days[-1]])) if days else "", case.detection_id
    for name, raster in (("composite", "quicklook"), ("classes", "classes")):
        picture = case.map(raster)
        if picture is not None:
            draw_chip(folder / f"{name}.png", picture, case.ground, labels, mark)
    lon, lat, _ = middle(case.site.geometry)
    draw_locator(folder / "locator.svg", case.run.aoi.geometry, lon, lat)
    rows = case.series
    _write_series(folder / "series.csv", rows)
    if rows:
        keys = ("site", "around", "earlier", "ndvi", "bsi", "brightness")
        named = {key: words(f"series.{key}") for key in keys}
        draw_series(folder / "series.svg", folder / "series.png", rows, named)


def _write_series(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = [
        [" ".join(row[name]) if name == "scenes" else row[name] for name in SERIES] for row in rows
    ]
    write_csv(path, SERIES, lines)


def _write_scenes(path: Path, case: Case) -> None:
    """Write every scene that was used or left out, and why."""
    used: list[list[Any]] = [
        [
            item.id,
            item.solar_day,
            item.datetime.isoformat(),
            item.baseline,
            *("yes" if use in uses else "" for use in USES),
            "",
        ]
        for item, uses in case.used
    ]
    left_out = [[name, "", "", "", *("" for _ in USES), why] for name, why in case.left_out.items()]
    write_csv(path, ("scene", "day", "sensed", "baseline", *USES, "left_out"), used + left_out)


def _items(case: Case) -> dict[str, Any]:
    """Return the scenes used as an ItemCollection: addresses unsigned, files by relative paths."""
    root = local_root(item for item, _ in case.used)

    def plain(href: str) -> str:
        if is_remote(href) or root is None:
            return strip_secrets(href)
        return f"./{Path(href).relative_to(root).as_posix()}"

    features = [_bare(item.with_hrefs(plain)) for item, _ in case.used]
    return {"type": "FeatureCollection", "features": features}


def _bare(item: Item) -> dict[str, Any]:
    """Return an item without links: they lead back to its catalog, some with signatures."""
    return {**item.raw, "links": []}


def _digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of all files, by path, in order; not of the list of them itself."""
    return {path: sha for path, sha in file_digests(folder).items() if path != CHECKSUMS}
