"""Commands about objects, on any cluster: apply, get, wait, logs, delete, chat, url, explain, crds."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
import yaml

from kaito.cli.connection import Connection, run_connected
from kaito.cli.errors import UsageError
from kaito.cli.options import AllNamespaces, Context, Files, Kubeconfig, Namespace

Output = Annotated[str, typer.Option("--output", "-o", help="json, yaml, wide or name.", show_default=False)]


def register(app: typer.Typer) -> None:
    for command in (apply, get, wait, logs, delete, chat, url, explain, crds):
        app.command()(command)


def apply(filename: Files, namespace: Namespace = None, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Apply manifests: server-side, field by field, as often as you like."""
    from kaito.cli.objects import apply_manifests

    connection = Connection(kubeconfig, context, namespace)
    run_connected(connection, lambda client, space: apply_manifests(client, space, filename, typer.echo))


def get(
    kind: Annotated[str, typer.Argument(help="A kind, a short name, or KIND/NAME.")] = "workspaces",
    name: Annotated[str, typer.Argument(help="One object's name.", show_default=False)] = "",
    output: Output = "",
    selector: Annotated[str, typer.Option("--selector", "-l", help="A label selector.", show_default=False)] = "",
    all_namespaces: AllNamespaces = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show objects as a table, or whole with -o yaml or json."""
    from kaito.cli.objects import get_objects, get_table
    from kaito.cli.tables import render_table

    if output not in ("", "wide", "json", "yaml", "name"):
        raise UsageError(f'unknown output "{output}"', "one of wide, json, yaml, name")
    word, name = _split(kind, name)
    connection = Connection(kubeconfig, context, namespace)
    if output in ("json", "yaml", "name"):
        found = run_connected(
            connection,
            lambda client, space: get_objects(
                client, space, word, name, all_namespaces=all_namespaces, labels=selector
            ),
        )
        typer.echo(_dump(found, output))
        return
    table = run_connected(
        connection,
        lambda client, space: get_table(client, space, word, name, all_namespaces=all_namespaces, labels=selector),
    )
    if not table.get("rows"):
        typer.echo("No resources found", err=True)
        return
    typer.echo(render_table(table, wide=output == "wide", namespaces=all_namespaces))


def _split(kind: str, name: str) -> tuple[str, str]:
    if "/" in kind and not name:
        kind, _, name = kind.partition("/")
    return kind, name


def _dump(found: dict[str, Any], output: str) -> str:
    if output == "json":
        return json.dumps(found, indent=4)
    if output == "yaml":
        return yaml.safe_dump(found, sort_keys=False).rstrip()
    items = found.get("items", [found])
    return "\n".join(f"{item['kind'].lower()}/{item['metadata']['name']}" for item in items)


def wait(
    name: Annotated[str, typer.Argument(help="A Workspace, or KIND/NAME.")],
    condition: Annotated[str, typer.Option("--for", help="A condition, or delete.")] = "WorkspaceReady",
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait.")] = 1800.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Wait until a Workspace is ready (or another condition is True), and show what happens meanwhile."""
    from kaito.cli.objects import wait_for
    from kaito.cli.progress import Watcher

    word, name = _split(name, "") if "/" in name else ("workspaces", name)
    wanted = condition.removeprefix("condition=").removesuffix("=True")
    with Watcher(sys.stderr) as watcher:
        run_connected(
            Connection(kubeconfig, context, namespace),
            lambda client, space: wait_for(
                client, space, word, name, condition=wanted, patience=timeout, on_change=watcher.show
            ),
        )
    typer.echo(f"{word}/{name} {'deleted' if wanted == 'delete' else 'condition met'}")


def logs(
    workspace: Annotated[str, typer.Argument(help="The Workspace.")],
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
    from kaito.cli.objects import stream_logs
    from kaito.kube.client import Client

    async def show(client: Client, space: str) -> None:
        options: dict[str, Any] = {"pod": pod, "container": container, "previous": previous, "tail": tail}
        async for chunk in stream_logs(client, space, workspace, follow=follow, **options):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()

    run_connected(Connection(kubeconfig, context, namespace), show)


def delete(
    objects: Annotated[
        list[str] | None, typer.Argument(help="KIND NAME..., KIND/NAME..., or Workspace names.", show_default=False)
    ] = None,
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Delete what these manifests name.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Delete objects by name or by manifest."""
    from kaito.cli.objects import delete_manifests, delete_objects

    connection = Connection(kubeconfig, context, namespace)
    if filename:
        run_connected(connection, lambda client, space: delete_manifests(client, space, filename, typer.echo))
        return
    if not objects:
        raise UsageError("nothing to delete is named", "kaito delete WORKSPACE, or kaito delete -f FILE")
    word, names = _kind_and_names(objects)
    run_connected(connection, lambda client, space: delete_objects(client, space, word, names, typer.echo))


def _kind_and_names(words: list[str]) -> tuple[str, list[str]]:
    if all("/" in word for word in words):
        kinds = {word.partition("/")[0] for word in words}
        if len(kinds) > 1:
            raise UsageError("objects of several kinds are named", "delete one kind at a time")
        return kinds.pop(), [word.partition("/")[2] for word in words]
    return (words[0], words[1:]) if len(words) > 1 else ("workspaces", words)


def chat(
    workspace: Annotated[str, typer.Argument(help="The Workspace to talk to.")],
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

    settings: dict[str, Any] = {"temperature": temperature}
    settings |= {"max_tokens": max_tokens} if max_tokens is not None else {}
    settings |= {"model": model} if model else {}
    questions = iter([prompt]) if prompt else iter(_ask, None)
    run_connected(
        Connection(kubeconfig, context, namespace),
        lambda client, space: converse(
            client, space, workspace, lambda: next(questions, None), lambda text: typer.echo(text, nl=False), settings
        ),
    )


def _ask() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def url(
    workspace: Annotated[str, typer.Argument(help="The Workspace.")],
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print where a Workspace answers: reachable inside its cluster, or from this machine under `kaito up`."""
    from kaito.cli.chat import service_url

    connection = Connection(kubeconfig, context, namespace)
    typer.echo(run_connected(connection, lambda client, space: service_url(client, space, workspace)))


def explain(
    workspace: Annotated[str, typer.Argument(help="The Workspace.")],
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Say why a Workspace is not ready: the walk from it down to the cause, and the next step."""
    from kaito.cli.explain import explain_workspace

    connection = Connection(kubeconfig, context, namespace)
    typer.echo(run_connected(connection, lambda client, space: explain_workspace(client, space, workspace)))


def crds(
    karpenter: Annotated[
        bool, typer.Option("--karpenter", help="Also NodeClaim, Machine and NodePool, for clusters that have none.")
    ] = False,
) -> None:
    """Print the CustomResourceDefinitions: `kaito crds | kubectl apply -f -`."""
    from kaito.api import crds as definitions

    documents = [definitions.workspace_crd()]
    if karpenter:
        documents += [definitions.node_claim_crd(), definitions.machine_crd(), definitions.node_pool_crd()]
    typer.echo(yaml.safe_dump_all(documents, sort_keys=False).rstrip())
