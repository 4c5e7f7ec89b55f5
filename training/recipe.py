"""What a training run is asked for: frozen dataclasses, TOML in, every value checked.

The defaults are those of the classic pipeline (``classic.toml`` names them all).
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from scanner.errors import TrainingError

STRICT = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Level = Literal["none", "light", "medium", "strong"]


@dataclass(frozen=True, config=STRICT)
class Schedule:
    """How long and how fast a network is trained; the same for both models."""

    epochs: Count = 300
    """Epochs, at most."""
    batch: Count = 16
    rate: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate; the highest one of ``one-cycle``."""
    optimizer: Literal["adam", "adamw"] = "adam"
    decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay."""
    schedule: Literal["plateau", "one-cycle", "constant"] = "plateau"
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """What the rate is multiplied with when the validation loss stands still."""
    plateau_patience: Count = 3
    """Epochs it may stand still before."""
    stop_after: Count = 10
    """Epochs without a lower validation loss after which training stops."""
    ema: Share = 0.0
    """Decay of the running average of the weights; 0 keeps none."""
    seed: int = 42
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read images; 0 reads them in the training process."""
    devices: Literal["auto"] | Count = "auto"
    """GPUs to use; ``auto`` takes all, and the CPU where there is none."""
    precision: Literal["auto", "bf16-mixed", "16-mixed", "32-true"] = "auto"


@dataclass(frozen=True, config=STRICT)
class ClassifierRecipe(Schedule):
    """A classifier of chips, mine or not."""

    backbone: Literal["narrow", "resnet18", "resnet34", "efficientnet_b0"] = "resnet34"
    pretrained: Literal["auto", "required", "no"] = "auto"
    """ImageNet weights: where reachable, or else stop, or never."""
    init: str | None = None
    """Weights of a self-supervised run, or a folder of unlabelled images to make them from."""
    init_epochs: Count = 20
    """Epochs of the self-supervised run."""
    relative: bool = False
    """Whether the network also sees the bands normalised within the chip."""
    input_size: Annotated[int, Field(ge=16, le=1024)] = 224
    """Pixels a side the network takes; chips are resized to it."""
    dropout: Share = 0.5
    balance: Literal["weight", "sample", "none"] = "weight"
    """Against unlike numbers of the classes: weigh mines in the loss, draw evenly, or nothing."""
    augment: Level = "medium"
    """Changes drawn anew each time an image is seen."""
    air: tuple[float, float] | None = None
    """Strengths of the atmosphere taken out (0 leaves L1C, 1 is about L2A), drawn for each."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Score from which a chip is called a mine."""
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of mines the scores are calibrated for; ``None`` takes that of the validation side."""
    skip_corrupt: bool = False
    """Whether images that cannot be read are left out and listed, or stop the run."""


@dataclass(frozen=True, config=STRICT)
class SegmenterRecipe(Schedule):
    """A SegFormer of seven classes of land cover."""

    start: str = "b0"
    """``b0`` (from scratch), a hub id, or a directory of a SegFormer."""
    crop: Annotated[int, Field(ge=32, le=2048)] = 256
    """Pixels a side of a training window."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the images that judge, where no ``val`` folders are given."""
    augment: Level = "light"
    skip_corrupt: bool = False


Recipe = TypeVar("Recipe", bound=Schedule)


def make_recipe(kind: type[Recipe], path: Path | None, given: dict[str, Any]) -> Recipe:
    """Return a checked recipe: defaults, then a TOML file, then what was given by name.

    Raises ``TrainingError`` naming the file or option, the value and what it must be.
    """
    raw = read_toml(path) if path is not None else {}
    return checked(kind, raw | given, str(path or "options"))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; ``TrainingError`` if it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); give a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"{path}: not TOML ({error}); correct that line") from error


Checked = TypeVar("Checked")


def checked(kind: type[Checked], raw: dict[str, Any], source: str) -> Checked:
    """Build a dataclass of settings; a ``TrainingError`` names ``source`` and the setting."""
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrainingError(
            f"{source}: {where} = {first.get('input')!r}: {first['msg']}; correct it"
        ) from error


def plain(recipe: Schedule) -> dict[str, Any]:
    """Return a recipe as JSON and TOML know it, without what was left to be ``None``."""
    return {name: value for name, value in asdict(recipe).items() if value is not None}
