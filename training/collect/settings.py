"""How a chip is cut out and composed; one answer for all chips of a folder."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from scanner.config import SearchConfig
from scanner.errors import TrainingError
from scanner.files import write_json
from scanner.imagery.catalog import last_months
from scanner.imagery.hrefs import api_url, strip_secrets
from scanner.imagery.snapshot import read_json

SETTINGS_FILE: Final = "collect.json"

_FROZEN_SEARCH: Final = ("catalog", "collection", "date", "max_cloud")
"""Settings of the search that decide pixels; tokens and hosts do not."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ChipConfig:
    """How one chip is made from the scenes over it."""

    size_m: Annotated[float, Field(ge=20, le=20_480)] = 480
    """Metres a side."""
    pixels: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Pixels a side, resampled (bilinear) from 10 m; ``None`` keeps 10 m a pixel."""
    bands: Annotated[tuple[str, ...], Field(min_length=3)] = ("B02", "B03", "B04")
    """Bands in the order of the file; B02, B03 and B04 are needed for the picture."""
    max_scenes: Annotated[int, Field(ge=1, le=23)] = 6
    """Solar days composed, at most."""
    look_at: Annotated[int, Field(ge=0, le=60)] = 12
    """Least cloudy days (by the catalog) whose SCL over the chip is read to choose among them;
    0 trusts the catalog's cloud cover alone."""
    composite: Literal["median", "latest-clear"] = "median"
    clear_scl: tuple[Annotated[int, Field(ge=1, le=11)], ...] = (2, 4, 5, 6, 7)
    """SCL classes taken as a clear view of the ground."""
    engine: Literal["stackstac", "odc"] = "odc"
    """What reads pixels; odc-stac is the quicker one for small windows."""
    min_clear: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A chip seen clear on a smaller share is not kept."""
    brightness: tuple[float, float] = (20, 230)
    """A chip is kept if the mean of its 8-bit picture lies between the two."""


def chip_config(**values: Any) -> ChipConfig:
    """Return checked settings; ``TrainingError`` names the one that was refused."""
    try:
        chip: ChipConfig = TypeAdapter(ChipConfig).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrainingError(
            f"chip settings: {where} = {first.get('input')!r}: {first['msg']}; correct it"
        ) from error
    if missing := {"B02", "B03", "B04"} - set(chip.bands):
        raise TrainingError(f"chip settings: bands lack {', '.join(sorted(missing))}; add them")
    if len(set(chip.bands)) < len(chip.bands) or "SCL" in chip.bands:
        raise TrainingError(
            f"chip settings: bands {','.join(chip.bands)}: each once, without SCL; correct it"
        )
    return chip


def read_settings(folder: Path) -> tuple[SearchConfig, ChipConfig] | None:
    """Return what the chips of ``folder`` were made with, ``None`` for a new folder."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return None
    raw = read_json(path, TrainingError)
    try:
        search = TypeAdapter(SearchConfig).validate_python(raw["search"])
        return search, chip_config(**raw["chip"])
    except (KeyError, TypeError, ValidationError) as error:
        raise TrainingError(f"{path}: is damaged; collect into another folder") from error


def freeze(
    folder: Path, search: SearchConfig, chip: ChipConfig, *, empty: bool = False
) -> SearchConfig:
    """Fix the settings of ``folder`` at its first call, hold later calls to them.

    While it is ``empty`` of fetched chips they may still change. Returns the search with its dates
    resolved, so that a call resumed next week asks for the same days. Raises ``TrainingError``
    naming the setting where a later call differs.
    """
    known = None if empty else read_settings(folder)
    if known is None:
        if search.date is None and api_url(search) is not None:
            first, last = last_months()
            search = replace(search, date=f"{first}/{last}")
        kept = {name: getattr(search, name) for name in _FROZEN_SEARCH}
        kept["catalog"] = strip_secrets(search.catalog)
        write_json(folder / SETTINGS_FILE, {"search": kept, "chip": asdict(chip)})
        return search
    frozen, frozen_chip = known
    if search.date is None:
        search = replace(search, date=frozen.date)
    asked = {name: getattr(search, name) for name in _FROZEN_SEARCH} | asdict(chip)
    asked["catalog"] = strip_secrets(search.catalog)
    there = {name: getattr(frozen, name) for name in _FROZEN_SEARCH} | asdict(frozen_chip)
    for name, value in asked.items():
        if value != there[name]:
            raise TrainingError(
                f"{folder}: its chips were made with {name} = {there[name]!r}, not {value!r}; "
                "use the same, or collect into another folder"
            )
    return search
