"""The run folder: what a run froze at its first call, so that a later call resumes the same run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from scanner.area.aoi import Aoi, read_aoi
from scanner.config import RunConfig, ScanConfig, SearchConfig
from scanner.errors import AoiError, CatalogError, ConfigError, OutputError
from scanner.files import SCRATCH, remove, write_json, write_text
from scanner.imagery.catalog import ItemSet, read_items, write_items
from scanner.imagery.hrefs import allowed_for, api_url, check_href
from scanner.results.publish import MADE
from scanner.run.identity import identify

LOCK: Final = "run.lock"
"""Held while a process works in the folder; it stays, since taking it away would free it twice."""

OURS: Final = (
    "config.toml",  # first: without it a folder holds no run, so half taken away is none
    "aoi.geojson",
    "items.json",
    "identity.json",
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
    def identity(self) -> Path:
        """What the run is the run of."""
        return self.path / "identity.json"

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
            remove(self.path / name)

    def frozen(self) -> ScanConfig | None:
        """Return the settings of the run that lives here, or ``None`` for a new folder."""
        return self.settings() if self.config.is_file() else None

    def settings(self) -> ScanConfig:
        """Return the settings of the run that lives here; ``ConfigError`` where none does."""
        return ScanConfig.from_toml(self.config)

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

    def freeze(self, config: ScanConfig, aoi: Aoi, found: ItemSet, models: dict[str, str]) -> None:
        """Save area, items, identity and settings; a folder without settings is a new one.

        ``models`` are the digests of both, by kind.
        """
        search = replace(config.search, date=_date(found))
        frozen = replace(config, search=search, run=RunConfig())  # how it ran is not what it is
        write_json(self.aoi, aoi.to_geojson())
        write_items(self.items, found)
        identify(aoi, found, frozen, models, self.items).write(self.identity)
        write_text(self.config, frozen.to_toml())

    def restore_items(self, search: SearchConfig) -> ItemSet:
        """Return the frozen items; ``ConfigError`` where one leads where ``search`` may not read.

        The folder may have come from somebody else, so hosts are checked again, as in a search.
        """
        found = read_items(self.items)
        root = self.path / "scenes" if search.catalog == "demo" else Path(search.catalog).parent
        allowed = allowed_for(search, None if api_url(search) else root.resolve())
        for item in found.items:
            for href in {str(asset.get("href")) for asset in item.assets.values()}:
                try:
                    check_href(item.id, href, allowed, there=False)
                except CatalogError as error:
                    raise ConfigError(f"{self.items}: {error}, or use --fresh") from error
        return found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out of the folder; ``ConfigError`` where one is at work in it."""
        lock = FileLock(self.path / LOCK, blocking=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"{self.path}: another mining-scan is at work in this folder; wait for its end, "
                "or give another --out"
            ) from error
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror or error}); give another --out"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def sweep(self) -> None:
        """Take away what killed writers left half written; refuse a ``parts`` that is a link."""
        if self.parts.is_symlink():
            raise OutputError(f"{self.parts}: is a link; take it away, or use --fresh")
        for folder in (self.path, self.parts):
            for left in folder.glob(f"{SCRATCH}*"):
                remove(left)


def run_folder(config: ScanConfig, aoi: Aoi) -> RunFolder:
    """Return the folder of a run: ``--out``, or ``runs/<AOI file stem>``."""
    stem = config.aoi.stem if config.aoi else aoi.slug
    if not stem.strip(".") or not stem.isprintable():  # "...geojson" would be runs/..
        stem = aoi.slug
    return RunFolder(config.run.out or Path("runs") / stem)


def _date(found: ItemSet) -> str | None:
    return None if found.date == "../.." else found.date
