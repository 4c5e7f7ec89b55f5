"""docs/scale.md says what its inputs and the plan's own arithmetic give."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from scanner.area.grid import Tile, Zone
from scanner.config import PixelConfig
from tests.benchmarks import basin


def test_the_page_is_what_its_inputs_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails, run ``python -m tests.benchmarks.basin``."""
    monkeypatch.setattr(sys, "argv", ["basin", "--out", str(tmp_path / "scale.md")])
    basin.main()
    page = (basin.DOCS / "scale.md").read_text(encoding="utf-8")
    assert (tmp_path / "scale.md").read_text(encoding="utf-8") == page


def test_the_basin_is_so_many_full_tiles() -> None:
    inputs = basin.Inputs(tomllib.loads((basin.DOCS / "scale.toml").read_text(encoding="utf-8")))
    one = [Tile(Zone(22, True), 20, 40)]
    area = basin.planned("one tile", one, inputs, PixelConfig())
    (tile,) = area.tiles
    found = basin.basin_of(area, inputs)
    assert found.tiles == pytest.approx(1.049 * 6.7e6 / 20.16**2, rel=0.001)
    assert found.bytes(0.0) == found.tiles * tile.scl_bytes
    assert found.bytes(1.0) == found.tiles * (tile.scl_bytes + tile.band_bytes)
    models = 9 * inputs["window_s"] + 0.2 * 1764 * inputs["chip_s"]
    hours = found.tiles * (tile.rest_s + models) / 3600
    assert found.core_hours(1.0, "window_s") == pytest.approx(hours)
    assert found.gpu_hours(0.5) == pytest.approx(found.tiles * 4.5 * 0.64 / 30 / 3600, rel=0.01)
