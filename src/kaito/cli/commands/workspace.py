"""Commands about one Workspace: explain, logs, chat, url; and the definition of the kind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from kaito.cli.connection import Connection, run_connected
from kaito.cli.options import Context, Kubeconfig, Namespace, WorkspaceName, plain_name
from kaito.cli.teaching import Command

if TYPE_CHECKING:
    from kaito.kube.client import Client


def register(app: typer.Typer) -> None:
    for command in (explain, logs, chat, url, crds):
        app.command(cls=Command)(command)


def explain(
    workspace: WorkspaceName,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Say why a Workspace is not ready: the walk from it down to the cause, and the next step."""
    from kaito.cli.explain import explain_workspace

    _print_of(workspace, Connection(kubeconfig, context, namespace), explain_workspace)


def logs(
    workspace: WorkspaceName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    container: Annotated[
        str, typer.Option("--container", "-c", help="data, model, tune, publish or serve.", show_default=False)
    ] = "",
    pod: Annotated[str, typer.Option("--pod", help="One pod of it, by name.", show_default=False)] = "",
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of the life before the last restart.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", help="Only the last lines.", show_default=False)] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what a Workspace's pod writes: of the step that is at work, or that failed."""
    from kaito.cli.waiting import stream_logs

    async def show(client: Client, space: str) -> None:
        options: dict[str, Any] = {"pod": pod, "container": container, "previous": previous, "tail": tail}
        async with aclosing(stream_logs(client, space, plain_name(workspace), follow=follow, **options)) as chunks:
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()

    run_connected(Connection(kubeconfig, context, namespace), show)


def chat(
    workspace: WorkspaceName,
    prompt: Annotated[str, typer.Argument(help="One question; without it, a conversation.", show_default=False)] = "",
    model: Annotated[str, typer.Option("--model", help="A model or adapter that it serves.", show_default=False)] = "",
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="The longest answer, in tokens.", show_default=False)
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.")] = 0.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Talk to a Workspace's model, from wherever the API server can be reached."""
    from kaito.cli.chat import converse
    from kaito.cli.waiting import require_workspace

    settings: dict[str, Any] = {"temperature": temperature}
    settings |= {"max_tokens": max_tokens} if max_tokens is not None else {}
    settings |= {"model": model} if model else {}
    questions = iter([prompt]) if prompt else iter(_ask, None)

    async def work(client: Client, space: str) -> None:
        name = plain_name(workspace)
        await require_workspace(client, space, name)
        show = lambda text: typer.echo(text, nl=False)  # noqa: E731 - one use, and shorter than a function
        tell = (lambda text: typer.secho(text, err=True, dim=True)) if sys.stderr.isatty() and not prompt else None
        await converse(client, space, name, lambda: next(questions, None), show, settings, tell)

    run_connected(Connection(kubeconfig, context, namespace), work)


def _ask() -> str | None:
    # The event loop's own handler only marks its task as cancelled, and the prompt would wait on.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None
    finally:
        signal.signal(signal.SIGINT, handler)


def url(
    workspace: WorkspaceName,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print where a Workspace answers: inside its cluster, or on this machine under `kaito up`."""
    from kaito.cli.chat import service_url

    _print_of(workspace, Connection(kubeconfig, context, namespace), service_url)


def _print_of(workspace: str, connection: Connection, describe: Callable[[Client, str, str], Awaitable[str]]) -> None:
    """What `describe` says of a Workspace that is there."""
    from kaito.cli.waiting import require_workspace

    async def work(client: Client, space: str) -> str:
        await require_workspace(client, space, plain_name(workspace))
        return await describe(client, space, plain_name(workspace))

    typer.echo(run_connected(connection, work))


def crds(
    karpenter: Annotated[
        bool, typer.Option("--karpenter", help="Also NodeClaim, Machine and NodePool, for clusters that have none.")
    ] = False,
) -> None:
    """Print the CustomResourceDefinitions."""
    from kaito.api import crds as definitions

    documents = [definitions.workspace_crd()]
    if karpenter:
        documents += [definitions.node_claim_crd(), definitions.machine_crd(), definitions.node_pool_crd()]
    typer.echo(yaml.dump_all(documents, Dumper=_WithoutAliases, sort_keys=False).rstrip())


class _WithoutAliases(yaml.SafeDumper):
    """Writes what is in two places twice: not every reader of manifests knows YAML's aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
