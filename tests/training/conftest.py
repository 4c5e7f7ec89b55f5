"""``mining-train`` called within a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from training import cli

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """``call(*args)`` runs ``mining-train`` here: (exit code, stdout, stderr)."""

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(arg) for arg in args])
        told = capsys.readouterr()
        return int(str(ended.value.code)), told.out, told.err

    return run


@pytest.fixture
def call_tiny(call: Call, tiny_models: dict[str, str]) -> Call:
    """``call_tiny(*args)`` does so with a tiny classifier."""
    return lambda *args: call(*args, "--classifier", tiny_models["classifier"])
