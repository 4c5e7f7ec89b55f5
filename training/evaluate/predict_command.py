"""``mining-train predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanner.cli import Cut
from scanner.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

FILE = click.Path(path_type=Path)
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command()
@click.argument("images", type=FILE, metavar="IMAGE|FOLDER|PARQUET")
@click.option("--classifier", metavar="DIR", help="Classifier to use  [shipped].")
@click.option(
    "--threshold", type=Cut(), help="Or balanced, high-recall, high-precision  [the card's]."
)
@click.option("--prior", type=SHARE, metavar="P", help="Share of mines to rescale scores to.")
@click.option("--out", type=FILE, metavar="FILE", help="A .csv or .json file  [print it].")
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), help="[by --out, else csv]")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(images: Path, out: Path | None, kind: str | None, debug: bool, **given: Any) -> int:
    """Classify an image, every image in a folder and below, or a parquet of chips.

    For each: probability, label (mining or forest), is_mining, and an error where the image cannot
    be used; the exit code is then 1, or 2 if not one can.

    An image of the classifier's chip size is taken as it is. Of a larger one the middle is taken,
    at 10 m a pixel, and never a resized copy; a smaller one is refused. To search a wider area, use
    mining-scan. A jpg, png or webp, and an 8-bit tif, is red, green, blue with white at reflectance
    0.3; a 16-bit tif is reflectance * 10000 with named bands.
    """
    suffix = out.suffix.lower().lstrip(".") if out else "csv"
    if kind is None and suffix not in ("csv", "json"):
        raise ConfigError(f"--out {out}: neither .csv nor .json; rename it, or give --format")
    table, cropped = _predict(images, given)
    text = _text(table, kind or suffix)
    if out is None:
        click.echo(text, nl=False)
    else:
        from scanner.files import write_text

        write_text(out, text)
    failed = table[table["error"].notna()]
    for reason in failed["error"]:
        click.echo(f"failed: {reason}", err=True)
    if cropped:
        click.echo(f"{cropped} images are larger than a chip: their middle counts", err=True)
    if len(failed):
        click.echo(f"{len(failed)} of {len(table)} images could not be used", err=True)
    return 0 if failed.empty else 1 if len(failed) < len(table) else 2


def _predict(images: Path, given: dict[str, Any]) -> tuple[pd.DataFrame, int]:
    import pandas as pd

    from scanner.models.classifier import load_classifier
    from training.evaluate.evaluation import scored_with_bar
    from training.evaluate.predict import judged
    from training.evaluate.samples import open_samples

    classifier = load_classifier(given["classifier"])
    cut = classifier.card.cut(given["threshold"], given["prior"])
    samples = open_samples(images)
    scored = scored_with_bar(samples, classifier, given["prior"])
    table = pd.concat([samples.table[["sample_id"]], judged(scored.scores, cut)], axis=1)
    table = table.rename(columns={"sample_id": "image"})
    table["error"] = pd.Series(scored.reasons, index=table.index, dtype=object)
    return table, scored.cropped


def _text(table: pd.DataFrame, kind: str) -> str:
    import json

    if kind == "csv":
        return table.to_csv(index=False, lineterminator="\n")
    plain = table.astype(object).where(table.notna(), None)
    return json.dumps(plain.to_dict("records"), indent=1, allow_nan=False) + "\n"
