"""Settings: checked, frozen, TOML in and out, one digest everywhere."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.config import ScanConfig, digest
from scanner.errors import ConfigError


def test_toml_round_trip(tmp_path):
    config = ScanConfig().with_values(
        center=(-14.2, -49.4), max_scenes=3, hosts=("a.b",), threshold=0.4, out=tmp_path / "x y"
    )
    path = tmp_path / "c.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert ScanConfig.from_toml(path) == config


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[pixels]\nmax_scenes = 0", "pixels.max_scenes = 0"),
        ("[pixels]\nspeed = 1", "pixels.speed"),
        ("[report]\nthreshold = 1.5", "report.threshold = 1.5"),
        ("[run]\nworkers = -1", "run.workers = -1"),
        ("[pixels]\ncomposite = 'mean'", "pixels.composite"),
        ("colour = 'red'", "colour"),
        ("[pixels", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path, text, named):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        ScanConfig.from_toml(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ScanConfig().pixels.max_scenes = 2


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_digest_knows_no_order(values):
    assert digest(values) == digest(dict(reversed(list(values.items()))))
