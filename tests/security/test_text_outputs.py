"""Files for other programs, of a run full of hostile text: each parses, and holds it as text."""

from __future__ import annotations

import csv
import json
import sqlite3
import zipfile
from pathlib import Path

import pytest
from lxml import etree

from scanner.results.finished import FinishedRun
from scanner.results.triage import rank_sites, write_ranking
from tests.security.hostile_run import PIECES, hostile_run

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return hostile_run(tmp_path_factory.mktemp("hostile"))


def documents(folder: Path) -> dict[str, bytes]:
    """Return every XML document of a run: files, and what lies in zips and GeoPackages."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".kml", ".gpx", ".qgs", ".qml", ".svg"):
            found[path.name] = path.read_bytes()
        if path.suffix in (".qgz", ".kmz"):
            with zipfile.ZipFile(path) as packed:
                for name in packed.namelist():
                    if name.endswith((".qgs", ".kml")):
                        found[f"{path.name}/{name}"] = packed.read(name)
    styles = sqlite3.connect(folder / "detections.gpkg").execute(
        "SELECT styleQML FROM layer_styles"
    )
    found |= {f"style {n}": str(text).encode() for n, (text,) in enumerate(styles)}
    return found


def test_xml_is_well_formed_and_its_attacks_are_text(run: FinishedRun) -> None:
    found = documents(run.path)
    assert {"detections.kml", "detections.gpx"} <= set(found)
    assert any(".qgs" in name for name in found)
    told = 0
    for name, content in found.items():
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        root = etree.fromstring(content, parser)
        assert not root.getroottree().docinfo.internalDTD or b"ENTITY" not in content, name
        tags = {etree.QName(node).localname.lower() for node in root.iter(etree.Element)}
        assert not tags & {"script", "iframe", "img", "form", "base", "meta", "animate"}, name
        handlers = [
            a for node in root.iter(etree.Element) for a in node.attrib if a.startswith("on")
        ]
        assert handlers == [], name
        texts = [
            *root.itertext(),
            *(v for n in root.iter(etree.Element) for v in n.attrib.values()),
        ]
        told += any("<script>" in text for text in texts)
    assert told >= 2, "the attacks were there to be seen"


def test_the_table_of_a_kml_balloon_escapes_once_more(run: FinishedRun) -> None:
    """A balloon is HTML: what stands in it is unescaped twice before it is shown."""
    root = etree.fromstring((run.path / "detections.kml").read_bytes())
    (balloon,) = root.findall(".//{*}Placemark/{*}description")
    shown = etree.fromstring(balloon.text, etree.HTMLParser())
    tags = {node.tag for node in shown.iter(etree.Element)}
    assert tags == {"html", "body", "table", "tr", "th", "td"}
    assert "<script>" in "".join(shown.itertext())


def test_no_cell_of_a_table_is_a_formula(run: FinishedRun, tmp_path: Path) -> None:
    write_ranking(rank_sites(run, 5, None), tmp_path / "top.csv")
    for path in (run.path / "detections.csv", tmp_path / "top.csv"):
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.reader(lines))
        assert len(rows) == 2
        assert len({len(row) for row in rows}) == 1
        for cell in rows[1]:
            number = cell.lstrip("-").replace(".", "", 1).isdigit()
            assert number or not cell.lstrip(" ").startswith(FORMULA), cell[:40]


def test_stac_is_json_of_relative_or_https_addresses(run: FinishedRun) -> None:
    paths = sorted((run.path / "stac").rglob("*.json"))
    assert paths
    for path in paths:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
        hrefs = [link["href"] for link in document.get("links", ())]
        hrefs += [asset["href"] for asset in document.get("assets", {}).values()]
        for href in hrefs:
            assert not href.lower().startswith(("javascript:", "data:", "file:")), href[:60]
            if "://" not in href:
                target = (path.parent / href).resolve()
                assert target.is_relative_to(run.path.resolve()), href[:60]


def test_no_file_is_named_by_what_came_from_outside(run: FinishedRun) -> None:
    names = {part for p in run.path.rglob("*") for part in p.relative_to(run.path).parts}
    for name in names:
        assert name.isascii(), name[:60]
        assert not set(name) & set("<>:\"'|?*\\ &;$`"), name[:60]
        assert len(name) < 100, name[:60]
    assert len(PIECES) == 15
