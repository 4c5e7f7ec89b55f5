"""What may differ between two looks at the same ground: air, processing level, noise, heading."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

PATH: Final = (0.0675, 0.0395, 0.0265)
"""L1C minus L2A over forest, reflectance in B02, B03, B04: what clear air over the Amazon adds."""
SATURATED: Final = 0.2995
"""Training chips are clipped at 0.3; such a pixel stays bright whatever is done to the air."""


def atmosphere(pixels: Tensor, strength: Tensor, gain: Tensor) -> Tensor:
    """Take ``strength`` (n,) of the air out of L1C reflectance (n, 3, y, x).

    0 leaves L1C, 1 is about L2A, less than 0 adds haze. ``gain`` (n, 3) is the contrast won.
    """
    path = torch.tensor(PATH).view(1, 3, 1, 1)
    clear = (pixels - strength.view(-1, 1, 1, 1) * path) * gain.view(-1, 3, 1, 1)
    return torch.where(pixels >= SATURATED, torch.maximum(clear, pixels), clear).clamp_min(0.001)


def random_air(pixels: Tensor, low: float, high: float) -> Tensor:
    """Draw an atmosphere per image between ``low`` and ``high``, with jitter per band."""
    n = len(pixels)
    strength = low + (high - low) * torch.rand(n)
    gain = 1 + (0.2 * strength * torch.rand(n)).view(-1, 1) + 0.06 * torch.randn(n, 3)
    changed = atmosphere(pixels, strength, gain)
    offset = 0.006 * torch.randn(n, 3, 1, 1)
    noise = 0.004 * torch.rand(n, 1, 1, 1) * torch.randn_like(pixels)
    return (changed + offset + noise).clamp(0, 1)


def random_heading(pixels: Tensor) -> Tensor:
    """Turn and mirror each image of (n, c, y, y) by one of the eight symmetries of a square."""
    turns = torch.randint(0, 8, (len(pixels),))
    out = pixels.clone()
    for code in range(8):
        rows = turns == code
        view = pixels[rows].flip(3) if code >= 4 else pixels[rows]
        out[rows] = torch.rot90(view, code % 4, (2, 3))
    return out


def mixed(pixels: Tensor, labels: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Lay each image thinly over another, labels alike (mixup, arXiv:1710.09412)."""
    share = torch.distributions.Beta(alpha, alpha).sample((len(pixels),))
    share = torch.maximum(share, 1 - share)
    other = torch.randperm(len(pixels))
    weight = share.view(-1, 1, 1, 1)
    return (
        weight * pixels + (1 - weight) * pixels[other],
        share * labels + (1 - share) * labels[other],
    )
