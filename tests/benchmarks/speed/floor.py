"""The floor: the bare network on arrays in memory, windows of 800 px, nothing else.

Each process loads the network, warms up, waits for the others, then runs windows one by one for
some seconds. ``torch`` is the eager network, ``openvino`` the same converted by OpenVINO's own
converter (float32), both to logits at a quarter of the size; ``scan`` is the scan's own segmenter
to class maps, on whatever backend it takes by itself.

    python -m tests.benchmarks.speed.floor BACKEND --processes 2 --threads 1 --seconds 8 --out FILE
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanner.detection.segment import STRIDE, WINDOW

Run = Callable[[NDArray[np.float32]], Any]


def torch_eager(segmenter: str | None, threads: int) -> Run:
    """Return the network as transformers and torch run it."""
    import torch

    from tests.benchmarks.speed.weights import Cover

    torch.set_num_threads(threads)
    cover = Cover(segmenter)

    def run(window: NDArray[np.float32]) -> Any:
        with torch.inference_mode():
            return cover.net(pixel_values=torch.from_numpy(window)).logits

    return run


def openvino(segmenter: str | None, threads: int) -> Run:
    """Return the network as OpenVINO converts and compiles it."""
    import openvino as ov
    import torch

    from tests.benchmarks.speed.weights import Cover

    class Logits(torch.nn.Module):
        def __init__(self, net: torch.nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.net(pixel_values=pixels).logits

    shape = (1, 3, WINDOW, WINDOW)
    module = Logits(Cover(segmenter).net).eval()
    model = ov.convert_model(module, example_input=torch.zeros(shape), input=[shape])
    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False,  # or both on one core
    }  # fmt: skip
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda window: request.infer([window])


def scan(segmenter: str | None, threads: int) -> Run:
    """Return the scan's own segmenter."""
    from scanner.models.segmenter import load_segmenter, set_threads

    set_threads(threads)
    model = load_segmenter(segmenter)
    return model.class_map


BACKENDS: Final = {"torch": torch_eager, "openvino": openvino, "scan": scan}


def available() -> list[str]:
    """Return the backends that are installed."""
    return [name for name in BACKENDS if name == "scan" or importlib.util.find_spec(name)]


def _work(backend: str, args: dict[str, Any], barrier: Any, results: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = str(args["threads"])
    run = BACKENDS[backend](args["segmenter"], args["threads"])
    rng = np.random.default_rng(7)
    windows = rng.uniform(0, 0.3, (4, 1, 3, WINDOW, WINDOW)).astype(np.float32)
    run(windows[0])
    barrier.wait()
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < args["seconds"]:
        run(windows[done % len(windows)])
        done += 1
    results.put((done, time.perf_counter() - begun))


def main() -> None:
    """Run from the command line."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("backend", choices=sorted(BACKENDS))
    made.add_argument("--processes", type=int, default=2)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--seconds", type=float, default=8)
    made.add_argument("--segmenter")
    made.add_argument("--out", type=Path, required=True)
    args = made.parse_args()
    context = get_context("spawn")
    barrier, results = context.Barrier(args.processes), context.Queue()
    workers = [
        context.Process(target=_work, args=(args.backend, vars(args), barrier, results))
        for _ in range(args.processes)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    rate = sum(done / seconds for done, seconds in found)
    told = {"windows_per_s": rate, "kept_mpx_per_s": rate * STRIDE**2 / 1e6}
    args.out.write_text(json.dumps(told | {"input_mpx_per_s": rate * WINDOW**2 / 1e6}))


if __name__ == "__main__":
    main()
