"""Which engine this process uses, and how many threads it may take; set once, in each worker.

``auto`` is a GPU where torch finds one, else OpenVINO where it is installed, else torch. It is
decided where the work is done: workers of a cluster need not be alike.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from scanner.errors import ConfigError
from scanner.models.backends.openvino_ops import openvino

Wanted = Literal["auto", "torch", "openvino"]
Kind = Literal["cuda", "openvino", "torch"]

DRIVERS: Final = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl")
"""What a machine with a driver for NVIDIA's GPUs has (Linux, WSL, Jetson)."""


@dataclass(frozen=True)
class Setup:
    """How models of this process are loaded."""

    backend: Wanted = "auto"
    threads: int | None = None
    """Threads of one forward pass on a CPU; ``None`` leaves it to the engine: all cores."""


_setup = Setup()


def setup() -> Setup:
    """Return what was last set for this process."""
    return _setup


def use(backend: Wanted | None = None, threads: int | None = None) -> None:
    """Set what models loaded from now on use; ``None`` leaves it as it was.

    torch's own count of threads is set at once where torch is loaded, else it will find it in its
    environment: to import torch for that alone would take seconds.
    """
    _set(
        Setup(
            _setup.backend if backend is None else backend,
            _setup.threads if threads is None else threads,
        )
    )


@contextmanager
def using(backend: Wanted, threads: int | None) -> Iterator[None]:
    """Use a backend and threads within the block, and what was set before after it."""
    before = _setup
    torch_threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    _set(Setup(backend, threads))
    try:
        yield
    finally:
        _set(before)
        if torch_threads is not None:
            sys.modules["torch"].set_num_threads(torch_threads)


def kind() -> Kind:
    """Return what models loaded now would run on; ``ConfigError`` if it is not installed."""
    wanted = _setup.backend
    if wanted != "openvino" and has_gpu():
        return "cuda"
    if wanted == "openvino":
        check(wanted)
    return "openvino" if wanted != "torch" and has_openvino() else "torch"


def resolved() -> tuple[Kind, int | None]:
    """Return engine and threads of models loaded now: what a cache of them goes by."""
    return kind(), _setup.threads


def check(wanted: Wanted) -> None:
    """Raise ``ConfigError`` where a backend asked for by name is not installed."""
    if wanted == "openvino" and not has_openvino():
        raise ConfigError(
            "--backend openvino: OpenVINO is not installed, or does not load here; "
            "pip install mining-scan[fast], or give --backend torch"
        )


@cache
def has_openvino() -> bool:
    """Return whether OpenVINO can be imported here."""
    try:
        openvino()
    except (ImportError, OSError):
        return False
    return True


@cache
def has_gpu() -> bool:
    """Return whether torch finds a GPU; it is not imported where there is no driver for one."""
    if not any(Path(path).exists() for path in DRIVERS) and shutil.which("nvidia-smi") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _set(wanted: Setup) -> None:
    global _setup
    _setup = wanted
    if wanted.threads is None:
        return
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(wanted.threads)
    else:
        os.environ["OMP_NUM_THREADS"] = str(wanted.threads)
