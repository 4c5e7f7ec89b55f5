"""mining-train as a command: quick help, one line for what is refused, the training options."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.errors import TrainingError
from training import cli
from training.recipe import ClassifierRecipe, SegmenterRecipe, make_recipe

Call = Callable[..., tuple[int, str, str]]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from training import cli\n"
        "try:\n    cli.main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'torch', 'lightning', 'rasterio', 'geopandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_subcommand_has_help(call: Call, name: str) -> None:
    code, out, _ = call(name, "--help")
    assert code == 0
    assert f"mining-train {name}" in out


def test_a_package_that_is_missing_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "predict", ("no_such_package:command", ""))
    code, _, err = call("predict")
    assert (code, err.count("\n")) == (2, 1)
    assert "no_such_package is missing" in err
    assert "pip install 'mining-scan[train]'" in err


def test_what_is_refused_is_told_on_one_line(call: Call, tmp_path: Path) -> None:
    code, _, err = call("classifier", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("mining-train: give either --dataset or --data")
    code, _, err = call("no-such-step")
    assert code == 2
    assert "no-such-step" in err


def test_a_wrong_value_is_named(call: Call, tmp_path: Path) -> None:
    given = ("classifier", "--dataset", tmp_path, "--out", tmp_path / "out")
    code, _, err = call(*given, "--dropout", "1.5")
    assert code == 2
    assert "dropout = 1.5" in err
    config = tmp_path / "recipe.toml"
    config.write_text('backbone = "vgg"\n', encoding="utf-8")
    code, _, err = call(*given, "--config", config)
    assert code == 2
    assert f"{config}: backbone = 'vgg'" in err


def test_the_shipped_recipe_takes_no_options_of_a_dataset(call: Call, tmp_path: Path) -> None:
    for kind in ("classifier", "segmenter"):
        code, _, err = call(kind, "--data", tmp_path, "--out", tmp_path / "out", "--epochs", 3)
        assert code == 2
        assert f"training/{kind}.toml" in err


def test_a_folder_that_is_no_dataset_is_named(call: Call, tmp_path: Path) -> None:
    code, _, err = call("classifier", "--dataset", tmp_path, "--out", tmp_path / "out")
    assert code == 2
    assert str(tmp_path) in err
    assert err.count("\n") == 1


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = 7\nbatch = 5\n", encoding="utf-8")
    recipe = make_recipe(ClassifierRecipe, path, {"batch": 9})
    assert (recipe.epochs, recipe.batch, recipe.backbone) == (7, 9, "resnet34")
    with pytest.raises(TrainingError, match="crop"):
        make_recipe(SegmenterRecipe, None, {"crop": 1})
    path.write_text("epochs = \n", encoding="utf-8")
    with pytest.raises(TrainingError, match="not TOML"):
        make_recipe(ClassifierRecipe, path, {})
