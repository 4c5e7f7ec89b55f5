"""Checkpoints that are whole or not there, and which of them a killed run goes on from.

Lightning writes a checkpoint to the system's temporary folder and moves it; where that folder is
another disk, the move is a copy, and a kill in its midst leaves half a file under the final name.
Here it is written beside its place, synced and renamed.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from scanner.files import atomic_path

LOG = logging.getLogger(__name__)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save to ``path``; an ``OutputError`` names it where the disk refuses."""
        with atomic_path(Path(path)) as scratch:
            torch.save(checkpoint, scratch)


def newest_whole(runs: Path) -> Path | None:
    """Return the checkpoint to go on from: the last one, or the best if that one is damaged."""
    for path in (runs / "last.ckpt", runs / "best.ckpt"):
        if path.exists():
            if _is_whole(path):
                return path
            LOG.warning("%s: damaged (a disk that was full?); it is not gone on from", path)
    return None


def clear_scratch(runs: Path) -> None:
    """Take away what a kill left of a checkpoint half written."""
    for name in ("last.ckpt", "best.ckpt"):
        for scratch in runs.glob(f".*.{name}"):
            scratch.unlink()


def _is_whole(path: Path) -> bool:
    """Tell whether every byte of a checkpoint (a zip file) is as it was written."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False
