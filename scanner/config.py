"""The settings of a run: frozen dataclasses, TOML in, TOML out.

Four groups, by what a change of theirs costs:

- ``search`` decides which items are looked at; frozen in the run folder at the first call.
- ``pixels`` decides every number computed from pixels; a change needs ``--fresh``.
- ``report`` decides what is made of those numbers; a change reads no pixel again.
- ``run`` decides how the work is done, never what comes out.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import tomli_w
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from scanner.errors import ConfigError, shown

MAX_BYTES: Final = 100_000
"""Size of a config file."""
MAX_DOTS: Final = 1_000
"""Dots in one of its lines: a key of very many parts takes tomllib minutes."""
_STRICT = ConfigDict(extra="forbid")
Fraction = Annotated[float, Field(ge=0, le=1)]
CUTS: Final = ("balanced", "high-recall", "high-precision")
"""Names of thresholds a classifier's card may hold."""


def _cut(value: float | str) -> float | str:
    if value not in CUTS if isinstance(value, str) else not 0 <= value <= 1:
        raise PydanticCustomError("cut", f"it takes a score within 0..1, or {', '.join(CUTS)}")
    return value


Cut = Annotated[float | str, AfterValidator(_cut)]
"""A score within 0..1, or one of ``CUTS``."""


@dataclass(frozen=True, config=_STRICT)
class SearchConfig:
    """Which items of which catalog."""

    catalog: str = "planetary-computer"
    """``planetary-computer``, ``earth-search``, ``demo``, a STAC API's URL, or a file of items."""
    collection: str | None = None
    """Collection id; ``None`` takes the catalog's default (``sentinel-2-l2a``)."""
    date: str | None = None
    """``START/END``, ISO, both included; ``None``: the last 6 months, or all items of a file."""
    max_cloud: Annotated[float, Field(ge=0, le=100)] = 60
    """Items with a higher ``eo:cloud_cover`` (percent of the granule) are left out."""
    token_url: str | None = None
    """Where signed tokens come from, ``{container}`` replaced; ``None`` lets the catalog decide."""
    hosts: tuple[str, ...] = ()
    """Hosts pixels may be read from, besides the catalog's own known ones."""


@dataclass(frozen=True, config=_STRICT)
class PixelConfig:
    """How pixels become scores; part of ``run_id``."""

    max_scenes: Annotated[int, Field(ge=1, le=23)] = 6
    """Solar days read for a tile, at most."""
    clear_views: Annotated[int, Field(ge=1, le=23)] = 3
    """Clear views wanted of each pixel: days are added until all have them, to ``max_scenes``."""
    screen: Literal["on", "off"] = "on"
    """``on``: 10 m bands are read and segmented only where the SCL shows more than dense forest."""
    composite: Literal["median", "latest-clear"] = "median"
    clear_scl: tuple[Annotated[int, Field(ge=1, le=11)], ...] = (2, 4, 5, 6, 7)
    """SCL classes taken as a clear view of the ground (``imagery.bands.Scl``)."""
    engine: Literal["stackstac", "odc"] = "stackstac"
    segmenter: str | None = None
    """Model directory or hub id; ``None`` is the shipped model."""
    classifier: str | None = None
    """Model directory; ``None`` is the shipped model."""
    smoothing_close: Annotated[int, Field(ge=0, le=31)] = 5
    """Diameter in pixels of the ellipse the suspicious mask is closed with; 0 leaves it out."""
    smoothing_open: Annotated[int, Field(ge=0, le=31)] = 0
    """Diameter in pixels of the ellipse it is then opened with; 0 leaves it out."""
    suspicious_share: Fraction = 0.02
    """A cell with more than this share of its clear pixels suspicious becomes a chip."""
    suspicious_pixels: Annotated[int, Field(ge=1)] = 20
    """... or one with at least this many suspicious clear pixels (100 m2 each)."""


@dataclass(frozen=True, config=_STRICT)
class ReportConfig:
    """What is made of the scores; a change remakes the detections from the parts."""

    threshold: Cut | None = None
    """Score from which a cell is mining, or the name of a threshold of the classifier's card;
    ``None`` takes the card's default one. A score is meant at ``prior``, where that is given."""
    prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the classified cells thought to be mines, which scores are rescaled to; the card's
    thresholds move along. ``None`` leaves scores at the prevalence of the card's calibration."""
    min_clear: Fraction = 0.5
    """A cell seen clear on a smaller fraction is ``unseen``, unless it is mining."""
    also: tuple[Literal["gpkg", "kml", "gpx", "csv"], ...] = ("gpkg",)
    """Formats written beside GeoParquet."""
    overlay: tuple[Path, ...] = ()
    """Files of territories, parks or concessions that sites are joined to."""
    baseline: Path | None = None
    """Folder of an earlier run this one is compared with."""
    lang: Literal["en", "pt", "es"] = "en"
    """Language of the pages people read."""


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """How the work is done."""

    out: Path | None = None
    """Run folder; ``None`` is ``runs/<AOI file stem>``."""
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Local worker processes; ``None`` takes one a core, as memory allows."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, ``tls://...``, or ``tcp://...`` on this machine."""
    tls_ca: Path | None = None
    """PEM file of the authority that signed the certificates of a ``tls://`` cluster, all of them;
    ``None`` takes Dask's own configuration (``distributed.comm.tls``), here and below."""
    tls_cert: Path | None = None
    """PEM file of the certificate shown to the cluster."""
    tls_key: Path | None = None
    """PEM file of its key; ``None`` where ``tls_cert`` holds it as well."""
    trusted_network: bool = False
    """Take ``tcp://`` of other machines too: anyone on that network can run code on the workers."""
    fresh: bool = False
    """Throw away what an earlier run left in the folder."""
    strict: bool = False
    """Dropped items, an empty catalog and ground never seen end with exit code 1 as well."""
    rasters: bool = True
    """Keep class map and true colour of every tile, about 2 MB each, for maps and reports."""
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    """Times a tile is tried before a scene is dropped, or the tile given up."""


@dataclass(frozen=True, config=_STRICT)
class ScanConfig:
    """Everything one run needs to know.

    Raises ``ConfigError`` through :func:`scan_config` and :meth:`from_toml`, naming the setting.
    """

    aoi: Path | None = None
    center: tuple[float, float] | None = None
    """(lat, lon) in degrees, instead of ``aoi``."""
    radius_km: Annotated[float, Field(gt=0, le=500)] = 10
    search: SearchConfig = field(default_factory=SearchConfig)
    pixels: PixelConfig = field(default_factory=PixelConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @classmethod
    def from_toml(cls, path: Path) -> ScanConfig:
        """Read a config file; unknown keys and values of the wrong type are refused."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)  # a device has no end
            dots = max(line.count(b".") for line in content.split(b"\n"))
            if len(content) > MAX_BYTES or dots > MAX_DOTS:
                raise ConfigError(f"{path}: too large for settings; give a TOML file")
            raw = tomllib.loads(content.decode())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read ({error}); give a TOML file") from error
        except (ValueError, RecursionError) as error:  # also numbers too long, nesting too deep
            raise ConfigError(
                f"{path}: not TOML ({shown(error, 120)}); correct that line"
            ) from error
        return scan_config(raw, source=str(path))

    def to_toml(self) -> str:
        """Return the settings as TOML; settings left to their default of ``None`` are absent."""
        return tomli_w.dumps(_plain(asdict(self)))

    def with_values(self, **values: Any) -> ScanConfig:
        """Return a checked copy with settings replaced by name, whatever group they stand in."""
        raw = asdict(self)
        for name, value in values.items():
            home = next((raw[group] for group in GROUPS if name in raw[group]), raw)
            home[name] = value
        return scan_config(raw)


GROUPS = ("search", "pixels", "report", "run")


def scan_config(raw: dict[str, Any], source: str = "settings") -> ScanConfig:
    """Build a checked :class:`ScanConfig`; a ``ConfigError`` names ``source`` and the setting."""
    try:
        return TypeAdapter(ScanConfig).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        told = f"{shown(where, 120)} = {shown(repr(first.get('input')), 120)}: {first['msg']}"
        raise ConfigError(f"{source}: {told}; correct it") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: a value is nested too deeply; correct it") from error


def digest(value: Any) -> str:
    """Return the sha256 of a JSON-able value, the same on every machine (keys sorted)."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Turn dataclass dumps into what TOML and JSON know: no ``None``, no ``Path``, no tuples."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return value.as_posix()
    return value
