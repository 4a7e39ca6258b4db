"""The command's entry: registers the commands, and turns what they raise into one sentence and an exit code.

Exit codes: 0 done; 1 failed; 2 the input is wrong; 3 it does not fit (`plan`); 4 waited in vain; 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import kaito
from kaito.cli.commands import catalogue, cluster, data_sets, one_machine, processes
from kaito.cli.errors import CommandError

app = typer.Typer(
    name="kaito",
    help="Serve or fine-tune a language model from one Workspace, on a Kubernetes cluster or on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cluster.register(app)
catalogue.register(app)
data_sets.register(app)
one_machine.register(app)
processes.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kaito {kaito.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    try:
        app()
    except CommandError as error:
        typer.echo(f"kaito: {error}", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left; nothing is wrong
        sys.exit(0)


if __name__ == "__main__":
    main()
