"""A run from its settings to its files: prepare, scan tile by tile, merge.

    area -> items -> models -> tiles still to do -> parts -> detections, cells, coverage, run.json

Every finished tile is a part on disk, so a run that breaks goes on where it stopped, and one whose
threshold changes makes its detections again from the parts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from scanner.area.aoi import Aoi, read_area
from scanner.area.grid import CELL_PX, Tile, tiles
from scanner.config import ScanConfig
from scanner.detection.detections import cell_status
from scanner.errors import ModelError
from scanner.imagery.catalog import ItemSet, search_items
from scanner.imagery.signing import signer_for
from scanner.models.backends.choose import check as check_backend
from scanner.models.calibration import rescale
from scanner.models.card import ModelCard
from scanner.models.hub import segmenter_card
from scanner.models.ref import classifier_ref, segmenter_ref
from scanner.models.store import shipped
from scanner.results.coverage import TileReport
from scanner.results.finished import FinishedRun
from scanner.results.outputs import ABSENT, Parts
from scanner.results.publish import check_wanted, publish
from scanner.run.cluster import open_client
from scanner.run.folder import RunFolder, run_folder
from scanner.run.identity import Identity, identify
from scanner.run.merge import merge_parts
from scanner.run.secure import connection_security
from scanner.run.submit import Submitter
from scanner.run.tile import Models

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """One run, prepared: everything checked, nothing read yet."""

    config: ScanConfig
    aoi: Aoi
    tiles: list[Tile]
    found: ItemSet
    models: Models
    folder: RunFolder
    identity: Identity
    failed: dict[str, TileReport] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """Digest of area, items, models and pixel settings."""
        return self.identity.run_id

    @property
    def parts(self) -> Parts:
        """Tile results of this run."""
        return Parts(self.folder.parts, self.run_id)

    @property
    def threshold(self) -> float:
        """Score from which a cell is mining, at :attr:`prevalence`."""
        report = self.config.report
        return self.models.classifier_card.cut(report.threshold, report.prior)

    @property
    def prevalence(self) -> float:
        """Share of mines among the classified cells that scores are relative to."""
        return self.config.report.prior or self.models.classifier_card.prevalence

    def at_prevalence(self, part: pa.Table) -> pa.Table:
        """Return a part with its scores as they are worth at :attr:`prevalence`."""
        prior = self.config.report.prior
        if prior is None:
            return part
        scores = part["score"].to_numpy(zero_copy_only=False).astype(np.float64)
        moved = rescale(scores, self.models.classifier_card.prevalence, prior)
        column = pa.array(moved, pa.float64(), from_pandas=True)  # NaN is null: never classified
        return part.set_column(part.schema.get_field_index("score"), "score", column)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the folder to this process while it scans and finishes, and clear up before.

        Raises ``ConfigError`` where another is at work there, or started another run since.
        """
        with self.folder.alone():
            Identity.read(self.folder.identity).check(self.identity, self.folder.path)
            self.folder.sweep()
            yield

    def todo(self) -> list[Tile]:
        """Return the tiles without a whole part; what is not whole, or not ours, is named."""
        problems = {tile.tile_id: self.parts.problem(tile.tile_id) for tile in self.tiles}
        spoilt = [f"{tile} {why}" for tile, why in problems.items() if why and why != ABSENT]
        if spoilt:
            logger.warning(
                "%s: %d parts are done again: %s", self.folder.parts, len(spoilt), _few(spoilt)
            )
        if strangers := self.parts.strangers(problems):
            logger.warning(
                "%s: not of this run, left alone: %s", self.folder.parts, _few(strangers)
            )
        return [tile for tile in self.tiles if problems[tile.tile_id]]

    def scan(self, todo: list[Tile] | None = None) -> Iterator[TileReport]:
        """Scan what is left to do, save each tile, yield its report; no cluster if all is done."""
        todo = self.todo() if todo is None else todo
        if not todo:
            return
        refs = (self.models.segmenter, self.models.classifier)
        with open_client(self.config.run, refs) as client:
            submitter = Submitter(client, self.found.items, self.models, self.config)
            for done in submitter.run(todo):
                report = done.report
                if done.table is None:
                    self.failed[report.tile_id] = report
                else:
                    report = replace(report, mining=self._mining(done.table))
                    self.parts.write(report.tile_id, done.table, report.to_json(), done.rasters)
                yield report

    def finish(self) -> dict[str, Any]:
        """Merge the parts into tables, make of those what people open; returns run.json's content.

        The tables and run.json are whole before anything else is made, so whatever fails after
        them costs no row.
        """
        summary = merge_parts(self)
        publish(FinishedRun(self.folder.path, summary), self.config.report)
        return summary

    def report(self, tile: Tile) -> TileReport:
        """Return what happened to a tile, in this call or an earlier one."""
        saved = self.parts.report(tile.tile_id)
        if saved is not None:
            return TileReport.from_json(saved)
        missing = TileReport(tile.tile_id, "failed", "not scanned yet; run the same command again")
        return self.failed.get(tile.tile_id, missing)

    def _mining(self, table: Any) -> int:
        score = self.at_prevalence(table)["score"].to_numpy(zero_copy_only=False)
        clear = table["clear_fraction"].to_numpy()
        status = cell_status(
            score, clear, threshold=self.threshold, min_clear=self.config.report.min_clear
        )
        return int((status == "mining").sum())


def prepare(config: ScanConfig) -> Run:
    """Check area, models and folder, find the items (or take the frozen ones); read no pixel.

    Nothing is thrown away or written before the search has answered.

    Raises ``AoiError``, ``ConfigError`` or ``ModelError`` for what the user must change,
    ``CatalogError`` or ``OutputError`` for what the environment refused.
    """
    aoi = read_area(config)
    models = load_models(config)
    models.classifier_card.cut(config.report.threshold)  # a name it has not is told before any work
    check_wanted(config.report)
    signer_for(config.search)  # an address that is refused is told before a search
    if config.run.scheduler:
        connection_security(config.run)
    else:  # elsewhere it counts what the workers have
        check_backend(config.run.backend)
    folder = run_folder(config, aoi)
    ground = tiles(aoi)
    digests = {"segmenter": models.segmenter.sha256, "classifier": models.classifier.sha256}
    if config.run.fresh or folder.frozen() is None:
        found = search_items(aoi, config.search, folder.path, ground)
        with folder.alone():
            if config.run.fresh:
                folder.clear()
            if folder.frozen() is None:  # another process may have begun here meanwhile
                folder.freeze(config, aoi, found, digests)
    folder.check(config, aoi)
    config = replace(config, search=folder.settings().search)
    found = folder.restore_items(config.search)
    identity = identify(aoi, found, config, digests, folder.items)
    Identity.read(folder.identity).check(identity, folder.path)
    return Run(config, aoi, ground, found, models, folder, identity)


def scan(config: ScanConfig) -> Iterator[TileReport]:
    """Run everything: yields a report a tile, and writes the run folder before it ends."""
    run = prepare(config)
    with run.alone():
        yield from run.scan()
        run.finish()


def load_models(config: ScanConfig) -> Models:
    """Check both models and return references to them; ``ModelError`` says what to change."""
    segmenter = segmenter_ref(config.pixels.segmenter)
    classifier = classifier_ref(config.pixels.classifier)
    card = ModelCard.read(config.pixels.classifier or shipped("classifier"))
    if card.chip_size != CELL_PX:
        raise ModelError(
            f"classifier {config.pixels.classifier}: takes chips of {card.chip_size} pixels, a "
            f"scan cuts cells of {CELL_PX}; use it with mining-train detect, or give another"
        )
    return Models(segmenter, classifier, segmenter_card(config.pixels.segmenter)[1], card)


def _few(names: list[str], most: int = 5) -> str:
    """Name the first of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
