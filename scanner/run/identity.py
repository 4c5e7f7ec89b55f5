"""What makes a run the run it is: the digest its parts carry, and what it is the digest of.

A folder freezes both at its first call, so that a later call with another model, or with items that
were changed since, is told what differs and costs nothing that was computed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from scanner.area.aoi import Aoi
from scanner.config import ScanConfig, digest
from scanner.errors import ConfigError, OutputError
from scanner.files import write_json
from scanner.imagery.catalog import ItemSet
from scanner.results.outputs import sha256

ALGORITHM: Final = 3
"""Raised when the same question may give other numbers; part of ``run_id``."""


@dataclass(frozen=True)
class Identity:
    """``run_id`` and the parts of it that a user can change by accident."""

    run_id: str
    models: dict[str, str]
    """sha256 of the weights of ``segmenter`` and ``classifier``."""
    items: str
    """sha256 of ``items.json``."""
    algorithm: int = ALGORITHM

    def write(self, path: Path) -> None:
        """Save as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Identity:
        """Read what :meth:`write` wrote; ``OutputError`` where it is damaged or not there."""
        try:
            return TypeAdapter(cls).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            why = str(error).partition("\n")[0]  # pydantic tells more lines
            raise OutputError(
                f"{path}: cannot be read ({why}); use --fresh to start over, or another --out"
            ) from error

    def check(self, now: Identity, folder: Path) -> None:
        """Refuse (``ConfigError``, exit 2) to go on as another run in the ``folder`` of this."""
        if self == now:
            return
        fix = "use --fresh to start over, or another --out"
        for kind, then in self.models.items():
            if now.models.get(kind) != then:
                raise ConfigError(
                    f"{folder}: holds a run of the {kind} {then[:12]}, this one is "
                    f"{str(now.models.get(kind))[:12]}; give that model again, {fix}"
                )
        if self.algorithm != now.algorithm:
            raise ConfigError(
                f"{folder}: holds a run of another mining-scan, which counts otherwise; {fix}"
            )
        name = "items.json" if self.items != now.items else "config.toml or aoi.geojson"
        raise ConfigError(f"{folder}/{name}: was changed since the run began; put it back, {fix}")


def identify(
    aoi: Aoi, found: ItemSet, config: ScanConfig, models: dict[str, str], items: Path
) -> Identity:
    """Return the identity of a run whose items are saved in ``items``."""
    return Identity(run_identity(aoi, found, config, models), dict(models), sha256(items))


def run_identity(aoi: Aoi, found: ItemSet, config: ScanConfig, models: dict[str, str]) -> str:
    """Return ``run_id``: the digest of area, items, models and pixel settings.

    No clock, host, folder or worker count is in it, so the same question has the same id anywhere.
    """
    pixels: dict[str, Any] = asdict(config.pixels)
    for name in ("segmenter", "classifier"):  # their digests count, not where they lie
        pixels.pop(name)
    items = [
        [item.id, item.datetime.isoformat(), item.baseline, _flags(item.properties)]
        for item in found.items
    ]
    return digest(
        {
            "algorithm": ALGORITHM,
            "aoi": aoi.digest,
            "items": items,
            "models": models,
            "pixels": pixels,
        }
    )


def _flags(properties: dict[str, Any]) -> str:
    """What else decides an item's pixels: when it was made and whether the offset was taken out."""
    names = ("updated", "s2:generation_time", "earthsearch:boa_offset_applied")
    return json.dumps([properties.get(name) for name in names], sort_keys=True)
