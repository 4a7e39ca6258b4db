"""Putting an installation on a cluster, taking away what a former one left, and waiting until it runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from kaito.api.workspace import GROUP
from kaito.install import kinds
from kaito.install.errors import InstallError, NotReady, Refused
from kaito.install.kinds import resource_of
from kaito.install.objects.common import MANAGED_BY, PART_OF, SUITE
from kaito.install.render import INSTALLER, Object
from kaito.kube.client import Client
from kaito.kube.errors import ApiError, NotFound
from kaito.kube.resources import MACHINES, NODE_CLAIMS, WORKSPACES, Resource
from kaito.kube.store import object_key

FIELD_MANAGER = "kaito-install"
RIVAL = re.compile(r"/kaito/workspace(?:[:@]|$)")
"""The image of KAITO's own operator, in whatever registry."""
HELM_RELEASE = "meta.helm.sh/release-name"
HELM_NAMESPACE = "meta.helm.sh/release-namespace"
PAUSE = 1.0
Tell = Callable[[str], None]


async def foreign_crds(client: Client) -> frozenset[str]:
    """Names of the CRDs in the cluster that an installation by `kaito install` did not make."""
    listing = await client.list(kinds.CRDS)
    return frozenset(crd["metadata"]["name"] for crd, _ in listing.items if not _is_ours(crd))


async def refuse_rival(client: Client) -> None:
    """Raises Refused while an operator of KAITO itself runs: two would undo each other's work on each Workspace."""
    listing = await client.list(kinds.DEPLOYMENTS)
    for deployment, _ in listing.items:
        spec, metadata = deployment["spec"], deployment["metadata"]
        images = [container.get("image", "") for container in spec["template"]["spec"].get("containers", [])]
        if spec.get("replicas", 1) and any(RIVAL.search(image) for image in images):
            where, name = metadata["namespace"], metadata["name"]
            hint = f"stop it first: kubectl -n {where} scale deployment {name} --replicas=0"
            raise Refused(f"KAITO's own operator acts on Workspaces here: deployment {where}/{name}", hint)


async def install(client: Client, objects: list[Object], tell: Tell) -> None:
    """Apply in order, then delete what an earlier installation made and this one has no more.

    Raises Refused where Helm installed the suite: two installers would undo each other's work.
    """
    await _refuse_helm(client, objects)
    for body in objects:
        resource, namespace = resource_of(body), body["metadata"].get("namespace", "")
        before = await client.find(resource, body["metadata"]["name"], namespace)
        try:
            after, _ = await client.apply(resource, body, namespace, field_manager=FIELD_MANAGER)
        except ApiError as error:
            raise InstallError(f"{title(body)}: {error.message}", _hint(error)) from error
        tell(f"{title(body)} {_change(before, after)}")
        if body["kind"] == "CustomResourceDefinition":
            await _until_served(client, body)
    kept = {_identity(body) for body in objects}
    async for old in installed(client):
        if _identity(old) not in kept and old["kind"] != "CustomResourceDefinition":
            await _delete(client, old)
            tell(f"{title(old)} deleted, this installation has none")


async def uninstall(client: Client, tell: Tell, *, crds: bool) -> bool:
    """Delete what `kaito install` made; CRDs only with `crds`. False when there was nothing.

    Raises Refused with `crds` while there are Workspaces: they would go with their CRD.
    """
    found = [old async for old in installed(client)]
    workspaces = await _names(client, WORKSPACES)
    if workspaces and crds:
        hint = "delete them first, while the operator runs, or uninstall without --crds"
        raise Refused(f"Workspaces would be lost with workspaces.{GROUP}: {_some(workspaces)}", hint)
    claims = [*await _names(client, NODE_CLAIMS), *await _names(client, MACHINES)] if crds else []
    if claims and any(old["metadata"]["name"] == f"{NODE_CLAIMS.plural}.{NODE_CLAIMS.group}" for old in found):
        raise Refused(f"Machines would be lost track of with their claims: {_some(claims)}", "delete those first")
    doomed = [old for old in reversed(found) if crds or old["kind"] != "CustomResourceDefinition"]
    for old in doomed:
        await _delete(client, old)
        tell(f"{title(old)} deleted")
    for old in found:
        if old not in doomed:
            tell(f"{title(old)} kept; --crds deletes it")
    if doomed and workspaces:
        tell(f"Workspaces go on serving without an operator, and need one to be deleted: {_some(workspaces)}")
    return bool(doomed)


async def advice(client: Client, values: Mapping[str, Any]) -> list[str]:
    """What this installation still needs from others before a Workspace gets a node; the chart's notes say the same."""
    if values["nodes"] == "byo" or values["provisioner"]["enabled"]:
        return []
    said = []
    if values["nodes"] == "karpenter" and not values["cloud"] and not values["nodeClass"]:
        said.append("Claims refer to Azure's node class; on another cloud: --set cloud=aws, or nodeClass=...")
    served = {crd["metadata"]["name"] for crd, _ in (await client.list(kinds.CRDS)).items}
    if not {f"{one.plural}.{one.group}" for one in (NODE_CLAIMS, MACHINES)} & served:
        way = "install Karpenter" if values["nodes"] == "karpenter" else "--set provisioner.enabled=true"
        said.append(f"Nobody here makes nodes of NodeClaims yet: {way}, or use nodes of your own: --set nodes=byo")
    return said


async def installed(client: Client) -> AsyncIterator[Object]:
    """Everything in the cluster that `kaito install` made, in the order in which it was applied."""
    labels = f"{PART_OF}={SUITE},{MANAGED_BY}={INSTALLER}"
    for resource in kinds.ALL:
        try:
            listing = await client.list(resource, labels=labels)
        except NotFound:
            continue  # a kind that this cluster does not serve, such as ServiceMonitor
        for item, _ in listing.items:
            yield {"apiVersion": resource.api_version, "kind": resource.kind, **item}


async def wait_ready(client: Client, objects: Iterable[Object], patience: float, tell: Tell) -> None:
    """Until every Deployment runs as it was applied. Raises NotReady with the pod's own reason."""
    deployments = [body["metadata"] for body in objects if body["kind"] == "Deployment"]
    for metadata in deployments:
        name, namespace, said = metadata["name"], metadata["namespace"], ("", "")
        try:
            async with asyncio.timeout(patience):
                while (missing := _missing(await client.get(kinds.DEPLOYMENTS, name, namespace))) is not None:
                    why = await _why_not(client, name, namespace)
                    if (missing, why) != said:
                        tell(f"deployment/{name}: {missing}{': ' + why if why else ''}")
                    said = missing, why
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            hint = f"kubectl -n {namespace} describe pods -l app.kubernetes.io/name={name}"
            raise NotReady(
                f"deployment/{name} is not ready after {patience:.0f} s: {said[1] or said[0]}", hint
            ) from None
        tell(f"deployment/{name} is ready")


def _missing(deployment: Object) -> str | None:
    """What a rollout still lacks; None when it is done."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 1):
        return "not looked at yet"
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if min(updated, available) < wanted or status.get("replicas", 0) > updated:
        return f"{min(updated, available)} of {wanted} pods are ready"
    return None


async def _why_not(client: Client, name: str, namespace: str) -> str:
    """The first thing that a container of the Deployment's pods waits for, or that a pod's conditions complain of."""
    listing = await client.list(kinds.PODS, namespace, labels=f"app.kubernetes.io/name={name}")
    for pod, _ in listing.items:
        status = pod.get("status", {})
        for container in status.get("containerStatuses", []):
            state = container.get("state", {})
            found = state.get("waiting") or state.get("terminated") or {}
            if found.get("reason"):
                return ": ".join(part for part in (found["reason"], found.get("message")) if part)
        for condition in status.get("conditions", []):
            if condition.get("status") == "False" and condition.get("message"):
                return str(condition["message"])
    return ""


async def _refuse_helm(client: Client, objects: list[Object]) -> None:
    for body in objects:
        if body["kind"] != "Deployment":
            continue
        metadata = body["metadata"]
        found = await client.find(kinds.DEPLOYMENTS, metadata["name"], metadata["namespace"])
        annotations = (found or {}).get("metadata", {}).get("annotations", {})
        if HELM_RELEASE in annotations:
            release, where = annotations[HELM_RELEASE], annotations.get(HELM_NAMESPACE, "")
            hint = f"use: helm upgrade {release} -n {where}"
            raise Refused(f"{title(body)} belongs to the Helm release {where}/{release}", hint)


async def _names(client: Client, resource: Resource[Any]) -> list[str]:
    """Of all objects of a kind, with their namespaces; none where the kind is not served."""
    try:
        listing = await client.list(resource)
    except NotFound:
        return []
    return [object_key(item.metadata.namespace, item.metadata.name) for item, _ in listing.items]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


async def _until_served(client: Client, crd: Object, patience: float = 60.0) -> None:
    name = crd["metadata"]["name"]
    try:
        async with asyncio.timeout(patience):
            while not _is_established(await client.get(kinds.CRDS, name)):
                await asyncio.sleep(PAUSE / 10)
    except TimeoutError:
        raise NotReady(f"{title(crd)} is not served after {patience:.0f} s") from None


def _is_established(crd: Object) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []  # null until the names are settled
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


async def _delete(client: Client, old: Object) -> None:
    metadata = old["metadata"]
    await client.delete(resource_of(old), metadata["name"], metadata.get("namespace", ""), uid=metadata["uid"])


def _identity(body: Object) -> tuple[str, str, str]:
    metadata = body["metadata"]
    return body["kind"], metadata.get("namespace", ""), metadata["name"]


def _is_ours(obj: Object) -> bool:
    return bool(obj["metadata"].get("labels", {}).get(MANAGED_BY) == INSTALLER)


def _change(before: Object | None, after: Object) -> str:
    if before is None:
        return "created"
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return "unchanged" if same else "configured"


def _hint(error: ApiError) -> str:
    if error.code == 403:
        return "installing takes the rights of a cluster's administrator"
    return ""


def title(body: Object) -> str:
    """As kubectl prints an object."""
    group = body["apiVersion"].rpartition("/")[0]
    return f"{body['kind'].lower()}{'.' + group if group else ''}/{body['metadata']['name']}"
