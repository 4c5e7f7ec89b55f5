"""What may differ between two looks at the same ground: air, processing level, noise, heading."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

PATH: Final = (0.0675, 0.0395, 0.0265)
"""L1C minus L2A over forest, reflectance in B02, B03, B04: what clear air over the Amazon adds."""
SATURATED: Final = 0.2995
"""Training chips are clipped at 0.3; such a pixel stays bright whatever is done to the air."""


def atmosphere(pixels: Tensor, strength: Tensor, gain: Tensor) -> Tensor:
    """Take ``strength`` (n,) of the air out of L1C reflectance (n, 3, y, x).

    0 leaves L1C, 1 is about L2A, less than 0 adds haze. ``gain`` (n, 3) is the contrast won.
    """
    path = pixels.new_tensor(PATH).view(1, 3, 1, 1)
    clear = (pixels - strength.view(-1, 1, 1, 1) * path) * gain.view(-1, 3, 1, 1)
    return torch.where(pixels >= SATURATED, torch.maximum(clear, pixels), clear).clamp_min(0.001)


def random_air(pixels: Tensor, low: float, high: float) -> Tensor:
    """Draw an atmosphere per image between ``low`` and ``high``, with jitter per band."""
    n, at = len(pixels), pixels.device
    strength = low + (high - low) * torch.rand(n, device=at)
    gain = 1 + (0.2 * strength * torch.rand(n, device=at)).view(-1, 1)
    changed = atmosphere(pixels, strength, gain + 0.06 * torch.randn(n, 3, device=at))
    offset = 0.006 * torch.randn(n, 3, 1, 1, device=at)
    noise = 0.004 * torch.rand(n, 1, 1, 1, device=at) * torch.randn_like(pixels)
    return (changed + offset + noise).clamp(0, 1)


def random_infrared(pixels: Tensor, absent: float) -> Tensor:
    """Jitter near and short-wave infrared (n, 3, y, x); some images lose all of it, or a band.

    ``absent`` is the share of images without any: NaN, as where a catalog has no such bands.
    """
    each, bands = (len(pixels), 1, 1, 1), (len(pixels), 3, 1, 1)
    at = pixels.device
    gain = 1 + 0.06 * torch.randn(bands, device=at)
    offset = 0.006 * torch.randn(bands, device=at)
    noise = 0.004 * torch.rand(each, device=at) * torch.randn_like(pixels)
    lost = (torch.rand(each, device=at) < absent) | (torch.rand(bands, device=at) < 0.1)
    return (pixels * gain + offset + noise).clamp(0, 1).masked_fill(lost, torch.nan)


def random_view(pixels: Tensor, share: float, zoom: float, shift: float) -> Tensor:
    """Turn, move and scale a ``share`` of the images (n, c, y, y); what is beyond is mirrored.

    Scale is drawn within exp(-``zoom``)..exp(``zoom``), place within ``shift`` pixels; half of
    them are turned by any angle. A band that is absent (NaN throughout) stays so.
    """
    at = pixels.device
    chosen = torch.rand(len(pixels), device=at) < share
    image = pixels[chosen]
    n = len(image)
    if not n:
        return pixels
    angle = 2 * torch.pi * torch.rand(n, device=at) * (torch.rand(n, device=at) < 0.5)
    scale = torch.exp(zoom * (2 * torch.rand(n, device=at) - 1))
    along, across = torch.cos(angle) / scale, torch.sin(angle) / scale
    moved = (2 * torch.rand(n, 2, device=at) - 1) * 2 * shift / image.shape[-1]
    lines = (
        torch.stack([along, -across, moved[:, 0]], 1),
        torch.stack([across, along, moved[:, 1]], 1),
    )
    grid = affine_grid(torch.stack(lines, 1), list(image.shape), align_corners=False)
    seen = grid_sample(torch.nan_to_num(image), grid, "bilinear", "reflection", align_corners=False)
    out = pixels.clone()
    out[chosen] = seen.masked_fill(torch.isnan(image).all(3, True).all(2, True), torch.nan)
    return out


def random_heading(pixels: Tensor) -> Tensor:
    """Turn and mirror each image of (n, c, y, y) by one of the eight symmetries of a square."""
    turns = torch.randint(0, 8, (len(pixels),), device=pixels.device)
    out = pixels.clone()
    for code in range(8):
        rows = turns == code
        view = pixels[rows].flip(3) if code >= 4 else pixels[rows]
        out[rows] = torch.rot90(view, code % 4, (2, 3))
    return out


def mixed(pixels: Tensor, labels: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Lay each image thinly over another, labels alike (mixup, arXiv:1710.09412)."""
    share = torch.distributions.Beta(alpha, alpha).sample((len(pixels),)).to(pixels)
    share = torch.maximum(share, 1 - share)
    other = torch.randperm(len(pixels), device=pixels.device)
    weight = share.view(-1, 1, 1, 1)
    return (
        weight * pixels + (1 - weight) * pixels[other],
        share * labels + (1 - share) * labels[other],
    )
