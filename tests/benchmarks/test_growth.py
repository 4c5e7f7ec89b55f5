"""The benchmark of growth goes on running where the scan's own parts change."""

from __future__ import annotations

import pytest

from tests.benchmarks.growth_dry import dry_run


@pytest.mark.slow
def test_a_dry_run_holds_nothing_of_what_is_done() -> None:
    told = dry_run(count=120, workers=1, apart=False, stop_s=300)
    assert told["tiles"] == 120
    first, last = told["looks"]
    assert (first["tiles"], last["tiles"]) == (100, 120)
    assert last["tasks"] <= 8
    assert last["groups"] <= first["groups"]
