"""Words that a shell may complete: names that are on the cluster, contexts of the kubeconfig, known models and types.

Completion never disturbs: without an answer within a moment, there is nothing to complete.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from kaito.kube.client import Client

PATIENCE = 2.0
"""Seconds that a person waits for a completion."""
NO_FILES = 4
"""What kubectl is told after the words: do not offer files in their place (cobra's ShellCompDirectiveNoFileComp)."""
VARIABLE = "_KAITO_COMPLETE"
"""Set by the completion scripts: the run is a question, not a command."""


def complete_workspaces(context: typer.Context, incomplete: str) -> list[str]:
    return _names(context, "workspaces", incomplete)


def complete_kinds_and_names(context: typer.Context, incomplete: str) -> list[str]:
    """For `get` and `delete`: kinds first, then names of that kind."""
    before = (context.params.get("objects") or []) if context.params else []
    return _names(context, before[0], incomplete) if before else _kinds(context, incomplete)


def complete_namespaces(context: typer.Context, incomplete: str) -> list[str]:
    return _names(context, "namespaces", incomplete)


def complete_contexts(context: typer.Context, incomplete: str) -> list[str]:
    from kaito.kube.errors import KubeError
    from kaito.kube.kubeconfig import contexts

    try:
        return [name for name in contexts(context.params.get("kubeconfig")) if name.startswith(incomplete)]
    except KubeError:
        return []


def complete_models(incomplete: str) -> list[str]:
    from kaito.catalog.models import model_names

    return [name for name in model_names() if name.startswith(incomplete)]


def complete_instance_types(incomplete: str) -> list[str]:
    from kaito.catalog.instances import instance_types

    return [one.name for one in instance_types().values() if one.name.startswith(incomplete)]


def _names(context: typer.Context, word: str, incomplete: str) -> list[str]:
    async def ask(client: Client, namespace: str) -> list[str]:
        from kaito.cli.discovery import kinds_for, named

        resource = named(await kinds_for(client, [word]), word).resource
        listing = await client.list(resource, namespace if resource.namespaced else "")
        return [found["metadata"]["name"] for found, _ in listing.items]

    return [name for name in _asked(context, ask) if name.startswith(incomplete)]


def _kinds(context: typer.Context, incomplete: str) -> list[str]:
    async def ask(client: Client, _: str) -> list[str]:
        from kaito.cli.discovery import discover

        return sorted({kind.resource.plural for kind in await discover(client)})

    return [name for name in _asked(context, ask) if name.startswith(incomplete)]


def _asked(context: typer.Context, ask: Callable[[Client, str], Awaitable[list[str]]]) -> list[str]:
    import asyncio

    from kaito.cli.connection import Connection, run_connected
    from kaito.cli.errors import CommandError

    async def in_time(client: Client, namespace: str) -> list[str]:
        async with asyncio.timeout(PATIENCE):
            return await ask(client, namespace)

    before: dict[str, Any] = context.parent.params if context.parent else {}
    options = {key: context.params.get(key) or before.get(key) for key in ("kubeconfig", "context", "namespace")}
    try:
        return run_connected(Connection(**options), in_time)
    except (CommandError, TimeoutError):
        return []


def script(shell: str) -> str:
    """What a shell sources so that it asks us for words."""
    from typer._completion_shared import get_completion_script  # typer has no public name for it

    return get_completion_script(prog_name="kaito", complete_var=VARIABLE, shell=shell)


def answer_if_asked() -> None:
    """Make ready for the question of a shell, when this run is one."""
    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init  # typer does it only where it owns the options

        completion_init()


def kubectl_main() -> None:
    """`kubectl_complete-kaito WORDS...`: what kubectl runs to complete `kubectl kaito WORDS...`, in cobra's form."""
    from kaito.cli.main import main

    words = sys.argv[1:] or [""]
    line = " ".join(["kaito", *(shlex.quote(word) if word else "" for word in words)])
    os.environ |= {VARIABLE: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    sys.argv = ["kaito"]
    with suppress(SystemExit):
        main()
    print(f":{NO_FILES}")
