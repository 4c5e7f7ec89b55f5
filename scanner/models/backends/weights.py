"""The weights of a network by name: each taken once, in the shape the network wants it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NORM_EPS: Final = 1e-5
"""Added to a variance before its root: the default of torch's layer and batch norms."""
COUNTER: Final = ".num_batches_tracked"
"""Ending of what a batch norm counts in training; nothing is computed from it."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Weight and bias of a convolution, linear layer or norm; known by identity, not by value."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


class Weights:
    """Arrays of a weights file, handed out by name and checked.

    Args:
        arrays: of any float type, under the names torch gives them.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = dict(arrays)
        self._layers: dict[str, Layer] = {}
        self._used: set[str] = set()

    def array(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Return an array as float32; ``LookupError`` if absent, ``ValueError`` if of no ``shape``.

        Nothing of that shape is made before it is found to be the file's.
        """
        if name not in self._arrays:
            raise LookupError(f"{name} is missing")
        found = self._arrays[name]
        if found.shape != shape:
            raise ValueError(f"{name} is of shape {found.shape}, {shape} is needed")
        self._used.add(name)
        return np.ascontiguousarray(found, np.float32)

    def layer(self, name: str, *shape: int, norm: str | None = None) -> Layer:
        """Return weight (of ``shape``) and bias of a layer, the same object each time.

        With ``norm``, the name of a batch norm that follows a convolution without bias, both are
        one: what a norm does when nothing is learnt is a factor and a summand a channel.
        """
        if name not in self._layers:
            weight = self.array(f"{name}.weight", *shape)
            if norm is None:
                self._layers[name] = Layer(weight, self.array(f"{name}.bias", shape[0]))
            else:
                factor, shift = self.batch_norm(norm, shape[0])
                folded = weight * factor.reshape(-1, *[1] * (len(shape) - 1))
                self._layers[name] = Layer(folded.astype(np.float32), shift.astype(np.float32))
        return self._layers[name]

    def batch_norm(self, name: str, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return factor and summand (width,) of a batch norm."""
        weight, bias, mean, variance = (
            self.array(f"{name}.{part}", width).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = weight / np.sqrt(variance + NORM_EPS)
        return factor, bias - mean * factor

    def keep(self, name: str, layer: Layer) -> Layer:
        """Keep a layer made of others under a name of its own."""
        return self._layers.setdefault(name, layer)

    def kept(self, name: str) -> Layer | None:
        """Return a layer made before, if it was."""
        return self._layers.get(name)

    def check_all_used(self) -> None:
        """Raise ``LookupError`` if there are arrays that no layer took."""
        left = [n for n in self._arrays if n not in self._used and not n.endswith(COUNTER)]
        if left:
            raise LookupError(f"{left[0]} is no weight of it")
