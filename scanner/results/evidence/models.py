"""What is known of the models of a run: names and digests, and their cards where they are here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scanner.errors import ModelError
from scanner.models.card import ModelCard
from scanner.models.store import CARD_FILE, shipped
from scanner.results.evidence.words import Words
from scanner.results.finished import FinishedRun

KINDS: Final = ("segmenter", "classifier")
FIGURES: Final = ("roc_auc", "precision", "recall", "false_alarm_rate")
"""Figures of a classifier that are told, as they are called in its card."""


@dataclass(frozen=True)
class UsedModel:
    """A model a run used."""

    kind: str
    name: str
    digest: str
    """sha256 of the weights: all of it where the card is here, else its beginning."""
    card_file: Path | None
    """Its ``card.json``, where the very same model is on this machine."""
    card: ModelCard | None

    @property
    def copy_name(self) -> str:
        """Name of the card's copy among the evidence."""
        return f"{self.kind}.card.json"


def used_models(run: FinishedRun) -> list[UsedModel]:
    """Return both models of a run."""
    return [_used(run, kind) for kind in KINDS]


def _used(run: FinishedRun, kind: str) -> UsedModel:
    named: str = str(run.summary.get("models", {}).get(kind, ""))
    name, _, digest = named.rpartition("@")
    wanted = getattr(run.config.pixels, kind)
    folder = shipped(kind) if wanted is None else Path(wanted)
    if digest and (folder / CARD_FILE).is_file():  # a hub id is not fetched for this
        try:
            card = ModelCard.read(folder)
        except ModelError:
            card = None
        if card is not None and card.sha256.startswith(digest):
            return UsedModel(kind, name, card.sha256, folder / CARD_FILE, card)
    return UsedModel(kind, name or named, digest, None, None)


def figures(card: ModelCard, words: Words) -> tuple[str, str] | None:
    """Return the first group of a classifier's metrics and its key figures, as text."""
    for group, values in (card.metrics or {}).items():
        told = [text for name in FIGURES if (text := _figure(values, name, words))]
        if told:
            if {"mines", "others"} <= set(values):
                mines, others = (words.number(values[name]) for name in ("mines", "others"))
                told.append(words("made.metric_counts", mines=mines, others=others))
            return str(group), ", ".join(told)
    return None


def _figure(values: Any, name: str, words: Words) -> str | None:
    value = values.get(name) if isinstance(values, dict) else None
    if isinstance(value, list) and len(value) == 3:  # with its 95 % interval
        middle, low, high = (words.number(float(one), 2) for one in value)
        return words(f"made.metric_{name}", value=f"{middle} ({low}-{high})")
    if isinstance(value, int | float):
        return words(f"made.metric_{name}", value=words.number(value, 2))
    return None
