"""``mining-train style``: measure the look of a folder of images, and give it another."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)
_SKIP = click.option("--skip-corrupt", is_flag=True, help="Leave out images that cannot be read.")


@click.group(name="style", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Statistics and style of pictures."""


@command.command()
@click.argument("folder", type=_PATH)
@click.option("--out", type=_PATH, metavar="FILE", help="JSON to write  [to the screen].")
@click.option("--seed", type=int, default=42, metavar="N", help="[42]")
@_SKIP
def stats(folder: Path, out: Path | None, seed: int, skip_corrupt: bool) -> None:
    """Measure the images below FOLDER: r_mean, r_std, r_p2, r_p98 and so on, in 0..1."""
    import json

    from scanner.files import write_json
    from training.style import measure_folder

    measured = measure_folder(folder, seed, skip_corrupt)
    if out is None:
        click.echo(json.dumps(measured.statistics, indent=1))
        return
    write_json(out, measured.statistics)
    count = measured.statistics["n_images"]
    click.echo(f"{out}: {count} images, {len(measured.corrupt)} corrupt")


@command.command()
@click.argument("folder", type=_PATH)
@click.argument("out", type=_PATH)
@click.option(
    "--method",
    type=click.Choice(["match", "landsat", "stretch"]),
    required=True,
    help="Match percentiles, simulate a coarser sensor, or stretch the contrast.",
)
@click.option("--target", type=_PATH, metavar="FILE", help="Statistics to match (style stats).")
@click.option(
    "--source",
    type=_PATH,
    metavar="FILE",
    help="Statistics to start from  [those of all of FOLDER].",
)
@click.option("--per-chip", is_flag=True, help="Start from each image's own statistics instead.")
@_SKIP
def apply(
    folder: Path,
    out: Path,
    method: str,
    target: Path | None,
    source: Path | None,
    per_chip: bool,
    skip_corrupt: bool,
) -> None:
    """Write the images below FOLDER to OUT in another style.

    OUT/style.json is the style, for mining-train dataset --style and for a model card.
    """
    from scanner.files import write_json
    from training.dataset.folder import read_metadata
    from training.style import make_style, measure_folder, restyle_folder

    if method == "match" and target is None:
        raise click.UsageError("--method match needs --target; make it by: style stats FOLDER")
    if per_chip and source is not None:
        raise click.UsageError("give --source or --per-chip, not both")
    start = None
    if method != "landsat" and not per_chip:
        start = (
            read_metadata(source)
            if source is not None
            else measure_folder(folder, skip_corrupt=skip_corrupt).statistics
        )
    style = make_style(method, start, None if target is None else read_metadata(target))
    corrupt = restyle_folder(folder, out, style, skip_corrupt)
    write_json(out / "style.json", style)
    click.echo(f"{out}: {method}, {len(corrupt)} corrupt left out")
