"""What a run freezes, and what it refuses later."""

from __future__ import annotations

import pytest
import shapely

from scanner.area.aoi import Aoi
from scanner.config import ScanConfig, SearchConfig
from scanner.errors import ConfigError
from scanner.imagery.catalog import ItemSet
from scanner.imagery.item import Item
from scanner.run.folder import RunFolder, run_folder
from scanner.run.identity import run_identity

AOI = Aoi("here", shapely.box(-55, -7, -54.9, -6.9))
FOUND = ItemSet((), (), "2024-01-01/2024-06-30")
MODELS = {"segmenter": "a", "classifier": "b"}


def test_freeze_and_restore(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.frozen() is None
    folder.freeze(ScanConfig().with_values(fresh=True, workers=3), AOI, FOUND, MODELS)
    frozen = folder.frozen()
    assert frozen.search.date == "2024-01-01/2024-06-30"
    assert not frozen.run.fresh, "a later call must not start over by itself"
    assert frozen.run.workers is None
    assert folder.restore_items(SearchConfig()) == FOUND
    folder.check(ScanConfig(), AOI)  # no date asked: the frozen one counts


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"date": "2023-01-01/2023-02-01"}, "search.date"),
        ({"max_scenes": 2}, "pixels.max_scenes"),
        ({"clear_scl": (4, 5)}, "pixels.clear_scl"),
        ({"catalog": "earth-search"}, "search.catalog"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, change, named):
    folder = RunFolder(tmp_path)
    folder.freeze(ScanConfig(), AOI, FOUND, MODELS)
    with pytest.raises(ConfigError, match=rf"{named}.*--fresh"):
        folder.check(ScanConfig().with_values(**change), AOI)


def test_report_and_run_settings_may_change(tmp_path):
    folder = RunFolder(tmp_path)
    folder.freeze(ScanConfig(), AOI, FOUND, MODELS)
    folder.check(ScanConfig().with_values(threshold=0.9, min_clear=0.1, workers=7), AOI)


def test_default_folder_is_named_for_the_file_or_the_square():
    config = ScanConfig().with_values(aoi="aois/xingu.geojson")
    assert run_folder(config, AOI).path.as_posix() == "runs/xingu"
    assert run_folder(ScanConfig(), AOI).path.as_posix() == "runs/here"


def item(**properties):
    raw = {"id": "i", "properties": {"datetime": "2024-01-01T00:00:00Z", **properties}}
    return ItemSet((Item(raw),))


def test_run_id_follows_the_question_and_nothing_else():
    def of(config=None, found=None, models=MODELS, aoi=AOI):
        return run_identity(aoi, found or item(), config or ScanConfig(), models)

    same = of()
    assert of(ScanConfig().with_values(workers=5, threshold=0.2, segmenter="/else/where")) == same
    others = [
        of(ScanConfig().with_values(max_scenes=1)),
        of(found=item(**{"s2:processing_baseline": "05.10"})),
        of(found=item(**{"earthsearch:boa_offset_applied": True})),
        of(models={**MODELS, "classifier": "c"}),
        of(aoi=Aoi("here", shapely.box(-55, -7, -54.9, -6.8))),
    ]
    assert len({same, *others}) == 6
