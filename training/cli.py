"""The command ``mining-train``: one subcommand a step, each imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from scanner.errors import TrainingError
from scanner.version import __version__

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "collect": ("training.collect.command:command", "Fetch chips of mines and of forest."),
    "dataset": ("training.dataset.command:command", "Make a dataset folder of collected chips."),
    "style": ("training.dataset.style_command:command", "Statistics and style of pictures."),
    "classifier": ("training.train_command:classifier", "Train a classifier of chips."),
    "segmenter": ("training.train_command:segmenter", "Train a segmenter of land cover."),
    "evaluate": ("training.evaluate.command:command", "Measure a classifier on labelled chips."),
    "predict": ("training.evaluate.predict_command:command", "Classify images."),
    "detect": ("training.classic.command:detect", "Find mines round a point, as overview."),
    "all": ("training.classic.command:everything", "Run the classic recipe, all six steps."),
}
"""Subcommand -> (module:function, what ``--help`` says of it), in the order of the flow."""


class LazyGroup(click.Group):
    """A group that imports a subcommand only to run it, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the flow."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; what training needs beyond a scan may not be installed."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise TrainingError(
                f"the package {error.name} is missing, training needs it; "
                "run: pip install 'mining-scan[train]'"
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="mining-train")
def command() -> None:
    """Collect chips, make a dataset, train models, measure them.

    Exit codes: 0 done; 1 done, but some or all of the input was left out; 2 input refused; 3 the
    environment stopped it; 130 interrupted, resumable.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; what ends it early is told on one line of stderr."""
    from scanner.cli import run_command

    run_command(command, "mining-train", list(sys.argv[1:] if args is None else args))


if __name__ == "__main__":
    main()
