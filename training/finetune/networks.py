"""Networks to begin with: ImageNet's weights, those of a self-supervised run, or none."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from scanner.errors import TrainingError
from scanner.models.chip_networks import ChipNet, build_network
from training.recipe import ClassifierRecipe

LOG = logging.getLogger(__name__)


def network_config(recipe: ClassifierRecipe) -> dict[str, Any]:
    """Return the ``config`` of the card."""
    return {
        "backbone": recipe.backbone,
        "bands": 3,
        "dropout": recipe.dropout,
        "relative": recipe.relative,
        "flips": 1,
    }


def begin(recipe: ClassifierRecipe, init: Path | None) -> tuple[ChipNet, str]:
    """Return the network with its new head, and in words what its weights begin with.

    ``init`` is a file of self-supervised weights. Raises ``TrainingError`` where weights that were
    asked for cannot be had or do not fit.
    """
    network = build_network(network_config(recipe))
    if init is not None:
        load_body(network, init)
        return network, f"self-supervised weights of {init.name}"
    if recipe.pretrained == "no" or recipe.backbone == "narrow":
        if recipe.pretrained == "required":
            raise TrainingError("backbone narrow: has no ImageNet weights; choose a ResNet")
        return network, "random weights"
    found = _imagenet(recipe)
    if found is None:
        return network, "random weights (ImageNet's were not reachable)"
    _load_imagenet(network, found)
    return network, "ImageNet weights of torchvision"


def _imagenet(recipe: ClassifierRecipe) -> dict[str, Tensor] | None:
    """Fetch torchvision's weights, or take them from torch's cache."""
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(recipe.backbone)
    try:
        state: dict[str, Tensor] = weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        told = f"ImageNet weights of {recipe.backbone}: not fetched ({type(error).__name__})"
        if recipe.pretrained == "required":
            raise TrainingError(f"{told}; check the connection, or give --pretrained no") from error
        LOG.warning("%s; training begins from scratch", told)
        return None
    return state


def _load_imagenet(network: ChipNet, state: dict[str, Tensor]) -> None:
    """Take over all but the head; the first layer's red, green, blue become B02, B03, B04.

    A network that sees the bands twice gets the weights twice, at half strength.
    """
    own = network.net.state_dict()
    first = next(iter(own))
    turned = state[first].flip(1)
    copies = own[first].shape[1] // turned.shape[1]
    state = state | {first: turned.repeat(1, copies, 1, 1) / copies}
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    network.net.load_state_dict(own | fitting)


def body(network: ChipNet) -> int:
    """Take the head off (the last layer of one output); returns the number of features."""
    name, head = [
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == 1
    ][-1]
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return head.in_features


def load_body(network: ChipNet, path: Path) -> None:
    """Load self-supervised weights; the head stays new."""
    try:
        state = load_file(path)
        report = network.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise TrainingError(f"{path}: weights do not fit ({first}); make them again") from error
    lacking = [name for name in report.missing_keys if not _is_head(network, name)]
    if lacking or report.unexpected_keys:
        odd = (lacking + list(report.unexpected_keys))[0]
        raise TrainingError(
            f"{path}: weights of another network (first {odd}); give the same --backbone"
        )


def _is_head(network: ChipNet, name: str) -> bool:
    layer = network.get_submodule(name.rpartition(".")[0])
    return isinstance(layer, nn.Linear) and layer.out_features == 1


def pos_weight(labels: list[int]) -> Tensor:
    """Return the weight of mines in the loss that makes both classes count alike."""
    mines = sum(labels)
    return torch.tensor((len(labels) - mines) / mines)
