"""`kaito completion`: completion for shells."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from kaito.cli.completion import script
from kaito.cli.teaching import Command


def register(app: typer.Typer) -> None:
    app.command(cls=Command)(completion)


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish", "powershell"], typer.Argument(help="The shell.")],
) -> None:
    """Print a shell's completion script: commands, options, and the names that are on the cluster.

    `kubectl kaito` completes, too, where kubectl's own completion is on.
    """
    typer.echo(script(shell).strip())
