"""Networks written down as an OpenVINO graph of fixed sizes, and compiled for this CPU.

The graph is written straight from the weights, in a few hundredths of a second, so there is no
exported file to be kept, found spoilt or fought over by workers; and torch is not needed at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.models.backends.weights import NORM_EPS, Layer

TELEMETRY: Final = "openvino_telemetry"
"""A package that ``openvino`` brings along and that tells Google Analytics of every import.

A scan of someone's land is nobody else's business: the package is kept from being imported, which
``openvino`` takes well (it has a stand-in for it).
"""


NEXT_TO_NOTHING: Final = 1e-30
"""Slope of a ReLU below zero: lost in any sum with an activation, and yet no number stays none."""


def openvino() -> Any:
    """Import OpenVINO without its telemetry."""
    if TELEMETRY not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # the import statement's own sign
    import openvino as imported

    return imported


class OpenVinoOps:
    """``Ops`` of the nodes of a graph."""

    def __init__(self) -> None:
        from openvino import opset13

        self._op: Any = opset13

    def constant(self, values: NDArray[Any]) -> Any:
        """See ``Ops``."""
        return self._op.constant(np.ascontiguousarray(values))

    def shape(self, x: Any) -> tuple[int, ...]:
        """See ``Ops``."""
        return tuple(
            int(size) for size in (x if hasattr(x, "get_shape") else x.output(0)).get_shape()
        )

    def conv(self, x: Any, layer: Layer, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        """See ``Ops``."""
        weight, pads = layer.weight, [padding, padding]
        call = self._op.convolution
        if groups > 1:
            weight = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
            call = self._op.group_convolution
        y = call(x, self.constant(weight), [stride, stride], pads, pads, [1, 1])
        return self._op.add(y, self.constant(layer.bias.reshape(1, -1, 1, 1)))

    def linear(self, x: Any, layer: Layer) -> Any:
        """See ``Ops``."""
        y = self._op.matmul(x, self.constant(layer.weight), False, True)
        return self._op.add(y, self._along_last(layer.bias, x))

    def norm(self, x: Any, layer: Layer) -> Any:
        """See ``Ops``."""
        y = self._op.mvn(x, self._numbers(-1), True, NORM_EPS, "inside_sqrt")
        y = self._op.multiply(y, self._along_last(layer.weight, x))
        return self._op.add(y, self._along_last(layer.bias, x))

    def attention(self, query: Any, key: Any, value: Any, heads: int) -> Any:
        """See ``Ops``."""
        parts = []
        for x in (query, key, value):
            n, tokens, width = self.shape(x)
            split = self._reshape(x, n, tokens, heads, width // heads)
            parts.append(self._op.transpose(split, self._numbers(0, 2, 1, 3)))
        mixed = self._op.scaled_dot_product_attention(*parts)
        back = self._op.transpose(mixed, self._numbers(0, 2, 1, 3))
        return self._reshape(back, *self.shape(query))

    def tokens(self, x: Any) -> Any:
        """See ``Ops``."""
        n, channels, height, width = self.shape(x)
        flat = self._reshape(x, n, channels, height * width)
        return self._op.transpose(flat, self._numbers(0, 2, 1))

    def picture(self, x: Any, height: int, width: int) -> Any:
        """See ``Ops``."""
        n, _, channels = self.shape(x)
        turned = self._op.transpose(x, self._numbers(0, 2, 1))
        return self._reshape(turned, n, channels, height, width)

    def activation(self, x: Any, kind: str) -> Any:
        """See ``Ops``."""
        if kind == "relu":  # its own makes 0 of what is no number, and would hide it
            return self._op.prelu(x, self.constant(np.array([NEXT_TO_NOTHING], np.float32)))
        return self._op.gelu(x, "erf") if kind == "gelu" else self._op.swish(x)

    def add(self, x: Any, y: Any) -> Any:
        """See ``Ops``."""
        return self._op.add(x, y)

    def resize(self, x: Any, height: int, width: int) -> Any:
        """See ``Ops``."""
        return self._op.interpolate(
            x,
            self._numbers(height, width),
            "linear_onnx",
            "sizes",
            coordinate_transformation_mode="half_pixel",
            axes=self._numbers(2, 3),
        )

    def max_pool(self, x: Any) -> Any:
        """See ``Ops``."""
        pooled = self._op.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
        mean = self._op.reduce_mean(x, self._numbers(2, 3), True)  # no number: none is the largest
        return self._op.add(pooled, self._op.multiply(mean, self.constant(np.array(0, np.float32))))

    def mean(self, x: Any) -> Any:
        """See ``Ops``."""
        return self._op.reduce_mean(x, self._numbers(2, 3), False)

    def _reshape(self, x: Any, *shape: int) -> Any:
        return self._op.reshape(x, self._numbers(*shape), False)

    def _numbers(self, *values: int) -> Any:
        return self.constant(np.array(values, np.int64))

    def _along_last(self, values: NDArray[np.float32], x: Any) -> Any:
        return self.constant(values.reshape(*[1] * (len(self.shape(x)) - 1), -1))


def graph(network: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> Any:
    """Return the model of ``network(ops, input)`` for an input of ``shape``."""
    ov = openvino()
    from openvino import opset13 as op

    given = op.parameter(list(shape), np.float32)
    return ov.Model([op.result(network(OpenVinoOps(), given))], [given], "mining_scan")


def compiled(model: Any, threads: int | None) -> Any:
    """Compile a model for this CPU.

    In float32 whatever the CPU could do faster in bfloat16, since classes would change; one stream;
    unpinned, or every worker of a machine would sit on the same first core.
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    return openvino().Core().compile_model(model, "CPU", settings)
