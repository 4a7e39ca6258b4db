"""Talk to a Workspace's model: through the API server's pod proxy, so that whoever may reach the API may chat."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from kaito.api import conditions
from kaito.api.core import Pod
from kaito.api.workspace import Workspace
from kaito.cli.errors import CommandError
from kaito.cli.waiting import workspace_pods
from kaito.kube.client import Client
from kaito.kube.errors import ApiError, Unreachable
from kaito.kube.resources import PODS, SERVICES, WORKSPACES

PORT = 5000
BOUND_PORTS = "kaito.sh/bound-ports"


async def serving_pod(client: Client, namespace: str, workspace: str) -> Pod:
    """A pod of the Workspace that answers. Raises CommandError that says why there is none."""
    pods = await workspace_pods(client, namespace, workspace)
    ready = [pod for pod in pods if pod.metadata.labels.get("kaito.sh/role") == "serve" and _is_ready(pod)]
    if ready:
        return ready[0]
    found: Workspace = await client.get(WORKSPACES, workspace, namespace)
    root = conditions.find(found.status.conditions, "WorkspaceReady")
    why = f": {root.reason}: {root.message}" if root else ""
    raise CommandError(f"Workspace {workspace} does not serve yet{why}", f"`kaito wait {workspace}` waits for it")


@dataclass
class Pace:
    """How fast an answer came: tokens as the server counts them, from the first piece to the last."""

    clock: Callable[[], float] = time.monotonic
    tokens: int = 0
    asked: float = 0.0
    first: float = 0.0
    last: float = 0.0

    def piece(self) -> None:
        self.last = self.clock()
        self.first = self.first or self.last

    def words(self) -> str:
        """Empty where the server did not say how many tokens it wrote, or wrote nothing."""
        if not self.tokens or not self.first:
            return ""
        waited = f"first after {self.first - self.asked:.1f} s"
        seconds = self.last - self.first
        # The first token came before the time began to run.
        speed = f", then {(self.tokens - 1) / seconds:.1f} tokens/s" if self.tokens > 1 and seconds > 0 else ""
        return f"{self.tokens} token{'s' if self.tokens > 1 else ''}, {waited}{speed}"


async def stream_chat(
    client: Client,
    namespace: str,
    pod: Pod,
    messages: list[dict[str, str]],
    settings: dict[str, Any],
    pace: Pace | None = None,
) -> AsyncIterator[str]:
    """Pieces of the answer, as the model writes them; `pace` is told when they come."""
    path = PODS.path(namespace, f"{pod.metadata.name}:{PORT}", "proxy/v1/chat/completions")
    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}, **settings}
    pace = pace or Pace()
    pace.asked = pace.clock()
    pending = b""
    try:
        async for chunk in client.stream(path, method="POST", body=body):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                piece = _piece(line.strip(), pace)
                if piece:
                    pace.piece()
                    yield piece
    except ApiError as error:
        raise CommandError(f"the model server refused: {error.message}") from error
    except Unreachable as error:
        raise CommandError(f"the answer broke off: {error}") from error


def _piece(line: bytes, pace: Pace) -> str:
    if not line.startswith(b"data:") or line.endswith(b"[DONE]"):
        return ""
    event = msgspec.json.decode(line[5:])
    if "error" in event:
        raise CommandError(f"the model server failed: {event['error'].get('message', event['error'])}")
    pace.tokens = (event.get("usage") or {}).get("completion_tokens", pace.tokens)
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def _is_ready(pod: Pod) -> bool:
    return conditions.is_true(pod.status.conditions, "Ready") and not pod.metadata.deletionTimestamp


async def service_url(client: Client, namespace: str, workspace: str) -> str:
    """Where the Workspace's Service answers: its cluster IP, with the port that really listens on one machine."""
    service = await client.find(SERVICES, workspace, namespace)
    if service is None:
        raise CommandError(
            f"Workspace {workspace} has no Service in namespace {namespace} yet",
            f"`kaito explain {workspace}` says what it waits for",
        )
    bound = msgspec.json.decode(service.metadata.annotations.get(BOUND_PORTS, "{}"))
    port = int(bound.get("80", 80)) if isinstance(bound, dict) else 80
    return f"http://{service.spec.clusterIP}" + ("" if port == 80 else f":{port}")


async def converse(
    client: Client,
    namespace: str,
    workspace: str,
    ask: Callable[[], str | None],
    show: Callable[[str], None],
    settings: dict[str, Any],
    tell: Callable[[str], None] | None = None,
) -> None:
    """Questions from `ask` until it gives None, answers to `show` piece by piece; the conversation is kept.

    `tell`, where people look on, is given the pace of each answer, and what went wrong with one: the conversation then
    goes on without it. Without `tell` the first failure is raised.
    """
    messages: list[dict[str, str]] = []
    while (question := ask()) is not None:
        if not question.strip():
            continue
        messages.append({"role": "user", "content": question})
        answer, pace = "", Pace()
        try:
            # Looked up for each question: the pod may have been replaced since the last one.
            pod = await serving_pod(client, namespace, workspace)
            async for piece in stream_chat(client, namespace, pod, messages, settings, pace):
                answer += piece
                show(piece)
        except CommandError as error:
            if tell is None or len(messages) == 1:
                raise
            messages.pop()
            show("\n" if answer else "")
            tell(f"{error}; this question is left out of the conversation")
            continue
        show("\n")
        if tell is not None:
            tell(pace.words())
        messages.append({"role": "assistant", "content": answer})
