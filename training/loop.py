"""The one way both models are trained: Lightning, averaged weights, checkpoints to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader

DONE: Final = "averaged.safetensors"
"""Written into the folder of a run when it is through; a run that has it is not trained again."""


class _Say(L.Callback):
    """One line a check."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        values = {k: round(float(v), 3) for k, v in trainer.callback_metrics.items()}
        print(f"step {trainer.global_step}: {values}", flush=True)


def fit(
    module: L.LightningModule,
    network: nn.Module,
    loaders: tuple[DataLoader[Any], DataLoader[Any]],
    runs: Path,
    *,
    ema: float,
    **limits: Any,
) -> nn.Module:
    """Train ``module`` or go on from the last checkpoint in ``runs``; returns the averaged network.

    ``network`` is the part of ``module`` that is shipped; ``limits`` go to the Trainer.
    """
    if not (runs / DONE).exists():
        trainer = L.Trainer(
            accelerator="cpu",
            precision="bf16-mixed",
            gradient_clip_val=1.0,
            default_root_dir=runs,
            callbacks=[
                EMAWeightAveraging(decay=ema),
                ModelCheckpoint(runs, save_last=True, save_top_k=1),
                _Say(),
            ],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **limits,
        )
        last = runs / "last.ckpt"
        trainer.fit(module, *loaders, ckpt_path=last if last.exists() else None)
        packed = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(packed, runs / DONE)
    network.load_state_dict(load_file(runs / DONE))
    return network.eval().float()
