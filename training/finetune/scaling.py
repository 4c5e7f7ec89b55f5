"""ImageNet's scaling, said of reflectance: what a picture 0..1 is, is reflectance 0..WHITE."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from scanner.models.card import Scaling
from training.pictures import WHITE

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
"""Of red, green, blue (torchvision's weights)."""
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

SCALING: Final = Scaling(
    mean=tuple(WHITE * value for value in reversed(IMAGENET_MEAN)),
    std=tuple(WHITE * value for value in reversed(IMAGENET_STD)),
    low=0.0,
    high=WHITE,
)
"""Of B02, B03, B04."""


def filled(reflectance: Tensor) -> Tensor:
    """Clip reflectance (3, y, x) to 0..WHITE; nodata becomes the mean, which scales to 0."""
    mean = torch.tensor(SCALING.mean).view(3, 1, 1).expand_as(reflectance)
    clipped = reflectance.clamp(0, WHITE)
    return torch.where(reflectance.isnan(), mean, clipped)


def scaled(pixels: Tensor, scaling: Scaling = SCALING) -> Tensor:
    """Scale reflectance (n, 3, y, x) without nodata as the card does."""
    mean, std, high = (
        torch.tensor(values, device=pixels.device).reshape(1, -1, 1, 1)
        for values in (scaling.mean, scaling.std, scaling.high)
    )
    return (torch.minimum(pixels.clamp_min(scaling.low), high) - mean) / std
