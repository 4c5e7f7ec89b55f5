"""Config files made to harm: settings are data, and each of these is refused by one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanner.config import ScanConfig
from scanner.errors import ConfigError

HOSTILE = {
    "nested lists": "x = " + "[" * 50_000,
    "nested tables": "x = " + "{a=" * 5_000,
    "a number of 5,000 digits": "radius_km = " + "9" * 5_000,
    "a number of 400 digits": "radius_km = " + "9" * 400,
    "bytes": "\x00\x01\x02",
    "half a character": 'aoi = "\\ud800"',
    "a key twice": "radius_km = 1\nradius_km = 2",
    "not a number": "[pixels]\nsuspicious_share = nan",
    "no end": "radius_km = inf",
    "too large": "radius_km = 1e999",
    "a class": '[pixels]\nsegmenter = {class = "os.system"}',
    "python's own": '__class__ = "x"',
    "a name of ours": 'to_toml = "x"',
    "an unknown group": "[shell]\ncommand = 1",
    "an unknown setting": '[run]\nplugin = "os.system"',
    "a setting of Dask's": '[run]\npreload = "harm.py"',
    "a date": "[search]\ndate = 2024-01-01",
    "a path for a language": '[report]\nlang = "../../etc"',
    "a list for a path": '[run]\nout = ["x"]',
    "a million workers": "[run]\nworkers = 1000000",
    "no workers": "[run]\nworkers = 0",
    "a thousand scenes": "[pixels]\nmax_scenes = 1000",
    "another engine": '[pixels]\nengine = "os"',
    "a format with a path": '[report]\nalso = ["../csv"]',
    "text for a certificate": "[run]\ntls_ca = 5",
    "a word for a switch": '[run]\ntrusted_network = "certainly"',
    "SCL that is none": "[pixels]\nclear_scl = [12]",
    "score beyond one": "[report]\nthreshold = 1.5",
    "no score": "[report]\nthreshold = nan",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_toml_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "there.toml"
    path.write_text(HOSTILE[name], encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        ScanConfig.from_toml(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert len(text.splitlines()) == 1
    assert len(text) < 600
    assert caught.value.exit_code == 2


def test_what_is_read_is_data_and_is_written_back_the_same(tmp_path: Path) -> None:
    """Text that would run elsewhere (a shell, a template, a spreadsheet) is text here."""
    path = tmp_path / "there.toml"
    text = "$(id) `id` {{7*7}} %(x)s !!python/object:os.system =1+1"
    path.write_text(f"[search]\ncatalog = '{text}'\n")
    config = ScanConfig.from_toml(path)
    assert config.search.catalog == text
    path.write_text(config.to_toml())
    assert ScanConfig.from_toml(path) == config
