"""``mining-train evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanner.cli import Cut
from scanner.errors import ConfigError

if TYPE_CHECKING:
    from training.evaluate.samples import Samples

FILE = click.Path(path_type=Path)
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
FETCH = ("catalog", "collection", "date", "max_cloud")
"""Options only ``--coordinates`` takes."""
TOLD = 5
"""Failed rows named on the screen; validation_results.json names all."""


@click.command()
@click.option("--chips", type=FILE, metavar="FILE.parquet", help="Chips as of mine-chips.")
@click.option("--dataset", type=FILE, metavar="DIR", help="A dataset folder, or collected chips.")
@click.option(
    "--coordinates", type=FILE, metavar="FILE.csv", help="lat, lon, label; chips are fetched."
)
@click.option("--classifier", metavar="DIR", help="Classifier to judge  [shipped].")
@click.option("--out", type=FILE, metavar="DIR", required=True, help="Where the results go.")
@click.option(
    "--threshold", type=Cut(), help="Or balanced, high-recall, high-precision  [the card's]."
)
@click.option("--prior", type=SHARE, metavar="P", help="Share of mines to rescale scores to.")
@click.option("--split", type=click.Choice(["train", "val"]), default="val", help="[val]")
@click.option("--sample-size", type=click.IntRange(1), metavar="N", help="Rows drawn  [all].")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of every draw  [0].")
@click.option(
    "--bootstrap", type=click.IntRange(0), default=1000, metavar="N", help="Resamples  [1000]."
)
@click.option(
    "--training",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Parquet or CSV with lat, lon of what the classifier was trained with; rows within 1 km "
    "are flagged, and the others scored apart. May be given several times.",
)
@click.option("--catalog", metavar="NAME|URL|FILE", help="Where --coordinates fetches from.")
@click.option("--collection", metavar="ID", help="Its collection.")
@click.option("--date", metavar="START/END", help="Days to fetch  [last 6 months].")
@click.option("--max-cloud", type=float, metavar="%", help="Cloudier granules are left out  [60].")
@click.option("--workers", type=int, metavar="N", help="Processes that fetch  [one a core].")
@click.option("--retry-failed", is_flag=True, default=None, help="Try failed chips once more.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(out: Path, debug: bool, **given: Any) -> int:
    """Measure a classifier on labelled chips: --chips, --dataset or --coordinates.

    \b
    Into --out: metrics.json, validation_results.json (every row), scores.parquet, report.md,
    pr_curve.png, roc.png, reliability.png, worst_mistakes.png.

    Labels are mining, mine, positive, 1 or forest, not_mine, negative, 0; other ones are named and
    left out. Images that cannot be read, or fetched, are named and counted, never replaced. Larger
    images than a chip count by their middle. The same command again fetches only what is missing.
    """
    kinds = [name for name in ("chips", "dataset", "coordinates") if given[name] is not None]
    if len(kinds) != 1:
        raise ConfigError("give one of --chips, --dataset and --coordinates (see --help)")
    slips = [name for name in (*FETCH, "workers", "retry_failed") if given[name] is not None]
    if slips and kinds != ["coordinates"]:
        raise ConfigError(f"--{slips[0].replace('_', '-')} goes with --coordinates; leave it out")
    return _evaluate(out, kinds[0], given)


def _evaluate(out: Path, kind: str, given: dict[str, Any]) -> int:
    import numpy as np

    from scanner.models.classifier import load_classifier
    from training.evaluate.evaluation import Options, evaluate
    from training.places import read_places

    classifier = load_classifier(given["classifier"])
    options = Options(
        out,
        given["threshold"],
        given["prior"],
        given["bootstrap"],
        given["seed"],
        np.concatenate([read_places(path) for path in given["training"]])
        if given["training"]
        else None,
    )
    classifier.card.cut(options.threshold, options.prior)  # a wrong one is told before any work
    samples = _samples(out, kind, given, classifier.card)
    data = {"kind": kind, "path": given[kind].name, "sample_size": given["sample_size"]}
    if kind == "dataset":
        data["split"] = given["split"]
    metrics = evaluate(samples, classifier, options, data)
    _tell(metrics, out)
    return 0


def _samples(out: Path, kind: str, given: dict[str, Any], card: Any) -> Samples:
    from training.evaluate.samples import open_samples

    if kind == "coordinates":
        from training.evaluate.coordinates import fetch_known, read_known

        known = read_known(given[kind]).draw(given["sample_size"], given["seed"])
        search = {name: given[name] for name in FETCH if given[name] is not None}
        access = {name: given[name] for name in ("workers", "retry_failed")}
        return fetch_known(known, out / "chips", card, search, access)
    samples = open_samples(given[kind], given["split"]).labelled()
    return samples.draw(given["sample_size"], given["seed"])


def _tell(metrics: dict[str, Any], out: Path) -> None:
    import json

    data, overall, scale = metrics["data"], metrics["overall"], metrics["scores"]
    click.echo(
        f"{data['scored']} chips scored, {overall['mines']} of them mines; called mine from "
        f"{scale['threshold']:.4g} on, scores relative to {100 * scale['prevalence']:g} % mines"
    )
    sure = overall.get("confidence") or {}
    for name in ("roc_auc", "average_precision", "f1", "recall", "false_alarm_rate"):
        if overall[name] is not None:
            ends = sure.get(name)
            span = f"  ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
            click.echo(f"  {name.replace('_', ' '):18}{overall[name]:.3f}{span}")
    for name, count in data["other_labels"].items():
        click.echo(f"label {name}: {count} rows left out", err=True)
    if data["failed"]:
        failed = json.loads((out / "validation_results.json").read_text(encoding="utf-8"))["failed"]
        for row in failed[:TOLD]:
            click.echo(f"failed: {row['reason']}", err=True)
        click.echo(f"{len(failed)} rows failed, see validation_results.json", err=True)
    click.echo(f"results in {out}: metrics.json, report.md, validation_results.json, plots")
