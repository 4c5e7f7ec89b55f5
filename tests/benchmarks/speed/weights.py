"""The models' weights as anybody would load them: transformers, torchvision, safetensors.

For the contenders that are not the scan: the same numbers, none of the scan's own ways to run them.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from scanner.models.calibration import calibrate
from scanner.models.card import ModelCard
from scanner.models.store import WEIGHTS_FILE, shipped


class Cover(nn.Module):
    """Reflectance (n, band, y, x) -> logits (n, class, y, x), as large as the input."""

    def __init__(self, folder: str | None) -> None:
        super().__init__()
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        where = Path(folder) if folder else shipped("segmenter")
        card = ModelCard.read(where)
        self.net = SegformerForSemanticSegmentation(SegformerConfig(**card.config))
        self.net.load_state_dict(_state(where))
        self.classes = len(card.classes)
        self._low = card.scaling.low
        shape = (1, -1, 1, 1)
        for name in ("high", "mean", "std"):
            values = torch.tensor(getattr(card.scaling, name), dtype=torch.float32)
            self.register_buffer(f"_{name}", values.reshape(shape), persistent=False)
        self.eval()

    def scaled(self, reflectance: torch.Tensor) -> torch.Tensor:
        """Return the network's input."""
        clipped = torch.minimum(reflectance.clamp(min=self._low), self._high)
        return torch.nan_to_num((clipped - self._mean) / self._std, nan=0.0)

    def forward(self, reflectance: torch.Tensor) -> torch.Tensor:
        """See the class."""
        logits = self.net(pixel_values=self.scaled(reflectance)).logits
        size = reflectance.shape[-2:]
        return nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class Chips:
    """Reflectance of one chip (band, 48, 48) -> its score, a forward pass a call."""

    def __init__(self, folder: str | None) -> None:
        where = Path(folder) if folder else shipped("classifier")
        self.card = ModelCard.read(where)
        try:
            home = importlib.import_module("scanner.models.chip_networks")
        except ModuleNotFoundError:
            home = importlib.import_module("scanner.models.classifier")
        self._net: nn.Module = home.build_network(self.card.config)
        self._net.load_state_dict(_state(where))
        self._net.eval()
        self.bands = (*self.card.bands, *self.card.optional_bands)
        self._flips = int(self.card.config.get("flips", 1))

    def score(self, chip: NDArray[np.float32]) -> float:
        """Return the calibrated probability of mining."""
        one = torch.from_numpy(self.card.inputs(chip[None]))
        views = [torch.rot90(v, t, (2, 3)) for t in (0, 2, 1, 3) for v in (one, one.flip(3))]
        with torch.inference_mode():
            logit = self._net(torch.cat(views[: self._flips])).mean().numpy()
        if self.card.calibration is None:
            raise ValueError("the classifier has no calibration")
        return float(calibrate(logit.reshape(1), self.card.calibration)[0])


def _state(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one.float() for name, one in load_file(folder / WEIGHTS_FILE).items()}
