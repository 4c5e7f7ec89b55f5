"""Digests of all files of a folder."""

from __future__ import annotations

from pathlib import Path

from scanner.results.outputs import sha256


def file_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of all files below a folder by their path from there, in order."""
    paths = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return {path: sha256(folder / path) for path in paths}
