"""``mining-train all`` and ``mining-train detect``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from scanner.cli import LatLon
from scanner.config import RunConfig, ScanConfig
from scanner.errors import TrainingError
from training.classic.recipe import STEPS, ClassicRecipe, DetectConfig, read_recipe
from training.recipe import checked
from training.train_command import quiet

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def around(function: Any) -> Any:
    """Add the options that say where and how detect looks."""
    options = [
        click.option("--center", type=LatLon(), help="Where to look, LAT,LON."),
        click.option("--radius", "radius_km", type=float, metavar="KM", help="Around it  [10]."),
        click.option(
            "--overview-size", type=int, metavar="PX", help="Pixels a side at most  [2048]."
        ),
        click.option(
            "--classification-distance",
            "classification_distance_km",
            type=float,
            metavar="KM",
            help="Side of a cell  [2.5].",
        ),
        click.option("--suspicious-share", type=float, metavar="F", help="...  [0.05]."),
        click.option("--threshold", type=float, metavar="P", help="Score that is mining."),
        click.option("--segmenter", metavar="DIR|HUB_ID", help="SegFormer to use  [shipped]."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("config", type=FILE, metavar="CONFIG.toml")
@click.option("--skip-data", is_flag=True, help="Leave out steps mines, forest and dataset.")
@click.option("--skip-training", is_flag=True, help="Leave out step train.")
@click.option(
    "--only", type=click.Choice(STEPS), multiple=True, help="These steps alone, in their order."
)
@click.option("--validate/--no-validate", default=None, help="Run the last step, or not.")
@around
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def everything(
    config: Path,
    skip_data: bool,
    skip_training: bool,
    only: tuple[str, ...],
    validate: bool | None,
    debug: bool,
    **options: Any,
) -> None:
    """Run the classic recipe: mines, forest, dataset, train, detect, validate.

    The same command again goes on where it was broken off. A step alone: --only STEP; one whose
    input is missing names the step to run. Detect is left out where no place is given.
    """
    quiet(debug)
    asked = read_recipe(config)
    asked = replace(asked, detect=_changed(asked.detect, options))
    chosen = _chosen(asked, skip_data, skip_training, only, validate)
    from training.classic import steps

    recipe = steps.Recipe(config, asked)
    for number, name in enumerate(chosen, 1):
        click.echo(f"step {number} of {len(chosen)}: {name}")
        if name == "dataset":
            steps.dataset(recipe, again=name in only)
        else:
            steps.RUN[name](recipe)


@click.command()
@around
@click.option("--classifier", metavar="DIR", help="Chip classifier to use  [shipped].")
@click.option("--catalog", metavar="NAME|URL|FILE", help="[planetary-computer]")
@click.option("--collection", metavar="ID", help="[sentinel-2-l2a]")
@click.option("--date", metavar="START/END", help="Days to search  [last 6 months].")
@click.option("--max-cloud", type=float, metavar="%", help="Cloudier granules are left out  [60].")
@click.option("--workers", type=int, metavar="N", help="Processes that fetch chips.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def detect(classifier: str | None, out: Path, debug: bool, **options: Any) -> None:
    """Look for mines around a point: an overview, and a chip of each suspicious cell.

    Into DIR: detections.parquet and .csv, cells.parquet, overview.png, overview_grid.png (mining
    red, clean green, unseen grey), detect.json. mining-scan does whole areas, cell by cell.
    """
    quiet(debug, trains=False)
    names = ("catalog", "collection", "date", "max_cloud")
    search = {name: options.pop(name) for name in names}
    given = {name: value for name, value in search.items() if value is not None}
    settings = ScanConfig().with_values(workers=options.pop("workers"), **given)
    wanted = _changed(DetectConfig(), options)
    _ = wanted.place
    from training.classic.detect import detect as look_around
    from training.collect.fetch import Access

    run: RunConfig = settings.run
    found = look_around(
        wanted, settings.search, out, wanted.segmenter, classifier, access=Access(run)
    )
    click.echo(f"{len(found)} mining cells; results in {out}")


def _changed(detect: DetectConfig, options: dict[str, Any]) -> DetectConfig:
    given = {name: value for name, value in options.items() if value is not None}
    return checked(DetectConfig, asdict(detect) | given, "options")


def _chosen(
    asked: ClassicRecipe,
    skip_data: bool,
    skip_training: bool,
    only: tuple[str, ...],
    validate: bool | None,
) -> list[str]:
    """Return the steps to run, in order."""
    if only:
        if skip_data or skip_training:
            raise TrainingError(
                "--only goes without --skip-data and --skip-training; leave one out"
            )
        return [name for name in STEPS if name in only]
    left_out = {"mines", "forest", "dataset"} if skip_data else set()
    left_out |= {"train"} if skip_training else set()
    if asked.detect.center is None:
        click.echo("no place to look at, so detect is left out; give --center LAT,LON", err=True)
        left_out.add("detect")
    if not (asked.validate.run if validate is None else validate):
        left_out.add("validate")
    return [name for name in STEPS if name not in left_out]
