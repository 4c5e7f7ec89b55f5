"""All that is made of a finished run's tables, in order; each step stands in a module of its own.

No pixel of a scene is read here, so another threshold, overlay, format or language takes seconds.
"""

from __future__ import annotations

from typing import Final

from scanner.config import ReportConfig
from scanner.files import remove
from scanner.results.finished import FinishedRun, open_run

FORMATS: Final = ("gpkg", "kml", "gpx", "csv")
"""What ``--also`` may ask for: ``detections.<format>``."""
MADE: Final = (
    *(f"detections.{name}" for name in FORMATS),
    "overlays.parquet",
    "classes.tif",
    "suspicious.tif",
    "quicklook.tif",
    "mosaics.json",
    "pictures",
    "qgis",
    "changes",
    "report.html",
    "stac",
)
"""Names :func:`publish` writes into a run folder."""


def check_wanted(wanted: ReportConfig) -> None:
    """Refuse an overlay or a baseline that cannot be used, before a scan spends hours.

    Raises ``ConfigError`` or ``RunError``, naming the file or folder.
    """
    if wanted.overlay:
        from scanner.results.formats.overlays import read_overlays

        for path in wanted.overlay:
            read_overlays(path)
    if wanted.baseline is not None:
        open_run(wanted.baseline)


def publish(run: FinishedRun, wanted: ReportConfig) -> None:
    """Write maps, formats, changes and the report of a run into its folder.

    What an earlier call made and is not wanted any more is taken away, so nothing stale stays.

    Raises ``ConfigError`` or ``RunError`` for an overlay or baseline that is refused, before
    anything is written; ``OutputError`` where the disk refuses.
    """
    from scanner.results.changes.compare import check_comparable, write_changes
    from scanner.results.formats.exports import write_formats
    from scanner.results.formats.overlays import read_overlays, write_overlays
    from scanner.results.maps.pictures import write_pictures
    from scanner.results.maps.rasters import assemble
    from scanner.results.qgis.folder import write_qgis
    from scanner.results.report import write_report
    from scanner.results.side_by_side import side_by_side
    from scanner.results.stac.collection import write_stac

    overlays = [read_overlays(path) for path in wanted.overlay]
    baseline = None if wanted.baseline is None else open_run(wanted.baseline)
    if baseline is not None:
        check_comparable(baseline, run)
    _clear(run, wanted)
    if overlays:
        write_overlays(run, overlays)
    assemble(run)
    with side_by_side(1) as beside:
        drawn = beside.submit(write_pictures, run)
        if baseline is not None:
            write_changes(baseline, run, run.path / "changes")
        write_formats(run, wanted.also)
        write_qgis(run)
        write_report(run, wanted.lang)
    drawn.result()
    write_stac(run)


def _clear(run: FinishedRun, wanted: ReportConfig) -> None:
    """Take away what is not wanted any more, and changes, whose ledger may be of other settings."""
    stale = {"changes", *(f"detections.{name}" for name in FORMATS if name not in wanted.also)}
    stale |= set() if wanted.overlay else {"overlays.parquet"}
    for name in stale:
        remove(run.path / name)
