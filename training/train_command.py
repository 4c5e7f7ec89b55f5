"""``mining-train classifier`` and ``mining-train segmenter``: what is asked for, to what is run."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from scanner.errors import TrainingError
from training.recipe import ClassifierRecipe, SegmenterRecipe, make_recipe

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def common(function: Any) -> Any:
    """Add the options both models share."""
    options = [
        click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR"),
        click.option("--config", type=FILE, metavar="FILE.toml", help="The recipe as a file."),
        click.option("--epochs", type=int, metavar="N", help="Epochs at most  [300]."),
        click.option("--batch", type=int, metavar="N", help="Images a step  [16]."),
        click.option("--rate", type=float, metavar="R", help="Learning rate  [1e-4]."),
        click.option("--optimizer", type=click.Choice(["adam", "adamw"]), help="[adam]"),
        click.option(
            "--schedule", type=click.Choice(["plateau", "one-cycle", "constant"]), help="[plateau]"
        ),
        click.option("--stop-after", type=int, metavar="N", help="Epochs without progress  [10]."),
        click.option("--ema", type=float, metavar="D", help="Decay of averaged weights  [none]."),
        click.option(
            "--augment", type=click.Choice(["none", "light", "medium", "strong"]), metavar="LEVEL"
        ),
        click.option("--seed", type=int, metavar="N", help="[42]"),
        click.option("--workers", type=int, metavar="N", help="Processes that read images  [0]."),
        click.option("--devices", type=int, metavar="N", help="GPUs to use  [all]."),
        click.option(
            "--precision",
            type=click.Choice(["auto", "bf16-mixed", "16-mixed", "32-true"]),
            help="[auto]",
        ),
        click.option(
            "--skip-corrupt", is_flag=True, default=None, help="Leave unreadable images out."
        ),
        click.option("--runs", type=click.Path(path_type=Path), help="Scratch of --data."),
        click.option("--debug", is_flag=True, help="Show tracebacks."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.option("--dataset", type=FOLDER, metavar="FOLDER", help="A dataset folder to train on.")
@click.option("--data", type=FOLDER, metavar="FOLDER", help="Train the shipped model anew of this.")
@click.option(
    "--backbone",
    type=click.Choice(["narrow", "resnet18", "resnet34", "efficientnet_b0"]),
    help="[resnet34]",
)
@click.option(
    "--pretrained",
    type=click.Choice(["auto", "required", "no"]),
    help="ImageNet weights: where reachable, or else stop, or never  [auto].",
)
@click.option(
    "--init", metavar="PATH", help="Self-supervised weights, or unlabelled images to make them of."
)
@click.option("--init-epochs", type=int, metavar="N", help="Epochs on unlabelled images  [20].")
@click.option("--input-size", type=int, metavar="PX", help="Chips are resized to this  [224].")
@click.option("--dropout", type=float, metavar="P", help="[0.5]")
@click.option("--balance", type=click.Choice(["weight", "sample", "none"]), help="[weight]")
@click.option("--threshold", type=float, metavar="P", help="Score that is a mine  [0.5].")
@click.option("--prevalence", type=float, metavar="P", help="Share of mines scores are meant for.")
@common
def classifier(dataset: Path | None, data: Path | None, debug: bool, **options: Any) -> None:
    """Train a classifier of chips, mine or not.

    --dataset: on a folder {train,val}/{positive,negative}, as mining-train dataset makes it. Killed
    or interrupted, the same command goes on from its last epoch. --data: the shipped model again.
    """
    _one_of("--dataset", dataset, "--data", data)
    out, config, runs, given = _taken(options)
    if data is not None:
        _shipped("classifier", data, out, config, runs, given, debug)
        return
    recipe = make_recipe(ClassifierRecipe, config, given)
    quiet(debug)
    from training.finetune.classifier import train_classifier

    assert dataset is not None  # noqa: S101 - one of the two is given
    train_classifier(dataset, out, recipe)
    click.echo(f"model in {out}: card.json, model.safetensors; history in {out / 'run'}")


@click.command()
@click.option("--images", type=FOLDER, metavar="FOLDER", help="Images: jpg, png or tif.")
@click.option("--masks", type=FOLDER, metavar="FOLDER", help="Class maps of the same file stems.")
@click.option("--data", type=FOLDER, metavar="FOLDER", help="Train the shipped model anew of this.")
@click.option("--from", "start", metavar="ID|DIR|b0", help="What to begin with  [b0: nothing].")
@click.option("--crop", type=int, metavar="PX", help="Side of a training window  [256].")
@click.option("--validation", type=float, metavar="F", help="Share of images that judge  [0.15].")
@common
def segmenter(
    images: Path | None, masks: Path | None, data: Path | None, debug: bool, **options: Any
) -> None:
    """Train a SegFormer of seven classes.

    Masks hold 0 background, 1 building, 2 road, 3 water, 4 barren, 5 forest, 6 agriculture, and 255
    where nothing is known. --from takes a hub id or a directory. --data: the shipped model again.
    """
    _one_of("--images with --masks", images, "--data", data)
    if (images is None) != (masks is None):
        raise TrainingError("--images goes with --masks; give both")
    out, config, runs, given = _taken(options)
    if data is not None:
        _shipped("segmenter", data, out, config, runs, given, debug)
        return
    recipe = make_recipe(SegmenterRecipe, config, given)
    quiet(debug)
    from training.finetune.segmenter import train_segmenter

    assert images is not None and masks is not None  # noqa: S101, PT018 - checked above
    train_segmenter(images, masks, out, recipe)
    click.echo(f"model in {out}: card.json, model.safetensors; history in {out / 'run'}")


def _one_of(first: str, one: Path | None, second: str, other: Path | None) -> None:
    if (one is None) == (other is None):
        raise TrainingError(f"give either {first} or {second}, and not both")


def _taken(options: dict[str, Any]) -> tuple[Path, Path | None, Path | None, dict[str, Any]]:
    """Return --out, --config, --runs and what is left that was given."""
    out, config, runs = (options.pop(name) for name in ("out", "config", "runs"))
    return out, config, runs, {k: v for k, v in options.items() if v is not None}


def quiet(debug: bool, trains: bool = True) -> None:
    """Warnings on one line each; Lightning's remarks only with ``--debug``."""
    import warnings

    if trains:
        import_module("lightning.pytorch")  # sets its loggers up when it is imported
    logging.basicConfig(format="%(message)s", level=logging.INFO if debug else logging.WARNING)
    if not debug:
        for name in ("lightning.pytorch", "lightning.fabric", "torch.distributed"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*treespec.*")


def _shipped(
    kind: str,
    data: Path,
    out: Path,
    config: Path | None,
    runs: Path | None,
    given: dict[str, Any],
    debug: bool,
) -> None:
    """Run the recipe of a shipped model, whose settings are all in its TOML."""
    if given:
        name = next(iter(given)).replace("_", "-")
        raise TrainingError(
            f"--{name}: the shipped {kind}'s settings are in training/{kind}.toml; "
            "change a copy of it and give it with --config"
        )
    quiet(debug)
    args = ["--data", str(data), "--out", str(out)]
    args += ["--config", str(config)] if config else []
    args += ["--runs", str(runs)] if runs else []
    import_module(f"training.{kind}").main(args)
