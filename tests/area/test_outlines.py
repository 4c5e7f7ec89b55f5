"""The outlines shipped in aois/ load, say where they come from, and cover what they name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely

from scanner.area.aoi import read_aoi
from scanner.area.grid import tiles

ROOT = Path(__file__).parents[2]
OUTLINES = sorted(p for p in (ROOT / "aois").glob("*.geojson") if p.stem != "demo")
SHARED = ROOT.parent / "shared" / "data" / "aois" / "outlines.json"


def slug(outline_id: str) -> str:
    return outline_id.removesuffix("_ti").removesuffix("_ve").replace("_", "-")


def test_all_eleven_are_there() -> None:
    assert len(OUTLINES) == 11


@pytest.mark.parametrize("path", OUTLINES, ids=lambda p: p.stem)
def test_outline_loads_and_credits_its_source(path: Path) -> None:
    aoi = read_aoi(path)
    feature = json.loads(path.read_text(encoding="utf-8"))
    properties = feature["properties"]
    assert aoi.name == properties["name"]
    assert aoi.area_km2 == pytest.approx(properties["area_km2"], rel=0.005)
    assert "Earth Genome" in properties["source"]
    assert "RAISG" in properties["source"]
    assert properties["licence"] == "CC BY 4.0"
    assert "indicative" in properties["note"]
    assert shapely.is_ccw(shapely.geometry.shape(feature["geometry"]).exterior)
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 130
    assert f"`{path.name}`" in (path.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.data
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data/aois")
def test_areas_agree_with_the_source() -> None:
    told = {slug(o["id"]): o for o in json.loads(SHARED.read_text(encoding="utf-8"))["outlines"]}
    assert told.keys() == {path.stem for path in OUTLINES}
    for path in OUTLINES:
        aoi, outline = read_aoi(path), told[path.stem]
        assert aoi.area_km2 == pytest.approx(outline["area_km2_simplified"], rel=0.03)
        assert aoi.geometry.symmetric_difference(
            shapely.geometry.shape(outline["geometry"])
        ).area == pytest.approx(0, abs=1e-6)


def test_xingu_lies_on_the_grid_as_ever() -> None:
    found = tiles(read_aoi(ROOT / "aois" / "xingu.geojson"))
    assert (found[0].tile_id, found[-1].tile_id) == ("21S_0040_0063", "22S_0016_0069")
    assert len(found) == 105
    assert sum(len(tile.cells) for tile in found) == 116_362
