"""References to models: checked on the client, sent to workers, loaded there once a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from scanner.errors import ModelError
from scanner.models.backends.choose import Kind, resolved
from scanner.models.card import ModelCard
from scanner.models.store import shipped


@dataclass(frozen=True)
class ModelRef:
    """A model by name and digest: small, picklable, loaded once where it is used."""

    kind: Literal["segmenter", "classifier"]
    name: str | None
    """Directory or hub id; ``None`` is the shipped model, wherever the package is installed."""
    sha256: str
    """The card's ``digest``: weights and all that turns their output into a result."""

    def load(self) -> Any:
        """Return the model, a ``Segmenter`` or ``Classifier``, from this process's cache.

        Raises ``ModelError`` if the model found here is not the one the reference was made for.
        """
        model = _loaded(self, resolved())
        if model.card.digest != self.sha256:
            raise ModelError(
                f"{self.kind} {self.name or 'shipped with the package'}: the model here is "
                f"{model.card.digest[:12]}..., the run uses {self.sha256[:12]}...; install the "
                "same model on every worker"
            )
        return model


@cache
def _loaded(ref: ModelRef, _: tuple[Kind, int | None]) -> Any:
    """Load once a process, and once more where it is told to use another engine."""
    if ref.kind == "segmenter":
        from scanner.models.segmenter import load_segmenter

        return load_segmenter(ref.name)
    from scanner.models.classifier import load_classifier

    return load_classifier(ref.name)


def segmenter_ref(name: str | Path | None = None) -> ModelRef:
    """Check a segmenter (model directory, hub id, or ``None`` for the shipped one) and name it."""
    from scanner.models.hub import segmenter_card

    return ModelRef("segmenter", _text(name), segmenter_card(name)[1].digest)


def classifier_ref(name: str | Path | None = None) -> ModelRef:
    """Check a classifier (model directory, or ``None`` for the shipped one) and name it."""
    folder = shipped("classifier") if name is None else Path(name)
    return ModelRef("classifier", _text(name), ModelCard.read(folder).digest)


def _text(name: str | Path | None) -> str | None:
    return None if name is None else str(name)
