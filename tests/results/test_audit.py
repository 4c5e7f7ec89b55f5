"""The audit of a run: which cells are drawn, what labels may be, figures, the page, chips."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio

from scanner.detection.detections import CELL_HA
from scanner.detection.rasters import shown
from scanner.errors import ConfigError, ReadError, RunError
from scanner.results.audit import estimate, export_chips, tell_estimate, write_audit
from scanner.results.audit.chips import LEFT_OUT
from scanner.results.audit.sample import STRATA, Sample, draw_sample, read_sample, write_sample
from scanner.results.finished import FinishedRun, open_run
from scanner.results.maps.rasters import picture
from scanner.results.texts import texts
from tests.raster_runs import rule_rasters
from tests.results.runs import TILE, UNSEEN, Cell, area, cell, make_run

MINES = {cell(0, col): Cell(0.9, barren_ha=2) for col in range(30, 42)}
DOUBTFUL = {cell(row, col): Cell(0.2) for row in (5, 6, 7) for col in range(30, 42)}
CLOUDED = {cell(19, col): UNSEEN for col in range(30, 36)}
CELLS = {**MINES, **DOUBTFUL, **CLOUDED}
AOI = area((0, 20), (30, 50), name="Rio <b>Novo</b> & x")
"""240 cells of a tile, and 160 of its neighbour, which failed."""
FAILED = "21S_0032_0034"

Label = Callable[[str], str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return make_run(tmp_path_factory.mktemp("audited") / "run", CELLS, aoi=AOI, failed=[FAILED])


def drawn(run: FinishedRun, out: Path, size: int = 100, seed: int = 3) -> Sample:
    sample = draw_sample(run, size, seed)
    write_sample(run, sample, out)
    return sample


def labelled(path: Path, sample: Sample, label: Label) -> Path:
    rows = [
        f"{cell},{label(cell)},{n},{sample.audit}" for n, cell in enumerate(sample.cells.cell_id)
    ]
    path.write_text("\n".join(["cell_id,label,labelled,audit", *rows]) + "\n", encoding="utf-8")
    return path


def test_sample_is_of_seen_cells_and_the_rest_is_told(run: FinishedRun, tmp_path: Path) -> None:
    sample = drawn(run, tmp_path)
    assert sample.sizes == {"mining": 12, "not_mining": 36, "not_suspicious": 186}
    assert sample.outside == {"unseen": 6, "failed": 160}
    status = run.cells.set_index("cell_id").status.loc[sample.cells.cell_id]
    assert (status.to_numpy() == sample.cells.stratum.to_numpy()).all()
    assert len(sample.cells) == sample.cells.cell_id.nunique() == 100
    told = json.loads((tmp_path / "audit.json").read_text())
    assert told["outside"]["failed"] == {"cells": 160, "hectares": 3686.4}
    assert told["strata"]["mining"] == {"cells": 12, "hectares": 276.48, "drawn": 12}


def test_sample_tells_weights_chances_and_places(run: FinishedRun, tmp_path: Path) -> None:
    drawn(run, tmp_path)
    table = gpd.read_parquet(tmp_path / "sample.parquet")
    assert table.crs.to_epsg() == 4326
    for name, group in table.groupby("stratum"):
        assert (group.inclusion * group.stratum_cells).round(6).eq(len(group)).all()
        assert group.stratum_share.iloc[0] == pytest.approx(group.stratum_cells.iloc[0] / 234)
        assert name in STRATA
    box = table.geometry.bounds
    assert ((table.lon > box.minx) & (table.lon < box.maxx)).all()
    assert ((table.lat > box.miny) & (table.lat < box.maxy)).all()
    assert sorted(table.order) == list(range(1, 101))
    rows = pd.read_csv(tmp_path / "sample.csv")
    assert rows.cell_id.tolist() == table.sort_values("order").cell_id.tolist()


def test_same_seed_same_bytes_another_seed_other_cells(run: FinishedRun, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        drawn(run, tmp_path / name, seed=seed)
    for name in ("audit.json", "sample.parquet", "sample.csv"):
        first, second, third = ((tmp_path / one / name).read_bytes() for one in "abc")
        assert first == second
        assert first != third


def test_strata_do_not_come_in_order(run: FinishedRun) -> None:
    strata = draw_sample(run, 100, 0).cells.stratum.tolist()
    assert sum(a != b for a, b in pairwise(strata)) > 30


def test_more_than_there_is_takes_all(run: FinishedRun) -> None:
    sample = draw_sample(run, 5_000, 0)
    assert len(sample.cells) == 234
    assert (sample.cells.inclusion == 1).all()


@pytest.mark.parametrize(("size", "seed", "told"), [(9, 0, "--size 9"), (100, -1, "--seed -1")])
def test_sizes_and_seeds_that_cannot_be_are_refused(
    run: FinishedRun, size: int, seed: int, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        draw_sample(run, size, seed)


def test_run_that_saw_nothing_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", every=UNSEEN)
    with pytest.raises(ConfigError, match="not one cell was seen"):
        draw_sample(run, 50, 0)


def truth(name: str) -> str:
    """Every mine of the map but three is one; of every 6 doubtful cells one is, of others none."""
    if name in MINES:
        return "not" if name in list(MINES)[:3] else "mine"
    return "mine" if name in list(DOUBTFUL)[::6] else "not"


def test_all_labelled_gives_the_truth_without_any_doubt(run: FinishedRun, tmp_path: Path) -> None:
    sample = drawn(run, tmp_path, size=234)
    found = estimate(run, tmp_path, labelled(tmp_path / "labels.csv", sample, truth))
    assert found.mined_ha.value == pytest.approx(15 * CELL_HA)
    assert found.mined_ha.cautious == pytest.approx((15 * CELL_HA, 15 * CELL_HA))
    assert found.users.value == pytest.approx(9 / 12)
    assert found.producers.value == pytest.approx(9 / 15)
    assert found.overall.value == pytest.approx((234 - 3 - 6) / 234)
    assert found.mined_ha.se == found.users.se == found.overall.se == 0
    assert found.mapped_ha == pytest.approx(12 * CELL_HA)
    assert found.counts == {
        "mining": {"mine": 9, "not": 3},
        "not_mining": {"mine": 6, "not": 216},
    }


def test_sample_is_weighted_by_area(run: FinishedRun, tmp_path: Path) -> None:
    sample = drawn(run, tmp_path)
    found = estimate(run, tmp_path, labelled(tmp_path / "labels.csv", sample, truth))
    strata = sample.cells.stratum.to_numpy()
    mine = np.array([truth(name) == "mine" for name in sample.cells.cell_id])
    share, variance = 0.0, 0.0
    for name, whole in sample.sizes.items():  # Olofsson et al. 2014, eqs 9 and 10
        here = mine[strata == name]
        weight, p, n = whole / 234, here.mean(), len(here)
        share += weight * p
        variance += weight**2 * p * (1 - p) / (n - 1) * (1 - n / whole)
    assert found.mined_ha.value == pytest.approx(share * 234 * CELL_HA)
    assert found.mined_ha.se == pytest.approx(variance**0.5 * 234 * CELL_HA)
    assert found.users.value == 0.75
    assert found.users.se == 0  # all twelve were looked at
    rows = found.to_json()["error_matrix_shares"]
    shares = [one["value"] for fields in rows.values() for one in fields.values()]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert json.loads((tmp_path / "estimate.json").read_text()) == found.to_json()


def test_alike_labels_are_warned_of_and_told_with_a_cautious_interval(
    run: FinishedRun, tmp_path: Path
) -> None:
    sample = drawn(run, tmp_path)
    found = estimate(run, tmp_path, labelled(tmp_path / "labels.csv", sample, truth))
    note = next(one for one in found.notes if one.startswith("not_suspicious"))
    assert "no mine among" in note
    assert found.mined_ha.interval is not None
    assert found.mined_ha.cautious is not None
    assert found.mined_ha.cautious[1] > found.mined_ha.interval[1]
    assert any("3,825 ha that were unseen or failed" in one for one in found.notes)


def test_unsure_and_skipped_cells_bound_the_area(run: FinishedRun, tmp_path: Path) -> None:
    sample = drawn(run, tmp_path, size=234)
    unsure, skipped = sample.cells.cell_id[:4].tolist(), sample.cells.cell_id[4:6].tolist()
    rest = sample.cells.cell_id[200:].tolist()

    def label(name: str) -> str:
        if name in unsure:
            return "?"
        return "" if name in skipped or name in rest else truth(name)

    found = estimate(run, tmp_path, labelled(tmp_path / "labels.csv", sample, label))
    assert found.labels["unsure"] == 4
    assert found.labels["skipped"] == 2
    assert found.labels["open"] == 34
    most, least = found.unsure["mine"].value, found.unsure["not"].value
    assert most is not None
    assert least is not None
    assert found.mined_ha.value is not None
    assert least < found.mined_ha.value < most
    text = tell_estimate(found)
    assert "6 unsure or skipped, 34 not come to" in text
    assert "were all 6 unsure cells mines" in text


def test_one_label_in_a_stratum_gives_no_interval(run: FinishedRun, tmp_path: Path) -> None:
    sample = drawn(run, tmp_path)
    mines = sample.cells.cell_id[sample.cells.stratum == "mining"]

    def label(name: str) -> str:
        return "" if name in set(mines[1:]) else truth(name)

    found = estimate(run, tmp_path, labelled(tmp_path / "labels.csv", sample, label))
    assert found.mined_ha.se is None
    assert found.mined_ha.interval is None
    assert found.mined_ha.cautious is not None
    assert any("label two or more" in note for note in found.notes)
    assert "none" in tell_estimate(found)


def test_stratum_without_a_label_is_refused_by_name(run: FinishedRun, tmp_path: Path) -> None:
    sample = drawn(run, tmp_path)
    labels = labelled(tmp_path / "l.csv", sample, lambda name: "y" if name in MINES else "")
    with pytest.raises(ConfigError, match=r"not one of the .* stratum not_mining"):
        estimate(run, tmp_path, labels)


def test_no_mine_at_all_is_told_as_unknown_not_as_zero(run: FinishedRun, tmp_path: Path) -> None:
    sample = drawn(run, tmp_path)
    found = estimate(run, tmp_path, labelled(tmp_path / "l.csv", sample, lambda _: "n"))
    assert found.mined_ha.value == 0
    assert found.producers.value is None
    assert found.users.value == 0
    assert "unknown" in tell_estimate(found)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("cell_id", "cell"), "has no column cell_id"),
        (lambda text: text.replace(",mine,", ",gold,", 1), r"row \d+: label 'gold'"),
        (lambda text: text.replace("21S", "22S", 1), r"row 2: cell '22S_\d+_\d+' is not in this"),
        (lambda text: text + text.splitlines()[1], r"row 102: cell \S+ stands in row 2 already"),
        (lambda text: re.sub(r",\w{16}\n", ",0123456789abcdef\n", text, count=1), "audit '0123"),
        (lambda text: re.sub(",(mine|not),", ",,", text), "holds no label"),
        (lambda _: "cell_id,label\nx\0y,mine\n", "row 2"),
        (lambda _: "", "has no column"),
    ],
)
def test_labels_that_are_not_of_this_sample_are_refused_by_row(
    run: FinishedRun, tmp_path: Path, change: Callable[[str], str], told: str
) -> None:
    sample = drawn(run, tmp_path)
    labels = labelled(tmp_path / "labels.csv", sample, truth)
    labels.write_text(change(labels.read_text()))
    with pytest.raises(ConfigError, match=told) as caught:
        estimate(run, tmp_path, labels)
    assert "\n" not in str(caught.value)


def test_labels_saved_by_a_spreadsheet_or_written_into_the_sample_are_taken(
    run: FinishedRun, tmp_path: Path
) -> None:
    sample = drawn(run, tmp_path)
    labels = labelled(tmp_path / "a.csv", sample, truth)
    want = estimate(run, tmp_path, labels).mined_ha
    words = {"mine": "Sim", "not": "NÃO"}
    text = labels.read_text().replace(",", ";")
    for label, word in words.items():
        text = text.replace(f";{label};", f";{word};")
    (tmp_path / "b.csv").write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8")
    assert estimate(run, tmp_path, tmp_path / "b.csv").mined_ha == want
    table = pd.read_csv(tmp_path / "sample.csv")
    table.assign(label=table.cell_id.map(truth)).to_csv(tmp_path / "c.csv", index=False)
    assert estimate(run, tmp_path, tmp_path / "c.csv").mined_ha == want


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"x" * 10])
def test_files_that_are_no_labels_are_refused(
    run: FinishedRun, tmp_path: Path, content: bytes | None
) -> None:
    drawn(run, tmp_path)
    if content is not None:
        (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=r"labels\.csv: "):
        estimate(run, tmp_path, tmp_path / "labels.csv")


def test_sample_of_another_run_or_a_changed_one_is_refused(
    run: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "audit"
    with pytest.raises(ConfigError, match="holds no audit; draw one first"):
        read_sample(run, out)
    drawn(run, out)
    other = make_run(tmp_path / "other", CELLS, aoi=AOI, failed=[FAILED], max_scenes=3)
    with pytest.raises(ConfigError, match="audit of another run"):
        read_sample(other, out)
    table = out / "sample.parquet"
    frame = gpd.read_parquet(table)
    frame["stratum"] = "mining"
    frame.to_parquet(table)
    with pytest.raises(ConfigError, match="was changed since it was drawn"):
        read_sample(run, out)
    table.write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"sample\.parquet: cannot be read"):
        read_sample(run, out)


def test_another_threshold_keeps_the_labels(run: FinishedRun, tmp_path: Path) -> None:
    sample = drawn(run, tmp_path, size=234)
    labels = labelled(tmp_path / "labels.csv", sample, truth)
    moved = make_run(tmp_path / "run", CELLS, aoi=AOI, failed=[FAILED], threshold=0.1)
    assert moved.run_id == run.run_id
    found = estimate(moved, tmp_path, labels)
    assert found.mapped_ha == pytest.approx(48 * CELL_HA)
    assert found.users.value == pytest.approx(15 / 48)
    assert found.producers.value == 1
    assert found.mined_ha.value == pytest.approx(15 * CELL_HA)


def test_other_cells_seen_want_another_sample(run: FinishedRun, tmp_path: Path) -> None:
    drawn(run, tmp_path)
    half = {**CELLS, cell(10, 30): UNSEEN}
    moved = make_run(tmp_path / "run", half, aoi=AOI, failed=[FAILED])
    with pytest.raises(ConfigError, match="other cells count as seen"):
        read_sample(moved, tmp_path)


# the page


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run whose ground is a board of bright and dark squares."""
    folder = tmp_path_factory.mktemp("pictured") / "run"
    rasters = {TILE.tile_id: rule_rasters(TILE)}
    return make_run(folder, MINES | DOUBTFUL, aoi=area((0, 9), (30, 42)), rasters=rasters)


@pytest.fixture(scope="module")
def page(pictured: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audit(pictured, tmp_path_factory.mktemp("page"), size=20, seed=5, lang="en")


def page_data(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None
    return json.loads(found[1])


def test_page_is_one_file_that_lets_nothing_in(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    assert not re.search(r'\s(src|href|style|on\w+)="', text)
    assert all(
        one["picture"].startswith("data:image/webp;base64,") for one in page_data(page)["cells"]
    )


def test_page_is_blind(pictured: FinishedRun, page: Path) -> None:
    data = page_data(page)
    sample = read_sample(pictured, page.parent)
    assert [one["id"] for one in data["cells"]] == sample.cells.cell_id.tolist()
    assert set(data["cells"][0]) == {"id", "lat", "lon", "days", "picture"}
    text = page.read_text(encoding="utf-8")
    for word in (*STRATA[1:], "score", "stratum"):
        assert word not in text


def test_pictures_show_the_cell_in_the_middle_third(pictured: FinishedRun, page: Path) -> None:
    cells = pictured.cells.set_index("cell_id")
    for one in page_data(page)["cells"]:
        data = base64.b64decode(one["picture"].partition(",")[2])
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels.shape[:2] == (144, 144)
        alone = picture(pictured, cells.geometry[one["id"]], 48)
        inside = pixels[48:96, 48:96]
        assert np.abs(inside[..., 2::-1].astype(int) - alone[..., :3]).mean() < 3


def test_page_is_the_same_bytes_again(pictured: FinishedRun, page: Path, tmp_path: Path) -> None:
    again = write_audit(pictured, tmp_path, size=20, seed=5, lang="en")
    assert again.read_bytes() == page.read_bytes()


def test_hostile_names_are_escaped(pictured: FinishedRun, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>\"'<img src=x>"
    run = FinishedRun(pictured.path, pictured.summary)
    vars(run)["aoi"] = replace(pictured.aoi, name=evil)
    text = write_audit(run, tmp_path, size=10, seed=0, lang="pt").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "<img src=x>" not in text
    assert 'lang="pt-BR"' in text
    assert "quadrado amarelo" in text


@pytest.mark.parametrize("lang", ["pt", "es"])
def test_every_language_has_every_text(lang: str) -> None:
    def of(one: str) -> Mapping[str, str]:
        return {k: v for k, v in texts(one).items() if k.startswith("audit.")}

    english, other = of("en"), of(lang)
    assert set(english) == set(other)
    for key, text in other.items():
        assert text != english[key]
        fields = [sorted(re.findall(r"\{\w+\}", one)) for one in (text, english[key])]
        assert fields[0] == fields[1]


def test_language_there_is_none_of_is_refused(pictured: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="language 'xx'"):
        write_audit(pictured, tmp_path, size=20, seed=5, lang="xx")


def test_run_without_pictures_is_refused_and_told_how_to_get_them(
    run: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="--rasters --fresh"):
        write_audit(run, tmp_path / "out", size=50, seed=0, lang="en")
    assert not (tmp_path / "out").exists()


# chips, and what else needs the pixels of scenes


@pytest.fixture(scope="module")
def demo(finished_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("demo") / "run"
    shutil.copytree(finished_demo, folder)
    return open_run(folder)


@pytest.fixture(scope="module")
def audit(demo: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = write_audit(demo, tmp_path_factory.mktemp("audit"), size=20, seed=5, lang="en")
    return page.parent


def test_page_of_the_demo_says_that_it_is_synthetic(audit: Path) -> None:
    text = (audit / "audit.html").read_text(encoding="utf-8")
    assert "SYNTHETIC scenes" in text
    assert "Copernicus" not in text
    assert page_data(audit / "audit.html")["maps"] is False
    assert json.loads((audit / "audit.json").read_text())["synthetic"] is True


def by_turns(sample: Sample) -> Label:
    order = {name: n for n, name in enumerate(sample.cells.cell_id)}
    return lambda name: ("mine", "not", "not", "unsure")[order[name] % 4]


def test_chips_are_the_pixels_the_scan_saw(demo: FinishedRun, audit: Path, tmp_path: Path) -> None:
    sample = read_sample(demo, audit)
    labels = labelled(tmp_path / "labels.csv", sample, by_turns(sample))
    assert export_chips(demo, audit, labels, tmp_path / "chips") == 15
    index = gpd.read_parquet(tmp_path / "chips" / "index.parquet")
    assert index.label.value_counts().to_dict() == {1: 5, 0: 10}
    assert (index.source == f"audit-{demo.aoi.slug}").all()
    cells = demo.cells.set_index("cell_id")
    for chip in index.itertuples():
        name = chip.chip_id.rpartition("_")[0]
        with rasterio.open(tmp_path / "chips" / chip.path) as file:
            assert file.descriptions[:3] == ("B02", "B03", "B04")
            dn = file.read()
            assert file.shape == (48, 48)
        assert chip.clear_fraction == pytest.approx(cells.clear_fraction[name], abs=0.001)
        colours = shown(np.where(dn[2::-1] == 0, np.nan, dn[2::-1] / 10_000).astype(np.float32))
        seen = picture(demo, cells.geometry[name], 48).transpose(2, 0, 1)
        off = np.abs(colours[:3].astype(int) - seen[:3])
        assert off.mean() < 4  # the quicklook is a JPEG
        assert np.abs(off).max() < 60


def test_mining_train_takes_the_chips(demo: FinishedRun, audit: Path, tmp_path: Path) -> None:
    from training.dataset.build import build_dataset
    from training.dataset.recipe import DatasetRecipe
    from training.dataset.sources import SourceSpec
    from training.evaluate.samples import open_samples

    sample = read_sample(demo, audit)
    labels = labelled(tmp_path / "labels.csv", sample, by_turns(sample))
    count = export_chips(demo, audit, labels, tmp_path / "chips")
    recipe = DatasetRecipe(block_degrees=0.01, val_share=0.4, leak_km=0.1, on_leak="drop")
    made = build_dataset([SourceSpec(tmp_path / "chips")], tmp_path / "dataset", recipe)
    assert made["sources"][0]["images"] == count
    kept = sum(
        made["counts"][side][kind] for side in ("train", "val") for kind in ("positive", "negative")
    )
    assert kept + made["leakage"]["dropped"] == count
    judged = open_samples(tmp_path / "chips").labelled()
    assert len(judged.table) == count
    assert np.isfinite(judged.read(0)[:3]).all()


def test_scenes_that_are_gone_are_named_and_the_rest_is_written(
    finished_demo: Path, audit: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(finished_demo, tmp_path / "run")
    run = open_run(tmp_path / "run")
    sample = read_sample(run, audit)
    labels = labelled(tmp_path / "labels.csv", sample, truth_of_demo)
    lost = sorted(set(sample.cells.tile_id))[0]
    (run.parts.folder / f"{lost}.json").unlink()
    count = export_chips(run, audit, labels, tmp_path / "chips")
    failed = pd.read_csv(tmp_path / "chips" / LEFT_OUT)
    assert count + len(failed) == len(sample.cells)
    assert set(failed.cell_id) == set(sample.cells.cell_id[sample.cells.tile_id == lost])
    assert failed.reason.str.contains(lost).all()
    assert caplog.text.count("is left out") == len(failed)


def truth_of_demo(_: str) -> str:
    return "mine"


def test_nothing_readable_is_an_error_and_leaves_no_folder(
    finished_demo: Path, audit: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_demo, tmp_path / "run")
    run = open_run(tmp_path / "run")
    sample = read_sample(run, audit)
    for item in run.items.items:
        for asset in item.assets.values():
            asset["href"] = str(tmp_path / "gone" / Path(asset["href"]).name)
    labels = labelled(tmp_path / "labels.csv", sample, truth_of_demo)
    with pytest.raises(ReadError, match="not one of 20 cells could be read again"):
        export_chips(run, audit, labels, tmp_path / "chips")
    assert not (tmp_path / "chips").exists()
    assert not list(tmp_path.glob(".chips*"))


def test_folder_with_something_in_it_is_refused(
    demo: FinishedRun, audit: Path, tmp_path: Path
) -> None:
    sample = read_sample(demo, audit)
    labels = labelled(tmp_path / "labels.csv", sample, truth_of_demo)
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="is there already"):
        export_chips(demo, audit, labels, tmp_path / "chips")
