"""What all tests share: the loopback servers, tiny models, and where the real imagery lies."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from scanner import cli
from tests.models_tiny import tiny_classifier, tiny_segmenter

pytest_plugins = ["tests.servers.fixtures", "tests.scan_fixtures"]

settings.register_profile(
    "quiet",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quiet")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real imagery beside the repository; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("MINING_SCAN_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "README.md").is_file():
        pytest.skip(f"no real imagery at {path} (set MINING_SCAN_DATA)")
    return path


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings that name a pair of tiny models with random weights."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "segmenter": str(tiny_segmenter(folder / "segmenter")),
        "classifier": str(tiny_classifier(folder / "classifier")),
    }


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """``call(*args)`` runs the command here and returns (exit code, stdout, stderr)."""
    monkeypatch.setattr(logging.getLogger("urllib3"), "setLevel", lambda _: None)

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(arg) for arg in args])
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err

    return run
