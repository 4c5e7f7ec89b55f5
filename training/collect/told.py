"""What ``mining-train collect`` tells while it works and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

TOLD: Final = 10
"""Failed samples that are printed; the rest is counted, and all are in the manifest."""


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, str | None], None]]:
    """Yield what is to be called for each sample: it moves a bar and names the first failures."""
    from tqdm import tqdm

    failed = 0
    with tqdm(total=total, unit="chip") as bar:

        def tell(sample_id: str, reason: str | None) -> None:
            nonlocal failed
            if reason is None:
                bar.update()
                return
            failed += 1
            bar.set_postfix_str(f"{failed} failed")
            if failed <= TOLD:
                bar.write(f"{sample_id}: {reason}")

        yield tell


def summary(out: Path, kept: int) -> int:
    """Print what a folder holds now; return the exit code: 1 where this call kept no chip."""
    from training.collect.fetch import counts
    from training.collect.manifest import FAILED

    states = counts(out)
    told = ", ".join(f"{number} {state}" for state, number in states.items() if number)
    hint = "; --retry-failed tries those again" if states[FAILED] else ""
    click.echo(f"{out}: {kept} chips of this call; in all {told or 'none'}{hint}")
    return 0 if kept else 1


def warn(lines: Iterable[str]) -> None:
    """Print lines to stderr."""
    for line in lines:
        click.echo(line, err=True)
