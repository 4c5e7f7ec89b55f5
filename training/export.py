"""From a trained network to a model directory: weights in half precision, and the card."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save
from torch import nn

from scanner.models.card import ModelCard
from scanner.models.store import WEIGHTS_FILE

CREDIT: Final = (
    "contains modified Copernicus Sentinel data 2015-2025; chips: Earth Genome, "
    "earthrise-media/mining-detector, CC BY 4.0"
)


def write_weights(network: nn.Module, folder: Path) -> int:
    """Write ``model.safetensors`` (floats as fp16) and return the number of parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().to(torch.float16 if value.is_floating_point() else value.dtype)
        for name, value in network.state_dict().items()
    }
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{folder}: {broken[0]} is not finite in half precision; train again")
    (folder / WEIGHTS_FILE).write_bytes(save({k: v.contiguous() for k, v in tensors.items()}))
    return sum(parameter.numel() for parameter in network.parameters())


def write_model(network: nn.Module, card: ModelCard, folder: Path) -> ModelCard:
    """Write weights and card; the card returned carries their digest."""
    write_weights(network, folder)
    return card.write(folder)
