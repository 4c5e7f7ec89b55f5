"""Places to a chip folder, resumable: plan, search, fetch, judge, write, note."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scanner.config import RunConfig, SearchConfig
from scanner.errors import TrainingError
from training.collect.manifest import DONE, FAILED, PENDING, Manifest, Sample
from training.collect.places import Place, unique
from training.collect.settings import ChipConfig, chip_config, freeze
from training.collect.store import (
    brightness_of,
    picture_of,
    read_index,
    seen,
    write_chip,
    write_index,
)

if TYPE_CHECKING:
    import geopandas as gpd
    from distributed import Client

    from training.collect.submit import Fetched

logger = logging.getLogger(__name__)

WAIT_S: Final = 0.5
"""Seconds between requests to a catalog."""

INDEX_EVERY: Final = 200
"""Chips after which the index is written anew, so that it can be looked at meanwhile."""

Tell = Callable[[str, str | None], None]
"""Called for each sample that ended: its id, and why it failed or ``None``."""


@dataclass(frozen=True)
class Access:
    """How the work is done, never what comes out."""

    run: RunConfig = field(default_factory=RunConfig)
    wait: float = WAIT_S
    retry_failed: bool = False
    client: Client | None = None
    """A Dask client to use; ``None`` opens one as ``run`` says."""


def fetch_chips(
    places: Iterable[Place],
    search: SearchConfig,
    out: Path,
    *,
    size_m: float = 480,
    pixels: int | None = None,
    bands: Sequence[str] = ("B02", "B03", "B04"),
    access: Access | None = None,
    tell: Tell | None = None,
    **chip: Any,
) -> gpd.GeoDataFrame:
    """Fetch a chip of each place into the chip folder ``out``; return their rows of its index.

    A chip is made as the scan makes pixels: its catalog, cube, offsets, SCL mask and composite.
    What is in the folder already is not fetched again; what failed is in
    ``manifest.read_manifest(out)``, with the reason, and absent from the answer.

    Args:
        places: where chips are wanted; those of one id are fetched once.
        search: which items of which catalog; its dates are fixed at the first call for ``out``.
        out: the chip folder (see ``store``), made where there is none.
        size_m: metres a side.
        pixels: pixels a side, if not ``size_m / 10``.
        bands: bands kept, B02, B03 and B04 among them.
        access: workers, pace, retries.
        tell: called as each sample ends.
        chip: further settings of :class:`settings.ChipConfig`.

    Raises ``TrainingError`` where ``out`` holds chips made otherwise, ``CatalogError`` where the
    catalog does not answer. Interrupted or killed, it is resumed by the same call.
    """
    config = chip_config(size_m=size_m, pixels=pixels, bands=tuple(bands), **chip)
    wanted = unique(places)
    with Manifest(out) as manifest:
        how = access or Access()
        fetched = any(row["info"] and row["info"]["crs"] for row in manifest.rows())
        search = freeze(out, search, config, empty=not fetched)
        manifest.plan(map(_sample, wanted), how.retry_failed)
        state = {row["sample_id"]: row["status"] for row in manifest.rows()}
        todo = [place for place in wanted if state[place.chip_id] == PENDING]
        try:
            if todo:
                _fetch(todo, search, config, out, manifest, how, tell or _silent)
        finally:
            reindex(out, manifest)
    index = read_index(out)
    return index[index.chip_id.isin([place.chip_id for place in wanted])].reset_index(drop=True)


def _fetch(
    todo: Sequence[Place],
    search: SearchConfig,
    chip: ChipConfig,
    out: Path,
    manifest: Manifest,
    how: Access,
    tell: Tell,
) -> None:
    from training.collect.scenes import Pacer, Scenes
    from training.collect.submit import Fetcher

    scenes = Scenes(search, chip, out, Pacer(how.wait))
    with client_of(how) as client:
        fetched = Fetcher(client, scenes, search, chip).run(todo)
        for count, one in enumerate(fetched, start=1):
            reason = _refusal(one, chip)
            if reason is None:
                manifest.done(one.place.chip_id, _saved(one, chip, out))
            else:
                manifest.failed(one.place.chip_id, reason)
            tell(one.place.chip_id, reason)
            if count % INDEX_EVERY == 0:
                reindex(out, manifest)


@contextmanager
def client_of(how: Access) -> Iterator[Client]:
    """Yield the client to work on; one that was given is left open."""
    if how.client is not None:
        yield how.client
        return
    from scanner.run.cluster import open_client

    with open_client(how.run) as client:
        yield client


def reindex(out: Path, manifest: Manifest) -> None:
    """Write the index of all samples that are done."""
    write_index(out, [row["info"] for row in manifest.rows() if row["status"] == DONE])


def counts(out: Path) -> dict[str, int]:
    """Return how many samples of a chip folder are pending, done and failed."""
    with Manifest(out) as manifest:
        states = [row["status"] for row in manifest.rows()]
    return {name: states.count(name) for name in (PENDING, DONE, FAILED)}


def _refusal(one: Fetched, chip: ChipConfig) -> str | None:
    """Return why a chip is not kept, or ``None``."""
    if one.chip is None or one.reason:
        return one.reason
    valid = seen(one.chip.dn, chip.bands)
    if not valid.any():
        return "its scenes have no data there"
    if one.chip.usable_fraction < chip.min_clear:
        return (
            f"seen clear on {100 * one.chip.usable_fraction:.0f} %, less than "
            f"{100 * chip.min_clear:.0f} %"
        )
    low, high = chip.brightness
    mean = brightness_of(picture_of(one.chip.dn, chip.bands), valid)
    if not low < mean < high:
        return f"brightness {mean:.1f} is not within {low:g}..{high:g}"
    return None


def _saved(one: Fetched, chip: ChipConfig, out: Path) -> dict[str, Any]:
    """Write a chip's files; return its row of the index."""
    if one.chip is None:
        raise TrainingError(f"chip {one.place.chip_id}: nothing was fetched")
    dn, keep, place = one.chip.dn, one.window.keep, one.place
    path = write_chip(out, place.chip_id, dn, keep, chip.bands)
    covers = [cover for item in one.items if (cover := item.cloud_cover) is not None]
    return {
        "chip_id": place.chip_id,
        "label": place.label,
        "source": place.source,
        "lon": place.lon,
        "lat": place.lat,
        "path": path,
        "crs": str(keep.crs),
        "transform": list(keep.affine)[:6],
        "height": dn.shape[1],
        "width": dn.shape[2],
        "bands": list(chip.bands),
        "size_m": keep.shape.x * abs(keep.resolution.x),
        "resolution_m": abs(keep.resolution.x),
        "dates": sorted({item.solar_day.isoformat() for item in one.items}),
        "cloud_cover": round(float(np.mean(covers)), 4) if covers else None,
        "clear_fraction": one.chip.clear_fraction,
        "brightness": brightness_of(picture_of(dn, chip.bands), seen(dn, chip.bands)),
        "item_ids": [item.id for item in one.items],
        "review": None,
        "review_score": None,
    }


def _sample(place: Place) -> Sample:
    return Sample(place.chip_id, place.label, place.source, place.lon, place.lat)


def _silent(sample_id: str, reason: str | None) -> None:
    """Tell nobody."""
