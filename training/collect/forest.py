"""Samples without mines, drawn at random in protected areas, away from known mines and towns.

Each sample is a slot with a limited number of attempts. An attempt draws a point; it is used up if
the point lies too near a mine, a town or another sample, or if its chip cannot be had (cloud, too
dark). Slots are drawn in rounds: all that still lack a chip draw a point, then all those chips are
fetched. A slot's points depend on the seed, its number and the attempt alone, and a round on what
the manifest says of earlier ones, so a run that was killed draws the same points again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scanner.config import SearchConfig
from scanner.errors import TrainingError
from training.collect.areas import Area, KeepOff, arc_km, on_sphere
from training.collect.fetch import Access, Tell, client_of, fetch_chips
from training.collect.manifest import FAILED, read_manifest
from training.collect.places import Place, random_point

if TYPE_CHECKING:
    import geopandas as gpd

NEGATIVE: Final = 0
NO_PLACE: Final = "too near a {}"


@dataclass(frozen=True)
class Draw:
    """How samples are drawn."""

    samples: int = 800
    """Samples wanted, dealt out to the areas in turn."""
    attempts: int = 10
    """Points drawn for a sample at most."""
    seed: int = 0
    spacing_km: float = 5.0
    """Least distance between two samples."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.attempts < 1 or self.seed < 0 or not self.spacing_km >= 0:
            raise TrainingError(
                f"forest samples: samples {self.samples}, attempts {self.attempts}, seed "
                f"{self.seed}, spacing {self.spacing_km:g} km; the first two from 1, the others "
                "from 0 on"
            )


@dataclass
class Sampler:
    """Draws points for the slots that lack a chip.

    ``left`` counts, once all attempts of a slot are used, why its last point was no good.
    """

    areas: Sequence[Area]
    keep_off: Sequence[KeepOff]
    draw: Draw
    places: dict[int, Place] = field(default_factory=dict)
    """The point each slot holds now."""
    used: Counter[int] = field(default_factory=Counter)
    """Attempts each slot has used."""
    left: dict[int, str] = field(default_factory=dict)

    def next_round(self, failed: dict[str, str]) -> list[Place]:
        """Draw for every slot without a point, or whose point ``failed`` (chip id -> why).

        Returns the new places; none when every slot has a chip or no attempt left.
        """
        fresh = []
        for slot in range(self.draw.samples):
            held = self.places.get(slot)
            if slot in self.left or (held is not None and held.chip_id not in failed):
                continue
            why = failed[self.places.pop(slot).chip_id] if held is not None else ""
            if (place := self._attempt(slot, why)) is not None:
                self.places[slot] = place
                fresh.append(place)
        return fresh

    def _attempt(self, slot: int, why: str) -> Place | None:
        area = self.areas[slot % len(self.areas)]
        while self.used[slot] < self.draw.attempts:
            self.used[slot] += 1
            rng = np.random.default_rng([self.draw.seed, slot, self.used[slot]])
            lon, lat = (round(value, 7) for value in random_point(area.geometry, rng))
            near = self._too_near(lon, lat)
            if near is None:
                return Place(lon, lat, NEGATIVE, area.name)
            why = NO_PLACE.format(near)
        self.left[slot] = f"{area.name}: {why}"
        return None

    def _too_near(self, lon: float, lat: float) -> str | None:
        for keep in self.keep_off:
            if keep.too_near(lon, lat):
                return keep.what
        if self.places:
            others = on_sphere(np.array([(p.lon, p.lat) for p in self.places.values()]))
            chord = np.linalg.norm(others - on_sphere(np.array([[lon, lat]])), axis=1).min()
            # the same point twice would be one chip, whatever the spacing
            if arc_km(float(chord)) < max(self.draw.spacing_km, 0.01):
                return "sample"
        return None


@dataclass(frozen=True)
class Collected:
    """What came of a collection of forest samples."""

    index: gpd.GeoDataFrame
    """Rows of the chips that were kept."""
    without: tuple[str, ...]
    """For each sample that could not be had its area and why its last attempt failed."""


def collect_forest(
    areas: Sequence[Area],
    search: SearchConfig,
    out: Path,
    *,
    draw: Draw,
    keep_off: Sequence[KeepOff] = (),
    access: Access | None = None,
    tell: Tell | None = None,
    **chip: Any,
) -> Collected:
    """Draw and fetch forest samples into the chip folder ``out``; see :func:`fetch.fetch_chips`.

    ``chip`` holds the settings of :class:`settings.ChipConfig`. The same call resumes it.
    """
    if not areas:
        raise TrainingError("forest samples: no area to draw in; give polygons or circles")
    how = access or Access()
    sampler = Sampler(areas, keep_off, draw)
    with client_of(how) as client:
        how = replace(how, client=client)
        failed: dict[str, str] = {}
        while places := sampler.next_round(failed):
            fetch_chips(places, search, out, access=how, tell=tell, **chip)
            table = read_manifest(out)
            gone = table[table.status == FAILED]
            failed = dict(zip(gone.sample_id, gone.reason, strict=True))
            how = replace(how, retry_failed=False)  # once: a replacement that fails stays failed
        kept = [place for _, place in sorted(sampler.places.items())]
        # with nothing pending this reads the index alone
        index = fetch_chips(kept, search, out, access=how, **chip) if kept else _none(out)
    return Collected(index, tuple(text for _, text in sorted(sampler.left.items())))


def _none(out: Path) -> gpd.GeoDataFrame:
    from training.collect.fetch import reindex
    from training.collect.manifest import Manifest
    from training.collect.store import read_index

    with Manifest(out) as manifest:
        reindex(out, manifest)
    return read_index(out).iloc[:0]
