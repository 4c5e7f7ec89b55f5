"""The run as STAC: a static catalog of one collection, its result and the models it used.

All links are relative, so the run folder can be moved or served as it is. Ids and file names are
our own; what came from outside (AOI names, item ids, addresses) stands only in text and in links
to http(s) addresses without their queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pystac
import shapely
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from scanner.files import whole_folder, write_json
from scanner.imagery.hrefs import api_url, strip_secrets, unsigned
from scanner.imagery.item import Item
from scanner.results.finished import FinishedRun
from scanner.results.stac.assets import about, produced
from scanner.results.stac.models import UsedModel, used_models

EXTENSIONS: Final = {
    prefix: f"https://stac-extensions.github.io/{name}/schema.json"
    for prefix, name in {
        "classification": "classification/v2.0.0",
        "file": "file/v2.1.0",
        "mlm": "mlm/v1.4.0",
        "proj": "projection/v2.0.0",
        "processing": "processing/v1.1.0",
        "table": "table/v1.2.0",
    }.items()
}
"""Extensions in use, by the prefix of their fields: the versions whose schemas the tests hold."""

COLLECTION: Final = "collection.json"
RESULT: Final = "result.json"
ESA: Final = pystac.Provider(
    "ESA / Copernicus",
    "Sentinel-2 imagery; what is made of it contains modified Copernicus Sentinel data.",
    [pystac.ProviderRole.PRODUCER, pystac.ProviderRole.LICENSOR],
    "https://sentinels.copernicus.eu",
)
TERMS: Final = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
"""What users of Copernicus Sentinel data agree to."""
SIMPLER_DEG: Final = 0.001
"""The area's outline is drawn this exactly, about 100 m; the exact one is an asset."""
LINEAGE: Final = (
    "Clear pixels of the source scenes, composed to one image a tile; a class map of it; cells of "
    "480 m with suspicious ground classified; adjoining mining cells joined to sites. Cells that "
    "were not seen are a result of their own, not free of mines. A site says mining, never "
    "illegal mining."
)


def write_stac(run: FinishedRun) -> Path:
    """Write the folder ``stac`` of a run from what lies in its folder; returns the folder.

    A run that read no scene has no date and so a collection without items. A model that is not
    at hand any more, or another one by now, is named without an item of its own.
    """
    folder = run.path / "stac"
    catalog = _Catalog(run)
    with whole_folder(folder) as scratch:
        write_json(scratch / COLLECTION, catalog.collection())
        if catalog.dated:
            write_json(scratch / RESULT, catalog.result())
            for model in catalog.models:
                write_json(scratch / model.file, catalog.model(model))
                write_json(scratch / model.card_file, model.described)
    return folder


@dataclass(frozen=True)
class _Catalog:
    """The documents of one run."""

    run: FinishedRun

    @cached_property
    def id(self) -> str:
        return f"{self.run.aoi.slug}-{self.run.run_id[:12]}"

    @cached_property
    def sources(self) -> list[Item]:
        """Items whose pixels were read, in their order."""
        reports = [report for tile in self.run.tiles if (report := self.run.report(tile.tile_id))]
        used = {item for report in reports for item in chain(*report.item_ids)}
        return [item for item in self.run.items.items if item.id in used]

    @cached_property
    def dated(self) -> bool:
        return bool(self.sources)

    @cached_property
    def models(self) -> list[UsedModel]:
        return used_models(self.run) if self.dated else []

    @cached_property
    def span(self) -> pystac.TemporalExtent:
        """First and last moment observed."""
        if not self.dated:
            return pystac.TemporalExtent([None, None])
        first, last = zip(*(item.interval for item in self.sources), strict=True)
        return pystac.TemporalExtent([min(first), max(last)])

    @cached_property
    def outline(self) -> BaseGeometry:
        simpler: BaseGeometry = self.run.aoi.geometry.simplify(SIMPLER_DEG)
        return shapely.orient_polygons(simpler)

    @cached_property
    def text(self) -> str:
        warning = "SYNTHETIC scenes: nothing here was ever seen on the ground. "
        return (
            f"{warning if self.run.synthetic else ''}Mining sites found by mining-scan in "
            f"{self.run.aoi.name}: {self.run.summary['detections']} with a score of "
            f"{self.run.threshold:.4g} or more."
        )

    @cached_property
    def processing(self) -> dict[str, Any]:
        versions = {name: str(value) for name, value in self.run.summary["versions"].items()}
        return {
            "processing:level": "L4",
            "processing:lineage": LINEAGE,
            "processing:software": versions,
        }

    def collection(self) -> dict[str, Any]:
        """Return the collection, with the files that are of the run as a whole."""
        us = pystac.Provider(
            "mining-scan", roles=[pystac.ProviderRole.PROCESSOR], extra_fields=self.processing
        )
        collection = pystac.Collection(
            self.id,
            self.text,
            pystac.Extent(pystac.SpatialExtent([list(self.run.aoi.geometry.bounds)]), self.span),
            title=self.run.aoi.name,
            license="other",
            keywords=["mining", "sentinel-2", *(["synthetic"] if self.run.synthetic else [])],
            providers=[us] if self.run.synthetic else [us, ESA],
        )
        collection.links = [pystac.Link("root", f"./{COLLECTION}", "application/json")]
        if self.dated:
            for name in (RESULT, *(model.file for model in self.models)):
                collection.links.append(pystac.Link("item", f"./{name}", pystac.MediaType.GEOJSON))
        if not self.run.synthetic:
            collection.links.append(pystac.Link("license", TERMS, "text/html", "Legal notice"))
        collection.assets = dict(about(self.run))
        if not self.dated:
            collection.assets |= dict(produced(self.run))
        collection.stac_extensions = _extensions(collection.assets, us.extra_fields)
        document: dict[str, Any] = collection.to_dict(False, False)
        return document

    def result(self) -> dict[str, Any]:
        """Return the item of tables, maps and pictures, with links to what they were made of."""
        item = self._item("result", self.text)
        summary = self.run.summary
        item.properties |= {
            "gsd": 10,
            **self.processing,
            "mining:run_id": self.run.run_id,
            "mining:threshold": self.run.threshold,
            "mining:prevalence": self.run.prevalence,
            "mining:detections": summary["detections"],
            "mining:detected_ha": summary["detected_ha"],
            "mining:coverage_ha": summary["coverage_ha"],
            "mining:models": _without_paths(summary["models"]),
        }
        models = {model.kind: f"./{model.file}" for model in self.models}
        item.assets = dict(produced(self.run, models))
        item.stac_extensions = _extensions(item.assets, item.properties)
        item.links += list(self._sources_links())
        for model in self.models:
            link = pystac.Link("derived_from", f"./{model.file}", pystac.MediaType.GEOJSON)
            link.extra_fields = {"mlm:name": model.name, "processing:level": "L4"}
            item.links.append(link)
        document: dict[str, Any] = item.to_dict(False, False)
        return document

    def model(self, model: UsedModel) -> dict[str, Any]:
        """Return the item of a model, dated and placed where this run used it."""
        item = self._item(model.kind, f"The {model.kind} this run used: {model.title}.")
        item.properties |= model.properties
        item.assets = {"model": model.asset}
        item.stac_extensions = _extensions(item.assets, item.properties)
        document: dict[str, Any] = item.to_dict(False, False)
        return document

    def _item(self, kind: str, text: str) -> pystac.Item:
        first, last = self.span.intervals[0]
        box = [round(value, 7) for value in self.outline.bounds]
        item = pystac.Item(
            f"{self.id}-{kind}",
            mapping(self.outline),
            box,
            None,
            {"title": f"{self.run.aoi.name}: {kind}", "description": text},
            start_datetime=first,
            end_datetime=last,
            collection=self.id,
        )
        item.links = [
            pystac.Link(rel, f"./{COLLECTION}", "application/json")
            for rel in ("root", "parent", "collection")
        ]
        return item

    def _sources_links(self) -> Iterator[pystac.Link]:
        """Yield a link to each source scene; scenes of a file stand in the run's ``items.json``."""
        local = 0
        for source in self.sources:
            address = _address(source, self.run)
            if address is None:
                local += 1
            else:
                link = pystac.Link("derived_from", address, pystac.MediaType.GEOJSON, source.id)
                yield link
        if local:
            title = f"{local} source scenes, as a file of items listed them"
            yield pystac.Link("derived_from", "../items.json", pystac.MediaType.GEOJSON, title)


def _extensions(assets: Mapping[str, pystac.Asset], fields: Mapping[str, Any]) -> list[str]:
    """Return the extensions whose fields are there."""
    names = chain(fields, *(asset.extra_fields for asset in assets.values()))
    prefixes = {name.partition(":")[0] for name in names}
    return [EXTENSIONS[prefix] for prefix in EXTENSIONS if prefix in prefixes]


def _address(source: Item, run: FinishedRun) -> str | None:
    """Return where a source item can be read, without any secret; ``None`` for one of a file."""
    for link in source.raw.get("links") or ():
        if link.get("rel") == "self":
            href = strip_secrets(unsigned(str(link.get("href"))))
            if urlsplit(href).scheme in ("http", "https"):
                return href
    root = api_url(run.config.search)
    collection = source.raw.get("collection")
    if root is None or not isinstance(collection, str):
        return None
    base = strip_secrets(unsigned(root)).rstrip("/")
    return f"{base}/collections/{quote(collection, safe='')}/items/{quote(source.id, safe='')}"


def _without_paths(models: dict[str, str]) -> dict[str, str]:
    """Return the models' names; one that is a folder of this machine by its last part."""
    return {k: Path(v).name if Path(v).is_absolute() else v for k, v in models.items()}
