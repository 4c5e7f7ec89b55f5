"""The settings of the classic recipe: one TOML file for six steps, every value checked."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from scanner.config import SearchConfig
from scanner.errors import TrainingError
from training.recipe import STRICT, ClassifierRecipe, Count, Level, checked, read_toml

STEPS: Final = ("mines", "forest", "dataset", "train", "detect", "validate")
Km = Annotated[float, Field(gt=0, le=500)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class Circle:
    """A circle of forest."""

    name: str
    lat: Annotated[float, Field(ge=-84, le=84)]
    lon: Annotated[float, Field(ge=-180, le=180)]
    km: Km


@dataclass(frozen=True, config=STRICT)
class ChipSettings:
    """How a chip is cut; the same in every step."""

    half_width_km: Annotated[float, Field(gt=0, le=10.24)] = 2.5
    pixels: Annotated[int, Field(ge=8, le=4096)] = 512
    brightness: tuple[float, float] = (20, 230)
    """A chip is kept if the mean of its 8-bit picture lies between the two."""
    pause_s: Annotated[float, Field(ge=0)] = 0.5
    """Seconds between requests."""
    max_scenes: Annotated[int, Field(ge=1, le=23)] = 6
    workers: Count | None = None
    """Processes that fetch; ``None`` takes one a core, as memory allows."""


@dataclass(frozen=True, config=STRICT)
class Mines:
    """Step 1."""

    coordinates: Path | None = None
    """CSV of known mines: lat, lon."""
    bounds: tuple[float, float, float, float] = (-75, -35, -35, 5)
    """West, south, east, north; rows outside are skipped and counted."""


@dataclass(frozen=True, config=STRICT)
class Forest:
    """Step 2."""

    samples: Count = 800
    attempts: Count = 10
    """Places tried for a sample, at most."""
    from_mines_km: Annotated[float, Field(ge=0)] = 10
    """Least distance from a known mine."""
    spacing_km: Annotated[float, Field(ge=0)] = 5
    """Least distance between two samples."""
    review: bool = True
    """Whether the shipped classifier looks for mines in them; likely ones are left out, listed."""
    circles: tuple[Circle, ...] = ()


@dataclass(frozen=True, config=STRICT)
class Dataset:
    """Step 3."""

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    copies: Annotated[int, Field(ge=0, le=100)] = 5
    """Augmented copies of each training chip."""
    augment: Level = "medium"
    block_degrees: Annotated[float, Field(gt=0, le=90)] = 1.0
    """Side of the blocks of the map that are kept on one side."""
    skip_corrupt: bool = False


@dataclass(frozen=True, config=STRICT)
class DetectConfig:
    """Step 5."""

    center: tuple[float, float] | None = None
    """(lat, lon)."""
    radius_km: Km = 10
    overview_size: Annotated[int, Field(ge=64, le=8192)] = 2048
    """Pixels a side of the overview, at most."""
    classification_distance_km: Km = 2.5
    """Side of a cell: chips are classified this far from each other."""
    suspicious_share: Share = 0.05
    """A cell with more than this share of suspicious ground is classified."""
    threshold: Share | None = None
    """Score from which a cell is mining; ``None`` takes the classifier's."""
    max_scenes: Annotated[int, Field(ge=1, le=23)] = 6
    segmenter: str | None = None
    """Directory or hub id; ``None`` is the shipped one."""

    @property
    def place(self) -> tuple[float, float]:
        """(lat, lon); ``TrainingError`` where none is given."""
        if self.center is None:
            raise TrainingError("no place to look at; give --center LAT,LON")
        return self.center


@dataclass(frozen=True, config=STRICT)
class Validate:
    """Step 6."""

    run: bool = True
    coordinates: Path | None = None
    """CSV of lat, lon, label; ``None`` takes the validation side of the dataset."""
    sample_size: Count | None = None


@dataclass(frozen=True, config=STRICT)
class ClassicRecipe:
    """Everything the six steps need to know."""

    out: Path = Path("runs/classic")
    seed: int = 42
    search: SearchConfig = field(
        default_factory=lambda: SearchConfig(date="2023-01-01/2025-10-31", max_cloud=20)
    )
    chip: ChipSettings = field(default_factory=ChipSettings)
    mines: Mines = field(default_factory=Mines)
    forest: Forest = field(default_factory=Forest)
    dataset: Dataset = field(default_factory=Dataset)
    train: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    detect: DetectConfig = field(default_factory=DetectConfig)
    validate: Validate = field(default_factory=Validate)


INPUTS: Final = (("search", "catalog"), ("mines", "coordinates"), ("validate", "coordinates"))
"""Settings that may name a file to read."""


def read_recipe(path: Path) -> ClassicRecipe:
    """Read a config file; files it names lie relative to it, ``out`` to where one works.

    Raises ``TrainingError`` naming the file and the setting that is refused.
    """
    return checked(ClassicRecipe, _anchored(read_toml(path), path.resolve().parent), str(path))


def _anchored(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the files of a recipe absolute; a catalog that is no file is left as it is."""
    out = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items()}
    for group, name in INPUTS:
        home = out.get(group)
        given = home.get(name) if isinstance(home, dict) else None
        if isinstance(given, str) and (name != "catalog" or (folder / given).is_file()):
            out[group][name] = str(folder / given)
    return out
