"""What the two models run on: windows to logits and classes, chips to logits."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scanner.models.backends.chipnet import relative
from scanner.models.backends.choose import kind
from scanner.models.backends.runners import (
    ModuleRunner,
    Network,
    OpenVinoRunner,
    Runner,
    TorchRunner,
)
from scanner.models.class_map import class_map


class Windows(Protocol):
    """An engine for a segmenter; input is scaled float32 (n, band, y, x)."""

    at_once: int
    """Windows worth handing in together: 1 on a CPU, where they go one by one anyway."""

    @property
    def name(self) -> str:
        """What a report tells of it, ``openvino 2026.4.1 f32``."""
        ...

    def logits(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 (n, class, y / 4, x / 4)."""
        ...

    def class_map(self, scaled: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the most probable class, uint8 (n, y, x).

        Raises ``FloatingPointError`` where logits are not numbers: the largest of them would be
        taken for background, no mine.
        """
        ...


class Chips(Protocol):
    """An engine for a classifier; input is scaled float32 (n, band, y, x)."""

    flips: int
    """How many of the eight symmetries of a square are looked at."""

    @property
    def name(self) -> str:
        """What a report tells of it."""
        ...

    def logits(self, scaled: NDArray[np.float32], views: range) -> NDArray[np.float32]:
        """Return the logit of each chip in some of its ``flips`` views, (n, view)."""
        ...


class WindowsOneByOne:
    """Windows through a runner one by one, so a result never depends on its neighbours."""

    at_once = 1

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @property
    def name(self) -> str:
        """See :class:`Windows`."""
        return self._runner.name

    def logits(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Windows`."""
        return np.concatenate([self._runner(window[None]) for window in scaled])

    def class_map(self, scaled: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See :class:`Windows`."""
        n, _, height, width = scaled.shape
        out = np.empty((n, height, width), np.uint8)
        for index in range(n):
            logits = self._runner(scaled[index : index + 1])[0]
            if not np.isfinite(logits).all():
                raise FloatingPointError("logits are not numbers")
            out[index] = class_map(logits, height, width)
        return out


class ChipsInTurn:
    """Chips through a runner, as many at once as give ``flips`` views.

    That is one chip in all its views, or four in two of eight: few views at once leave a CPU
    waiting for the weights (measured: 1.2 ms a view, 1.7 two at a time). The last few are filled
    up with the last one, so that a graph of one shape does for all; what comes of it is dropped.

    Args:
        runner: chips to logits (n, 1) or (n,).
        flips: how many of the eight symmetries of a square are looked at.
        with_relative: whether the runner takes relative copies of the bands as well.
    """

    def __init__(self, runner: Runner, flips: int, with_relative: bool) -> None:
        self.flips = flips
        self._runner = runner
        self._relative = with_relative

    @property
    def name(self) -> str:
        """See :class:`Chips`."""
        return self._runner.name

    def logits(self, scaled: NDArray[np.float32], views: range) -> NDArray[np.float32]:
        """See :class:`Chips`."""
        out = np.empty((len(scaled), len(views)), np.float32)
        together, last = max(1, self.flips // len(views)), len(scaled) - 1
        for first in range(0, len(scaled), together):
            chips = scaled[np.minimum(np.arange(first, first + together), last)]
            seen = flipped(relative(chips) if self._relative else chips, views)
            found = self._runner(seen).reshape(-1, len(views))
            out[first : first + together] = found[: len(out) - first]
        return out


def flipped(chips: NDArray[np.float32], views: range) -> NDArray[np.float32]:
    """Return some of the eight symmetries of chips (n, band, y, x), chip after chip."""
    turned = [(turn, mirrored) for turn in (0, 2, 1, 3) for mirrored in (False, True)]
    seen = [
        np.rot90(chips[..., ::-1] if mirrored else chips, turn, (2, 3))
        for turn, mirrored in turned[views.start : views.stop]
    ]
    return np.stack(seen, axis=1).reshape(-1, *chips.shape[1:])


def runner_for(network: Network) -> Runner:
    """Return a network on this process's engine for the CPU."""
    return OpenVinoRunner(network) if kind() == "openvino" else TorchRunner(network)


def windows_engine(network: Network) -> Windows:
    """Return a segmenter's network on this process's engine."""
    if kind() == "cuda":
        from scanner.models.backends.cuda import CudaWindows

        return CudaWindows(network)
    return WindowsOneByOne(runner_for(network))


def chips_engine(network: Network, flips: int, with_relative: bool) -> Chips:
    """Return a classifier's network on this process's engine."""
    if kind() == "cuda":
        from scanner.models.backends.cuda import CudaChips

        return CudaChips(network, flips, with_relative)
    return ChipsInTurn(runner_for(network), flips, with_relative)


def module_engine(module: object, flips: int) -> Chips:
    """Return a torch module of chips (n, band, y, x) -> (n,) as an engine, on the CPU."""
    return ChipsInTurn(ModuleRunner(module), flips, with_relative=False)
