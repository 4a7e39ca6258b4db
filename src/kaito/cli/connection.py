"""Which API server a command talks to, and as what namespace.

In this order: `--kubeconfig`, `KUBECONFIG`, the control plane that `kaito up` runs for `$KAITO_HOME`, `~/.kube/config`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kaito.cli.errors import CommandError
from kaito.kube.errors import ApiError, ConfigError, Unreachable

if TYPE_CHECKING:
    from kaito.kube.client import Client

T = TypeVar("T")


@dataclass(frozen=True)
class Connection:
    """The options that every command about objects takes."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None


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

    async def run() -> T:
        kubeconfig = find_kubeconfig(connection.kubeconfig)
        async with Client.connect(kubeconfig, connection.context, field_manager="kaito-cli") as client:
            return await work(client, connection.namespace or client.namespace)

    try:
        return asyncio.run(run())
    except ConfigError as error:
        raise CommandError(str(error)) from error
    except Unreachable as error:
        raise CommandError(str(error), "is the control plane running? `kaito up` starts one on this machine") from error
    except ApiError as error:
        raise CommandError(f"Error from server ({error.reason or error.code}): {error.message}") from error
