"""The operator's rights are enough and no more: every request that it makes is compared with the rules."""

from __future__ import annotations

from typing import Any

from kaito.kube.client import Client
from kaito.workspace.operator import Operator, OperatorConfig
from kaito.workspace.rbac import cluster_rules
from tests.workspace.builders import INFERENCE, TUNING, changed
from tests.workspace.conftest import Stage
from tests.workspace.node_side import WORKSPACES, until

Right = tuple[str, str, str]
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}


class Recorder(Client):
    """A client that keeps what it would need the right to: (group, resource, verb)."""

    rights: set[Right]

    async def request(self, verb: str, method: str, path: str, *arguments: Any, **options: Any) -> bytes:
        self._note(path, "list" if verb == "list" else VERBS[method])
        if "apply-patch" in str(options.get("content_type")):
            self._note(path, "create")  # an apply creates what is not there
        return await super().request(verb, method, path, *arguments, **options)

    def watch(self, resource: Any, *arguments: Any, **options: Any) -> Any:
        self.rights.add((resource.group, resource.plural, "watch"))
        return super().watch(resource, *arguments, **options)

    def _note(self, path: str, verb: str) -> None:
        parts = path.split("/")
        group, rest = (parts[1], parts[3:]) if parts[0] == "apis" else ("", parts[2:])
        rest = rest[2:] if rest[0] == "namespaces" and len(rest) > 2 else rest
        self.rights.add((group, "/".join([rest[0], *rest[2:3]]), verb))


def given() -> set[Right]:
    return {
        (group, resource, verb)
        for rule in cluster_rules("gpu-provisioner")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def test_rights_are_enough(stage: Stage) -> None:
    client = Recorder.connect(stage.cluster.kubeconfig, field_manager="kaito-workspace")
    assert isinstance(client, Recorder)
    client.rights = set()
    stage.clients.append(client)
    stage.play(Operator(client, OperatorConfig(progress_interval=0.05)).run)
    stage.play(stage.side.run)
    await stage.push_secret()
    await stage.apply(TUNING)
    await stage.apply(INFERENCE)
    await stage.wait("tuned", "WorkspaceReady")
    await stage.wait("served", "WorkspaceReady")
    merge = changed({}, {"tuning.input.urls": ["https://example.com/other.parquet"]})
    await stage.user.patch(WORKSPACES, "tuned", merge, "default")
    await until(lambda: has_right(client, ("apps", "deployments", "delete")))
    await stage.user.delete(WORKSPACES, "served", "default")
    await until(lambda: has_right(client, ("karpenter.sh", "nodeclaims", "delete")))
    # An apply of an object that exists is a patch alone; the status and the Workspace are always there.
    needed = client.rights - {("kaito.sh", "workspaces/status", "create"), ("kaito.sh", "workspaces", "create")}
    assert needed <= given(), needed - given()


async def has_right(client: Recorder, right: Right) -> bool:
    return right in client.rights


def test_no_right_to_read_or_change_what_is_the_users() -> None:
    rights = given()
    assert not [r for r in rights if "*" in r]
    assert not [r for r in rights if r[1] == "secrets" and r[2] not in ("list", "watch")]
    assert not [r for r in rights if r[1] in ("nodes", "pods") and r[2] not in ("list", "watch")]
