"""Numbers that look right and are not: offsets, types of pixels, bands and classes that lack, NaN.

A mine over the seam of two tiles or of two UTM zones (54 W) is one site: that is held by
tests/flow/test_shipped.py (test_mines_over_seams_are_one_site_each) on the shipped models, and by
tests/detection/test_detections.py for every way cells can adjoin.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from scanner.area.aoi import read_aoi
from scanner.area.grid import tiles
from scanner.config import SearchConfig
from scanner.imagery.access import gdal_env
from scanner.imagery.cube import load_cube
from scanner.imagery.item import Item
from scanner.imagery.reflectance import resolve_offset, to_reflectance
from scanner.models.card import ModelCard
from tests.synth import make_item

OFFSET = 1000
COLOURS = ("B02", "B03", "B04")


@pytest.fixture
def remade(small, tmp_path):
    """``remade(item, pixels, **properties)``: a small scene again, with other pixels or words."""

    def make(
        item: Item, pixels: dict[str, np.ndarray] | None = None, home: str = "scenes", **properties
    ) -> Item:
        pixels = small.pixels[item.id] if pixels is None else pixels
        west, north = small.corner
        kept = {"s2:mgrs_tile": "21MZN", "platform": item.properties["platform"]}
        place = {"west": west, "north": north, "datetime": item.datetime.isoformat()}
        return make_item(tmp_path / home, item.id, pixels, **(place | kept | properties))

    return make


def by_hand(small, item: Item, change) -> dict[str, np.ndarray]:
    """Return the DN of a small scene, ``change`` made to its colours where there is data."""
    return {
        band: np.where(dn > 0, change(dn.astype(int)), 0).astype(dn.dtype)
        if band in COLOURS
        else dn
        for band, dn in small.pixels[item.id].items()
    }


def bright_enough(dn):
    """At least 0.0001 of reflectance, so that taking the offset out leaves no nodata."""
    return np.maximum(dn, OFFSET + 1)


# Offsets


def test_mixed_baselines_of_one_truth_give_the_same_rows(small, scan_items, remade, tmp_path):
    new = [remade(item, by_hand(small, item, bright_enough)) for item in small.items]
    second = small.items[1]
    plain = by_hand(small, second, lambda dn: bright_enough(dn) - OFFSET)
    mixed = [new[0], remade(second, plain, "older", baseline="03.01"), new[2]]

    (tile,) = tiles(read_aoi(small.aoi))
    env = gdal_env(SearchConfig())
    seen = []
    for items in (new, mixed):
        dn = load_cube(items, tile.geobox, COLOURS, env=env).compute().values
        offsets = np.array([resolve_offset(item) for item in items])
        seen.append(to_reflectance(dn, offsets))
    assert [resolve_offset(item) for item in mixed] == [-OFFSET, 0, -OFFSET]
    np.testing.assert_allclose(seen[0], seen[1], rtol=0, atol=1e-4, equal_nan=True)
    assert np.isfinite(seen[0]).any()

    truth, found = scan_items(new, out=tmp_path / "one"), scan_items(mixed, out=tmp_path / "two")
    assert (truth.code, found.code) == (0, 0)
    assert found.cells.equals(truth.cells)
    assert found.cells.score.notna().any()
    assert not found.reasons


def test_an_offset_taken_out_twice_or_left_in_is_refused_by_name(
    small, scan_items, remade, scan_quietly
):
    """The catalog's flag is wrong on some scenes: the pixels decide, and the scene is named."""
    twice, left_in, good = small.items
    items = [
        # baseline 05.10, but the pixels are those of the harmonised product
        remade(twice, by_hand(small, twice, lambda dn: np.maximum(dn - OFFSET, 1))),
        # said to be applied, and is not
        remade(left_in, **{"earthsearch:boa_offset_applied": True}),
        remade(good),
    ]
    done = scan_items(items)
    assert done.code == 0, done.err
    assert set(done.reasons) == {twice.id, left_in.id}
    assert "taken out already" in done.reasons[twice.id]
    assert "still in" in done.reasons[left_in.id]
    assert done.report["item_ids"][-1] == [good.id]
    assert done.coverage.n_items.tolist() == [1]
    alone = scan_quietly([good])
    same = ["cell_id", "status", "score", "clear_fraction", "suspicious_fraction"]
    assert done.cells[same].equals(alone.cells[same])
    assert scan_items(items, "--strict").code == 1


# Items that lack something


def test_what_lacks_is_named_and_the_rest_goes_on(small, scan_items, calm_small, remade):
    """Bad scenes among good ones: rows as if they had not been listed, each named with its fact."""

    def bad(name: str, day: int, pixels: dict[str, np.ndarray], **properties) -> Item:
        like = Item({**small.items[0].raw, "id": name})
        return remade(like, pixels, datetime=f"2024-07-{day:02d}T13:57:09Z", **properties)

    whole = small.pixels[small.items[0].id]
    as_float = {b: (dn / 1e4).astype("float32") if b == "B03" else dn for b, dn in whole.items()}
    homeless = bad("NO_PROJ", 3, whole, **{"s2:mgrs_tile": None})
    del homeless.raw["properties"]["proj:code"]
    items = [
        *(remade(item) for item in small.items),
        bad("NO_B03", 1, {b: dn for b, dn in whole.items() if b != "B03"}),
        bad("FLOAT_B03", 2, as_float),
        homeless,
    ]
    done = scan_items(items, tries=1)
    assert done.code == 0, done.err
    facts = {"NO_B03": "no asset for B03", "FLOAT_B03": "float32", "NO_PROJ": "CRS is unknown"}
    assert set(done.reasons) == set(facts)
    for name, fact in facts.items():
        assert fact in done.reasons[name]
        assert name in done.reasons[name]
    assert "B03" in done.reasons["FLOAT_B03"]
    assert done.cells.equals(calm_small.cells)
    assert done.coverage.n_items.tolist() == [3]
    assert scan_items(items, "--strict").code == 1


def test_a_scene_without_scl_or_proj_fields_is_read_and_told(small, scan_items, calm_small, remade):
    """Its zone is that of its MGRS tile; without an SCL it counts as clear where it has data."""
    bare, *others = [remade(item) for item in small.items]
    del bare.raw["properties"]["proj:code"]
    for asset in bare.raw["assets"].values():
        del asset["proj:shape"], asset["proj:transform"]
    done = scan_items([bare, *others])
    assert done.code == 0, done.err
    assert done.cells.equals(calm_small.cells)
    assert not done.reasons

    blind = Item(bare.raw | {"assets": {b: bare.assets[b] for b in COLOURS}})
    done = scan_items([blind, *others], "--fresh")
    assert done.code == 0, done.err
    assert done.run["items_without_scl"] == [blind.id]
    assert "scenes without SCL" in done.out
    assert done.report["without_scl"] == [blind.id]
    assert done.coverage.n_items.tolist() == [3]


# Networks that answer with no numbers


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_logits_that_are_no_numbers_fail_the_tile(
    kind, small, scan_items, remade, tiny_models, tmp_path
):
    """Weights whole by their digest that hold NaN: never taken for ground without mines."""
    folder = tmp_path / kind
    shutil.copytree(tiny_models[kind], folder)
    card = ModelCard.read(folder)
    weights = load_file(folder / "model.safetensors")
    weights = {k: v.fill_(float("nan")) if v.is_floating_point() else v for k, v in weights.items()}
    save_file(weights, folder / "model.safetensors")
    replace(card, sha256="").write(folder)
    done = scan_items([remade(item) for item in small.items], **{kind: str(folder)})
    assert done.code == 1, done.err
    (failed,) = done.run["tiles"]["failed"]
    assert f"{card.name}: " in failed["reason"]
    assert "not numbers" in failed["reason"]
    assert "failed 100.0 %" in done.out
    assert f"failed: {card.name}" in done.err
    assert done.run["tiles"]["total"] == 1
    assert set(done.cells.status) == {"failed"}
    assert done.run["coverage_ha"]["failed"] == done.run["coverage_ha"]["area"]
    assert not done.reasons, "no scene is to blame for it"
