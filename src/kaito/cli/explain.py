"""`kaito explain`: the walk from a Workspace down to its claims, nodes, pods and containers, as a tree with times."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.tree import Tree

from kaito.api import conditions
from kaito.api.core import ContainerStatus, Node, Pod
from kaito.api.karpenter import NodeClaim
from kaito.api.meta import Condition
from kaito.api.workspace import LABEL_WORKSPACE, LABEL_WORKSPACE_NAMESPACE, Workspace
from kaito.cli.errors import CommandError
from kaito.cli.waiting import NO_OPERATOR, workspace_pods
from kaito.kube.client import Client
from kaito.kube.resources import NODES, WORKSPACES
from kaito.workspace.causes import Cause
from kaito.workspace.explain.claims import cause_of_claim
from kaito.workspace.explain.nodes import cause_of_node
from kaito.workspace.explain.pods import cause_of_pod, containers
from kaito.workspace.node_api import find_node_api

ROOTS = ("WorkspaceReady", "WorkspaceSucceeded")


async def explain_workspace(client: Client, namespace: str, name: str) -> str:
    """The tree as text: conditions, then each object below with its state and, where it is not well, the cause."""
    workspace = await client.find(WORKSPACES, name, namespace)
    if workspace is None:
        raise CommandError(
            f"there is no Workspace {name} in namespace {namespace}", "`kaito get workspaces -A` lists all"
        )
    now = datetime.now(UTC)
    tree = Tree(f"Workspace {namespace}/{name}  {workspace.status.state or '-'}")
    _add_conditions(tree, workspace, now)
    labels = f"{LABEL_WORKSPACE}={name},{LABEL_WORKSPACE_NAMESPACE}={namespace}"
    for claim in await _claims(client, labels):
        _add_claim(tree, claim, now)
    for node, _ in (await client.list(NODES, labels=labels)).items:
        _add_node(tree, node, now)
    for pod in await workspace_pods(client, namespace, name):
        _add_pod(tree, pod, now)
    return _text(tree)


async def _claims(client: Client, labels: str) -> list[NodeClaim]:
    resource = await find_node_api(client, "auto")
    return [claim for claim, _ in (await client.list(resource, labels=labels)).items] if resource else []


def _add_conditions(tree: Tree, workspace: Workspace, now: datetime) -> None:
    if not workspace.status.conditions:
        tree.add(NO_OPERATOR)
    said: set[str] = set()
    for condition in workspace.status.conditions:
        branch = tree.add(f"{condition.type}={condition.status}  {condition.reason}{_since(condition, now)}")
        if condition.status != "True" and condition.message and condition.message not in said:
            branch.add(condition.message)  # once: the root conditions repeat the deepest one
            said.add(condition.message)


def _add_claim(tree: Tree, claim: NodeClaim, now: datetime) -> None:
    cause, _ = cause_of_claim(claim, now)
    steps = "  ".join(f"{c.type}={c.status}" for c in claim.status.conditions)
    branch = tree.add(f"claim {claim.metadata.name}  {_age(claim.metadata.creationTimestamp, now)}  {steps}")
    _add_cause(branch, cause)


def _add_node(tree: Tree, node: Node, now: datetime) -> None:
    ready = conditions.find(node.status.conditions, "Ready")
    state = "Ready" if ready and ready.status == "True" else "NotReady"
    branch = tree.add(f"node {node.metadata.name}  {_age(node.metadata.creationTimestamp, now)}  {state}")
    _add_cause(branch, cause_of_node(node, "", 0, now))


def _add_pod(tree: Tree, pod: Pod, now: datetime) -> None:
    branch = tree.add(
        f"pod {pod.metadata.name}  {_age(pod.metadata.creationTimestamp, now)}  {pod.status.phase or 'Pending'}"
    )
    for status in containers(pod):
        branch.add(_container(status))
    is_well = pod.status.phase == "Succeeded" or conditions.is_true(pod.status.conditions, "Ready")
    _add_cause(branch, None if is_well else cause_of_pod(pod, None))


def _container(status: ContainerStatus) -> str:
    state = status.state
    if state.running:
        text = "running" + (", ready" if status.ready else "")
    elif state.terminated:
        text = f"ended with {state.terminated.exitCode} ({state.terminated.reason})"
    else:
        text = f"waiting{': ' + state.waiting.reason if state.waiting and state.waiting.reason else ''}"
    return f"{status.name}  {text}" + (f", {status.restartCount} restart(s)" if status.restartCount else "")


def _add_cause(branch: Tree, cause: Cause | None) -> None:
    if cause is not None:
        branch.add(f"{cause.reason}: {cause.text}  (waits for {cause.who})")


def _since(condition: Condition, now: datetime) -> str:
    return f"  for {_age(condition.lastTransitionTime, now)}" if condition.lastTransitionTime else ""


def _age(since: str | None, now: datetime) -> str:
    """As kubectl writes ages: the two largest units at most."""
    if not since:
        return "-"
    seconds = max(0, int((now - conditions.parse_timestamp(since)).total_seconds()))
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    parts = list(_split(seconds, units))
    return "".join(parts[:2]) or "0s"


def _split(seconds: int, units: Iterable[tuple[str, int]]) -> Iterable[str]:
    for unit, length in units:
        count, seconds = divmod(seconds, length)
        if count:
            yield f"{count}{unit}"


def _text(tree: Tree) -> str:
    console = Console(width=10_000, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(tree, soft_wrap=True)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
