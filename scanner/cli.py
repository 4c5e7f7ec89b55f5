"""The command ``mining-scan``. Heavy imports wait until there is something to scan."""

from __future__ import annotations

import logging
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from scanner.cli_told import tell_end, tell_plan, tell_start
from scanner.ending import INTERRUPTED, Unbroken, interruptible, say
from scanner.errors import AoiError, ConfigError, ScannerError, printable
from scanner.version import __version__

if TYPE_CHECKING:
    from scanner.config import ScanConfig
    from scanner.run.pipeline import Run

UNEXPECTED = 3


class LatLon(click.ParamType[tuple[float, float]]):
    """``LAT,LON`` in degrees."""

    name = "LAT,LON"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Parse the two numbers."""
        if isinstance(value, tuple):
            return value
        try:
            lat, lon = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not LAT,LON; write --center=-14.2,-49.4", param, ctx)
        return lat, lon


class Cut(click.ParamType[float | str]):
    """A score, or the name of a threshold of the classifier's card."""

    name = "P|NAME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        """Parse a number; anything else is a name, which the settings check."""
        try:
            return float(value)
        except ValueError:
            return str(value)


class Workers(click.ParamType[int | str]):
    """A number of worker processes, or ``auto``."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Parse a number or ``auto``."""
        try:
            return value if value == "auto" else int(value)
        except ValueError:
            self.fail(f"{value!r} is no number and not auto", param, ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("aoi", required=False, type=click.Path(path_type=Path))
@click.option("--center", type=LatLon(), help="Scan a square around a point instead of AOI.")
@click.option("--radius", "radius_km", type=float, metavar="KM", help="Half its side  [10].")
@click.option("--date", metavar="START/END", help="Days to search, both included  [last 6 months].")
@click.option(
    "--catalog",
    metavar="NAME|URL|FILE",
    help="planetary-computer, earth-search, demo, a STAC API's URL, or an ItemCollection file"
    "  [planetary-computer].",
)
@click.option("--collection", metavar="ID", help="Collection  [sentinel-2-l2a].")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Run folder  [runs/AOI]."
)
@click.option(
    "--workers",
    type=Workers(),
    help="Worker processes; auto starts more as tiles wait  [one a core].",
)
@click.option("--max-workers", type=int, metavar="N", help="... and N at most.")
@click.option(
    "--reads-per-host", type=int, metavar="N", help="Reads of one host at once, at most  [64]."
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Use a running Dask cluster, tcp:// or tls://."
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "openvino"]),
    help="What runs the models  [auto: a GPU, else OpenVINO if installed, else torch].",
)
@click.option("--segmenter", metavar="DIR|HUB_ID", help="SegFormer to use  [shipped].")
@click.option("--classifier", metavar="DIR", help="Chip classifier to use  [shipped].")
@click.option(
    "--threshold",
    type=Cut(),
    help="Score that is mining, or balanced, high-recall, high-precision  [the model's].",
)
@click.option(
    "--prior",
    type=float,
    metavar="P",
    help="Share of the cells looked at that is mined: scores are rescaled to it, the model's "
    "threshold moves along  [the model's].",
)
@click.option("--max-cloud", type=float, metavar="%", help="Cloudier granules are left out  [60].")
@click.option("--max-scenes", type=int, metavar="N", help="Solar days read for a tile  [6].")
@click.option("--clear-views", type=int, metavar="N", help="Clear views wanted of a pixel  [3].")
@click.option(
    "--screen",
    type=click.Choice(["on", "off"]),
    help="Leave out ground whose SCL shows dense vegetation alone  [on].",
)
@click.option("--suspicious-share", type=float, metavar="F", help="A cell with more is classified.")
@click.option("--suspicious-pixels", type=int, metavar="N", help="... or with this many pixels.")
@click.option("--min-clear", type=float, metavar="F", help="Less clear is unseen  [0.5].")
@click.option("--composite", type=click.Choice(["median", "latest-clear"]), help="[median]")
@click.option("--engine", type=click.Choice(["stackstac", "odc"]), help="[stackstac]")
@click.option("--also", metavar="gpkg,kml,gpx,csv", help="Formats beside GeoParquet  [gpkg].")
@click.option(
    "--overlay",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="GeoJSON, GeoParquet, GeoPackage, KML or zipped shapefile of territories, parks or "
    "concessions that sites are joined to; may be given again.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Folder of an earlier run: what is new, growing or gone since.",
)
@click.option("--lang", type=click.Choice(["en", "pt", "es"]), help="Language of the report  [en].")
@click.option(
    "--rasters/--no-rasters", default=None, help="Keep maps of every tile, 2 MB each  [on]."
)
@click.option("--plan", is_flag=True, help="Tell what a scan would read and take; read no pixel.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE.toml")
@click.option("--fresh", is_flag=True, default=None, help="Throw away what the run folder holds.")
@click.option(
    "--strict",
    is_flag=True,
    default=None,
    help="Exit code 1 where a scene was left out, or nothing was seen.",
)
@click.option("--debug", is_flag=True, help="Log more, and show tracebacks.")
@click.version_option(__version__, prog_name="mining-scan")
def command(config_file: Path | None, plan: bool, debug: bool, **options: Any) -> int:
    """Find mining scars inside AOI (GeoJSON, GeoPackage, KML or zipped shapefile), from Sentinel-2.

    The answer is in the run folder: detections.parquet, cells.parquet, coverage.parquet, run.json.
    The same command again resumes it. Exit codes: 0 done; 1 done, some tiles failed; 2 input
    refused; 3 the environment stopped the run; 130 interrupted, resumable.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO if debug else logging.WARNING)
    if not debug:  # one line where a server never answers, not one a retry
        logging.getLogger("urllib3").setLevel(logging.ERROR)
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return _run(config_file, given, plan_only=plan)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``mining-scan`` and exit; see :func:`run_command`."""
    run_command(command, "mining-scan", args)


def run_command(command: click.Command, name: str, args: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit; what ends it early is told on one line of stderr.

    Exit codes are those of ``scanner.errors``, 2 for a slip in the options, 3 for what nobody
    thought of, 130 for Ctrl-C and SIGTERM. With ``--debug`` among the arguments the traceback comes
    first.

    Args:
        command: what is run; the integer it returns is the exit code, ``None`` is 0.
        name: of the program, as the user typed it.
        args: those of the process unless given.
    """
    args = list(sys.argv[1:] if args is None else args)
    again = shlex.join([name, *(arg for arg in args if arg != "--fresh")])
    interrupted = f"interrupted; resume with: {again}"
    try:
        with interruptible(interrupted):
            code = command.main(args, prog_name=name, standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):  # click turns the one into the other
        say(interrupted, err=True)
        code = INTERRUPTED
    except click.ClickException as error:
        text = f"{error.format_message().rstrip('.')}; see --help"
        code = _tell_error(name, error, text, args, error.exit_code)
    except ScannerError as error:
        code = _tell_error(name, error, _stripped(str(error)), args, error.exit_code)
    except Exception as error:  # a bug, or what nobody thought of: never taken for an answer
        text = f"unexpected {type(error).__name__}: {error}; run it again with --debug, report it"
        code = _tell_error(name, error, _stripped(text), args, UNEXPECTED)
    sys.exit(code)


def _tell_error(name: str, error: Exception, text: str, args: Sequence[str], code: int) -> int:
    """Print an error on one line and return the exit code."""
    if "--debug" in args:
        lines = traceback.format_exception(error)
        say(_stripped("".join(lines)).rstrip(), err=True)
    say(f"{name}: {printable(' '.join(text.split()))}", err=True)
    return code


def _stripped(text: str) -> str:
    from scanner.imagery.hrefs import strip_secrets

    return strip_secrets(text)


def _run(config_file: Path | None, given: dict[str, Any], plan_only: bool) -> int:
    if plan_only and given.get("fresh"):
        raise ConfigError("--plan --fresh would throw the run away; give --plan and another --out")
    config = _settings(config_file, given)
    from scanner.run.pipeline import prepare

    run = prepare(config)
    tell_start(run)
    if plan_only:
        tell_plan(run)
        return 0
    with run.alone():
        _scan(run)
        summary = run.finish()
    tell_end(run, summary)
    failed = bool(summary["tiles"]["failed"])
    strict = run.config.run.strict and bool(
        summary["dropped_items"] or summary["advice"] or not summary["coverage_ha"]["clear"]
    )
    return 1 if failed or strict else 0


def _settings(config_file: Path | None, given: dict[str, Any]) -> ScanConfig:
    """Layer the settings: defaults, a config file or the run folder's, the command line."""
    from scanner.config import ScanConfig

    if isinstance(also := given.get("also"), str):
        given["also"] = tuple(name for name in also.split(",") if name)
    config = ScanConfig.from_toml(config_file) if config_file else ScanConfig()
    if "aoi" in given and "center" in given:
        raise ConfigError("give either an AOI file or --center LAT,LON, not both")
    if "radius_km" in given and "center" not in given and config.center is None:
        raise ConfigError("--radius goes with --center LAT,LON; give both, or an AOI file")
    if (
        "aoi" not in given
        and "center" not in given
        and config.aoi is None
        and config.center is None
    ):
        raise AoiError("no area; give an AOI file, or --center LAT,LON (see --help)")
    asked = config.with_values(**given)
    if config_file is None and not asked.run.fresh:
        from scanner.area.aoi import read_area

        area = read_area(asked)  # a wrong one is told before anything big is imported
        from scanner.run.folder import run_folder

        frozen = run_folder(asked, area).frozen()
        if frozen is not None:
            asked = frozen.with_values(**given)
    return asked


def _scan(run: Run) -> None:
    from tqdm import tqdm

    todo = run.todo()
    if len(todo) < len(run.tiles):
        say(f"resuming: {len(run.tiles) - len(todo)} of {len(run.tiles)} tiles are done")
    km2 = {tile.tile_id: len(tile.cells) * 0.2304 for tile in todo}
    seen, mining = 0.0, 0
    err: Any = Unbroken(sys.stderr)
    with tqdm(total=len(todo), unit="tile", disable=not todo, file=err) as bar:
        for report in run.scan(todo):
            seen += km2[report.tile_id]
            mining += report.mining
            bar.set_postfix_str(f"{seen:,.0f} km2, {mining} mining cells")
            bar.update()
            if not report:
                tqdm.write(f"tile {report.tile_id} failed: {report.reason}", file=err)
