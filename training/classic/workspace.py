"""A recipe at work: its folders, what a step lacks, how chips are cut and fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanner.config import RunConfig
from scanner.errors import TrainingError
from training.classic.recipe import ClassicRecipe
from training.collect.fetch import Access


@dataclass(frozen=True)
class Recipe:
    """A recipe and the file it was read from, which messages name."""

    file: Path
    asked: ClassicRecipe

    def folder(self, step: str) -> Path:
        """Return the folder a step writes."""
        return self.asked.out / ("model" if step == "train" else step)

    def need(self, path: Path, step: str) -> Path:
        """Return ``path``; ``TrainingError`` naming the step that makes it, where it is absent."""
        if not path.exists():
            raise TrainingError(
                f"{path}: not there yet; run first: mining-train all {self.file} --only {step}"
            )
        return path

    @property
    def access(self) -> Access:
        """How chips are fetched."""
        return Access(RunConfig(workers=self.asked.chip.workers), wait=self.asked.chip.pause_s)

    @property
    def chip(self) -> dict[str, Any]:
        """How chips are cut."""
        wanted = self.asked.chip
        return {
            "size_m": 2000 * wanted.half_width_km,
            "pixels": wanted.pixels,
            "brightness": wanted.brightness,
            "max_scenes": wanted.max_scenes,
        }

    @property
    def known_mines(self) -> Path:
        """The coordinates of known mines; ``TrainingError`` where none are given."""
        path = self.asked.mines.coordinates
        if path is None:
            raise TrainingError(f"{self.file}: [mines] coordinates is not set; name a CSV there")
        if not path.is_file():
            raise TrainingError(f"{path}: no such file; correct [mines] coordinates")
        return path
