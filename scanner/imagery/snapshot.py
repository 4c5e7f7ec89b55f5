"""``items.json``: what a search found, kept so that a later call looks at the very same items."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from scanner.errors import ConfigError, OutputError
from scanner.files import write_json
from scanner.imagery.hrefs import strip_secrets, unsigned
from scanner.imagery.item import Item

MAX_BYTES: Final = 1_000_000_000
"""Size of an ItemCollection file from which it is refused (50,000 items of ours take half)."""

MAX_ID: Final = 300
"""Characters of an item's id."""

MAX_DEPTH: Final = 50
"""Deepest nesting of an item; the geometry of a multipolygon takes 6."""

_MEMBER: Final = "mining_scan"


@dataclass(frozen=True)
class Dropped:
    """An item that was found but is not looked at, and why."""

    id: str
    reason: str
    superseded: bool = False
    """Whether the same pass, processed later, stands in its place: nothing is lost."""


@dataclass(frozen=True)
class ItemSet:
    """The items of a run, sorted by (datetime, id), with absolute unsigned hrefs."""

    items: tuple[Item, ...]
    dropped: tuple[Dropped, ...] = ()
    date: str = "../.."
    """Resolved ``START/END``, both included; ``../..`` for a file without any item."""
    advice: str | None = None
    """Where nothing was found: what to widen."""


def write_items(path: Path, found: ItemSet) -> None:
    """Write ``found`` as an ItemCollection, whole or not at all; ``OutputError`` if it cannot be.

    Hrefs are stripped of queries once more, so that no token ever lies in a run folder.
    """
    document = {
        "type": "FeatureCollection",
        "features": [_without_secrets(item.with_hrefs(unsigned).raw) for item in found.items],
        _MEMBER: {
            "date": found.date,
            "dropped": [asdict(one) for one in found.dropped],
            "advice": found.advice,
        },
    }
    write_json(path, document)


def _without_secrets(value: Any) -> Any:
    """Return JSON without the queries of addresses, wherever in an item a catalog put one."""
    if isinstance(value, dict):
        return {key: _without_secrets(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    return strip_secrets(value) if isinstance(value, str) and "://" in value else value


def read_items(path: Path) -> ItemSet:
    """Read what :func:`write_items` wrote; ``OutputError`` where it is damaged or not ours."""
    try:
        document = read_json(path, OutputError, "use --fresh to search again")
        about = document[_MEMBER]
        return ItemSet(
            tuple(_item(raw) for raw in document["features"]),
            tuple(
                Dropped(str(one["id"]), str(one["reason"]), one["superseded"] is True)
                for one in about["dropped"]
            ),
            str(about["date"]),
            None if about["advice"] is None else str(about["advice"]),
        )
    except (KeyError, TypeError, RecursionError) as error:
        raise OutputError(f"{path}: is not a run's list of items; use --fresh") from error


def _item(raw: Any) -> Item:
    """Return an item of a snapshot; ``TypeError`` where its form is not one that we wrote."""
    assets = raw.get("assets", {}) if isinstance(raw, dict) else None
    whole = (
        isinstance(assets, dict)
        and all(isinstance(a, dict) and isinstance(a.get("href"), str) for a in assets.values())
        and isinstance(raw.get("properties"), dict)
        and isinstance(raw.get("id"), str)
        and 0 < len(raw["id"]) <= MAX_ID
        and depth(raw) <= MAX_DEPTH
    )
    if not whole:
        raise TypeError("no item")
    return Item(raw)


def depth(value: object) -> int:
    """Return how deep lists and objects are nested in a JSON value."""
    levels, here = 0, [value]
    while here := [one for one in here if isinstance(one, dict | list)]:
        levels += 1
        here = [v for one in here for v in (one.values() if isinstance(one, dict) else one)]
    return levels


def read_json(
    path: Path,
    refuse: Callable[[str], Exception] = ConfigError,
    fix: str = "give a STAC API's address, an ItemCollection file or a name",
) -> dict[str, Any]:
    """Return a JSON object from a file of bounded size; NaN, Infinity and deep nesting refused.

    Raises what ``refuse`` makes of a message, which ends with ``fix`` where it is no such file.
    """

    def no_number(text: str) -> float:
        raise ValueError(f"holds {text}, which JSON does not know")

    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise refuse(
                f"{path}: {size / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}; cut it into parts"
            )
        document = json.loads(path.read_bytes(), parse_constant=no_number)
    except FileNotFoundError as error:
        raise refuse(f"{path}: no such file; {fix}") from error
    except OSError as error:
        raise refuse(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        text = strip_secrets(str(error))[:200]
        raise refuse(f"{path}: not JSON ({text}); {fix}") from error
    if not isinstance(document, dict):
        raise refuse(f"{path}: not a JSON object; {fix}")
    return document
