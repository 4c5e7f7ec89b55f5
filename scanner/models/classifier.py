"""Mine or not: a ResNet on chips behind a Protocol, one copy a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from scanner.errors import ModelError
from scanner.models.calibration import calibrate as calibrate
from scanner.models.card import ModelCard
from scanner.models.networks import BACKBONES
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, read_weights, shipped

BATCH = 32
"""Chips a forward pass; the last batch is filled up, so no score depends on how many there are."""
NARROW = 32
"""Channels of the first stage of ``narrow``."""


class Classifier(Protocol):
    """What the scan needs of a chip model."""

    @property
    def card(self) -> ModelCard:
        """What the model is, needs and was measured to do."""
        ...

    def predict(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reflectance 0..1 (n, band, y, x), NaN nodata -> calibrated scores 0..1 (n,).

        Chips measure ``card.chip_size`` pixels a side; those of a scan are cells, 48.
        """
        ...


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
            scaled = torch.cat([scaled, (centred / (spread + 0.02)).clamp(-6, 6)], 1)
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


class ResnetClassifier:
    """A :class:`ChipNet` with its card: scaling before, flips and calibration after."""

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        if card.calibration is None:
            raise ModelError(f"{card.name}: no calibration; a classifier's card needs one")
        self._network = network.eval()
        self._card = card
        self._calibration = card.calibration

    @property
    def card(self) -> ModelCard:
        """What the model is, needs and was measured to do."""
        return self._card

    def predict(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated scores, float32 (n,); see :class:`Classifier`."""
        scores = calibrate(self.logits(reflectance), self._calibration)
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        if bad:
            raise ModelError(
                f"{self._card.name}: {bad} of {len(scores)} scores are not numbers; "
                "report it with the tile's id"
            )
        return scores

    def logits(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's mean logit over the card's flips, float32 (n,), uncalibrated."""
        inputs = self._card.inputs(reflectance)
        n = len(inputs)
        filled = -(-n // BATCH) * BATCH
        inputs = np.pad(inputs, ((0, filled - n), (0, 0), (0, 0), (0, 0)))
        out = np.empty(filled, np.float32)
        with torch.inference_mode():
            for start in range(0, filled, BATCH):
                batch = torch.from_numpy(inputs[start : start + BATCH])
                batch = resized(batch, self._card.input_size)
                out[start : start + BATCH] = self._flipped(batch).numpy()
        return out[:n]

    def _flipped(self, batch: torch.Tensor) -> torch.Tensor:
        """Mean logit over the first ``flips`` of the eight symmetries of a square."""
        flips = int(self._card.config.get("flips", 1))
        views = [
            torch.rot90(view, turn, (2, 3))
            for turn in (0, 2, 1, 3)
            for view in (batch, batch.flip(3))
        ]
        return torch.stack([self._network(view) for view in views[:flips]]).mean(0)


def load_classifier(name: str | Path | None = None) -> Classifier:
    """Load the shipped classifier or a model directory, once a process.

    Raises ``ModelError`` if it is not what it should be; there is no fallback to another one.
    """
    folder = shipped("classifier") if name is None else Path(name)
    card = ModelCard.read(folder)
    return _load(folder, repr(card))


@cache
def _load(folder: Path, expected: str) -> Classifier:
    card = ModelCard.read(folder)
    path = folder / WEIGHTS_FILE
    if repr(card) != expected:
        raise ModelError(f"{folder}: changed while it was read; run again")
    if card.task != "classification":
        raise ModelError(f"{folder / CARD_FILE}: a model for {card.task}; give a classifier")
    try:
        network = build_network(card.config)
        network.load_state_dict(read_weights(path, card.sha256), strict=True)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: does not fit mining:config of its card ({first}); fetch the model again"
        ) from error
    return ResnetClassifier(network.float(), card)


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
