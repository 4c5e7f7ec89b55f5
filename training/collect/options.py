"""Options that ``mines`` and ``forest`` share, and the settings they stand for."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from scanner.errors import ConfigError

if TYPE_CHECKING:
    from scanner.config import SearchConfig
    from training.collect.fetch import Access

LABELS: Final[dict[str, int | None]] = {"mine": 1, "forest": 0, "unknown": None}
SEARCH: Final = ("catalog", "collection", "date", "max_cloud")
ACCESS: Final = ("workers", "scheduler", "wait", "retry_failed")
FILE: Final = click.Path(path_type=Path)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas, as many as ``name`` has parts."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse them."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != len(self.name.split(",")):
            self.fail(
                f"{value!r} is not {self.name}; a minus first needs '=': --x=-1,2", param, ctx
            )
        return numbers


_OPTIONS: Final = (
    click.option("--out", type=FILE, default=Path("chips"), metavar="DIR", show_default=True,
                 help="Chip folder; the same command again resumes it."),
    click.option("--catalog", metavar="NAME|URL|FILE", help="As in mining-scan; or demo."),
    click.option("--collection", metavar="ID", help="Collection  [sentinel-2-l2a]."),
    click.option("--date", metavar="START/END", help="Days to search  [last 6 months]."),
    click.option("--max-cloud", type=float, metavar="%", help="Cloudier items are left out  [60]."),
    click.option("--size-m", type=float, metavar="M", help="Metres a side of a chip  [480]."),
    click.option("--pixels", type=int, metavar="N", help="Pixels a side  [10 m a pixel]."),
    click.option("--bands", metavar="B02,..", help="Bands kept  [B02,B03,B04]."),
    click.option("--max-scenes", type=int, metavar="K", help="Days composed, at most  [6]."),
    click.option("--look-at", type=int, metavar="N",
                 help="Least cloudy days whose SCL over the chip is looked at; 0 trusts the "
                 "catalog's cloud cover  [12]."),
    click.option("--composite", type=click.Choice(["median", "latest-clear"]), help="[median]"),
    click.option("--engine", type=click.Choice(["odc", "stackstac"]), help="[odc]"),
    click.option("--min-clear", type=float, metavar="F", help="Less clear is not kept  [0.5]."),
    click.option("--brightness", type=Numbers("LOW,HIGH"),
                 help="Kept if the 8-bit picture's mean lies between  [20,230]."),
    click.option("--workers", type=int, metavar="N", help="Worker processes  [one a core]."),
    click.option("--scheduler", metavar="ADDRESS", help="Use a running Dask cluster."),
    click.option("--wait", type=click.FloatRange(min=0), metavar="S",
                 help="Seconds between requests to the catalog  [0.5]."),
    click.option("--retry-failed", is_flag=True, default=None, help="Try failed samples again."),
    click.option("--config", "config_file", type=FILE, metavar="FILE.toml",
                 help="Search settings of a new folder, as for mining-scan."),
    click.option("--debug", is_flag=True, help="Log more, and show tracebacks."),
)  # fmt: skip

CHIP: Final = (
    "size_m", "pixels", "bands", "max_scenes", "look_at", "composite", "engine", "min_clear",
    "brightness",
)  # fmt: skip
OWN: Final = (*SEARCH, *ACCESS, *CHIP, "out", "config_file", "debug")


@dataclass(frozen=True)
class Job:
    """What the shared options ask for."""

    out: Path
    search: SearchConfig
    chip: dict[str, Any]
    access: Access


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options; the function gets a :class:`Job` first, its own options by name."""

    @functools.wraps(function)
    def wrapped(**options: Any) -> Any:
        given = {name: options.pop(name) for name in OWN}
        set_logging(given.pop("debug"))
        return function(_job(given), **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def set_logging(debug: bool) -> None:
    """Log warnings only, or more where asked to."""
    logging.basicConfig(format="%(message)s", level=logging.INFO if debug else logging.WARNING)
    if not debug:  # one line where a server never answers, not one a retry
        logging.getLogger("urllib3").setLevel(logging.ERROR)


def _job(options: dict[str, Any]) -> Job:
    """Layer the settings: defaults, a config file or the folder's own, the command line."""
    from scanner.config import RunConfig, ScanConfig
    from training.collect.fetch import Access
    from training.collect.settings import read_settings

    out, config_file = options.pop("out"), options.pop("config_file")
    given = {name: value for name, value in options.items() if value is not None}
    if "bands" in given:
        given["bands"] = tuple(b.strip().upper() for b in given["bands"].split(",") if b.strip())
    config = ScanConfig.from_toml(config_file) if config_file else ScanConfig()
    chip: dict[str, Any] = {}
    if (frozen := read_settings(out)) is not None:
        known = asdict(frozen[0])
        config = config.with_values(**{name: known[name] for name in SEARCH})
        chip = asdict(frozen[1])
    access = {name: given.pop(name) for name in ACCESS if name in given}
    config = config.with_values(
        **{name: given.pop(name) for name in SEARCH if name in given},
        **{name: access.pop(name) for name in ("workers", "scheduler") if name in access},
    )
    run: RunConfig = config.run
    return Job(out, config.search, chip | given, Access(run=run, **access))


def need(values: Sequence[Any], what: str) -> None:
    """Raise ``ConfigError`` where nothing was given."""
    if not values:
        raise ConfigError(f"nothing to collect; give {what}")
