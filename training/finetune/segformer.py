"""SegFormers to begin with: from scratch, of this project, of a directory or the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from scanner.errors import ModelError
from scanner.models.card import SEGMENTER_CLASSES, ModelCard, Scaling
from scanner.models.cover_networks import build_network, foreign
from scanner.models.hub import segmenter_card
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, read_weights
from training.finetune.scaling import SCALING

B0: Final[dict[str, Any]] = {
    "num_channels": 3,
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [32, 64, 160, 256],
    "num_attention_heads": [1, 2, 5, 8],
    "sr_ratios": [8, 4, 2, 1],
    "decoder_hidden_size": 256,
    "num_labels": len(SEGMENTER_CLASSES),
}
"""SegFormer-b0 (SegformerConfig's keys)."""
KEPT: Final = (
    "num_channels", "num_encoder_blocks", "depths", "sr_ratios", "hidden_sizes", "patch_sizes",
    "strides", "num_attention_heads", "mlp_ratios", "hidden_act", "hidden_dropout_prob",
    "attention_probs_dropout_prob", "classifier_dropout_prob", "drop_path_rate", "layer_norm_eps",
    "decoder_hidden_size",
)  # fmt: skip
"""Keys of a foreign config that shape the network."""


@dataclass(frozen=True)
class Start:
    """A network to begin with, in our classes and our order of bands."""

    network: nn.Module
    config: dict[str, Any]
    scaling: Scaling
    told: str


def begin(name: str) -> Start:
    """Return the network of ``b0``, a hub id or a directory.

    Raises ``ModelError`` where it cannot be had, or is no SegFormer of three bands.
    """
    if name == "b0":
        return Start(build_network(B0), B0, SCALING, "random weights (SegFormer-b0)")
    folder, card = segmenter_card(name)
    if (folder / CARD_FILE).exists():
        return _own(folder, card)
    return _foreign(folder, card, name)


def _own(folder: Path, card: ModelCard) -> Start:
    if card.bands != ("B02", "B03", "B04") or card.optional_bands:
        raise ModelError(f"{folder}: takes {card.bands + card.optional_bands}; give one of RGB")
    network = build_network(card.config)
    network.load_state_dict(read_weights(folder / WEIGHTS_FILE, card.sha256), strict=True)
    return Start(network.float(), card.config, card.scaling, f"{card.name}, {card.digest[:12]}")


def _foreign(folder: Path, card: ModelCard, name: str) -> Start:
    """Turn a network of red, green, blue and its own classes into one of ours."""
    given: Any = foreign(folder, card)
    config = {key: getattr(given.config, key) for key in KEPT} | {
        "num_labels": len(SEGMENTER_CLASSES)
    }
    state = given.state_dict()
    channels = torch.tensor(card.config["channels"])
    for key in ("decode_head.classifier.weight", "decode_head.classifier.bias"):
        state[key] = state[key][channels]
    first = next(key for key, value in state.items() if value.ndim == 4)  # sees the bands
    state[first] = state[first][:, card.config["order"]]
    network = build_network(config)
    network.load_state_dict(state, strict=True)
    return Start(network, config, card.scaling, f"{name}, weights {card.sha256[:12]}")
