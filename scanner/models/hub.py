"""Segmenters of others: transformers' SegFormer form, from a directory or the Hugging Face hub.

Such a model has no card. One is derived from its ``config.json`` and ``preprocessor_config.json``,
and it is refused where these do not say all that is needed: nothing is guessed. Needs no torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from scanner.errors import ModelError
from scanner.models.card import SEGMENTER_CLASSES, ModelCard, Scaling
from scanner.models.check import check_card
from scanner.models.networks import check_segformer, shaping
from scanner.models.store import CARD_FILE, WEIGHTS_FILE, read_json, shipped, shown, weights_digest

STRETCH: Final = 0.3
"""Reflectance shown as white (255) when Sentinel-2 is given to a model of 8-bit RGB pictures."""

SYNONYMS: Final = {
    "agricultural": "agriculture",
    "agricultural land": "agriculture",
    "buildings": "building",
    "roads": "road",
    "barren land": "barren",
}
"""Names that mean one of our classes without doubt; any other name must match exactly."""
IGNORED: Final = {"no-data", "nodata", "no data", "ignore", "ignored", "unlabeled", "unlabelled"}
"""Names of outputs that are no class; they are left out before the softmax."""

_FILES: Final = ("config.json", "preprocessor_config.json", WEIGHTS_FILE)

_HUB_ID: Final = re.compile(
    r"([\w-][\w.-]{0,95}/[\w-][\w.-]{0,95})(?:@([\w-][\w./-]{0,99}))?", re.ASCII
)


def segmenter_card(name: str | Path | None = None) -> tuple[Path, ModelCard]:
    """Return the directory and the checked card of a segmenter.

    ``name`` is ``None`` (shipped), a directory with ``card.json``, one in transformers form, or a
    hub id, which is fetched (``owner/name``, or ``owner/name@revision``). Raises ``ModelError``;
    never another model than the one named.
    """
    folder = shipped("segmenter") if name is None else Path(name)
    if not folder.is_dir() and name is not None:
        folder = _fetch(str(name))
    if name is None or (folder / CARD_FILE).exists():
        card = ModelCard.read(folder)
        if card.task != "semantic-segmentation":
            raise ModelError(f"{folder / CARD_FILE}: a model for {card.task}; give a segmenter")
        return folder, card
    return folder, _derived_card(folder, str(name))


def channel_map(labels: dict[str, str], source: str) -> list[int]:
    """Return, for each of our classes, the output channel of a model with these ``id2label``.

    Raises ``ModelError`` if a class is missing, named twice, or a label is not known.
    """
    found: dict[str, int] = {}
    if sorted(labels) != sorted(map(str, range(len(labels)))):
        raise ModelError(f"{source}: id2label does not number its labels from 0; complete it")
    for channel, label in labels.items():
        plain = " ".join(str(label).lower().replace("_", " ").split())
        ours = SYNONYMS.get(plain, plain)
        if ours in IGNORED:
            continue
        if ours not in SEGMENTER_CLASSES or ours in found:
            raise ModelError(
                f"{source}: label {shown(label)} is "
                f"{'there twice' if ours in found else 'not known'}; "
                f"a segmenter needs exactly {', '.join(SEGMENTER_CLASSES)}"
            )
        found[ours] = int(channel)
    missing = [name for name in SEGMENTER_CLASSES if name not in found]
    if missing:
        raise ModelError(
            f"{source}: no label for {', '.join(missing)}; "
            f"a segmenter needs exactly {', '.join(SEGMENTER_CLASSES)}"
        )
    return [found[name] for name in SEGMENTER_CLASSES]


def _derived_card(folder: Path, name: str) -> ModelCard:
    """Describe a model in transformers form; its digest is of its weights and their settings."""
    config = read_json(folder / "config.json")
    kinds = config.get("architectures") or []
    if config.get("model_type") != "segformer" or kinds != ["SegformerForSemanticSegmentation"]:
        raise ModelError(
            f"{folder / 'config.json'}: a {shown(config.get('model_type'))} of {shown(kinds)}; "
            "give a SegformerForSemanticSegmentation"
        )
    labels = config.get("id2label")
    if not isinstance(labels, dict) or config.get("num_channels", 3) != 3:
        raise ModelError(f"{folder / 'config.json'}: needs id2label and 3 channels; not so here")
    source = str(folder / "config.json")
    network = check_segformer(shaping(config) | {"num_labels": len(labels)}, 3, source)
    card = ModelCard(
        name=name,
        task="semantic-segmentation",
        architecture="SegFormer",
        bands=("B02", "B03", "B04"),
        classes=SEGMENTER_CLASSES,
        scaling=_scaling(folder / "preprocessor_config.json"),
        sha256=weights_digest(folder / WEIGHTS_FILE),
        config={"channels": channel_map(labels, source), "order": [2, 1, 0], "network": network},
        training_data="not stated by the files of this model",
        limits=(
            f"a model of 8-bit RGB pictures: reflectance 0..{STRETCH} is shown to it as 0..255",
            "not measured on Sentinel-2 by this project",
        ),
    )
    check_card(card, folder / "preprocessor_config.json")
    return card


def _scaling(path: Path) -> Scaling:
    """Turn a preprocessor's 8-bit mean and std into ones on reflectance, in our band order."""
    raw = read_json(path)
    try:
        unit = 255 * float(raw.get("rescale_factor", 1 / 255)) if raw.get("do_rescale", True) else 1
        if raw.get("do_rescale", True) is False:
            unit = 255
        normalize = raw.get("do_normalize", True)
        mean = _three(raw["image_mean"]) if normalize else (0.0, 0.0, 0.0)
        std = _three(raw["image_std"]) if normalize else (1.0, 1.0, 1.0)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: image_mean and image_std of three bands not found ({error}); "
            "complete the preprocessor's file"
        ) from error
    blue_first = slice(None, None, -1)
    if not unit > 0:
        raise ModelError(f"{path}: rescale_factor is not above 0; correct the preprocessor's file")
    return Scaling(
        mean=tuple(value / unit * STRETCH for value in mean[blue_first]),
        std=tuple(value / unit * STRETCH for value in std[blue_first]),
        low=0.0,
        high=STRETCH,
    )


def _three(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"{values!r} is not three numbers")
    return tuple(float(value) for value in values)


def _fetch(hub_id: str) -> Path:
    """Fetch the three files of a model from the hub, or take them from its local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    named = _HUB_ID.fullmatch(hub_id)
    if named is None:
        raise ModelError(f"{hub_id}: no such directory; give a model directory or a hub id")
    try:
        return Path(snapshot_download(named[1], revision=named[2], allow_patterns=list(_FILES)))
    except (OSError, ValueError, HFValidationError) as error:
        raise ModelError(
            f"{hub_id}: no such directory, and not fetched from the hub "
            f"({type(error).__name__}); check the name and the connection, or give a directory"
        ) from error
