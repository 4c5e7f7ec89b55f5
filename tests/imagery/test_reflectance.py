"""The offset: which items carry it, that it is taken out once, and that doubts are named."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from scanner.imagery.item import Item
from scanner.imagery.reflectance import doubt, resolve_offset, to_reflectance


def item(**properties):
    return Item({"id": "x", "properties": properties})


@pytest.mark.parametrize(
    ("properties", "offset"),
    [
        ({"s2:processing_baseline": "02.12"}, 0),
        ({"s2:processing_baseline": "03.01"}, 0),
        ({"s2:processing_baseline": "04.00"}, -1000),
        ({"s2:processing_baseline": "05.10"}, -1000),
        # the baseline decides, never the date: archives are reprocessed
        ({"s2:processing_baseline": "05.00", "datetime": "2018-07-01T00:00:00Z"}, -1000),
        ({"s2:processing_baseline": "03.01", "datetime": "2023-07-01T00:00:00Z"}, 0),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}, 0),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": False}, -1000),
        ({}, 0),
        ({"s2:processing_baseline": "new"}, 0),
    ],
)
def test_offset_follows_baseline_and_flag(properties, offset):
    assert resolve_offset(item(**properties)) == offset


def test_mixed_baselines_give_the_same_reflectance():
    truth = np.array([[[200, 1500], [0, 9000]]], dtype=np.uint16)
    new = np.where(truth == 0, 0, truth + 1000).astype(np.uint16)
    got = to_reflectance(np.stack([truth, new]), np.array([0, -1000]))
    np.testing.assert_allclose(got[0], got[1], atol=1e-6)
    assert np.isnan(got[0, 0, 1, 0])
    assert got[0, 0, 0, 0] == pytest.approx(0.02)


def test_reflectance_stays_in_range():
    dn = np.array([[[1, 900, 1000, 30000]]], dtype=np.uint16)
    got = to_reflectance(dn, np.array([-1000]))
    assert got.min() == 0
    assert got.max() == 1


class TestDoubt:
    rng = np.random.default_rng(1)
    forest = rng.normal(260, 40, (100, 100)).clip(120).astype(np.uint16)
    scl = np.full((100, 100), 4, dtype=np.uint8)

    def test_right_rules_raise_none(self):
        assert doubt(self.forest, self.scl, 0, "03.01") is None
        assert doubt(self.forest + 1000, self.scl, -1000, "05.10") is None

    def test_offset_taken_out_twice(self):
        assert "taken out already" in doubt(self.forest, self.scl, -1000, "05.10")

    def test_offset_still_in(self):
        assert "still in" in doubt(self.forest + 1000, self.scl, 0, "05.10")

    def test_cloud_and_water_do_not_count(self):
        water = np.full((100, 100), 6, dtype=np.uint8)
        assert doubt(self.forest, water, -1000, "05.10") is None

    def test_real_scenes(self, shared_data):
        """Blue of the three real places, with and without the offset, told right."""
        with_offset = {"433D_629L_3_1": -1000, "38D_378R_2_3": 0, "637U_59R_1_3": 0}
        for path in sorted((shared_data / "multispectral" / "S2L2A").glob("*.tif")):
            right = next(v for k, v in with_offset.items() if k in path.name)
            with rasterio.open(path) as src:
                blue = src.read(2).astype(np.uint16)
            assert doubt(blue, None, right, "?") is None, path.name
            wrong = -1000 - right
            assert doubt(blue, None, wrong, "?") is not None, path.name
