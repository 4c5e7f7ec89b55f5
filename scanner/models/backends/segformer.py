"""SegFormer in the words of ``Ops``, with a head that does the same with a fraction of the work.

The head of the paper brings four maps to 256 channels each and to one size, stacks them and mixes
the 1,024 channels: half of all multiplications of the network. But to mix and to resize are both
linear and act on different axes, so they can change places: every map is brought straight to its
share of the mix at its own size (the two linear layers and the batch norm become one), then
resized and summed. Numbers differ in the last bits (measured: 1e-5 in logits of 20).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from scanner.models.backends.ops import Ops, X
from scanner.models.backends.weights import Layer, Weights

DEFAULTS: Final[dict[str, Any]] = {
    "num_channels": 3,
    "num_labels": 2,
    "depths": [2, 2, 2, 2],
    "sr_ratios": [8, 4, 2, 1],
    "hidden_sizes": [32, 64, 160, 256],
    "patch_sizes": [7, 3, 3, 3],
    "strides": [4, 2, 2, 2],
    "num_attention_heads": [1, 2, 5, 8],
    "mlp_ratios": [4, 4, 4, 4],
    "hidden_act": "gelu",
    "decoder_hidden_size": 256,
}
"""What ``transformers.SegformerConfig`` takes where a config is silent."""


def segformer(ops: Ops[X], weights: Weights, config: Mapping[str, Any], pixels: X) -> X:
    """Return logits (n, label, y / 4, x / 4) of scaled pixels (n, band, y, x).

    Raises ``LookupError`` or ``ValueError`` where the weights are not those of ``config``.
    """
    settings = {**DEFAULTS, **config}
    x, maps = pixels, []
    for stage in range(4):
        x = _stage(ops, weights, settings, stage, x)
        maps.append(x)
    return _head(ops, weights, settings, maps)


def _stage(ops: Ops[X], weights: Weights, settings: dict[str, Any], stage: int, x: X) -> X:
    width, kernel = settings["hidden_sizes"][stage], settings["patch_sizes"][stage]
    name = f"segformer.stages.{stage}"
    patches = weights.layer(f"{name}.patch_embeddings.proj", width, ops.shape(x)[1], kernel, kernel)
    x = ops.conv(x, patches, stride=settings["strides"][stage], padding=kernel // 2)
    height, wide = ops.shape(x)[2:]
    x = ops.norm(ops.tokens(x), weights.layer(f"{name}.patch_embeddings.layer_norm", width))
    for index in range(settings["depths"][stage]):
        block = f"{name}.blocks.{index}"
        look = ops.norm(x, weights.layer(f"{block}.layernorm_before", width))
        heads, ratio = (settings[key][stage] for key in ("num_attention_heads", "sr_ratios"))
        x = ops.add(_attention(ops, weights, f"{block}.attention", look, heads, ratio, height), x)
        look = ops.norm(x, weights.layer(f"{block}.layernorm_after", width))
        hidden = width * settings["mlp_ratios"][stage]
        x = ops.add(
            _mix(ops, weights, f"{block}.mlp", look, hidden, settings["hidden_act"], height), x
        )
    x = ops.norm(x, weights.layer(f"{name}.layer_norm", width))
    return ops.picture(x, height, wide)


def _attention(
    ops: Ops[X], weights: Weights, name: str, x: X, heads: int, ratio: int, height: int
) -> X:
    _, tokens, width = ops.shape(x)
    short = x
    if ratio > 1:
        layer = weights.layer(
            f"{name}.sequence_reduction.sequence_reduction", width, width, ratio, ratio
        )
        picture = ops.picture(x, height, tokens // height)
        short = ops.norm(
            ops.tokens(ops.conv(picture, layer, stride=ratio)),
            weights.layer(f"{name}.sequence_reduction.layer_norm", width),
        )
    query, key, value, out = (
        weights.layer(f"{name}.{part}_proj", width, width) for part in ("q", "k", "v", "o")
    )
    mixed = ops.attention(
        ops.linear(x, query), ops.linear(short, key), ops.linear(short, value), heads
    )
    return ops.linear(mixed, out)


def _mix(ops: Ops[X], weights: Weights, name: str, x: X, hidden: int, kind: str, height: int) -> X:
    _, tokens, width = ops.shape(x)
    x = ops.linear(x, weights.layer(f"{name}.fc1", hidden, width))
    depthwise = weights.layer(f"{name}.dwconv.dwconv", hidden, 1, 3, 3)
    picture = ops.picture(x, height, tokens // height)
    x = ops.tokens(ops.conv(picture, depthwise, padding=1, groups=hidden))
    return ops.linear(ops.activation(x, kind), weights.layer(f"{name}.fc2", width, hidden))


def _head(ops: Ops[X], weights: Weights, settings: dict[str, Any], maps: list[X]) -> X:
    height, width = ops.shape(maps[0])[2:]
    shares = [_share(weights, settings, stage) for stage in range(4)]
    total = ops.conv(maps[0], shares[0])
    for x, share in zip(maps[1:], shares[1:], strict=True):
        total = ops.add(total, ops.resize(ops.conv(x, share), height, width))
    labels, hidden = settings["num_labels"], settings["decoder_hidden_size"]
    last = weights.layer("decode_head.classifier", labels, hidden, 1, 1)
    return ops.conv(ops.activation(total, "relu"), last)


def _share(weights: Weights, settings: dict[str, Any], stage: int) -> Layer:
    """Return what a stage's map adds to the mix: projection, its slice of the mix and the norm."""
    key = f"decode_head.share.{stage}"
    if found := weights.kept(key):
        return found
    hidden, last = settings["decoder_hidden_size"], 3 - stage  # stacked with the coarsest first
    fuse = weights.array("decode_head.linear_fuse.weight", hidden, 4 * hidden, 1, 1)
    part = fuse[:, last * hidden : (last + 1) * hidden, 0, 0].astype(np.float64)
    projection = weights.layer(
        f"decode_head.linear_projections.{stage}.proj", hidden, settings["hidden_sizes"][stage]
    )
    factor, shift = weights.batch_norm("decode_head.batch_norm", hidden)
    weight = (part @ projection.weight) * factor[:, None]
    bias = (part @ projection.bias) * factor + (shift if stage == 0 else 0)
    share = Layer(weight.astype(np.float32)[:, :, None, None], bias.astype(np.float32))
    return weights.keep(key, share)
