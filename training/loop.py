"""The one way all models are trained: Lightning, averaged weights, checkpoints to go on from.

A folder of a run holds ``last.ckpt`` and ``best.ckpt``, ``history.csv``, what TensorBoard shows,
``config.json`` (what was asked for), and ``averaged.safetensors`` when it is through.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from scanner.errors import TrainingError
from scanner.files import atomic_path, write_json
from training.checkpoints import WholeCheckpoints, clear_scratch, newest_whole
from training.history import EpochSeed, History

DONE: Final = "averaged.safetensors"
"""Written into the folder of a run when it is through; a run that has it is not trained again."""
CONFIG: Final = "config.json"


def fit(
    module: L.LightningModule,
    network: nn.Module,
    loaders: tuple[DataLoader[Any], DataLoader[Any]],
    runs: Path,
    *,
    ema: float | None,
    monitor: str | None = None,
    mode: Literal["min", "max"] = "min",
    patience: int | None = None,
    seed: int | None = None,
    config: dict[str, Any] | None = None,
    **limits: Any,
) -> nn.Module:
    """Train ``module``, or go on from the last checkpoint in ``runs``; returns the network to ship.

    Args:
        module: what is trained.
        network: the part of ``module`` that is shipped.
        loaders: of training and validation.
        runs: folder of the run; killed at any time, the same call goes on from its last epoch.
        ema: decay of the running average of the weights, which is validated and returned.
        monitor: a logged figure; the weights of its best epoch are returned, else the last ones.
        mode: whether ``monitor`` is to be small or large.
        patience: checks without a better ``monitor`` after which training stops.
        seed: makes every epoch's draws its own, so that a resumed run ends as an unbroken one.
        config: what was asked for, JSON-able; kept in ``runs``, and another one is refused there.
        limits: to the Trainer, before the defaults (all GPUs or the CPU, mixed precision).

    Raises ``TrainingError`` where ``runs`` holds a run with another ``config``.
    """
    runs.mkdir(parents=True, exist_ok=True)
    _check_config(runs, config)
    if not (runs / DONE).exists():
        clear_scratch(runs)
        trainer = L.Trainer(
            **{
                "accelerator": "auto",
                "devices": "auto",
                "strategy": "auto",
                "precision": mixed_precision(limits.get("accelerator", "auto")),
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 10,
                **limits,
            },
            default_root_dir=runs,
            callbacks=_callbacks(runs, ema, monitor, mode, patience, seed),
            logger=TensorBoardLogger(runs, name="tensorboard", version=""),
            plugins=[WholeCheckpoints()],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, *loaders, ckpt_path=newest_whole(runs))
        _finish(trainer, module, network, runs, monitor)
    network.load_state_dict(load_file(runs / DONE))
    return network.eval().float().cpu()


def mixed_precision(accelerator: str = "auto") -> Any:
    """Return Lightning's name of the precision that pays on this machine: bfloat16, half, full."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "16-mixed"
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return "32-true"
    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


def _callbacks(
    runs: Path,
    ema: float | None,
    monitor: str | None,
    mode: Literal["min", "max"],
    patience: int | None,
    seed: int | None,
) -> list[L.Callback]:
    found: list[L.Callback] = [History(runs / "history.csv")]
    if seed is not None:
        found.append(EpochSeed(seed))
    if ema:
        found.append(EMAWeightAveraging(decay=ema))
    if monitor is not None and patience is not None:
        found.append(EarlyStopping(monitor, patience=patience, mode=mode))
    if monitor is not None:
        found.append(_keep(runs, "best", monitor=monitor, mode=mode))
    # a callback of its own: one that watches a figure saves nothing in an epoch without progress
    return [*found, _keep(runs, "last")]


def _keep(runs: Path, name: str, **watched: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        runs, filename=name, save_top_k=1, enable_version_counter=False, **watched
    )


def _finish(
    trainer: L.Trainer,
    module: L.LightningModule,
    network: nn.Module,
    runs: Path,
    monitor: str | None,
) -> None:
    """Write the weights to ship. Of several processes (one a GPU) only the first goes on."""
    trainer.strategy.barrier()
    if not trainer.is_global_zero:
        sys.exit(0)
    state = network.state_dict()
    best = runs / "best.ckpt"
    if monitor is not None and best.exists():
        kept = torch.load(best, map_location="cpu", weights_only=True)
        state = _part(kept["state_dict"], module, network)
    packed = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(runs / DONE) as scratch:
        save_file(packed, scratch)


def _part(
    state: dict[str, Tensor], module: L.LightningModule, network: nn.Module
) -> dict[str, Tensor]:
    """Return the weights of ``network`` out of those of the module it is a part of."""
    name = next(name for name, child in module.named_modules() if child is network)
    start = f"{name}." if name else ""
    return {key.removeprefix(start): v for key, v in state.items() if key.startswith(start)}


def _check_config(runs: Path, config: dict[str, Any] | None) -> None:
    """Write what is asked for, or hold it against what was asked for when the run began."""
    if config is None:
        return
    path = runs / CONFIG
    wanted = json.loads(json.dumps(config))
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(k for k in begun.keys() | wanted.keys() if begun.get(k) != wanted.get(k))
        if changed:
            key = changed[0]
            raise TrainingError(
                f"{path}: the run begun here has {key} = {begun.get(key)!r}, now it is "
                f"{wanted.get(key)!r}; give the same again, or another --out"
            )
    write_json(path, wanted)
