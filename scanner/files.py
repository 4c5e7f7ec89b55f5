"""Writing files and folders whole or not at all, for every stage."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from scanner.errors import OutputError

SCRATCH: Final = ".mining-scan-"
"""How the names of what is being written begin; whatever is left of it was never finished."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, moved there when the block ends without an error.

    Raises ``OutputError`` naming the path where the disk refuses (full, read-only).
    """
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=SCRATCH, suffix=f".{path.name}", dir=path.parent)
        os.close(handle)
        scratch = Path(name)
        scratch.unlink()  # some writers refuse to write over a file
        yield scratch
        with scratch.open("rb+") as stream:
            os.fsync(stream.fileno())
        scratch.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder that takes the place of ``folder`` when the block ends well.

    Raises ``OutputError`` naming the folder where the disk refuses.
    """
    scratch: Path | None = None
    try:
        scratch = Path(
            tempfile.mkdtemp(prefix=SCRATCH, suffix=f".{folder.name}", dir=folder.parent)
        )
        yield scratch
        scratch.chmod(0o755)
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        scratch.rename(folder)
    except OSError as error:
        raise _unwritten(folder, error) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def remove(path: Path) -> None:
    """Take away a file, a folder with all in it, or a link but not what it leads to, if there.

    Raises ``OutputError`` naming the path where the disk refuses.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed ({error.strerror})") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, keys in their order, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _sync(folder: Path) -> None:
    """Make names in a folder last through a power cut, in the order they were given."""
    if os.name != "posix":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritten(path: Path, error: OSError) -> OutputError:
    try:
        free = f", {shutil.disk_usage(path.parent).free / 2**20:,.0f} MiB are free there"
    except OSError:  # not even the folder can be looked at
        free = ""
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}{free}); free space, or choose "
        "another --out"
    )
