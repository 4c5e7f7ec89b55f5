"""What can go wrong, one class a cause; each carries the exit code a run ends with.

A message names the object, the fact and the fix, in one line:
``aois/x.geojson: coordinates reach x=310000, not degrees; reproject to EPSG:4326``.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text with ``?`` for what would move a cursor or break a line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def shown(value: object, limit: int = 200) -> str:
    """Return a value from outside as part of one printable line of a message."""
    text = printable(str(value))
    return text if len(text) <= limit else text[: limit - 3] + "..."


class ScannerError(Exception):
    """Root of every error this project raises on purpose."""

    exit_code = 3


class AoiError(ScannerError):
    """The area of interest was refused."""

    exit_code = 2


class ConfigError(ScannerError):
    """A setting, or a combination of settings, was refused."""

    exit_code = 2


class ModelError(ScannerError):
    """A model directory, its card or its weights were refused."""

    exit_code = 2


class TrainingError(ScannerError):
    """Chips, labels or a recipe for training were refused."""

    exit_code = 2


class CatalogError(ScannerError):
    """The catalog could not be searched completely."""


class RunError(ScannerError):
    """A run folder was refused: not ours, unfinished, or changed since it was written."""

    exit_code = 2


class ReadError(ScannerError):
    """Pixels of a scene could not be read; ``href`` is the unsigned address when known."""

    def __init__(self, message: str, href: str | None = None) -> None:
        super().__init__(message, href)
        self.href = href

    def __str__(self) -> str:
        return str(self.args[0])


class OutputError(ScannerError):
    """The run folder could not be written, or holds something that is not ours."""


class ClusterError(ScannerError):
    """The workers, or their scheduler, are gone or cannot do the work."""
