"""The files of a model directory: small JSON and safetensors, and nothing that can run code."""

from __future__ import annotations

import hashlib
import json
import stat
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from scanner.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

    from numpy.typing import NDArray
    from torch import Tensor

CARD_FILE: Final = "card.json"
WEIGHTS_FILE: Final = "model.safetensors"
MAX_CARD_BYTES: Final = 1 << 20
MAX_WEIGHTS_BYTES: Final = 1 << 30


def shipped(kind: str) -> Path:
    """Return the directory of the model that comes with the package."""
    return Path(str(files("scanner"))) / "weights" / kind


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON object of a model directory; ``ModelError`` if it is none."""
    try:
        with _regular(path) as file:
            data = file.read(MAX_CARD_BYTES + 1)
        if len(data) > MAX_CARD_BYTES:
            raise ModelError(f"{path}: too large, at most {MAX_CARD_BYTES} bytes; this is no card")
        raw = json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror or error}); give a model directory"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({str(error)[:100]}); fetch the model again") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path}: JSON, but no object; fetch the model again")
    return raw


def weights_digest(path: Path) -> str:
    """Return the sha256 of a safetensors file; ``ModelError`` if there is none."""
    try:
        with _regular(path) as file:
            size = path.stat().st_size
            if size > MAX_WEIGHTS_BYTES:
                raise ModelError(
                    f"{path}: {size} bytes, at most {MAX_WEIGHTS_BYTES} are read; "
                    "use a smaller model"
                )
            head = file.read(9)
            if len(head) < 9 or head[8:] != b"{" or int.from_bytes(head[:8], "little") > size - 8:
                raise ModelError(
                    f"{path}: no safetensors file (a pickle renamed, or cut short); "
                    "save the weights with safetensors"
                )
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror or error}); "
            f"give a directory with {WEIGHTS_FILE}"
        ) from error


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file, from the very bytes whose digest is checked."""
    from safetensors.torch import load

    tensors: dict[str, Tensor] = _parsed(path, sha256, load)
    return tensors


def read_arrays(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Return the same as numpy arrays, without torch, which takes seconds to import."""
    from safetensors.numpy import load

    try:
        arrays: dict[str, NDArray[Any]] = _parsed(path, sha256, load)
    except KeyError:  # a type numpy has no name for, as bfloat16
        tensors = read_weights(path, sha256)
        arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    return arrays


def _parsed(path: Path, sha256: str, load: Callable[[bytes], Any]) -> Any:
    from safetensors import SafetensorError

    with _regular(path) as file:
        data = file.read(MAX_WEIGHTS_BYTES + 1)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{path}: changed while it was read; run again")
    try:
        return load(data)
    except SafetensorError as error:
        raise ModelError(
            f"{path}: not read as safetensors ({error}); fetch the model again"
        ) from error


def shown(value: Any) -> str:
    """Return a value of a card as a message may show it: short, on one line."""
    return repr(value)[:80]


def first_problem(error: ValidationError) -> str:
    """Return what pydantic found first: where it stands, what stands there, what is wrong."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{shown(where)} = {shown(first.get('input'))}: {first['msg']}"


def _regular(path: Path) -> BufferedReader:
    """Open a file; ``OSError`` for a device or pipe, which would have no end or no beginning."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "no regular file")
    return path.open("rb")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
