"""A run whose addresses are signed: no token in anything that is written, printed, logged or named.

The cluster lives in this process (threads, not processes), so that what scheduler and worker log at
the finest level is read here as well. Tokens end twice while it reads, so tasks fail and are told.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from pathlib import Path

import pytest
from distributed import LocalCluster

from scanner.config import ScanConfig
from scanner.results.evidence import write_evidence
from scanner.results.finished import open_run
from scanner.run.pipeline import prepare, scan
from tests.servers.stand import Stand

KEY = "5ubscr1pt10nK3yPlanted"
PLANTED = "5ignaturePlantedInTheCatalog"


class Kept(logging.Handler):
    """Keeps every record, formatted with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def planted_in(stand: Stand) -> None:
    """Sign what the catalog gives, as one does that was asked with ``sign_inplace``."""
    query = f"?se=2030-01-01T00%3A00%3A00Z&sp=rl&sig={PLANTED}"
    for item in stand.api.items:
        for asset in item["assets"].values():
            asset["href"] += query
        item["assets"]["B02"]["alternate"] = {"s3": {"href": f"https://elsewhere.example/a{query}"}}
        item["links"].append({"rel": "derived_from", "href": f"https://elsewhere.example/b{query}"})
        item["properties"]["download"] = f"https://elsewhere.example/c{query}"


@pytest.fixture(scope="module", params=["stackstac", pytest.param("odc", marks=pytest.mark.slow)])
def told(demo_scenes, seam_aoi, tiny_models, tmp_path_factory, request):
    """Where the run lies, its stand, and every line any logger of it had to say."""
    folder = tmp_path_factory.mktemp("secrets")
    stand = Stand(demo_scenes, ends=("SCL.tif", "B03.tif"))
    planted_in(stand)
    kept, root = Kept(), logging.getLogger()
    loud = [root, *(logging.getLogger(n) for n in ("distributed", "urllib3", "rasterio", "odc"))]
    levels = [(one, one.level, one.propagate) for one in loud]
    root.addHandler(kept)
    with pytest.MonkeyPatch.context() as patch, LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:  # fmt: skip
        patch.setenv("PC_SDK_SUBSCRIPTION_KEY", KEY)
        # the worker is a thread of this process, where a test before may have warped
        patch.setattr("scanner.run.worker._check_gdal", lambda: None)
        for one in loud:
            one.setLevel(logging.DEBUG)
            one.propagate = True
        config = ScanConfig().with_values(
            aoi=seam_aoi, out=folder / "run", scheduler=cluster.scheduler_address,
            engine=request.param, **stand.search | {"catalog": stand.api.url}, **tiny_models,
        )  # fmt: skip
        try:
            reports = list(scan(config))
            stories = repr(cluster.scheduler.transition_log) + repr(cluster.scheduler.get_events())
        finally:
            root.removeHandler(kept)
            for one, level, propagate in levels:
                one.setLevel(level)
                one.propagate = propagate
    assert len(reports) == 2
    yield config, stand, [*kept.lines, stories]
    stand.stop()


def secrets_of(stand: Stand) -> list[str]:
    """Return every text that may stand nowhere."""
    assert len(stand.mint.tokens) >= 3, "signed anew after each end"
    return [KEY, PLANTED, *(token.rpartition("sig=")[2] for token in stand.mint.tokens)]


def contents(folder: Path) -> dict[str, str]:
    """Return all that lies in a folder, what is packed in zips as well."""
    found = {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        found[path.relative_to(folder).as_posix()] = data.decode("latin-1")
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                for name in packed.namelist():
                    found[f"{path.name}/{name}"] = packed.read(name).decode("latin-1")
    return found


def leaks(texts: dict[str, str], secrets: list[str]) -> list[str]:
    return [name for name, text in texts.items() if any(one in text for one in secrets)]


def test_no_secret_is_written(told):
    config, stand, _ = told
    files = contents(config.run.out)
    wanted = {"items.json", "run.json", "config.toml", "report.html", "stac/collection.json"}
    assert wanted <= set(files)
    assert leaks(files, secrets_of(stand)) == []
    kept = json.loads(files["items.json"])["features"]
    assert all("?" not in asset["href"] for raw in kept for asset in raw["assets"].values())


def test_no_secret_is_logged_by_anything(told):
    _, stand, lines = told
    text = "\n".join(lines)
    assert "Compute Failed" in text, "the worker told of a task that failed"
    assert "403" in text
    assert leaks(dict(enumerate(lines)), secrets_of(stand)) == []


def test_no_secret_is_in_a_planned_run_or_an_error(told, tmp_path, call):
    config, stand, _ = told
    run = prepare(config)
    from scanner.run.plan import plan, tell_plan, write_plan

    made = plan(run)
    write_plan(made, tmp_path)
    texts = contents(tmp_path) | {"told": tell_plan(made)}
    (tmp_path / "broken.json").write_text(f'{{"type": "x", "url": "https://h/a?sig={PLANTED}"}}')
    code, out, err = call(
        config.aoi, "--catalog", tmp_path / "broken.json", "--out", tmp_path / "new", "--debug"
    )
    assert code != 0
    texts |= {"out": out, "err": err}
    texts.pop("broken.json", None)
    assert leaks(texts, secrets_of(stand)) == []


def test_no_secret_is_in_the_evidence_of_a_site(told, tmp_path):
    config, stand, _ = told
    scores = sorted(
        score
        for tile in prepare(config).tiles
        for score in prepare(config).parts.table(tile.tile_id)["score"].to_pylist()
        if score is not None
    )
    again = config.with_values(threshold=scores[len(scores) // 2])
    list(scan(again))  # the parts are there: sites are made, nothing is read
    run = open_run(config.run.out)
    folder = write_evidence(run, str(run.sites.detection_id[0]), tmp_path / "evidence")
    files = contents(folder)
    assert "evidence.html" in files
    assert leaks(files, secrets_of(stand)) == []
