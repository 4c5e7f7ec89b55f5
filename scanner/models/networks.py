"""What a network may be built from: the sizes of its layers, within bounds, and nothing else.

The settings of a model come with its files, and transformers takes far more in its own: names of
attention kernels to be fetched and run, of code beside the weights, of other models. So what is
handed on are numbers checked here, never what a file says. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from scanner.errors import ModelError
from scanner.models.store import first_problem

BACKBONES: Final = ("narrow", "resnet18", "resnet34", "efficientnet_b0")
"""Networks a classifier's card may name; ``narrow`` is ours, the others are torchvision's."""

_STRICT: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Share = Annotated[float, Field(ge=0, lt=1)]
Small = Annotated[int, Field(ge=1, le=16)]


def _four(most: int) -> Any:
    """One whole number for each of the four stages."""
    one = Annotated[int, Field(ge=1, le=most)]
    return Annotated[list[one], Field(min_length=4, max_length=4)]


class Segformer(TypedDict, total=False):
    """Keys of ``SegformerConfig`` that shape the network; bounds hold the largest, MiT-B5."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    num_channels: Small
    num_labels: Annotated[int, Field(ge=1, le=256)]
    num_encoder_blocks: Literal[4]
    depths: _four(64)  # type: ignore[valid-type]
    hidden_sizes: _four(1024)  # type: ignore[valid-type]
    num_attention_heads: _four(16)  # type: ignore[valid-type]
    sr_ratios: _four(16)  # type: ignore[valid-type]
    patch_sizes: _four(16)  # type: ignore[valid-type]
    strides: _four(8)  # type: ignore[valid-type]
    mlp_ratios: _four(8)  # type: ignore[valid-type]
    decoder_hidden_size: Annotated[int, Field(ge=1, le=2048)]
    hidden_act: Literal["gelu", "relu", "silu"]
    hidden_dropout_prob: Share
    attention_probs_dropout_prob: Share
    classifier_dropout_prob: Share
    drop_path_rate: Share
    initializer_range: Annotated[float, Field(gt=0, le=1)]
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)]
    semantic_loss_ignore_index: int
    reshape_last_stage: bool


class Chips(TypedDict, total=False):
    """What ``classifier.build_network`` takes, and ``flips``, the symmetries of a score."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    backbone: Annotated[str, Field(max_length=40)]
    bands: Small
    dropout: Share
    flips: Annotated[int, Field(ge=1, le=8)]
    relative: bool


_SEGFORMER: Final[TypeAdapter[Any]] = TypeAdapter(Segformer)
_CHIPS: Final[TypeAdapter[Any]] = TypeAdapter(Chips)


def check_segformer(config: Mapping[str, Any], bands: int, source: str) -> dict[str, Any]:
    """Return a SegFormer's settings as they are, or raise ``ModelError`` naming ``source``.

    Refused are keys that shape nothing, sizes out of bounds, and another number of bands.
    """
    checked = _checked(_SEGFORMER, config, source)
    if checked.get("num_channels", 3) != bands:
        raise ModelError(
            f"{source}: num_channels {checked.get('num_channels', 3)} for {bands} bands; "
            "correct the settings or take another model"
        )
    heads, widths = checked.get("num_attention_heads"), checked.get("hidden_sizes")
    if heads and widths and any(w % h for w, h in zip(widths, heads, strict=True)):
        raise ModelError(
            f"{source}: hidden_sizes {widths} are no multiples of num_attention_heads {heads}; "
            "correct the settings or take another model"
        )
    return checked


def shaping(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a foreign ``config.json`` shapes a SegFormer; the rest is left behind."""
    return {key: config[key] for key in Segformer.__annotations__ if key in config}


def check_chips(config: Mapping[str, Any], bands: int, source: str) -> dict[str, Any]:
    """Return a chip network's settings as they are, or raise ``ModelError`` naming ``source``."""
    checked = _checked(_CHIPS, config, source)
    if checked.get("backbone") not in BACKBONES:
        raise ModelError(
            f"{source}: backbone {checked.get('backbone')!r}, known are {', '.join(BACKBONES)}; "
            "correct the card or take another model"
        )
    if checked.get("bands") != bands:
        raise ModelError(
            f"{source}: a network of {checked.get('bands')} bands for {bands}; correct the card"
        )
    return checked


def _checked(adapter: TypeAdapter[Any], config: Mapping[str, Any], source: str) -> dict[str, Any]:
    try:
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}
        return dict(adapter.validate_python(plain))
    except ValidationError as error:
        raise ModelError(
            f"{source}: {first_problem(error)}; correct the settings or take another model"
        ) from error
