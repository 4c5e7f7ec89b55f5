"""The command line as a user meets it, up to where pixels are read: help, and what is refused.

Scans by this command, and Ctrl-C, are in ``flow/test_command.py``.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scanner import cli
from scanner.config import ScanConfig
from tests.models_tiny import tiny_classifier, tiny_segmenter
from tests.synth import write_aoi, write_collection

BOUNDS = (-54.05, -7.05, -54.03, -7.03)
VRT = """<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand>
</VRTDataset>"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with an area and an empty list of items."""
    monkeypatch.chdir(tmp_path)
    write_aoi(tmp_path / "aoi.geojson", BOUNDS)
    write_collection(tmp_path / "none.json", [])
    return tmp_path


def process(*command, **options):
    """Run a command to its end, its output captured."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )


def one_line(text):
    """Return the one line there is, that names the program."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("mining-scan: ")
    assert "Traceback" not in text
    return lines[0]


# Help


def test_the_installed_command_answers():
    command = shutil.which("mining-scan", path=str(Path(sys.executable).parent))
    assert command, "mining-scan is not installed beside this Python"
    assert process(command, "--version").stdout.startswith("mining-scan, version ")
    done = process(command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--center" in done.stdout


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["--nope"], ["--workers", "x"]])
def test_help_and_slips_wait_for_no_heavy_import(args):
    script = (
        "import sys\n"
        "from scanner.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('LOADED', *sorted(m for m in sys.modules if '.' not in m))\n"
    )
    done = process(sys.executable, "-c", script, *args)
    loaded = set(done.stdout.rpartition("LOADED ")[2].split())
    assert "click" in loaded
    assert not loaded & {"torch", "rasterio", "dask", "numpy", "pydantic", "geopandas", "requests"}


def test_help_names_every_option_and_exit_code(call):
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    for parameter in cli.command.params:
        assert all(name in out for name in parameter.opts if name.startswith("--"))
    for number in ("0 done", "1 done, some tiles failed", "2 input", "3 the environment", "130"):
        assert number in " ".join(out.split())


# What is refused

AREAS = {
    "missing": (None, "does not exist"),
    "empty": ("", "is empty"),
    "text": ("hello", "not JSON"),
    "vrt": (VRT, "not JSON"),
    "list": ("[1, 2]", "GeoJSON"),
    "metres": (
        '{"type": "Polygon", "coordinates": [[[310000, 9220000], [320000, 9220000],'
        " [320000, 9230000], [310000, 9220000]]]}",
        "reproject",
    ),
    "point": ('{"type": "Point", "coordinates": [-54.0, -7.0]}', "Point"),
    "no features": ('{"type": "FeatureCollection", "features": []}', "holds no feature"),
}


@pytest.mark.parametrize("name", AREAS)
def test_an_area_that_is_none(name, here, call):
    text, fact = AREAS[name]
    if text is not None:
        (here / "area.geojson").write_text(text)
    code, out, err = call("area.geojson", "--catalog", "none.json")
    assert (code, out) == (2, "")
    line = one_line(err)
    assert "area.geojson" in line
    assert fact in line
    assert "root:" not in line
    assert not (here / "runs").exists()


OPTIONS = [
    ([], "--center"),
    (["aoi.geojson", "--center=-7,-54"], "not both"),
    (["aoi.geojson", "--radius", "5"], "--center LAT,LON"),
    (["--center=-7"], "--center=-14.2,-49.4"),
    (["--center=-7,-54,3"], "--center=-14.2,-49.4"),
    (["--center=a,b"], "--center=-14.2,-49.4"),
    (["--center=95,0"], "LAT,LON"),
    (["--center=-7,-54", "--date", "x"], "--date 'x'"),
    (["--center=nan,0"], "finite"),
    (["--center=-7,-54", "--radius", "0"], "radius_km"),
    (["--center=-7,-54", "--radius", "nan"], "radius_km"),
    (["--center=-7,-54", "--radius", "x"], "--radius"),
    (["aoi.geojson", "--date", "2024-06"], "--date '2024-06'"),
    (["aoi.geojson", "--date", "2024-06-31/2024-07-01"], "--date '2024-06-31/2024-07-01'"),
    (["aoi.geojson", "--date", "2024-07-01/2024-06-01"], "--date 2024-06-01/2024-07-01"),
    (["aoi.geojson", "--workers", "0"], "workers = 0"),
    (["aoi.geojson", "--workers", "-1"], "workers = -1"),
    (["aoi.geojson", "--workers", "10000"], "workers = 10000"),
    (["aoi.geojson", "--workers", "many"], "--workers"),
    (["aoi.geojson", "--threshold", "2"], "threshold = 2"),
    (["aoi.geojson", "--threshold", "nan"], "threshold = nan"),
    (["aoi.geojson", "--threshold", "sharp"], "threshold = 'sharp'"),
    (["aoi.geojson", "--prior", "0"], "prior = 0"),
    (["aoi.geojson", "--prior", "1"], "prior = 1"),
    (["aoi.geojson", "--prior", "nan"], "prior = nan"),
    (["aoi.geojson", "--max-scenes", "0"], "max_scenes = 0"),
    (["aoi.geojson", "--max-cloud", "101"], "max_cloud = 101"),
    (["aoi.geojson", "--min-clear", "-0.1"], "min_clear = -0.1"),
    (["aoi.geojson", "--composite", "mean"], "--composite"),
    (["aoi.geojson", "--engine", "gdal"], "--engine"),
    (["aoi.geojson", "--also", "gpkg,shp"], "also"),
    (["aoi.geojson", "--config", "absent.toml"], "absent.toml"),
    (["aoi.geojson", "--catalog", "planetary-computr"], "planetary-computr: no such file"),
    (["aoi.geojson", "--catalog", "ftp://example.org/"], "https"),
    (["aoi.geojson", "--catalog", "http://example.org/"], "plain http"),
    (["aoi.geojson", "--catalog", "https://me:secret@example.org/"], "user name"),
    (["aoi.geojson", "--classifier", "nowhere"], "nowhere"),
    (["aoi.geojson", "other.geojson"], "other.geojson"),
    (["aoi.geojson", "--nope"], "--nope"),
    (["aoi.geojson", "--out"], "--out"),
]


@pytest.mark.parametrize(("args", "fact"), OPTIONS, ids=[" ".join(a) for a, _ in OPTIONS])
def test_an_option_that_is_refused(args, fact, here, call):
    catalog = [] if "--catalog" in args or args[-1:] == ["--out"] else ["--catalog", "none.json"]
    code, out, err = call(*args, *catalog)
    assert (code, out) == (2, "")
    line = one_line(err)
    assert fact in line
    assert "secret" not in line
    assert not (here / "runs").exists()


CATALOGS = {
    "text": "hello",
    "empty": "",
    "list": "[]",
    "other object": '{"type": "Collection"}',
    "nan": '{"type": "FeatureCollection", "features": [NaN]}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("name", CATALOGS)
def test_a_catalog_file_that_is_none(name, here, call):
    (here / "items.json").write_text(CATALOGS[name])
    code, _, err = call("aoi.geojson", "--catalog", "items.json")
    assert code == 2
    assert "items.json" in one_line(err)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("aoi = ", "not TOML"),
        ("thresold = 0.5\n", "thresold"),
        ("[search]\ncloud = 3\n", "search.cloud"),
        ("[pixels]\nmax_scenes = 'six'\n", "pixels.max_scenes"),
        ("[run]\nworkers = 0\n", "run.workers"),
    ],
)
def test_a_config_file_that_is_refused(text, fact, here, call):
    (here / "mine.toml").write_text(text)
    code, _, err = call("aoi.geojson", "--config", "mine.toml", "--catalog", "none.json")
    assert code == 2
    line = one_line(err)
    assert "mine.toml" in line
    assert fact in line


def test_a_model_that_was_changed_or_is_a_pickle(here, call):
    changed = tiny_classifier(here / "changed") / "model.safetensors"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x07")
    code, _, err = call("aoi.geojson", "--catalog", "none.json", "--classifier", "changed")
    assert (code, "sha256" in one_line(err)) == (2, True)
    renamed = tiny_segmenter(here / "renamed") / "model.safetensors"
    renamed.write_bytes(pickle.dumps({"weights": list(range(100))}))
    code, _, err = call("aoi.geojson", "--catalog", "none.json", "--segmenter", "renamed")
    assert (code, "pickle" in one_line(err)) == (2, True)
    (here / "empty").mkdir()
    code, _, err = call("aoi.geojson", "--catalog", "none.json", "--classifier", "empty")
    assert (code, "card.json" in one_line(err)) == (2, True)


# A run folder that holds a run


@pytest.fixture
def begun(here, tiny_models):
    """Arguments of a run that froze its folder, and read nothing yet."""
    from scanner.run.pipeline import prepare

    values = {"aoi": here / "aoi.geojson", "catalog": "none.json", "out": here / "run"}
    prepare(ScanConfig().with_values(**values, **tiny_models))
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    return ["aoi.geojson", "--catalog", "none.json", "--out", "run", *models]


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        (["--max-scenes", "2"], "pixels.max_scenes"),
        (["--engine", "odc"], "pixels.engine"),
        (["--suspicious-share", "0.5"], "pixels.suspicious_share"),
        (["--max-cloud", "5"], "search.max_cloud"),
        (["--date", "2024-01-01/2024-02-01"], "search.date"),
        (["--center=-7.5,-54.5"], "not both"),
    ],
)
def test_changed_settings_in_a_run_folder_are_refused(change, setting, begun, here, call):
    before = {p.name: p.read_bytes() for p in (here / "run").iterdir()}
    code, out, err = call(*begun, *change)
    assert (code, out) == (2, "")
    line = one_line(err)
    assert setting in line
    assert "--fresh" in line or setting == "not both"
    assert {p.name: p.read_bytes() for p in (here / "run").iterdir()} == before


def test_another_area_in_a_run_folder_is_refused(begun, here, call):
    write_aoi(here / "other.geojson", (-54.15, -7.05, -54.13, -7.03))
    code, _, err = call("other.geojson", *begun[1:])
    assert code == 2
    assert "another area" in one_line(err)
    assert "--fresh" in err


# What the environment refuses


def test_a_run_folder_that_cannot_be_written(here, call, tiny_models):
    (here / "run").write_text("a file in the way")
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    for out in ("run", "run/deeper"):
        code, _, err = call("aoi.geojson", "--catalog", "none.json", "--out", out, *models)
        assert code == 3
        assert "cannot be written" in one_line(err)
    assert (here / "run").read_text() == "a file in the way"


def test_a_catalog_that_does_not_answer(here, tiny_models):
    models = [part for name, path in tiny_models.items() for part in (f"--{name}", path)]
    script = (
        "from scanner.imagery import stac_api; stac_api.BACKOFF_S = 0\n"
        "from scanner.cli import main; main()"
    )
    args = ["aoi.geojson", "--catalog", "http://127.0.0.1:9/stac", "--out", "run", *models]
    done = process(sys.executable, "-c", script, *args, cwd=here)
    assert (done.returncode, done.stdout) == (3, "")
    assert "127.0.0.1:9/stac" in one_line(done.stderr)
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    "settings", ['catalog = "{}"', 'catalog = "https://a.example"\ntoken_url = "{}/{{container}}"']
)
def test_a_key_in_an_address_is_refused_and_not_shown(settings, here, call):
    """It would be written into the run folder; the environment is the place for it."""
    told = settings.format("https://stac.example/v1?subscription-key=abc")
    (here / "there.toml").write_text(f"[search]\n{told}\n")
    code, _, err = call("aoi.geojson", "--config", "there.toml", "--out", "run")
    assert code == 2
    assert "holds a key" in one_line(err)
    assert "abc" not in err
    assert not (here / "run").exists()


def test_a_scheduler_that_does_not_answer(begun, here):
    script = (
        "from scanner.run import cluster; cluster.CONNECT_TIMEOUT = '200ms'\n"
        "from scanner.cli import main; main()"
    )
    args = [*begun, "--scheduler", "tcp://127.0.0.1:9"]
    done = process(sys.executable, "-c", script, *args, cwd=here)
    assert done.returncode == 2
    line = next(line for line in done.stderr.splitlines() if line.startswith("mining-scan: "))
    assert "--scheduler tcp://127.0.0.1:9: no scheduler answers" in line
    assert "Traceback" not in done.stderr


# What is shown


def test_a_south_western_place_is_not_taken_for_options(here, call):
    for args in (["--center=-14.2,-49.4"], ["--center", "-14.2,-49.4"]):
        code, _, err = call(*args, "--catalog", "absent.json")
        assert code == 2
        assert "absent.json: no such file" in one_line(err)


@pytest.mark.parametrize("args", [["absent.geojson"], ["--nope"]])
def test_debug_shows_the_traceback(args, here, call):
    plain = call(*args)
    code, _, err = call(*args, "--debug")
    assert code == plain[0] == 2
    assert err.startswith("Traceback")
    assert err.splitlines()[-1] == one_line(plain[2])


def test_what_nobody_expected_is_no_answer_and_no_flood(here, call, monkeypatch):
    def burst(*_):
        raise RuntimeError("at https://user:pw@host/B02.tif?sig=secret\nand more")

    monkeypatch.setattr("scanner.run.pipeline.prepare", burst)
    code, _, err = call("aoi.geojson", "--catalog", "none.json")
    assert code == 3
    assert "unexpected RuntimeError: at https://host/B02.tif" in one_line(err)
    code, _, debug = call("aoi.geojson", "--catalog", "none.json", "--debug")
    assert code == 3
    assert "in burst" in debug
    assert not any(secret in err + debug for secret in ("secret", "pw"))


def test_an_interrupt_before_anything_was_read(here, call, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("scanner.run.pipeline.prepare", interrupt)
    code, _, err = call("aoi.geojson", "--catalog", "none.json", "--fresh", "--out", "a b")
    assert code == 130
    told = "resume with: mining-scan aoi.geojson --catalog none.json --out 'a b'"
    assert err.splitlines()[-1] == f"interrupted; {told}"


def test_a_damaged_run_folder_names_the_file(begun, here, call):
    (here / "run" / "items.json").write_text(json.dumps({"type": "FeatureCollection"}))
    code, _, err = call(*begun)
    assert code == 3
    assert "items.json" in one_line(err)
    assert "--fresh" in err
    (here / "run" / "config.toml").write_text("[search]\nnew_setting = 1\n")
    code, _, err = call(*begun)
    assert code == 2
    assert "new_setting" in one_line(err)
