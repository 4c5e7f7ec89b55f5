"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scanner.errors import OutputError


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
