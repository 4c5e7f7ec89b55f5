"""The models a run used, as STAC items with MLM properties."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pystac

from scanner.errors import ModelError
from scanner.models.card import ModelCard
from scanner.models.hub import segmenter_card
from scanner.models.mlm import to_mlm
from scanner.models.store import shipped
from scanner.results.finished import FinishedRun

LEFT_OUT: Final = ("stac_extensions", "mining:metrics", "mining:config")
"""Fields of a card that its own file holds and the item need not."""
ARTIFACT: Final = "model card"
"""What the item's asset is: the weights are no part of a run, their digest stands in the card."""

_UNNAMEABLE: Final = re.compile(r"[^a-zA-Z0-9_.\s-]+")


@dataclass(frozen=True)
class UsedModel:
    """A model of a run whose card is at hand."""

    kind: str
    """``segmenter`` or ``classifier``."""
    card: ModelCard

    @property
    def file(self) -> str:
        """Name of its item's file."""
        return f"{self.kind}.json"

    @property
    def card_file(self) -> str:
        """Name of the file of its card."""
        return f"{self.kind}-card.json"

    @property
    def title(self) -> str:
        """Its name; of a folder of this machine, only the last part."""
        name = self.card.name
        return Path(name).name if Path(name).is_absolute() else name

    @property
    def name(self) -> str:
        """Its name in the characters MLM takes: from a letter on, to a letter or digit."""
        name = _UNNAMEABLE.sub("-", self.title).strip(" .-_")
        return name if re.fullmatch(r"[a-zA-Z].+", name) else f"model {name}".strip()

    @cached_property
    def described(self) -> dict[str, Any]:
        """The whole card under MLM names."""
        card = {**to_mlm(self.card), "mlm:name": self.name}
        for output in card["mlm:output"]:
            for one in output["classification:classes"]:
                one["description"] = one["name"].replace("_", " ")  # asked for up to v1.1.0
        return card

    @property
    def properties(self) -> dict[str, Any]:
        """What its item tells."""
        fields = {k: v for k, v in self.described.items() if k not in LEFT_OUT and v is not None}
        return {**fields, "bands": self.bands, "title": self.title}

    @property
    def bands(self) -> list[dict[str, str]]:
        """What it looks at; MLM wants them in the item, STAC there only beside an asset's."""
        return [{"name": band} for band in self.card.bands + self.card.optional_bands]

    @property
    def asset(self) -> pystac.Asset:
        """Its card, which lies beside its item as ``files.write_json`` writes it."""
        text = (json.dumps(self.described, indent=1, allow_nan=False) + "\n").encode()
        fields = {
            "mlm:artifact_type": ARTIFACT,
            "bands": self.bands,
            "file:size": len(text),
            "file:checksum": f"1220{hashlib.sha256(text).hexdigest()}",
        }
        title = f"Model card; sha256 of the weights {self.card.sha256}"
        roles = ["mlm:model", "metadata"]
        return pystac.Asset(f"./{self.card_file}", title, None, "application/json", roles, fields)


def used_models(run: FinishedRun) -> list[UsedModel]:
    """Return the models a run used, those that are still at hand; nothing is fetched."""
    return list(_found(run))


def _found(run: FinishedRun) -> Iterator[UsedModel]:
    for kind, named in run.summary["models"].items():
        try:
            card = _card(kind, getattr(run.config.pixels, kind))
        except ModelError:
            continue
        if card is not None and named == f"{card.name}@{card.sha256[:12]}":
            yield UsedModel(kind, card)


def _card(kind: str, name: str | None) -> ModelCard | None:
    """Return the card of a model, ``None`` for one that would have to be fetched."""
    if name is not None and not Path(name).is_dir():
        return None
    if kind == "segmenter":
        return segmenter_card(name)[1]
    return ModelCard.read(shipped(kind) if name is None else Path(name))
