"""Commands about the control plane on this machine: up, down, demo."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from kaito.cli.connection import kaito_home
from kaito.cli.errors import CommandError, UsageError
from kaito.cli.logs import set_up_logs
from kaito.cli.options import Home, LogJson, LogLevel
from kaito.cli.teaching import Command


def register(app: typer.Typer) -> None:
    for command in (up, down, demo):
        app.command(cls=Command)(command)


def up(
    home: Home = None,
    port: Annotated[int, typer.Option(help="The API's port on loopback; 0 takes a free one.")] = 6443,
    registry_port: Annotated[int, typer.Option(help="The registry's and /data/'s port; 0 takes a free one.")] = 5010,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it runs.")] = False,
    no_controllers: Annotated[
        bool, typer.Option("--no-controllers", help="The API alone, for who runs operator and provisioner.")
    ] = False,
    log_level: LogLevel = "info",
    log_json: LogJson = False,
) -> None:
    """Start a control plane on this machine: a Kubernetes API, the controllers, a node and a registry."""
    from kaito.local import up as machine

    config = machine.UpConfig(
        home=_folder(home),
        port=port,
        registry_port=registry_port,
        controllers=not no_controllers,
    )
    try:
        if detach:
            typer.echo(machine.describe(machine.detach(config)))
            return
        set_up_logs(log_level, as_json=log_json)
        asyncio.run(machine.run_up(config, lambda running: typer.echo(machine.describe(running))))
    except machine.UpError as error:
        raise CommandError(str(error)) from error


def down(home: Home = None) -> None:
    """Stop the control plane of this machine and every pod that it runs. What is stored stays."""
    from kaito.local import up as machine

    folder = _folder(home, make=False)
    try:
        stopped = machine.down(folder)
    except machine.UpError as error:
        raise CommandError(str(error)) from error
    typer.echo("stopped" if stopped else f"nothing runs for {folder}")


def _folder(home: Path | None, *, make: bool = True) -> Path:
    """The control plane's folder. Raises UsageError where it cannot be one."""
    folder = home.absolute() if home else kaito_home()
    try:
        if make or folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be a folder for the control plane: {error.strerror}", "name another"
        ) from error
    return folder


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demonstration keeps its state and its report.")] = Path(
        ".demo"
    ),
) -> None:
    """Tune the built-in model on a small data set, serve it, and ask it: the whole path on this machine."""
    from kaito.cli.demo import run_demo

    run_demo(folder.absolute())
