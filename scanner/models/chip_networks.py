"""The networks of chips as torch modules: what is trained, and what no other engine knows."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from scanner.models.backends.chipnet import DULL, LIMIT, NARROW
from scanner.models.networks import BACKBONES


class ChipNet(nn.Module):
    """A network on scaled bands and, if ``relative``, a second copy normalised within the chip.

    The second copy (minus the chip's median, over its mean absolute deviation) does not change
    with haze or processing level, which add to and multiply a band nearly evenly over 480 m.
    """

    def __init__(
        self,
        bands: int,
        backbone: str = "resnet18",
        dropout: float = 0.0,
        relative: bool = True,
    ) -> None:
        super().__init__()
        self.relative = relative
        channels = 2 * bands if relative else bands
        if backbone == "narrow":
            self.net: nn.Module = narrow_resnet(channels, dropout)
        else:
            self.net = torchvision_net(backbone, channels, dropout)

    def forward(self, scaled: torch.Tensor) -> torch.Tensor:
        """Scaled bands (n, band, y, x) -> logits (n,)."""
        if self.relative:
            centred = scaled - scaled.flatten(2).median(2).values[..., None, None]
            spread = centred.abs().mean((2, 3), keepdim=True)
            scaled = torch.cat([scaled, (centred / (spread + DULL)).clamp(-LIMIT, LIMIT)], 1)
        logits: torch.Tensor = self.net(scaled)
        return logits.squeeze(1)


def resized(pixels: torch.Tensor, size: int | None) -> torch.Tensor:
    """Bring (n, band, y, x) to ``size`` pixels a side, bilinear with antialias; ``None`` as is."""
    if size is None or pixels.shape[2:] == (size, size):
        return pixels
    return nn.functional.interpolate(
        pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )


def torchvision_net(backbone: str, channels: int, dropout: float) -> nn.Module:
    """Return a network of torchvision without weights, its first layer taking ``channels``.

    Its head is new: dropout and one output.
    """
    from torchvision import models

    net: Any = getattr(models, backbone)(weights=None)
    residual = hasattr(net, "fc")  # ResNet; EfficientNet has features and a classifier
    first = net.conv1 if residual else net.features[0][0]
    if channels != first.in_channels:
        fitting = nn.Conv2d(
            channels,
            first.out_channels,
            first.kernel_size,
            first.stride,
            first.padding,
            bias=False,
        )
        if residual:
            net.conv1 = fitting
        else:
            net.features[0][0] = fitting
    width = net.fc.in_features if residual else net.classifier[-1].in_features
    setattr(
        net,
        "fc" if residual else "classifier",
        nn.Sequential(nn.Dropout(dropout), nn.Linear(width, 1)),
    )
    return cast(nn.Module, net)


def narrow_resnet(channels: int, dropout: float) -> nn.Module:
    """Return a ResNet of torchvision's basic blocks that begins at full resolution: 0.7 M weights.

    ResNet-18's stem and pool leave 12 x 12 of 48 x 48 pixels before its first block, which is more
    than a scar of a hectare can spare.
    """
    from torchvision.models.resnet import BasicBlock

    def block(given: int, wanted: int, stride: int) -> Any:
        if stride == 1 and given == wanted:
            return BasicBlock(given, wanted)
        shortcut = nn.Sequential(
            nn.Conv2d(given, wanted, 1, stride, bias=False), nn.BatchNorm2d(wanted)
        )
        return BasicBlock(given, wanted, stride, shortcut)

    width = NARROW
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        block(width, width, 2),
        block(width, width, 1),
        block(width, 2 * width, 2),
        block(2 * width, 2 * width, 1),
        block(2 * width, 4 * width, 2),
        block(4 * width, 4 * width, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, 1),
    )


def build_network(config: dict[str, Any]) -> ChipNet:
    """Build a :class:`ChipNet` without weights from the ``config`` of a card."""
    if config["backbone"] not in BACKBONES:
        raise ValueError(f"backbone {config['backbone']!r}, known are {', '.join(BACKBONES)}")
    return ChipNet(
        int(config["bands"]),
        config["backbone"],
        float(config.get("dropout", 0)),
        bool(config.get("relative", True)),
    )
