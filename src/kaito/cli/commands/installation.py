"""The suite on a cluster: install and uninstall. The Helm chart makes the same objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaito.cli.connection import Connection, run_connected
from kaito.cli.errors import CommandError, TimedOut, UsageError
from kaito.cli.options import Context, Kubeconfig, parse_duration
from kaito.cli.teaching import Command

if TYPE_CHECKING:
    from kaito.kube.client import Client

DEFAULT_NAMESPACE = "kaito-system"
Space = Annotated[str, typer.Option("--namespace", "-n", help="The suite's own namespace.")]


def register(app: typer.Typer) -> None:
    app.command(cls=Command)(install)
    app.command(cls=Command)(uninstall)


def install(
    values: Annotated[
        list[Path] | None,
        typer.Option("--values", "-f", metavar="FILE", help="Values in YAML, as the chart takes them; repeatable."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="One value, such as operator.replicas=2; repeatable."),
    ] = None,
    namespace: Space = DEFAULT_NAMESPACE,
    create_namespace: Annotated[bool, typer.Option(help="Make the namespace, restricted, if it is not there.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the objects, for kubectl apply; no cluster is asked.")
    ] = False,
    show_values: Annotated[bool, typer.Option("--show-values", help="Print all values with their defaults.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until everything runs.")] = True,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait, such as 5m.")] = "5m",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Install the suite on a cluster, or bring an installation up to this version and these values.

    Run again, it changes only what differs. `kaito install --dry-run | kubectl apply -f -` does the same with kubectl.
    """
    from kaito.install.errors import InstallError, NotReady, ValuesInvalid
    from kaito.install.render import as_yaml, read_values, render, render_namespace
    from kaito.install.schema import values_yaml

    if show_values:
        typer.echo(values_yaml().rstrip())
        return
    patience = parse_duration(timeout)
    first = render_namespace(namespace) if create_namespace else []
    try:
        chosen = read_values(values or [], settings or [])
        if dry_run:
            typer.echo(as_yaml([*first, *render(chosen, namespace)]))
            return
        run_connected(
            Connection(kubeconfig, context, namespace),
            lambda client, space: _install(client, space, first, chosen, patience if wait else None),
        )
    except ValuesInvalid as error:
        raise UsageError(str(error), error.hint) from error
    except NotReady as error:
        raise TimedOut(str(error), error.hint) from error
    except InstallError as error:
        raise CommandError(str(error), error.hint) from error


async def _install(
    client: Client, namespace: str, first: list[dict[str, Any]], values: dict[str, Any], patience: float | None
) -> None:
    from kaito.install.apply import advice, foreign_crds, refuse_rival, wait_ready
    from kaito.install.apply import install as install_objects
    from kaito.install.kinds import NAMESPACES
    from kaito.install.render import render

    await refuse_rival(client)
    foreign = await foreign_crds(client)
    objects = render(values, namespace, is_free=lambda crd: crd not in foreign)
    if await client.find(NAMESPACES, namespace) is not None:
        first = []  # it is the user's, labels and all
    await install_objects(client, [*first, *objects], typer.echo)
    for line in await advice(client, values):
        typer.echo(line, err=True)
    if patience is not None:
        await wait_ready(client, objects, patience, typer.echo)


def uninstall(
    crds: Annotated[
        bool, typer.Option("--crds", help="Also delete the CRDs. Refused while there are Workspaces.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Take away what `kaito install` made. Workspaces, their CRD and the namespace stay."""
    from kaito.install.apply import uninstall as uninstall_objects
    from kaito.install.errors import InstallError

    try:
        done = run_connected(
            Connection(kubeconfig, context), lambda client, _: uninstall_objects(client, typer.echo, crds=crds)
        )
    except InstallError as error:
        raise CommandError(str(error), error.hint) from error
    if not done:
        typer.echo("nothing was installed by `kaito install`")
