"""What ``make audit`` makes of pip-audit's answers: silence is never taken for health."""

from __future__ import annotations

import json

import pytest

from tests.security.audit import verdict

SOUND = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI"}
FLAWED = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
HOPELESS = {"name": "d", "version": "2", "vulns": [{"id": "CVE-2", "fix_versions": []}]}


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        ([SOUND], 0, "1 packages, 0 with known flaws"),
        ([SOUND, SKIPPED], 0, "1 packages, 0 with known flaws; 1 could not be looked up"),
        ([SOUND, FLAWED], 1, "c 2: CVE-1, fixed in 3"),
        ([HOPELESS], 1, "fixed in no version yet"),
        ([SKIPPED, SKIPPED], 3, "was not reached"),
        ([], 3, "was not reached"),
    ],
)
def test_a_verdict(packages: list[dict[str, object]], code: int, told: str) -> None:
    found, text = verdict(json.dumps({"dependencies": packages, "fixes": []}))
    assert found == code
    assert told in text


@pytest.mark.parametrize("answer", ["", "Traceback", "[]", "{}", "null"])
def test_no_answer_is_no_health(answer: str) -> None:
    assert verdict(answer)[0] == 3
