"""The manifest: every sample as pending, done or failed (why), in one SQLite file.

A sample's chip is written first and noted as done after, in one transaction; whatever moment the
process dies, a sample that is not noted is fetched again and its files are written over with the
same bytes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from scanner.errors import OutputError, TrainingError

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_FILE: Final = "manifest.sqlite"
PENDING, DONE, FAILED = "pending", "done", "failed"

_TABLE: Final = """CREATE TABLE IF NOT EXISTS samples (
    sample_id TEXT PRIMARY KEY, label INTEGER, source TEXT NOT NULL, lon REAL, lat REAL,
    status TEXT NOT NULL DEFAULT 'pending', reason TEXT, tries INTEGER NOT NULL DEFAULT 0,
    info TEXT)"""


@dataclass(frozen=True)
class Sample:
    """A sample as planned; ``lon`` and ``lat`` are ``None`` for a local image."""

    sample_id: str
    label: int | None
    source: str
    lon: float | None = None
    lat: float | None = None


class Manifest:
    """The manifest of a chip folder, made where there is none; a context manager.

    Raises ``OutputError`` where the file cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / MANIFEST_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=60)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"{self._path}: cannot be opened ({error}); check --out") from error
        try:
            self._ask(_TABLE)
        except OutputError:
            self._db.close()
            raise

    def plan(self, samples: Iterable[Sample], retry_failed: bool = False) -> None:
        """Add samples as pending; those known keep their state.

        One noted as done whose file is gone is pending again, and with ``retry_failed`` so is one
        that failed. Raises ``TrainingError`` where a known sample has another label.
        """
        known = {row["sample_id"]: row for row in self.rows()}
        fresh, again = [], []
        for one in samples:
            row = known.get(one.sample_id)
            if row is None:
                fresh.append((one.sample_id, one.label, one.source, one.lon, one.lat))
            elif row["label"] != one.label:
                raise TrainingError(
                    f"{self.folder}: sample {one.sample_id} is labelled {row['label']} there and "
                    f"{one.label} now; keep one, or collect into another folder"
                )
            elif (retry_failed and row["status"] == FAILED) or self._lost(row):
                again.append((one.sample_id,))
        self._many(
            "INSERT INTO samples (sample_id, label, source, lon, lat) VALUES (?, ?, ?, ?, ?)", fresh
        )
        self._many(f"UPDATE samples SET status = '{PENDING}' WHERE sample_id = ?", again)  # noqa: S608

    def done(self, sample_id: str, info: Mapping[str, Any]) -> None:
        """Note a sample as done; ``info`` is its row of the index."""
        text = json.dumps(dict(info), allow_nan=False)
        self._end(sample_id, DONE, None, text)

    def failed(self, sample_id: str, reason: str) -> None:
        """Note a sample as failed, and why."""
        self._end(sample_id, FAILED, " ".join(reason.split())[:500], None)

    def review(self, sample_id: str, score: float | None, text: str | None) -> None:
        """Note what the classifier said of a sample that is done."""
        row = self._ask("SELECT info FROM samples WHERE sample_id = ?", (sample_id,)).fetchone()
        info = {**json.loads(row[0]), "review": text, "review_score": score}
        self._ask("UPDATE samples SET info = ? WHERE sample_id = ?", (json.dumps(info), sample_id))

    def rows(self) -> list[dict[str, Any]]:
        """Return all samples as dictionaries, ordered by id; ``info`` is parsed."""
        cursor = self._ask("SELECT * FROM samples ORDER BY sample_id")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, values, strict=True)) for values in cursor]
        for row in rows:
            row["info"] = json.loads(row["info"]) if row["info"] else None
        return rows

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _lost(self, row: Mapping[str, Any]) -> bool:
        return row["status"] == DONE and not (self.folder / row["info"]["path"]).is_file()

    def _end(self, sample_id: str, status: str, reason: str | None, info: str | None) -> None:
        self._ask(
            "UPDATE samples SET status = ?, reason = ?, info = ?, tries = tries + 1 "
            "WHERE sample_id = ?",
            (status, reason, info, sample_id),
        )

    def _ask(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            with self._db:
                return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _many(self, statement: str, values: list[tuple[Any, ...]]) -> None:
        try:
            with self._db:
                self._db.executemany(statement, values)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error) -> OutputError:
        return OutputError(
            f"{self._path}: cannot be used ({error}); free space, or take it away and run again"
        )


def read_manifest(folder: Path) -> pd.DataFrame:
    """Return every sample of a chip folder: sample_id, label, source, lon, lat, status, reason,
    tries.

    Raises ``TrainingError`` where the folder has no manifest.
    """
    import pandas as pd

    if not (folder / MANIFEST_FILE).is_file():
        raise TrainingError(f"{folder}: has no {MANIFEST_FILE}; collect chips into it first")
    with Manifest(folder) as manifest:
        rows = manifest.rows()
    columns = ["sample_id", "label", "source", "lon", "lat", "status", "reason", "tries"]
    frame = pd.DataFrame([{name: row[name] for name in columns} for row in rows], columns=columns)
    return frame.astype({"label": "Int8"})
