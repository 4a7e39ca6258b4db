"""The command's entry: registers the commands, and turns what they raise into one sentence and an exit code.

The exit codes are in `teaching.EXIT_CODES`, from where `--help` and the documents take them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import kaito
from kaito.cli.commands import catalogue, cluster, data_sets, installation, one_machine, processes, shell, workspace
from kaito.cli.completion import answer_if_asked
from kaito.cli.connection import GIVEN_FIRST, Connection
from kaito.cli.errors import CommandError
from kaito.cli.options import Context, Kubeconfig, Namespace
from kaito.cli.teaching import Group

SPELLINGS = {"--dry-run=server": "--dry-run", "--wait=true": "--wait", "--wait=false": "--no-wait"}
"""How kubectl's users say it; our options take no value there."""

app = typer.Typer(
    name="kaito",
    cls=Group,
    help="Serve or fine-tune a language model from one Workspace, on a Kubernetes cluster or on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cluster.register(app)
workspace.register(app)
catalogue.register(app)
data_sets.register(app)
one_machine.register(app)
installation.register(app)
processes.register(app)
shell.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kaito {kaito.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    GIVEN_FIRST.set(Connection(kubeconfig, context, namespace))


def main() -> None:
    answer_if_asked()
    try:
        app(args=[SPELLINGS.get(word, word) for word in sys.argv[1:]], prog_name=program_name(sys.argv[0]))
    except CommandError as error:
        typer.echo(f"kaito: {error}", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        sys.exit(error.code)
    except KeyboardInterrupt:
        typer.echo("", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left; nothing is wrong
        sys.exit(0)


def program_name(path: str) -> str:
    """How the person called it, for usage lines: as `kaito`, or as the plugin of kubectl."""
    return "kubectl kaito" if Path(path).name.startswith("kubectl-kaito") else "kaito"


if __name__ == "__main__":
    main()
