"""The run as STAC: valid, complete, the same bytes twice, and nothing leaks into it."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pystac
import pytest
from stac_validator.stac_validator import StacValidate

from scanner.area.grid import tiles
from scanner.results.finished import FinishedRun, open_run
from scanner.results.maps.rasters import assemble
from scanner.results.outputs import sealed, sha256
from scanner.results.qgis.folder import write_qgis
from scanner.results.stac.collection import write_stac
from tests.results.runs import Cell, area, cell, make_run

HOSTILE = '../../etc/x"><script>alert(1)</script>'


def schemas() -> dict[str, str]:
    """Address -> file of every schema: core ones of pystac, extensions beside this test."""
    core = Path(pystac.__file__).parent / "validation" / "jsonschemas"
    found = {}
    for path in sorted((core / "stac-spec" / "v1.1.0").glob("*.json")):
        for kind in ("item", "collection", "catalog"):
            address = f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{path.name}"
            found[address] = str(path)
    for name in ("Feature", "Geometry"):
        found[f"https://geojson.org/schema/{name}.json"] = str(core / "geojson" / f"{name}.json")
    for path in sorted((Path(__file__).parent / "schemas").glob("*.json")):
        found[_extension(path.stem)] = str(path)
    found[_extension("classification-v1.1.0")] = found[_extension("classification-v2.0.0")]
    return found


def _extension(stem: str) -> str:
    return f"https://stac-extensions.github.io/{stem.replace('-v', '/v')}/schema.json"


def invalid(document: dict[str, Any]) -> str | None:
    """Return what stac-validator finds wrong with a document, ``None`` for nothing."""
    validator = StacValidate(schema_map=schemas())
    if validator.validate_dict(copy.deepcopy(document)):
        return None
    return str(validator.message)


def documents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every STAC object in a folder; model cards are none."""
    return {
        path.name: json.loads(path.read_text())
        for path in sorted(folder.iterdir())
        if not path.name.endswith("-card.json")
    }


@pytest.fixture(scope="module")
def made(finished_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run with all that a catalog can name."""
    folder = tmp_path_factory.mktemp("stac") / "run"
    shutil.copytree(finished_demo, folder)
    run = open_run(folder)
    assemble(run)
    write_qgis(run)
    write_stac(run)
    return run


def test_every_document_is_valid(made: FinishedRun) -> None:
    found = documents(made.path / "stac")
    assert list(found) == ["classifier.json", "collection.json", "result.json", "segmenter.json"]
    for name, document in found.items():
        assert invalid(document) is None, name
    result = found["result.json"]
    used = {schema.split("/")[3] for schema in result["stac_extensions"]}
    assert used == {"classification", "file", "processing", "projection", "table"}


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("collection.json", lambda d: d.pop("license")),
        ("collection.json", lambda d: d["providers"].clear()),
        ("result.json", lambda d: d["properties"].pop("start_datetime")),
        ("result.json", lambda d: d["assets"]["run"].update({"file:checksum": "XYZ"})),
        ("result.json", lambda d: d["assets"]["run"].update({"proj:shape": [1]})),
        ("result.json", lambda d: d["assets"]["run"].update({"table:row_count": "one"})),
        ("result.json", lambda d: d["assets"]["run"].update({"classification:classes": [{}]})),
        ("segmenter.json", lambda d: d["properties"].pop("mlm:input")),
        ("segmenter.json", lambda d: d["assets"]["model"].pop("mlm:artifact_type")),
    ],
)
def test_the_schemas_are_those_of_the_extensions(made: FinishedRun, name: str, spoil: Any) -> None:
    document = documents(made.path / "stac")[name]
    document["assets"].setdefault("run", {"href": "../run.json"})
    assert invalid(document) is None
    spoil(document)
    assert invalid(document) is not None


def test_pystac_walks_it_and_finds_the_files(made: FinishedRun) -> None:
    collection = pystac.Collection.from_file(made.path / "stac" / "collection.json")
    items = {item.id.rpartition("-")[2]: item for item in collection.get_items()}
    assert set(items) == {"result", "segmenter", "classifier"}
    assets = [(owner, asset) for owner in (collection, *items.values())
              for asset in owner.assets.values()]  # fmt: skip
    assert len(assets) >= 13
    for _, asset in assets:
        assert asset.href.startswith("./" if asset.has_role("mlm:model") else "../")
        path = Path(asset.get_absolute_href())
        content = path.read_bytes()
        assert asset.extra_fields["file:size"] == len(content)
        digest = hashlib.sha256(content).hexdigest()
        assert asset.extra_fields["file:checksum"] == f"1220{digest}", path
    assert items["result"].get_collection() == collection


def test_tables_maps_models_and_software_are_described(made: FinishedRun) -> None:
    found = documents(made.path / "stac")
    result = found["result.json"]
    assets = result["assets"]
    assert assets["detections"]["table:row_count"] == len(made.sites)
    assert assets["cells"]["table:row_count"] == len(made.cells)
    named = {one["name"]: one for one in assets["cells"]["table:columns"]}
    assert {"cell_id", "status", "geometry"} <= set(named)
    for name in ("detections", "cells", "coverage"):
        for column in assets[name]["table:columns"]:
            assert column["description"], column
    assert assets["classes"]["proj:code"] == f"EPSG:{made.tiles[0].epsg}"
    assert [c["value"] for c in assets["classes"]["classification:classes"]] == [*range(7), 255]
    assert assets["classes"]["processing:expression"]["expression"] == "./segmenter.json"
    properties = result["properties"]
    assert properties["processing:software"] == made.summary["versions"]
    assert properties["start_datetime"] < properties["end_datetime"]
    assert properties["mining:run_id"] == made.run_id
    assert "SYNTHETIC" in properties["description"]
    model = found["classifier.json"]["properties"]
    assert model["mlm:name"] == "tiny-classification"
    assert model["mlm:tasks"] == ["classification"]
    assert made.summary["models"]["classifier"].endswith(model["mining:sha256"][:12])
    for kind in ("classifier", "segmenter"):
        (output,) = found[f"{kind}.json"]["properties"]["mlm:output"]
        assert all(one["description"] for one in output["classification:classes"])


def test_no_date_but_the_scenes_and_no_place_but_the_run(made: FinishedRun) -> None:
    text = "".join(path.read_text() for path in (made.path / "stac").iterdir())
    assert str(made.path) not in text
    assert "/tmp" not in text  # noqa: S108 - where the tests' scenes and models lie
    assert '"created"' not in text
    assert '"updated"' not in text


def test_same_bytes_in_another_folder(made: FinishedRun, tmp_path: Path) -> None:
    first = digests(made.path / "stac")
    shutil.copytree(made.path, tmp_path / "elsewhere")
    again = open_run(tmp_path / "elsewhere")
    assert digests(write_stac(again)) == first
    assert [p.name for p in again.path.iterdir() if p.name.startswith(".")] == []


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


def test_a_run_without_sites_or_pictures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    found = documents(write_stac(run))
    assert list(found) == ["collection.json", "result.json"]  # its models are not at hand
    for document in found.values():
        assert invalid(document) is None
    assert found["result.json"]["assets"]["detections"]["table:row_count"] == 0
    assert "classes" not in found["result.json"]["assets"]
    assert found["result.json"]["properties"]["mining:models"] == run.summary["models"]
    assert "ESA / Copernicus" in {one["name"] for one in found["collection.json"]["providers"]}


def test_a_run_that_read_no_scene_is_a_collection_alone(tmp_path: Path) -> None:
    aoi = area()
    run = make_run(tmp_path / "run", aoi=aoi, without_items=[t.tile_id for t in tiles(aoi)])
    found = documents(write_stac(run))
    assert list(found) == ["collection.json"]
    assert invalid(found["collection.json"]) is None
    assert found["collection.json"]["assets"]["cells"]["table:row_count"] == len(run.cells)


def test_what_an_earlier_call_wrote_goes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run.path / "stac").mkdir()
    (run.path / "stac" / "segmenter.json").write_text("{}")
    assert list(documents(write_stac(run))) == ["collection.json", "result.json"]


def test_hostile_items_and_secrets(tmp_path: Path) -> None:
    links = {
        "item-2024-06-12": ("https://user:SECRET@example.org/a?sig=SECRET#SECRET", HOSTILE),
        "item-2024-07-17": ("javascript:alert(1)", "b/../../b"),
        "item-2024-07-27": ("file:///home/SECRET/c.json", "c"),
        "item-2024-08-06": (None, "d?e#f"),
    }
    days = [name.removeprefix("item-") for name in links]
    cells = {cell(2, 2): Cell(0.9, barren_ha=3)}
    run = make_run(tmp_path / "run", cells, days=days, aoi=area(name='A <b>&"\x01'))
    run = replaced(run.path, links)
    found = documents(write_stac(run))
    for document in found.values():
        assert invalid(document) is None
    sources = [
        (link["href"], link.get("title"))
        for link in found["result.json"]["links"]
        if link["rel"] == "derived_from"
    ]
    base = "https://planetarycomputer.microsoft.com/api/stac/v1/collections/sentinel-2-l2a/items"
    assert sources == [
        ("https://example.org/a", HOSTILE),
        (f"{base}/b%2F..%2F..%2Fb", "b/../../b"),
        (f"{base}/c", "c"),
        (f"{base}/d%3Fe%23f", "d?e#f"),
    ]
    assert "SECRET" not in "".join(p.read_text() for p in (run.path / "stac").iterdir())
    assert list(found) == ["collection.json", "result.json"]


def replaced(folder: Path, links: dict[str, tuple[str | None, str]]) -> FinishedRun:
    """Give a run's items other ids and addresses, as a hostile catalog might have."""
    document = json.loads((folder / "items.json").read_text())
    for item in document["features"]:
        href, name = links[item["id"]]
        item["id"] = name
        item["links"] = [] if href is None else [{"rel": "self", "href": href}]
    (folder / "items.json").write_text(json.dumps(document))
    for path in markers(folder):
        marker = json.loads(path.read_text())
        report = marker["report"]
        report["item_ids"] = [[links[one][1] for one in ids] for ids in report["item_ids"]]
        path.write_text(json.dumps(sealed(marker)))
    summary = json.loads((folder / "run.json").read_text())
    summary["files"]["items.json"] = sha256(folder / "items.json")
    (folder / "run.json").write_text(json.dumps(summary))
    return open_run(folder)


def markers(folder: Path) -> Iterator[Path]:
    return (folder / "parts").glob("*.json")
