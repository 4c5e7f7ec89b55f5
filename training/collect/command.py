"""The command ``mining-train collect``: mines, forest, images; heavy imports wait inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.collect.options import FILE, LABELS, Job, Numbers, need, set_logging, shared
from training.collect.told import TOLD, progress, summary, warn

if TYPE_CHECKING:
    from training.collect.areas import Area, KeepOff
    from training.collect.places import Place


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def command() -> None:
    """Fetch chips of mines and of forest, or take over local pictures, into a chip folder.

    The folder holds index.parquet, chips/ and manifest.sqlite. Several calls fill one folder; all
    its fetched chips are made alike. The same command again goes on where the last one ended.
    """


@command.command()
@click.option(
    "--csv",
    "tables",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="Coordinates; columns lat and lon are found by name.",
)
@click.option("--polygons", multiple=True, type=FILE, metavar="FILE", help="GeoJSON polygons.")
@click.option(
    "--points",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Random points in each polygon  [its middle].",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--bounds", type=Numbers("W,S,E,N"), help="Places outside are skipped, counted.")
@click.option("--label", type=click.Choice(list(LABELS)), default="mine", show_default=True)
@click.option("--source", metavar="NAME", help="Name of the source  [each file's].")
@shared
def mines(
    job: Job,
    tables: Sequence[Path],
    polygons: Sequence[Path],
    points: int,
    seed: int,
    bounds: tuple[float, float, float, float] | None,
    label: str,
    source: str | None,
) -> int:
    """Fetch chips of known places, from CSV tables or polygons."""
    need([*tables, *polygons], "--csv FILE or --polygons FILE")
    from training.collect.fetch import fetch_chips
    from training.collect.places import in_polygons, read_csv

    mark = LABELS[label]
    places: list[Place] = []
    for path in tables:
        found = read_csv(path, mark, source or path.stem, bounds)
        warn(found.told(path))
        places += found.places
    for path in polygons:
        found = in_polygons(path, mark, source or path.stem, bounds, points=points, seed=seed)
        warn(found.told(path))
        places += found.places
    need(places, "files with good places within the bounds")
    with progress(len(places)) as tell:
        index = fetch_chips(places, job.search, job.out, access=job.access, tell=tell, **job.chip)
    return summary(job.out, len(index))


@command.command()
@click.option(
    "--polygons",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="Protected area, one a GeoJSON file.",
)
@click.option(
    "--circles",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="CSV with lat, lon, km and maybe name.",
)
@click.option("--circle", "own", multiple=True, type=Numbers("LAT,LON,KM"), help="A circle.")
@click.option("--samples", type=int, default=800, show_default=True, help="Chips wanted.")
@click.option("--attempts", type=int, default=10, show_default=True, help="Points tried for each.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--spacing-km", type=float, default=5, show_default=True, help="Least distance between samples."
)
@click.option(
    "--away-from", multiple=True, type=FILE, metavar="FILE", help="Known mines, CSV or GeoJSON."
)
@click.option("--away-km", type=float, default=10, show_default=True)
@click.option("--towns", multiple=True, type=FILE, metavar="FILE", help="Towns, CSV or GeoJSON.")
@click.option("--towns-km", type=float, default=10, show_default=True)
@click.option(
    "--classifier",
    metavar="DIR|none",
    help="Model that looks for mines among the samples  [shipped].",
)
@click.option(
    "--review-from",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Score from which a sample is listed  [the model's threshold].",
)
@shared
def forest(job: Job, **options: Any) -> int:
    """Fetch random samples of protected ground."""
    from training.collect.forest import Draw, collect_forest

    areas, keep_off = _areas(options), _keep_off(options)
    draw = Draw(**{n: options[n] for n in ("samples", "attempts", "seed", "spacing_km")})
    classifier = _classifier(options["classifier"])  # a wrong one is told before pixels are read
    with progress(draw.samples) as tell:
        done = collect_forest(
            areas, job.search, job.out, draw=draw, keep_off=keep_off,
            access=job.access, tell=tell, **job.chip,
        )  # fmt: skip
    warn(f"no sample in {text}" for text in done.without[:TOLD])
    if len(done.without) > TOLD:
        warn([f"and {len(done.without) - TOLD} more samples that could not be had"])
    if classifier is not None:
        from training.collect.review import REVIEW_FILE, review

        listed = review(job.out, done.index.chip_id, classifier, options["review_from"])
        click.echo(f"likely mines among forest samples: {len(listed)}, see {job.out / REVIEW_FILE}")
    return summary(job.out, len(done.index))


@command.command()
@click.argument("folder", type=FILE)
@click.option("--out", type=FILE, default=Path("chips"), metavar="DIR", show_default=True)
@click.option("--label", type=click.Choice(list(LABELS)), required=True)
@click.option("--source", metavar="NAME", help="Name of the source  [the folder's].")
@click.option(
    "--brightness",
    type=Numbers("LOW,HIGH"),
    default=(20.0, 230.0),
    help="Kept if the picture's mean lies between  [20,230].",
)
@click.option("--retry-failed", is_flag=True, help="Try failed pictures again.")
@click.option("--debug", is_flag=True, help="Log more, and show tracebacks.")
def images(
    folder: Path,
    out: Path,
    label: str,
    source: str | None,
    brightness: tuple[float, float],
    retry_failed: bool,
    debug: bool,
) -> int:
    """Take over the pictures of FOLDER.

    Those called *_512.jpg where there are any, else all jpg and png.
    """
    set_logging(debug)
    from training.collect.images import collect_images

    done = collect_images(
        folder, out, label=LABELS[label], source=source, brightness=brightness,
        retry_failed=retry_failed,
    )  # fmt: skip
    warn(why for _, why in done.failed[:TOLD])
    click.echo(f"{folder}: {done.taken} pictures taken, {len(done.failed)} left out")
    return summary(out, done.taken)


def _areas(options: dict[str, Any]) -> list[Area]:
    from training.collect.areas import circle, read_areas, read_circles

    need([*options["polygons"], *options["circles"], *options["own"]],
         "--polygons FILE, --circles FILE or --circle LAT,LON,KM")  # fmt: skip
    areas = read_areas(options["polygons"]) + [circle(*one) for one in options["own"]]
    for path in options["circles"]:
        found, bad = read_circles(path)
        warn(f"{path}: {where}: {why}" for where, why in bad)
        areas += found
    return areas


def _keep_off(options: dict[str, Any]) -> list[KeepOff]:
    from training.collect.areas import read_keep_off

    result = []
    for name, what, km in (("away_from", "mine", "away_km"), ("towns", "town", "towns_km")):
        for path in options[name]:
            keep, bad = read_keep_off(path, what, options[km])
            warn(f"{path}: {where}: {why}" for where, why in bad)
            result.append(keep)
    return result


def _classifier(name: str | None) -> Any:
    if name == "none":
        return None
    from scanner.errors import ModelError
    from scanner.models.classifier import load_classifier

    try:
        return load_classifier(name)
    except ModelError as error:
        if name is not None:
            raise
        warn([f"forest samples are not looked through for mines: {error}"])
        return None
