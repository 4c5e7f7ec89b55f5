"""What a dataset is asked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from training.dataset.augment import Name
from training.recipe import STRICT


@dataclass(frozen=True, config=STRICT)
class DatasetRecipe:
    """What a dataset is asked for; the defaults of ``mining-train dataset``."""

    hold_out: tuple[str, ...] = ()
    block_degrees: Annotated[float, Field(gt=0, le=90)] | None = None
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: Annotated[int, Field(ge=0)] = 42
    leak_km: Annotated[float, Field(ge=0)] = 1.0
    """Chips of the two sides that are this near show the same ground."""
    on_leak: Literal["refuse", "drop"] = "refuse"
    """``refuse`` stops and names the pairs; ``drop`` leaves them out of training."""
    augment: Name = "none"
    copies: Annotated[int, Field(ge=0, le=100)] = 0
    """Changed copies of each training image; 0 leaves changing to the training run."""
    air: tuple[float, float] | None = None
    """Range of the atmosphere's strength in the copies (``augment.Augment``)."""
    style: dict[str, Any] | None = None
    """Applied to every image, and to be put in the model card (``scanner.models.style``)."""
    skip_corrupt: bool = False
    keep_review: bool = False
    """Take chips that are marked for review as well."""
