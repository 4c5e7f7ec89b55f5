"""Parsers under inputs changed at random, every finding kept, and the fuzzer itself."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import run, targets
from tests.fuzz.changes import changed
from tests.fuzz.targets import TARGETS, Target

QUICK = [name for name, target in TARGETS.items() if not target.slow]
CASES = sorted(path for path in run.CASES.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_no_findings(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert len(seeds) > 1
    for data in seeds:
        TARGETS[name].check(data)


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_stays_mended(path: Path) -> None:
    with warnings.catch_warnings():
        targets.warnings_are_findings()
        TARGETS[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("name", QUICK)
def test_changed_inputs(name: str) -> None:
    target, seeds = TARGETS[name], TARGETS[name].seeds()

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(0, len(seeds) - 1), st.integers(0, 2**32))
    def check(which: int, seed: int) -> None:
        data = changed(seeds[which], target.form, Random(seed))
        try:
            target.check(data)
        except Exception as error:
            error.add_note(f"input: {data[:2000]!r}")
            raise

    check()


def test_changed_files_of_other_formats() -> None:
    target, rng = TARGETS["vectors"], Random(7)
    seeds = target.seeds()
    for count in range(12):
        target.check(changed(seeds[count % len(seeds)], target.form, rng))


def test_a_finding_is_kept_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails_on_odd(data: bytes) -> None:
        assert len(data) % 2 == 0

    monkeypatch.setitem(TARGETS, "odd", Target(fails_on_odd, lambda: [b"ab"]))
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "seed").write_bytes(b"abcd")
    with pytest.raises(SystemExit, match=r"odd: FINDING, see .*crash-") as ended:
        run.blind("odd", tmp_path, 60, 1)
    assert ended.value.code != 0
    (kept,) = tmp_path.glob("crash-*")
    assert len(kept.read_bytes()) % 2 == 1
    assert "in fails_on_odd" in capsys.readouterr().err
    monkeypatch.setitem(TARGETS, "odd", Target(lambda data: None, lambda: [b"ab"]))
    assert "no finding" in run.blind("odd", tmp_path, 1, 1)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris cannot be imported here"
)
def test_the_guided_fuzzer_runs(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "seed").write_bytes(b"https://host/a.tif?sig=x")
    figures = run.watched("hrefs", tmp_path, 5, 1)
    assert "no finding" in figures
    assert int(figures.split()[0]) > 100
