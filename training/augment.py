"""What may differ between two looks at the same ground: air, processing level, noise, heading."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

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


def random_size(pixels: Tensor, labels: Tensor, share: float) -> Tensor:
    """Shrink a ``share`` of the chips and lay them, soft at the edge, on chips that are no mines.

    The label stays that of the chip shrunk: small mines in wide forest, and small other things.
    """
    out = pixels.clone()
    ground = torch.nonzero(labels == 0).flatten()
    if share == 0 or len(ground) == 0:
        return out
    side = pixels.shape[-1]
    for index in torch.nonzero(torch.rand(len(pixels)) < share).flatten().tolist():
        size = int(torch.randint(side // 3, 2 * side // 3, ()))
        small = functional.interpolate(
            pixels[index : index + 1], (size, size), mode="bilinear", antialias=True
        )
        ramp = torch.minimum(torch.arange(size), torch.arange(size - 1, -1, -1))
        edge = ((ramp + 1) / 5).clamp(max=1)
        y, x = torch.randint(0, side - size + 1, (2,)).tolist()
        below = pixels[ground[int(torch.randint(len(ground), ()))]].clone()
        spot = below[:, y : y + size, x : x + size]
        spot += (small[0] - spot) * torch.minimum(edge[:, None], edge[None])
        out[index] = below
    return out


def random_heading(pixels: Tensor) -> Tensor:
    """Turn and mirror each image of (n, c, y, y) by one of the eight symmetries of a square."""
    turns = torch.randint(0, 8, (len(pixels),))
    out = pixels.clone()
    for code in range(8):
        rows = turns == code
        view = pixels[rows].flip(3) if code >= 4 else pixels[rows]
        out[rows] = torch.rot90(view, code % 4, (2, 3))
    return out
