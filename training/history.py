"""What a run tells while it goes: a line a check, a table, the same draws after a resume."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import lightning as L

from scanner.files import write_text


class History(L.Callback):
    """One row and one printed line a check; the rows travel in the checkpoint, so none is lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the figures of this check."""
        row = self._note(trainer)
        if trainer.is_global_zero:
            told = {  # a training figure is still that of the epoch before
                name: round(value, 4)
                for name, value in row.items()
                if name != "step" and not name.startswith("train_")
            }
            print(f"step {trainer.global_step}: {told}", flush=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add what is only known now, the mean loss of the epoch."""
        if self.rows and self.rows[-1]["step"] == trainer.global_step:
            self._note(trainer)

    def _note(self, trainer: L.Trainer) -> dict[str, float]:
        row: dict[str, float] = {"step": trainer.global_step, "epoch": trainer.current_epoch}
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        row["rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        if self.rows and self.rows[-1]["step"] == trainer.global_step:
            row = self.rows.pop() | row
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write()
        return row

    def _write(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on below the rows of the checkpoint."""
        self.rows = list(state_dict["rows"])


class EpochSeed(L.Callback):
    """Seeds every epoch by its number: order, augmentation and dropout outlive a resume."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._fresh = True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed this epoch, each process of several its own way.

        Lightning draws the order of a process's first epoch before this, at whatever state the
        random numbers are in; so that one is drawn again.
        """
        epoch = trainer.current_epoch
        L.seed_everything(self.seed + 100_003 * epoch + 1009 * trainer.global_rank, verbose=False)
        fetcher = trainer.fit_loop._data_fetcher
        if self._fresh and fetcher is not None:
            iter(fetcher)
        self._fresh = False
