"""CSV for spreadsheets, in which no text runs: names come from users' files and from catalogs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from scanner.files import write_text

_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""Texts that a spreadsheet would run, or would after it dropped their first sign."""


def write_csv(path: Path, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table, whole or not at all, every value :func:`harmless`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([harmless(value) for value in row] for row in rows)
    write_text(path, text.getvalue())


def harmless(value: Any) -> Any:
    """Return a text that a spreadsheet would take for a formula with ``'`` before it.

    Other values come back as they are.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
