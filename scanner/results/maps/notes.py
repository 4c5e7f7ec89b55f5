"""What the maps in a run folder were made of, so that the same ones are not made again.

A map is up to date while its note tells what it would be made of now, and the digest of what lies
there: it is made anew when its sources changed, and when somebody else's program changed the map.
"""

from __future__ import annotations

import json
from threading import Lock
from typing import Any, Final

from scanner.files import write_json
from scanner.results.finished import FinishedRun

NOTES: Final = "mosaics.json"
"""Name of a map -> digest of what it was made of, and its own."""

_noting = Lock()
"""Maps are made side by side."""


def is_noted(run: FinishedRun, name: str, source: str, content: str) -> bool:
    """Tell whether a map of this content was made of these sources."""
    return _notes(run).get(name) == {"source": source, "sha256": content}


def note(run: FinishedRun, name: str, source: str, content: str) -> None:
    """Note what a map was made of, and the digest of its content."""
    with _noting:
        notes = _notes(run) | {name: {"source": source, "sha256": content}}
        write_json(run.path / NOTES, dict(sorted(notes.items())))


def _notes(run: FinishedRun) -> dict[str, Any]:
    try:
        notes = json.loads((run.path / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or not ours: all is made anew
        return {}
    return notes if isinstance(notes, dict) else {}
