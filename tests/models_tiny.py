"""Tiny model directories with known weights, for tests of the flow (they recognise nothing)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from scanner.models.card import (
    CLASSIFIER_CLASSES,
    SEGMENTER_CLASSES,
    Calibration,
    ModelCard,
    Scaling,
)

BANDS = ("B02", "B03", "B04")
SCALING = Scaling(mean=(0.05, 0.07, 0.06), std=(0.05, 0.05, 0.05), high=0.4)


def tiny_segmenter(folder: Path, seed: int = 0) -> Path:
    """Write a SegFormer of a few thousand random weights."""
    from scanner.models.cover_networks import build_network

    torch.manual_seed(seed)
    config = {
        "num_labels": len(SEGMENTER_CLASSES),
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 8, 16, 16],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
    }
    return _write(folder, build_network(config), "semantic-segmentation", config)


def tiny_classifier(folder: Path, seed: int = 0) -> Path:
    """Write a ResNet with random weights."""
    from scanner.models.chip_networks import ChipNet

    torch.manual_seed(seed)
    config = {"backbone": "resnet18", "bands": len(BANDS), "flips": 1}
    return _write(folder, ChipNet(len(BANDS), "resnet18"), "classification", config)


def _write(folder: Path, network: torch.nn.Module, task: str, config: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.half().contiguous() for k, v in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    chip = task == "classification"
    ModelCard(
        name=f"tiny-{task}",
        task=task,
        architecture="ResNet" if chip else "SegFormer",
        bands=BANDS,
        scaling=SCALING,
        sha256="",
        config=config,
        classes=CLASSIFIER_CLASSES if chip else SEGMENTER_CLASSES,
        chip_size=48 if chip else None,
        threshold=0.5 if chip else None,
        calibration=Calibration(a=1.0, b=0.0, prevalence=0.5) if chip else None,
    ).write(folder)
    return folder
