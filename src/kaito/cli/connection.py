"""Which API server a command talks to, and as what namespace.

In this order: `--kubeconfig`, `KUBECONFIG`, the control plane that `kaito up` runs for `$KAITO_HOME`, `~/.kube/config`,
the account of the pod.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kaito.cli.errors import CommandError, UsageError
from kaito.kube.errors import ApiError, Forbidden, KubeError, Unreachable

if TYPE_CHECKING:
    from kaito.kube.client import Client

T = TypeVar("T")

UNREACHABLE = "is the control plane running? `kaito up --detach` starts one on this machine, --kubeconfig names another"
LOGIN = "the login has expired or is for another cluster: get a new kubeconfig, or name one with --kubeconfig"
RIGHT = "ask who runs the cluster for that right; `kubectl auth can-i --list` shows the ones that you have"


@dataclass(frozen=True)
class Connection:
    """The options that every command about objects takes."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None


GIVEN_FIRST: ContextVar[Connection] = ContextVar("GIVEN_FIRST", default=Connection())  # noqa: B039 - it is frozen
"""The same options where they stand before the command, as in `kaito -n team-a get`."""


def given(own: Connection) -> Connection:
    """A command's options, completed by those that stand before it."""
    first = GIVEN_FIRST.get()
    return Connection(
        own.kubeconfig or first.kubeconfig, own.context or first.context, own.namespace or first.namespace
    )


def kaito_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Where one machine's control plane keeps its state."""
    return Path(environment.get("KAITO_HOME") or "~/.kaito").expanduser().absolute()


def find_kubeconfig(explicit: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The kubeconfig to use; None leaves it to KUBECONFIG, ~/.kube/config and the pod's account."""
    if explicit is not None:
        return explicit
    if environment.get("KUBECONFIG"):
        return None
    local = kaito_home(environment) / "kubeconfig"
    if (kaito_home(environment) / "up.json").exists() and local.exists():
        return local
    return None


def run_connected(connection: Connection, work: Callable[[Client, str], Awaitable[T]]) -> T:
    """Run `work(client, namespace)` in an event loop; failures of the API become one sentence."""
    from kaito.kube.client import Client  # imported here: it takes a third of a second that --help need not pay

    at = given(connection)
    if at.namespace and ("/" in at.namespace or "%" in at.namespace):
        raise UsageError(f'"{at.namespace}" is no name of a namespace', "`kaito get namespaces` lists them")

    async def run() -> T:
        async with Client.connect(find_kubeconfig(at.kubeconfig), at.context, field_manager="kaito-cli") as client:
            client.on_warning = _warn
            return await work(client, at.namespace or client.namespace)

    try:
        return asyncio.run(run())
    except KubeError as error:
        raise worded(error) from error


def _warn(warning: str) -> None:
    print(f"Warning: {warning}", file=sys.stderr)


def worded(error: KubeError) -> CommandError:
    """What the API or the way to it said, as one sentence and a next step."""
    if isinstance(error, Unreachable):
        return CommandError(str(error), UNREACHABLE)
    if not isinstance(error, ApiError):
        return CommandError(str(error))
    text = f"Error from server ({error.reason or error.code}): {error.message}"
    if isinstance(error, Forbidden) and "admission webhook" not in error.message:
        return CommandError(text, LOGIN if error.code == 401 else RIGHT)
    return CommandError(text)
