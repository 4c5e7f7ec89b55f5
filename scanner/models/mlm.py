"""The layout of card.json: property names of the STAC MLM extension v1.5, and our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scanner.errors import ModelError
from scanner.models.store import shown

if TYPE_CHECKING:
    from scanner.models.card import ModelCard

MLM_SCHEMA: Final = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"
OWN: Final = (
    "optional_bands",
    "input_size",
    "chip_size",
    "resolution",
    "threshold",
    "calibration",
    "config",
    "training_data",
    "metrics",
    "licence",
    "credit",
    "limits",
    "sha256",
)
"""Fields of a card MLM has no name for; their keys begin with ``mining:``."""
LATER: Final = ("thresholds", "style")
"""Fields of the same kind that the first cards did not have."""


def to_mlm(card: ModelCard) -> dict[str, Any]:
    """Lay a card out under MLM v1.5 property names."""
    every = list(card.bands + card.optional_bands)
    side = card.input_size or -1
    batch = ["batch", "bands", "height", "width"]
    is_map = card.task == "semantic-segmentation"
    scaling = [
        {"type": "z-score", "mean": mean, "stddev": std}
        for mean, std in zip(card.scaling.mean, card.scaling.std, strict=True)
    ]
    classes = [{"value": value, "name": name} for value, name in enumerate(card.classes)]
    result = {
        "shape": [-1, len(classes), side, side] if is_map else [-1],
        "dim_order": batch if is_map else ["batch"],
        "data_type": "float32",
    }
    card_input = {
        "name": "Sentinel-2 reflectance 0..1, NaN nodata",
        "bands": every,
        "input": {
            "shape": [-1, len(every), side, side],
            "dim_order": batch,
            "data_type": "float32",
        },
        "value_scaling": scaling,
    }
    return {
        "stac_extensions": [MLM_SCHEMA],
        "mlm:name": card.name,
        "mlm:architecture": card.architecture,
        "mlm:tasks": [card.task],
        "mlm:framework": "pytorch",
        "mlm:total_parameters": card.parameters,
        "mlm:input": [card_input],
        "mlm:output": [
            {
                "name": "probability",
                "tasks": [card.task],
                "result": result,
                "classification:classes": classes,
            }
        ],
        "mining:required_bands": list(card.bands),
        "mining:optional_bands": list(card.optional_bands),
        "mining:clip": [card.scaling.low, card.scaling.high],
        "mining:input_size": card.input_size,
        "mining:chip_size": card.chip_size,
        "mining:resolution": card.resolution,
        "mining:threshold": card.threshold,
        "mining:thresholds": card.thresholds,
        "mining:calibration": card.calibration.plain() if card.calibration else None,
        "mining:style": card.style,
        "mining:config": card.config,
        "mining:training_data": card.training_data,
        "mining:metrics": card.metrics,
        "mining:licence": card.licence,
        "mining:credit": card.credit,
        "mining:limits": list(card.limits),
        "mining:sha256": card.sha256,
    }


def from_mlm(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Read what :func:`to_mlm` wrote into the fields of a card; unknown keys are left alone."""
    try:
        entry, result = raw["mlm:input"][0], raw["mlm:output"][0]
        low, high = raw["mining:clip"]
        values = {
            "name": raw["mlm:name"],
            "task": raw["mlm:tasks"][0],
            "architecture": raw["mlm:architecture"],
            "parameters": raw["mlm:total_parameters"],
            "bands": raw["mining:required_bands"],
            "classes": [c["name"] for c in result["classification:classes"]],
            "scaling": {
                "mean": [s["mean"] for s in entry["value_scaling"]],
                "std": [s["stddev"] for s in entry["value_scaling"]],
                "low": low,
                "high": high,
            },
        }
        values |= {name: raw[f"mining:{name}"] for name in OWN}
        values |= {name: raw[key] for name in LATER if (key := f"mining:{name}") in raw}
        listed, named = entry["bands"], [*values["bands"], *values["optional_bands"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: no card of this project ({type(error).__name__}: {error}); "
            "give a directory written by training"
        ) from error
    if listed != named:
        raise ModelError(
            f"{path}: mlm:input has bands {shown(listed)}, the required and optional ones are "
            f"{shown(named)}; correct the card"
        )
    return values
