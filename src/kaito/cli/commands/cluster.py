"""Commands about objects of any kind, on any cluster: apply, get, wait, delete."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kaito.cli.completion import complete_kinds_and_names
from kaito.cli.connection import Connection, run_connected
from kaito.cli.errors import UsageError
from kaito.cli.options import (
    AllNamespaces,
    Context,
    Files,
    Kubeconfig,
    Namespace,
    Recursive,
    Selector,
    parse_duration,
    plain_name,
)
from kaito.cli.teaching import Command

if TYPE_CHECKING:
    from kaito.kube.client import Client

Output = Annotated[
    str, typer.Option("--output", "-o", help="wide, json, yaml, name or jsonpath=TEMPLATE.", show_default=False)
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="KIND [NAME...], KIND,KIND or KIND/NAME...", show_default=False, autocompletion=complete_kinds_and_names
    ),
]


def register(app: typer.Typer) -> None:
    for command in (apply, get, wait, delete):
        app.command(cls=Command)(command)


def apply(
    filename: Files,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the server check all of it, and keep nothing.")
    ] = False,
    recursive: Recursive = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Create objects from manifests, or change them to what the manifests say.

    Server-side apply: it may be repeated, and leaves alone what others wrote.
    """
    from kaito.cli.objects import apply_manifests

    async def work(client: Client, space: str) -> None:
        await apply_manifests(client, space, filename, typer.echo, dry_run=dry_run, recursive=recursive)

    run_connected(Connection(kubeconfig, context, namespace), work)


def get(
    objects: Words = None,
    output: Output = "",
    selector: Selector = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing what changes.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Leave the headings out.")] = False,
    all_namespaces: AllNamespaces = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show objects, Workspaces unless another kind is named.

    As a table, or whole with -o yaml or json.
    """
    from kaito.cli.outputs import check_output
    from kaito.cli.showing import Showing, show

    check_output(output)
    if watch and output not in ("", "wide"):
        raise UsageError("--watch shows tables alone", "leave -o out, or use -o wide")
    showing = Showing(output, selector, watch, not no_headers, all_namespaces)

    async def work(client: Client, space: str) -> None:
        await show(client, space, objects or ["workspaces"], showing)

    run_connected(Connection(kubeconfig, context, namespace), work)


def wait(
    names: Annotated[
        list[str],
        typer.Argument(help="Workspaces, or KIND/NAME.", autocompletion=complete_kinds_and_names),
    ],
    condition: Annotated[
        str, typer.Option("--for", help="A condition, CONDITION=False, or delete.")
    ] = "WorkspaceReady",
    timeout: Annotated[str, typer.Option("--timeout", help="How long, such as 90s, 5m or 2h.")] = "30m",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Wait until a Workspace is ready, or another condition holds.

    What happens meanwhile is shown. A training that was given up ends the wait at once, with the reason.
    """
    from kaito.cli.progress import Watcher
    from kaito.cli.waiting import wait_for

    wanted, _, value = condition.removeprefix("condition=").partition("=")
    patience = parse_duration(timeout)

    async def work(client: Client, space: str) -> None:
        for text in names:
            word, name = text.rpartition("/")[0], plain_name(text)
            with Watcher(sys.stderr) as watcher:
                done = await wait_for(
                    client,
                    space,
                    word or "workspaces",
                    name,
                    condition=wanted,
                    value=value or "True",
                    patience=patience,
                    on_change=watcher.show,
                )
            typer.echo(done)

    run_connected(Connection(kubeconfig, context, namespace), work)


def delete(
    objects: Words = None,
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Delete what these manifests name.")
    ] = None,
    recursive: Recursive = False,
    selector: Selector = "",
    everything: Annotated[bool, typer.Option("--all", help="All objects of the kind in the namespace.")] = False,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="What is absent is no error.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when they are gone.")] = True,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait, such as 90s or 5m.")] = "30m",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Delete objects by name, by label or by manifest, and wait until they are gone.

    A Workspace takes its pods, its Service and the nodes that were made for it along. One word alone is a Workspace.
    """
    from kaito.cli.deleting import Deletion, delete_all

    if not objects and not filename:
        raise UsageError("nothing to delete is named", "kaito delete WORKSPACE, or kaito delete -f FILE")
    deletion = Deletion(
        words=_deleted_words(objects or [], selector, everything),
        files=filename or [],
        recursive=recursive,
        selector=selector,
        everything=everything,
        ignore_absent=ignore_not_found,
        patience=parse_duration(timeout) if wait else None,
    )
    run_connected(Connection(kubeconfig, context, namespace), lambda client, space: delete_all(client, space, deletion))


def _deleted_words(words: list[str], selector: str, everything: bool) -> list[str]:
    """`kaito delete phi-3` means the Workspace; `kaito delete pods -l ...` means the kind."""
    if len(words) == 1 and "/" not in words[0] and not selector and not everything:
        return ["workspaces", words[0]]
    return words
