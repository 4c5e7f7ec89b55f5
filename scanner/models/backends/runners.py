"""Runners: a network on an engine, from an array to an array."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from scanner.computing import turn
from scanner.models.backends.choose import setup
from scanner.models.backends.openvino_ops import compiled, graph, openvino
from scanner.models.backends.ops import Ops

Network = Callable[[Ops[Any], Any], Any]
"""A network as ``segformer`` and ``chipnet`` describe it, its weights bound."""

SHAPES: Final = 4
"""Compiled graphs kept, one a shape of the input; a scan has one."""

PROBE: Final = 800
"""Pixels a side of the input that a network is checked with; nothing is computed."""


class Runner(Protocol):
    """A network on an engine."""

    @property
    def name(self) -> str:
        """Engine, its version and the precision, as a report tells it."""
        ...

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on a batch (n, channel, y, x)."""
        ...


class OpenVinoRunner:
    """A network compiled by OpenVINO, once for each shape of its input."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._threads = setup().threads
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    @property
    def name(self) -> str:
        """See :class:`Runner`."""
        return f"openvino {openvino().__version__.partition('-')[0]} f32"

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Runner`."""
        with turn():
            request = self._request(x.shape)
            # nothing is copied on the way in, and once on the way out: that memory is used again
            found = request.infer([np.ascontiguousarray(x)], share_inputs=True, share_outputs=True)
            return np.array(found[0])

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            model = graph(self._network, shape)
            self._requests[shape] = compiled(model, self._threads).create_infer_request()
            if len(self._requests) > SHAPES:
                self._requests.popitem(last=False)
        self._requests.move_to_end(shape)
        return self._requests[shape]


class TorchRunner:
    """A network computed by torch on the CPU."""

    def __init__(self, network: Network) -> None:
        from scanner.models.backends.torch_ops import TorchOps

        _limit_torch()
        self._network = network
        self._ops = TorchOps()

    @property
    def name(self) -> str:
        """See :class:`Runner`."""
        return torch_name("f32")

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Runner`."""
        import torch

        with turn(), torch.inference_mode():
            out: torch.Tensor = self._network(self._ops, self._ops.constant(x))
            return np.ascontiguousarray(out.numpy())


class ModuleRunner:
    """A network that only torch has a description of, on the CPU."""

    def __init__(self, module: Any) -> None:
        _limit_torch()
        self._module = module.eval()

    @property
    def name(self) -> str:
        """See :class:`Runner`."""
        return torch_name("f32")

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Runner`."""
        import torch

        with turn(), torch.inference_mode():
            out: torch.Tensor = self._module(torch.from_numpy(x))
            return np.ascontiguousarray(out.numpy())


def _limit_torch() -> None:
    """Give torch the threads set for this process, whatever its environment says of MKL's."""
    import torch

    if (threads := setup().threads) is not None:
        torch.set_num_threads(threads)


def torch_name(precision: str, device: str = "cpu") -> str:
    """Return what a report tells of an engine of torch."""
    import torch

    return f"torch {torch.__version__.partition('+')[0]} {precision} {device}"


def check_fits(network: Network, channels: int, side: int = PROBE) -> None:
    """Walk through a network once, computing nothing, so that each of its weights is looked at.

    Raises what ``Weights`` raises, or the engine, where weights and settings do not fit.
    """
    from scanner.models.backends.shape_ops import ShapeOps

    network(ShapeOps(), (1, channels, side, side))
