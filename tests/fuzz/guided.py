"""What ``run.py`` starts: ``python -m tests.fuzz.guided TARGET LIBFUZZER-FLAGS... CORPUS``."""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["scanner", "tomllib"]):
    from tests.fuzz.changes import changed
    from tests.fuzz.targets import TARGETS, warnings_are_findings


def main() -> None:
    name = sys.argv.pop(1)
    target = TARGETS[name]
    warnings_are_findings()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < (0.7 if target.form != "bytes" else 0.2):
            made = changed(data, target.form, rng)
            if len(made) <= max_size:
                return made
        return bytes(atheris.Mutate(data, max_size))

    args = [sys.argv[0], f"-max_len={target.max_len}", *sys.argv[1:]]
    atheris.Setup(args, target.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
