"""The run folder: what a run froze at its first call, so that a later call resumes the same run."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from scanner.area.aoi import Aoi, read_aoi
from scanner.config import RunConfig, ScanConfig, digest
from scanner.errors import AoiError, ConfigError, OutputError
from scanner.files import write_json, write_text
from scanner.imagery.catalog import ItemSet, read_items, write_items
from scanner.results.publish import MADE

ALGORITHM: Final = 1
"""Raised when the same question may give other numbers; part of ``run_id``."""

OURS: Final = (
    "aoi.geojson",
    "config.toml",
    "items.json",
    "run.json",
    "detections.parquet",
    "cells.parquet",
    "coverage.parquet",
    "parts",
    "plan.json",
    "plan_unseen.geojson",
    *MADE,
)
"""Names a run writes; ``--fresh`` takes away these and nothing else."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """Frozen settings, dates resolved."""
        return self.path / "config.toml"

    @property
    def items(self) -> Path:
        """Frozen items, hrefs unsigned."""
        return self.path / "items.json"

    @property
    def parts(self) -> Path:
        """Tile results."""
        return self.path / "parts"

    @property
    def aoi(self) -> Path:
        """Frozen copy of the area."""
        return self.path / "aoi.geojson"

    def clear(self) -> None:
        """Take away what an earlier run left; strangers' files stay."""
        for name in OURS:
            target = self.path / name
            try:
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                else:
                    target.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"{target}: cannot be removed ({error.strerror})") from error

    def frozen(self) -> ScanConfig | None:
        """Return the settings of the run that lives here, or ``None`` for a new folder."""
        return ScanConfig.from_toml(self.config) if self.config.is_file() else None

    def check(self, config: ScanConfig, aoi: Aoi) -> None:
        """Refuse settings or an area other than those frozen here (``ConfigError``, exit 2)."""
        frozen = self.frozen()
        if frozen is None:
            return
        search = config.search
        if search.date is None:
            search = replace(search, date=frozen.search.date)
        for group, now, then in (
            ("search", asdict(search), asdict(frozen.search)),
            ("pixels", asdict(config.pixels), asdict(frozen.pixels)),
        ):
            for name in now:
                if now[name] != then[name]:
                    raise ConfigError(
                        f"{self.path}: holds a run with {group}.{name} = {then[name]!r}, asked was "
                        f"{now[name]!r}; use --fresh to start over, or another --out"
                    )
        try:
            same = read_aoi(self.aoi).digest == aoi.digest
        except AoiError as error:
            raise OutputError(f"{self.aoi}: is damaged; use --fresh to start over") from error
        if not same:
            raise ConfigError(
                f"{self.path}: holds a run over another area; use --fresh to start over, or "
                "another --out"
            )

    def freeze(self, config: ScanConfig, aoi: Aoi, found: ItemSet) -> ScanConfig:
        """Save area, items and settings, the settings last: a folder without them is a new one."""
        search = replace(config.search, date=_date(found))
        frozen = replace(config, search=search, run=RunConfig())  # how it ran is not what it is
        write_json(self.aoi, aoi.to_geojson())
        write_items(self.items, found)
        write_text(self.config, frozen.to_toml())
        return frozen

    def restore_items(self) -> ItemSet:
        """Return the frozen items."""
        return read_items(self.items)


def run_folder(config: ScanConfig, aoi: Aoi) -> RunFolder:
    """Return the folder of a run: ``--out``, or ``runs/<AOI file stem>``."""
    stem = config.aoi.stem if config.aoi else aoi.slug
    return RunFolder(config.run.out or Path("runs") / stem)


def run_identity(aoi: Aoi, found: ItemSet, config: ScanConfig, models: dict[str, str]) -> str:
    """Return ``run_id``: the digest of area, items, models and pixel settings.

    No clock, host, folder or worker count is in it, so the same question has the same id anywhere.
    """
    pixels: dict[str, Any] = asdict(config.pixels)
    for name in ("segmenter", "classifier"):  # their digests count, not where they lie
        pixels.pop(name)
    items = [
        [item.id, item.datetime.isoformat(), item.baseline, _flags(item.properties)]
        for item in found.items
    ]
    return digest(
        {
            "algorithm": ALGORITHM,
            "aoi": aoi.digest,
            "items": items,
            "models": models,
            "pixels": pixels,
        }
    )


def _date(found: ItemSet) -> str | None:
    return None if found.date == "../.." else found.date


def _flags(properties: dict[str, Any]) -> str:
    """What else decides an item's pixels: when it was made and whether the offset was taken out."""
    names = ("updated", "s2:generation_time", "earthsearch:boa_offset_applied")
    return json.dumps([properties.get(name) for name in names], sort_keys=True)
