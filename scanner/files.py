"""Writing files and folders whole or not at all, for every stage."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanner.errors import OutputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, moved there when the block ends without an error.

    Raises ``OutputError`` naming the path where the disk refuses (full, read-only).
    """
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=f".{path.name}", dir=path.parent)
        os.close(handle)
        scratch = Path(name)
        scratch.unlink()  # some writers refuse to write over a file
        yield scratch
        with scratch.open("rb+") as stream:
            os.fsync(stream.fileno())
        scratch.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "free space, or choose another --out"
        ) from error
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
        scratch = Path(tempfile.mkdtemp(prefix=".", suffix=f".{folder.name}", dir=folder.parent))
        yield scratch
        scratch.chmod(0o755)
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        scratch.rename(folder)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); free space, or choose "
            "another --out"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, keys in their order, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
