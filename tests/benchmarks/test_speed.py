"""The pieces of the speed benchmark: they measure what they say, on ground that is what it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import requests
import torch

from scanner.imagery.bands import Scl
from scanner.models.classifier import load_classifier
from tests.benchmarks.speed import plain, stages
from tests.benchmarks.speed.air import Air
from tests.benchmarks.speed.contenders import Contender, Result, Ring
from tests.benchmarks.speed.ground import Ground, shortwave
from tests.benchmarks.speed.maps import changes, write_mosaic
from tests.benchmarks.speed.park import (
    DISTURBED,
    MARGIN_PX,
    RIVER,
    Area,
    Layout,
    Park,
    Stamp,
    draw,
    place,
    turned,
)
from tests.benchmarks.speed.report import (
    Results,
    limits_text,
    memory_table,
    rate,
    ratio_table,
    seam_table,
    spread,
    stage_table,
    used_table,
)
from tests.benchmarks.speed.scenes import granules, make_scenes
from tests.benchmarks.speed.server import Host
from tests.benchmarks.speed.watch import Used, watched
from tests.benchmarks.speed.weights import Chips, Cover
from tests.models_tiny import tiny_classifier, tiny_segmenter
from tests.synth import make_item, write_collection

NOTHING = Used(1.0, 1.0, 1.0, 1.0, 1.0, "")
SIDE = 576


def test_a_park_has_the_share_of_disturbed_ground_it_promises() -> None:
    park = Park(2, 1)
    layout = draw(park, [np.ones((20, 31), np.bool_)])
    whole = Area(0, 0, 2, 1)
    assert layout.share(whole) == pytest.approx(DISTURBED, rel=0.25)
    assert layout.windows(whole).any()
    assert not layout.windows(whole).all()
    assert (layout.labels == RIVER).any()
    again = draw(park, [np.ones((20, 31), np.bool_)])
    assert np.array_equal(again.labels, layout.labels)
    assert again.stamps == layout.stamps


def test_a_park_has_the_megapixels_asked_for() -> None:
    assert Park.of_mpx(200) == Park(10, 5)
    assert Park.of_mpx(24) == Park(3, 2)
    assert Area(0, 0, 10, 5).mpx > 200


def test_granules_cover_the_park_and_overlap() -> None:
    park = Park(10, 5)
    seen = np.zeros(park.shape, np.uint8)
    for rows, cols in granules(park).values():
        seen[rows, cols] += 1
    assert seen.min() == 1
    assert seen.max() == 2


def test_stamps_lie_wholly_inside_or_nowhere() -> None:
    assert place((100, 100), Stamp(50, 50, 0, 0), (10, 21)) == (slice(45, 55), slice(40, 61))
    assert place((100, 100), Stamp(3, 50, 0, 0), (10, 21)) is None
    image = np.arange(6).reshape(2, 3)
    assert len({turned(image, turn).tobytes() for turn in range(8)}) == 8


def test_the_ground_is_seen_as_forest_and_river() -> None:
    labels = np.zeros((512, 512), np.uint8)
    labels[:, 200:240] = RIVER
    ground = Ground(Layout(labels, (), labels > RIVER))
    rows, cols = slice(64, 320), slice(128, 384)
    dn, ponds = ground.strip(rows, cols)
    assert dn.shape == (4, 256, 256)
    assert not ponds.any()
    forest, water = dn[:, :, 150:].mean(axis=(1, 2)), dn[:, :, 80:104].mean(axis=(1, 2))
    assert forest[3] > 2000 > 1000 > water[3]
    swir = shortwave(dn)
    assert swir[0, :, 80:].mean() == pytest.approx(1530, rel=0.15)
    fine, coarse, scl = Air(labels.shape, 0).look(dn, ponds, rows, cols)
    assert (fine.shape, coarse.shape, scl.shape) == ((4, 256, 256), (2, 128, 128), (128, 128))
    assert fine.min() > 0
    assert coarse.min() > 0
    clear = ~np.isin(scl, (Scl.CLOUD_HIGH, Scl.CLOUD_MEDIUM, Scl.CLOUD_SHADOW))
    assert (scl[clear] == Scl.VEGETATION).mean() > 0.7
    assert (scl == Scl.WATER).any()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return str(tiny_segmenter(folder / "segmenter")), str(tiny_classifier(folder / "classifier"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Give torch one thread: more wait for each other where other tests take the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_the_plain_way_is_right(tmp_path: Path, models: tuple[str, str]) -> None:
    rng = np.random.default_rng(3)
    dn = rng.integers(1100, 4000, (2, 6, SIDE, SIDE), dtype=np.uint16)
    scl = np.full((SIDE // 2, SIDE // 2), Scl.VEGETATION, np.uint8)
    scl[:60] = Scl.CLOUD_HIGH
    items = [
        make_item(
            tmp_path, f"date-{day}", dict(zip(plain.BANDS, image, strict=True)) | {"SCL": mask},
            datetime=f"2024-07-0{day + 1}T13:50:00Z",
        )
        for day, (image, mask) in enumerate(zip(dn, (scl, np.full_like(scl, 4)), strict=True))
    ]  # fmt: skip
    west, north = 600_000, 9_300_000
    bounds = [west, north - 10 * SIDE, west + 10 * SIDE, north]
    out = tmp_path / "out"
    arguments = [
        "--items", write_collection(tmp_path / "items.json", items), "--bounds", *bounds,
        "--epsg", 32721, "--segmenter", models[0], "--classifier", models[1], "--batch", 2,
        "--out", out,
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["plain", *(str(one) for one in arguments)])
        plain.main()
    reflectance = (dn.astype(np.float32) - 1000) / 10_000
    mean = reflectance.mean(axis=0)
    mean[:, :120] = reflectance[1, :, :120]
    cover = Cover(models[0])
    with torch.inference_mode():
        wanted = cover(torch.from_numpy(mean[None, :3, :512, :512])).argmax(1)[0].numpy()
    with rasterio.open(out / "classes.tif") as source:
        classes = source.read(1)
    assert (classes[:512, :512] == wanted).mean() > 0.9999  # sums of floats in another order
    told = json.loads((out / "told.json").read_text())
    assert told["cells"] == (SIDE // 48) ** 2


@pytest.mark.usefixtures("one_thread")
def test_a_chip_scores_as_in_the_scan(models: tuple[str, str]) -> None:
    chips = np.random.default_rng(5).uniform(0, 0.4, (3, 3, 48, 48)).astype(np.float32)
    one_by_one = [Chips(models[1]).score(chip) for chip in chips]
    assert np.allclose(one_by_one, load_classifier(models[1]).predict(chips), atol=1e-4)


def test_the_host_counts_what_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "one.tif").write_bytes(bytes(5000))
    with Host(tmp_path, 0.0) as host:
        requests.get(f"{host.url}/one.tif", headers={"Range": "bytes=0-999"}, timeout=60)
        requests.get(f"{host.url}/one.tif", timeout=60)
        requests.head(f"{host.url}/one.tif", timeout=60)
        assert host.counts() == {"requests": 3, "bytes": 6000}
        assert host.counts() == {"requests": 0, "bytes": 0}


def test_a_process_tree_is_watched(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "subprocess.run([sys.executable, '-c', \"b = bytes(range(250)) * 800_000; import time; "
        'sum(range(10**7)); time.sleep(1.5)"])\n'
    )
    used = watched([sys.executable, "-c", code], {}, tmp_path / "log")
    assert used.peak_mib > 150
    assert used.cpu_s > 0.05
    assert used.wall_s > 1.4
    with pytest.raises(RuntimeError, match="ended with 3: why"):
        watched([sys.executable, "-c", "print('why'); raise SystemExit(3)"], {}, tmp_path / "log")


def test_inner_stages_are_taken_out_of_outer_ones() -> None:
    clock = stages.Clock()
    inner = clock.around("read", lambda: sum(range(300_000)))
    clock.around("composite", lambda: [inner() for _ in range(3)])()
    clock.around("classify", lambda: [inner() for _ in range(3)])()
    assert clock.calls == {"read": 3, "composite": 1, "classify": 1}
    assert clock.seconds["read"] > clock.seconds["composite"] > 0
    assert clock.seconds["classify"] > clock.seconds["composite"]


def test_every_stage_has_a_function_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import scanner.run.tile  # noqa: F401

    found = set(stages.install(stages.Clock(), put=monkeypatch.setattr))
    assert {stage for stage, names in stages.STAGES.items() if not found & set(names)} == set()


def test_changes_at_lines_are_told_from_those_elsewhere() -> None:
    classes = np.zeros((20, 20), np.uint8)
    classes[:, 10:] = 1
    found = changes(classes, range(10, 20, 10))
    assert found == {"across": 0.5, "elsewhere": 0.0}
    classes[:, 10:] = 255
    assert np.isnan(changes(classes, range(10, 20, 10))["across"]) is np.False_


def test_ratios_are_taken_round_by_round() -> None:
    made = [
        Result("a", "part", turn, mpx=seconds, used=NOTHING) for turn, seconds in enumerate((6, 8))
    ]
    made += [Result("b", "part", turn, mpx=2, used=NOTHING) for turn in range(2)]
    made.append(Result("c", "memory", 5, 0, NOTHING, {"kept_mpx_per_s": 7.0}))
    results = Results([Result.of(json.loads(json.dumps(one.plain()))) for one in made])
    assert results.ratio(("a", "part"), ("b", "part"), rate) == [3, 4]
    assert results.ratio(("a", "part"), ("c", "memory"), rate) == [1]
    assert results.ratio(("a", "part"), ("d", "part"), rate) == []
    assert spread([3.0, 4.0]) == "3.50 (3.00 to 4.00)"


@pytest.mark.slow
def test_contenders_race(tmp_path: Path, models: tuple[str, str]) -> None:
    scenes = make_scenes(tmp_path, Park(1, 1))
    assert scenes.told["disturbed"]["park"] == pytest.approx(DISTURBED, rel=0.25)
    ring = Ring(scenes, tmp_path / "runs", *models)
    ring.mosaic = write_mosaic(scenes, tmp_path / "mosaic.tif")
    with rasterio.open(ring.mosaic) as source:
        assert source.shape == (2016 + MARGIN_PX, 2016 + MARGIN_PX)
    with ring.serving():
        scan = ring.run(Contender("scan", "scan", "park", over="http", profile=True), 0)
        slow = ring.run(Contender("plain", "plain", "park", ("--batch", "4"), "http"), 0)
    alone = ring.run(Contender("alone", "segment", "part"), 0)
    floor = ring.run(Contender("floor", "floor", "memory", ("torch", "2", "1")), 0)
    assert scan.told["cells"] == slow.told["cells"] == 42 * 42
    assert min(scan.told["bytes"], slow.told["bytes"]) > 1e6
    assert {"read", "composite"} <= set(scan.told["stages"]["seconds"])
    assert "changes" in alone.told
    assert floor.rate > 0


def test_the_tables_tell_every_contender() -> None:
    told = {"kept_mpx_per_s": 2.0}
    clocks = {"seconds": {"read": 3.0, "network": 5.0}, "calls": {}, "first": 10.0, "last": 16.0}
    raced = [
        ("scan, screen on", "park", {"segmented_mpx": 50.0, "classified": 9}),
        ("scan, screen on", "part", {"changes": {"across": 0.02, "elsewhere": 0.01}}),
        ("plain, batch 4", "part", {}),
        ("scan, screen on, http", "intact", {"requests": 9, "bytes": 1_000_000}),
        ("plain, batch 4, http", "intact", {"requests": 90, "bytes": 8_000_000}),
        ("openvino, 2 x 1", "memory", told),
        ("scan's segmentation alone", "part", {"seconds": 0.5}),
        ("geoai", "part", {"seconds": 2.0}),
        ("stages, screen on", "part", {"stages": clocks}),
    ]  # fmt: skip
    results = Results([Result(name, area, 0, 4.0, NOTHING, what) for name, area, what in raced])
    used = used_table(results)
    assert all(name in used for name, _, _ in raced[:-1])
    ratios = ratio_table(results, "openvino, 2 x 1")
    assert "| bytes read | scan, screen on, http, intact forest |" in ratios
    assert "| 0.12 | <= 0.25 |" in ratios
    assert "| geoai, the part | 4.00 | >= 3 |" in ratios
    assert "| scan, screen on | the part | 2.000 | 1.000 | 2.00 | nan |" in seam_table(results)
    assert "| the park | 4 |" in memory_table(results)
    assert "| read | 3.0 | 25 |" in stage_table(results)
    assert "network 42 %, read 25 % of the workers' time; in no stage 33 %" in limits_text(results)
