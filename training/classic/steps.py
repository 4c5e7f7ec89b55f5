"""The six steps of the classic recipe, each a function of the recipe; what one lacks names another.

mines, forest -> chip folders; dataset -> a dataset folder; train -> a model directory; detect ->
detections around a point; validate -> figures and plots. Each goes on where it was broken off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from scanner.config import digest
from scanner.errors import TrainingError
from scanner.files import write_json
from scanner.results.chip_files import INDEX_FILE
from training.classic.recipe import STEPS
from training.classic.workspace import Recipe as Recipe
from training.collect.store import read_index
from training.dataset.folder import METADATA
from training.dataset.recipe import DatasetRecipe

DONE: Final = "made_of.json"
"""Beside a dataset: the digest of the chips and settings it was made of."""


def mines(recipe: Recipe) -> None:
    """Step 1: fetch a chip of each known mine."""
    from training.collect.fetch import fetch_chips
    from training.collect.places import read_csv

    wanted = recipe.asked.mines
    found = read_csv(recipe.known_mines, 1, "mines", wanted.bounds)
    for line in found.told(recipe.known_mines):
        print(line, flush=True)
    if not found.places:
        raise TrainingError(f"{recipe.known_mines}: no mine within the bounds; widen them")
    out = recipe.folder("mines")
    index = fetch_chips(found.places, recipe.asked.search, out, access=recipe.access, **recipe.chip)
    _tell(index, len(found.places), out)


def forest(recipe: Recipe) -> None:
    """Step 2: fetch forest samples at random, away from known mines; list likely mines in them."""
    from training.collect.areas import circle, read_keep_off
    from training.collect.forest import Draw, collect_forest
    from training.collect.review import review

    wanted = recipe.asked.forest
    areas = [circle(one.lat, one.lon, one.km, one.name) for one in wanted.circles]
    keep_off = [read_keep_off(recipe.known_mines, "mine", wanted.from_mines_km)[0]]
    draw = Draw(wanted.samples, wanted.attempts, recipe.asked.seed, wanted.spacing_km)
    out = recipe.folder("forest")
    found = collect_forest(
        areas, recipe.asked.search, out, draw=draw, keep_off=keep_off, access=recipe.access,
        **recipe.chip,
    )  # fmt: skip
    for why in found.without[:10]:
        print(f"forest sample not had: {why}", flush=True)
    _tell(found.index, wanted.samples, out)
    if wanted.review:
        from scanner.models.classifier import load_classifier

        listed = review(out, found.index["chip_id"], load_classifier())
        print(f"{len(listed)} likely mines among them, left out: review.csv", flush=True)


def dataset(recipe: Recipe, again: bool = False) -> None:
    """Step 3: make the dataset folder, unless it is made of the same chips already."""
    from training.dataset.build import build_dataset
    from training.dataset.sources import SourceSpec

    folders = [recipe.folder(step) for step in ("mines", "forest")]
    for folder, step in zip(folders, ("mines", "forest"), strict=True):
        recipe.need(folder / INDEX_FILE, step)
    asked = recipe.asked.dataset
    wanted = DatasetRecipe(
        block_degrees=asked.block_degrees,
        val_share=asked.validation,
        seed=recipe.asked.seed,
        on_leak="drop",
        augment=asked.augment if asked.copies else "none",
        copies=asked.copies if asked.augment != "none" else 0,
        skip_corrupt=asked.skip_corrupt,
    )
    made_of = {"digest": _digest(folders, wanted)}
    out = recipe.folder("dataset")
    if not again and (out / METADATA).exists() and _read(out.parent / DONE) == made_of:
        print(f"dataset: {out} is made of these chips already", flush=True)
        return
    specs = [SourceSpec(folder, label) for folder, label in zip(folders, (1, 0), strict=True)]
    build_dataset(specs, out, wanted, fresh=out.exists())
    write_json(out.parent / DONE, made_of)


def train(recipe: Recipe) -> None:
    """Step 4: train the classifier."""
    from training.finetune.classifier import train_classifier

    folder = recipe.folder("dataset")
    recipe.need(folder / METADATA, "dataset")
    train_classifier(folder, recipe.folder("train"), recipe.asked.train)


def detect(recipe: Recipe) -> None:
    """Step 5: look for mines around a point."""
    from training.classic.detect import detect as look_around

    wanted = recipe.asked.detect
    model = recipe.folder("train")
    recipe.need(model / "card.json", "train")
    out = recipe.folder("detect")
    found = look_around(
        wanted, recipe.asked.search, out, wanted.segmenter, model, access=recipe.access
    )
    print(f"{len(found)} mining cells; {out}: detections.parquet, overview_grid.png", flush=True)


def validate(recipe: Recipe) -> None:
    """Step 6: measure the classifier on known coordinates, or on the validation side."""
    from scanner.models.classifier import load_classifier
    from training.evaluate.coordinates import fetch_known, read_known
    from training.evaluate.evaluation import Options, evaluate
    from training.evaluate.samples import open_samples
    from training.places import read_places

    wanted, seed = recipe.asked.validate, recipe.asked.seed
    model = recipe.folder("train")
    recipe.need(model / "card.json", "train")
    classifier = load_classifier(model)
    out = recipe.folder("validate")
    told: dict[str, Any] = {"sample_size": wanted.sample_size}
    options = Options(out, seed=seed)
    if wanted.coordinates is None:
        folder = recipe.folder("dataset")
        recipe.need(folder / METADATA, "dataset")
        samples = open_samples(folder, "val").labelled().draw(wanted.sample_size, seed)
        told |= {"kind": "dataset", "path": folder.name, "split": "val"}
    else:
        search = recipe.asked.search
        names = ("catalog", "collection", "date", "max_cloud")
        known = read_known(wanted.coordinates).draw(wanted.sample_size, seed)
        samples = fetch_known(
            known,
            out / "chips",
            classifier.card,
            {name: value for name in names if (value := getattr(search, name)) is not None},
            {"workers": recipe.asked.chip.workers},
        )
        trained = [
            read_places(path)
            for step in ("mines", "forest")
            if (path := recipe.folder(step) / INDEX_FILE).exists()
        ]
        options = Options(out, seed=seed, training=np.concatenate(trained) if trained else None)
        told |= {"kind": "coordinates", "path": wanted.coordinates.name}
    metrics = evaluate(samples, classifier, options, told)
    overall = metrics["overall"]
    figures = ", ".join(f"{name} {overall[name]}" for name in ("roc_auc", "f1", "recall"))
    print(f"{figures}; {out}: metrics.json, report.md", flush=True)


RUN: Final[dict[str, Callable[[Recipe], None]]] = dict(
    zip(STEPS, (mines, forest, dataset, train, detect, validate), strict=True)
)


def _digest(folders: list[Path], wanted: DatasetRecipe) -> str:
    """Return the digest of everything a dataset depends on but the pixels themselves."""
    from dataclasses import asdict

    chips = []
    for folder in folders:
        index = read_index(folder)
        columns = index[["chip_id", "review", "item_ids"]].astype(str)
        chips.append(columns.values.tolist())
    return digest({"chips": chips, "recipe": asdict(wanted)})


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _tell(index: Any, wanted: int, out: Path) -> None:
    print(f"{len(index)} of {wanted} chips in {out}", flush=True)
    if len(index) < wanted:
        print(f"the others and why: {out / 'manifest.sqlite'}", flush=True)
