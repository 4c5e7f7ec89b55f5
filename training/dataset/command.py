"""``mining-train dataset``: chips of many sources become one dataset folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)


@click.command(name="dataset")
@click.option(
    "--source", "sources", multiple=True, metavar="[NAME=]PATH", help="Chips that bring labels."
)
@click.option(
    "--positive",
    "positives",
    multiple=True,
    metavar="[NAME=]PATH",
    help="Chips, mines all of them.",
)
@click.option(
    "--negative", "negatives", multiple=True, metavar="[NAME=]PATH", help="Chips without a mine."
)
@click.option("--out", type=_PATH, required=True, metavar="DIR", help="Dataset folder to write.")
@click.option(
    "--hold-out", multiple=True, metavar="SOURCE", help="Source that judges and never trains."
)
@click.option(
    "--block-degrees",
    type=float,
    metavar="D",
    help="Split the others by squares of the map  [1, unless a source is held out].",
)
@click.option("--val-share", type=float, metavar="F", help="Share of blocks that judge  [0.15].")
@click.option("--leak-km", type=float, metavar="KM", help="Nearer than this is a leak  [1].")
@click.option(
    "--on-leak",
    type=click.Choice(["refuse", "drop"]),
    help="Stop at leaks, or leave them out of training  [refuse].",
)
@click.option(
    "--augment",
    type=click.Choice(["none", "light", "medium", "strong"]),
    help="How much copies differ  [medium with --copies].",
)
@click.option("--copies", type=int, metavar="N", help="Changed copies a training image  [0].")
@click.option(
    "--air",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Range of atmosphere taken off copies: 0 is L1C, 1 about L2A, below 0 is haze.",
)
@click.option("--style", type=_PATH, metavar="FILE", help="Style (JSON) to give every image.")
@click.option("--seed", type=int, metavar="N", help="[42]")
@click.option(
    "--skip-corrupt", is_flag=True, default=None, help="Leave out images that cannot be read."
)
@click.option(
    "--keep-review", is_flag=True, default=None, help="Take chips marked for review as well."
)
@click.option("--fresh", is_flag=True, help="Replace the dataset that is there.")
def command(
    sources: tuple[str, ...],
    positives: tuple[str, ...],
    negatives: tuple[str, ...],
    out: Path,
    style: Path | None,
    fresh: bool,
    **given: Any,
) -> None:
    """Make a dataset folder {train,val}/{positive,negative} of chips.

    PATH is a chip folder (mining-train collect), a folder of images with positive/ and negative/,
    a dataset folder, or a chips.parquet. NAME names the source of all its images; without it, the
    data say, or the folder's name counts. The split comes first, by whole sources (--hold-out) and
    by squares of the map; chips of both sides that show the same ground are refused. Started again
    after an interruption, it begins anew.
    """
    from training.dataset.build import build_dataset
    from training.dataset.folder import read_metadata
    from training.dataset.recipe import DatasetRecipe
    from training.recipe import checked

    specs = _specs(sources, None) + _specs(positives, 1) + _specs(negatives, 0)
    if not specs:
        raise click.UsageError("no chips; give --source, or --positive and --negative")
    raw = {name: value for name, value in given.items() if value is not None}
    if raw.get("copies") and "augment" not in raw:
        raw["augment"] = "medium"
    if style is not None:
        raw["style"] = read_metadata(style)
    metadata = build_dataset(specs, out, checked(DatasetRecipe, raw, "options"), fresh)
    _tell(metadata)


def _specs(given: tuple[str, ...], label: int | None) -> list[Any]:
    from training.dataset.sources import SourceSpec

    specs = []
    for text in given:
        name, equals, path = text.partition("=")
        named = bool(equals) and not Path(text).exists()  # a path may hold a "=" itself
        specs.append(SourceSpec(Path(path if named else text), label, name if named else None))
    return specs


def _tell(metadata: dict[str, Any]) -> None:
    for split, counts in metadata["counts"].items():
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        click.echo(f"{split}: {told}")
    for source in metadata["sources"]:
        for why, count in source["left_out"].items():
            click.echo(f"{source['path']}: {count} left out ({why})")
    leakage = metadata["leakage"]
    click.echo(
        f"leaks: {leakage['dropped']} left out of training; "
        f"{leakage['no_place']} chips without place are checked by pixels alone"
    )
    if metadata["corrupt"]["count"]:
        click.echo(f"corrupt: {metadata['corrupt']['count']} left out")
