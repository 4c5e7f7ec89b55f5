"""SegFormer as transformers has it: what is trained, and how models of others are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from scanner.errors import ModelError
from scanner.models.card import ModelCard
from scanner.models.store import WEIGHTS_FILE, read_weights


def build_network(config: dict[str, Any]) -> nn.Module:
    """Build a SegFormer without weights from the ``config`` of a card (SegformerConfig's keys)."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    network: nn.Module = SegformerForSemanticSegmentation(SegformerConfig(**config))
    return network


def foreign(folder: Path, card: ModelCard) -> nn.Module:
    """Return the network of a directory in transformers form, as ``hub.segmenter_card`` checked it.

    transformers is given numbers alone and no name of a file: it would follow its ``config.json``
    to other code, and an ``adapter_config.json`` to other weights. Raises ``ModelError``.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    network: nn.Module
    report: dict[str, Any]
    loader: Any = SegformerForSemanticSegmentation
    try:
        network, report = loader.from_pretrained(
            None,
            config=SegformerConfig(**card.config["network"]),
            state_dict=read_weights(folder / WEIGHTS_FILE, card.sha256),
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"{folder}: not loaded ({first}); fetch the model again") from error
    wrong = [key for kind in ("missing_keys", "mismatched_keys") for key in report.get(kind, ())]
    if wrong:
        raise ModelError(
            f"{folder / WEIGHTS_FILE}: {len(wrong)} weights missing or of another shape, first "
            f"{wrong[0]}; give the whole model (adapters must be merged)"
        )
    return network
