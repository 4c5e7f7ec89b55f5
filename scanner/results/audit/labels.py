"""labels.csv: what a person said of the cells of a sample, checked row by row."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scanner.errors import ConfigError
from scanner.results.audit.sample import Sample

MINE, NOT, UNSURE = "mine", "not", "unsure"

WORDS: Final = {
    **dict.fromkeys(("mine", "mining", "y", "yes", "s", "sim", "si", "sí", "1"), MINE),
    **dict.fromkeys(("not", "n", "no", "não", "nao", "not_mining", "0"), NOT),
    **dict.fromkeys(("unsure", "?"), UNSURE),
}
"""Words a label may be; the page writes ``mine``, ``not`` and ``unsure``."""

MAX_BYTES: Final = 50_000_000


@dataclass(frozen=True)
class Labels:
    """Labels of a sample's cells."""

    of: dict[str, str]
    """Cell id -> ``mine``, ``not`` or ``unsure``; cells without a label are absent."""
    skipped: frozenset[str]
    """Cells without a label that come before one with a label on the page.

    What was passed over may well be what is hard to tell, so these count as ``unsure``. Cells after
    the last label do no harm: the page shows cells in random order, so those before them are a
    sample too.
    """


def read_labels(path: Path, sample: Sample) -> Labels:
    """Read a CSV with the columns ``cell_id`` and ``label`` (and ``audit``, which is compared).

    Raises ``ConfigError`` naming the row where the file is not one of labels for this sample.
    """
    rows = _rows(path)
    known = set(sample.cells.cell_id)
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, row in rows:
        cell, text, audit = (row.get(name, "").strip() for name in ("cell_id", "label", "audit"))
        if audit and audit != sample.audit:
            raise ConfigError(
                f"{path}: row {line} is of audit {audit[:40]!r}, this is {sample.audit}; give the "
                "labels of this audit, or the --out of that one"
            )
        if cell not in known:
            raise ConfigError(
                f"{path}: row {line}: cell {cell[:40]!r} is not in this sample; give the labels "
                "saved from its page"
            )
        if cell in lines:
            raise ConfigError(
                f"{path}: row {line}: cell {cell} stands in row {lines[cell]} already; keep one"
            )
        lines[cell] = line
        if text and text.lower() not in WORDS:
            raise ConfigError(
                f"{path}: row {line}: label {text[:40]!r} is not known; write mine, not or unsure"
            )
        if text:
            found[cell] = WORDS[text.lower()]
    if not found:
        raise ConfigError(f"{path}: holds no label; label cells on the page and save them")
    labelled = sample.cells.cell_id.isin(found)
    last = sample.cells.order[labelled].max()
    skipped = sample.cells.cell_id[~labelled & (sample.cells.order < last)]
    return Labels(found, frozenset(skipped))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return (line, values by column name) of each row that is not empty."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES // 10**6} MB; give a labels.csv")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; save the labels from the audit's page") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); save it as CSV in UTF-8") from error
    header = text.partition("\n")[0]
    comma = max(",;\t", key=header.count)  # spreadsheets save what their language wants
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if missing := {"cell_id", "label"} - set(names):
            raise ConfigError(
                f"{path}: has no column {min(missing)}; give the labels.csv saved from the page"
            )
        return [
            (reader.line_num, dict(zip(names, row, strict=False)))
            for row in reader
            if any(value.strip() for value in row)
        ]
    except csv.Error as error:
        raise ConfigError(f"{path}: is no CSV table ({error}); save it as CSV") from error
