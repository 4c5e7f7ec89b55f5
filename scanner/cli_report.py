"""The command ``mining-report``: what is made of finished runs. Heavy imports wait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import click

from scanner.cli import run_command
from scanner.version import __version__

FOLDER: Final = click.Path(path_type=Path)
LANGUAGE: Final = click.Choice(["en", "pt", "es"])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="mining-report")
def group(debug: bool) -> None:
    """Evidence, changes, priorities and an audit of what mining-scan found.

    RUN is a run folder of mining-scan, finished and unchanged since. Exit codes: 0 done; 2 input
    refused; 3 the environment stopped it (catalog, disk); 130 interrupted.
    """


@group.command()
@click.argument("run", type=FOLDER)
@click.argument("detection_id", metavar="ID")
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder to write  [RUN/evidence/ID].")
@click.option("--before", type=FOLDER, metavar="RUN", help="An earlier run to take 'before' from.")
@click.option("--lang", type=LANGUAGE, default="en", show_default=True)
def evidence(
    run: Path, detection_id: str, out: Path | None, before: Path | None, lang: str
) -> None:
    """Gather what another person needs to check site ID, in a folder with a page to print.

    Reads the site's pixels again, from the scenes the run used.
    """
    from scanner.results.evidence import write_evidence
    from scanner.results.finished import open_run

    earlier = None if before is None else open_run(before)
    folder = write_evidence(open_run(run), detection_id, out, before=earlier, lang=lang)
    click.echo(f"evidence in {folder}: open {folder / 'evidence.html'}")


@group.command()
@click.argument("old", type=FOLDER)
@click.argument("new", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="Folder to write.")
@click.option("--ledger", type=FOLDER, metavar="FILE", help="Ledger to go on with  [DIR's own].")
def compare(old: Path, new: Path, out: Path, ledger: Path | None) -> None:
    """Tell which sites are new, growing, stable, shrinking, gone or unseen between two runs."""
    from scanner.results.changes.compare import tell_changes, write_changes
    from scanner.results.finished import open_run

    click.echo(tell_changes(write_changes(open_run(old), open_run(new), out, ledger=ledger)))
    click.echo(f"changes in {out}: changes.parquet, ledger.parquet")


@group.command()
@click.argument("run", type=FOLDER)
@click.option("--budget", type=click.IntRange(1), default=50, show_default=True, metavar="N")
@click.option("--changes", type=FOLDER, metavar="DIR", help="Changes to prefer new sites by.")
@click.option("--out", type=FOLDER, metavar="FILE.csv", help="Write the list as CSV too.")
def top(run: Path, budget: int, changes: Path | None, out: Path | None) -> None:
    """List the N sites most worth a flight, and why."""
    from scanner.results.finished import open_run
    from scanner.results.triage import rank_sites, tell_ranking, write_ranking

    ranking = rank_sites(open_run(run), budget, changes)
    if out is not None:
        write_ranking(ranking, out)
    click.echo(tell_ranking(ranking))


@group.command()
@click.argument("run", type=FOLDER)
@click.option("--size", type=click.IntRange(10), default=150, show_default=True, metavar="N")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--labels", type=FOLDER, metavar="FILE.csv", help="Labels of an audit: estimate.")
@click.option("--chips", type=FOLDER, metavar="DIR", help="Export labelled cells for mining-train.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder to write  [RUN/audit].")
@click.option("--lang", type=LANGUAGE, default="en", show_default=True)
def audit(
    run: Path,
    size: int,
    seed: int,
    labels: Path | None,
    chips: Path | None,
    out: Path | None,
    lang: str,
) -> None:
    """Draw N cells to label by eye, as a page; with --labels, estimate accuracy and mined area."""
    from scanner.results.audit import estimate, export_chips, tell_estimate, write_audit
    from scanner.results.finished import open_run

    opened = open_run(run)
    folder = out or run / "audit"
    if labels is None:
        page = write_audit(opened, folder, size=size, seed=seed, lang=lang)
        click.echo(f"audit in {folder}: open {page}, label with y, n and ?, save labels.csv")
        return
    click.echo(tell_estimate(estimate(opened, folder, labels)))
    if chips is not None:
        click.echo(f"{export_chips(opened, folder, labels, chips)} chips in {chips}")


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``mining-report`` and exit; codes as in :func:`scanner.cli.run_command`."""
    run_command(group, "mining-report", args)
