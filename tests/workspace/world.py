"""A small cluster without an API server: it keeps objects as JSON, and plays the node side one step at a time.

It is for the planners: what a plan does is done here, what a provisioner, a Job controller and a kubelet would do
happens in `step`, and `observe` gives the next picture. It refuses what a real API server would refuse.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec

from kaito.api.core import Job, Node, Pod, Workload
from kaito.api.karpenter import NodeClaim, NodePool
from kaito.api.workspace import ANNOTATION_HASH, FINALIZER, Workspace
from kaito.kube.resources import NODE_CLAIMS, Resource
from kaito.workspace.actions import Action, Apply, Create, Delete, Patch, Plan
from kaito.workspace.kinds import ConfigOutline, SecretOutline
from kaito.workspace.losses import Loss
from kaito.workspace.observe import Observed
from kaito.workspace.plan import plan
from kaito.workspace.progress import Progress
from kaito.workspace.references import named_config, named_secrets
from kaito.workspace.settings import Settings
from kaito.workspace.status import build_status
from tests.workspace.builders import NOW, SETTINGS

TRUE = {"status": "True", "lastTransitionTime": "2026-07-01T12:00:00Z"}
PUSHED = '{"image": "registry.example.com/team/adapter:0.0.1", "digest": "sha256:' + "a" * 64 + '", "evalLoss": 0.5}'


class World:
    def __init__(
        self,
        workspace: dict[str, Any],
        settings: Settings = SETTINGS,
        claim_api: Resource[NodeClaim] | None = NODE_CLAIMS,
    ) -> None:
        self.workspace: dict[str, Any] | None = copy.deepcopy(workspace)
        self.settings = settings
        self.claim_api = claim_api
        self.now = NOW
        self.loss: Loss | None = None
        self.busy: set[str] = set()
        """Names of nodes with pods of other Workspaces."""
        self.gpus = 1
        """Of each node that is made."""
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        """By plural and name; all namespaced ones are in the Workspace's namespace."""
        self.progress: dict[str, Progress] = {}
        self.published = PUSHED
        """The last words of the step that publishes."""
        self.created: list[tuple[str, str]] = []
        self.writes = 0
        self._uid = 0
        self.put("secrets", {"metadata": {"name": "hf"}, "data": {"HF_TOKEN": ""}})
        self.put("secrets", {"metadata": {"name": "push"}, "type": "t", "data": {".dockerconfigjson": "e30="}})

    # What a test looks at and changes.

    def put(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        self._uid += 1
        stored = copy.deepcopy(body)
        stored["metadata"].setdefault("uid", f"uid-{self._uid}")
        stored["metadata"].setdefault("creationTimestamp", self.now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.objects[plural, stored["metadata"]["name"]] = stored
        self.created.append((plural, stored["metadata"]["name"]))
        return stored

    def all(self, plural: str) -> list[dict[str, Any]]:
        return [body for (kind, _), body in sorted(self.objects.items()) if kind == plural]

    def one(self, plural: str) -> dict[str, Any]:
        (found,) = self.all(plural)
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        assert self.workspace is not None
        found = {c["type"]: c for c in self.workspace.get("status", {}).get("conditions", [])}
        return found.get(kind, {})

    # The controller's side.

    def observe(self) -> Observed:
        assert self.workspace is not None
        workspace = msgspec.convert(self.workspace, Workspace)
        name = workspace.metadata.name
        config = self.objects.get(("configmaps", named_config(workspace)))
        secrets = {n: self.objects[key] for n in named_secrets(workspace) if (key := ("secrets", n)) in self.objects}
        return Observed(
            workspace=workspace,
            now=self.now,
            settings=self.settings,
            claim_api=self.claim_api,
            user_config=msgspec.convert(config, ConfigOutline) if config else None,
            secrets={n: msgspec.convert(body, SecretOutline) for n, body in secrets.items()},
            claims=tuple(msgspec.convert(body, NodeClaim) for body in self._claims()),
            node_pool=next((msgspec.convert(body, NodePool) for body in self.all("nodepools")), None),
            busy_nodes=frozenset(self.busy),
            loss=self.loss,
            nodes=tuple(msgspec.convert(body, Node) for body in self.all("nodes")),
            job=self._read("jobs", name, Job),
            deployment=self._read("deployments", name, Workload),
            stateful_set=self._read("statefulsets", name, Workload),
            pods=tuple(msgspec.convert(body, Pod) for body in self.all("pods")),
            progress=dict(self.progress),
        )

    def reconcile(self, crash_after: int | None = None) -> Plan:
        """Plan and act; with `crash_after`, stop after that many writes."""
        observed = self.observe()
        decided = plan(observed)
        for number, write in enumerate(self._writes(observed, decided)):
            if number == crash_after:
                return decided
            self.writes += write()
        return decided

    def _writes(self, observed: Observed, decided: Plan) -> Iterator[Any]:
        if decided.finalizer is True:
            yield lambda: self._finalize(True)
        for action in decided.actions:
            yield lambda action=action: self._act(action)
        if decided.status is not None:
            yield lambda: self._set_status(observed, decided)
        if decided.finalizer is False:
            yield lambda: self._finalize(False)

    def _act(self, action: Action) -> int:
        key = (action.resource.plural, action.name)
        there = self.objects.get(key)
        match action:
            case Create():
                if there is None:
                    self.put(action.resource.plural, action.body)
                return int(there is None)
            case Apply():
                return self._apply(key, there, action.body)
            case Patch():
                assert there is not None, f"a patch of {key}, which is not there"
                self.objects[key] = _merged(there, action.body)
                return 1
            case Delete():
                if there is not None and (not action.uid or there["metadata"]["uid"] == action.uid):
                    self._remove(key)
                return 1

    def _apply(self, key: tuple[str, str], there: dict[str, Any] | None, body: dict[str, Any]) -> int:
        if there is None:
            self.put(key[0], {**body, "applied": copy.deepcopy(body)})
            return 1
        if there.get("applied") == body:
            return 0
        kept = {k: there["metadata"][k] for k in ("uid", "creationTimestamp")}
        stored = {**there, **copy.deepcopy(body), "applied": copy.deepcopy(body)}
        stored["metadata"] = {**body["metadata"], **kept, "generation": there["metadata"].get("generation", 1) + 1}
        self.objects[key] = stored
        return 1

    def _set_status(self, observed: Observed, decided: Plan) -> int:
        assert decided.status is not None
        assert self.workspace is not None
        status = build_status(observed.workspace, decided.status, self.now)
        if status == observed.workspace.status:
            return 0
        self.workspace["status"] = msgspec.to_builtins(status)
        return 1

    def _finalize(self, present: bool) -> int:
        assert self.workspace is not None
        metadata = self.workspace["metadata"]
        metadata["finalizers"] = [FINALIZER] if present else []
        if not present and metadata.get("deletionTimestamp"):
            self.workspace = None
        return 1

    # The cluster's side.

    def step(self) -> bool:
        """One thing that the cluster does by itself; False when nothing is left to do."""
        return (
            self._pools_make_claims()
            or self._claims_become_nodes()
            or self._jobs_make_pods()
            or self._pods_go_on()
            or self._servers_make_pods()
        )

    def _pools_make_claims(self) -> bool:
        """As Karpenter does for a pool of a fixed number of nodes."""
        for pool in self.all("nodepools"):
            own = [c for c in self._claims() if c["metadata"]["labels"].get("karpenter.sh/nodepool")]
            if len(own) < pool["spec"]["replicas"]:
                name = f"{pool['metadata']['name']}-{len(self.created)}"
                labels = pool["spec"]["template"]["metadata"]["labels"]
                labelled = {**labels, "karpenter.sh/nodepool": pool["metadata"]["name"]}
                self.put("nodeclaims", {"metadata": {"name": name, "labels": labelled}})
                return True
            if len(own) > pool["spec"]["replicas"]:
                self.objects.pop(("nodeclaims", own[-1]["metadata"]["name"]))
                self.objects.pop(("nodes", own[-1]["status"]["nodeName"]), None)
                return True
        return False

    def _claims_become_nodes(self) -> bool:
        for claim in self._claims():
            if "status" not in claim:
                name = f"node-{claim['metadata']['name']}"
                claim["status"] = {
                    "nodeName": name,
                    "conditions": [
                        {"type": t, **TRUE, "reason": t} for t in ("Launched", "Registered", "Initialized", "Ready")
                    ],
                }
                self.put("nodes", node(name, claim["metadata"]["labels"], self.gpus))
                return True
        return False

    def _jobs_make_pods(self) -> bool:
        for job in self.all("jobs"):
            if not self._pods_of("jobs", job) and not job.get("status") and not job["spec"].get("suspend"):
                self._make_pod("jobs", job, init=("data", "model", "tune"), main="publish")
                return True
        return False

    def _servers_make_pods(self) -> bool:
        return any(
            self._server_makes_pods(plural, body)
            for plural in ("deployments", "statefulsets")
            for body in self.all(plural)
        )

    def _server_makes_pods(self, plural: str, server: dict[str, Any]) -> bool:
        wanted = server["spec"]["template"]["metadata"]["annotations"][ANNOTATION_HASH]
        replicas = server["spec"]["replicas"]
        pods = self._pods_of(plural, server)
        old = [pod for pod in pods if pod["metadata"]["annotations"][ANNOTATION_HASH] != wanted]
        if old:
            self._remove(("pods", old[0]["metadata"]["name"]))
            return True
        if len(pods) < replicas:
            self._make_pod(plural, server, init=("model",), main="serve")
            return True
        counts = {"updatedReplicas": replicas, "readyReplicas": replicas, "hash": wanted}
        rolled_out = {"observedGeneration": server["metadata"].get("generation", 0), **counts}
        if all(_is_ready(pod) for pod in pods) and server.get("status") != rolled_out:
            server["status"] = rolled_out
            return True
        return False

    def _pods_go_on(self) -> bool:
        """Each step of each pod runs, then ends well; a server stays and becomes ready."""
        for pod in self.all("pods"):
            status = pod["status"]
            if status["phase"] == "Succeeded" or _is_ready(pod):
                continue
            inits = [c for c in status["initContainerStatuses"] if not c["state"].get("terminated")]
            if inits:
                state = inits[0]["state"]
                inits[0]["state"] = (
                    {"terminated": {"exitCode": 0}}
                    if state.get("running")
                    else {"running": {"startedAt": "2026-07-01T12:00:00Z"}}
                )
                return True
            return self._main_goes_on(pod)
        return False

    def _main_goes_on(self, pod: dict[str, Any]) -> bool:
        (main,) = pod["status"]["containerStatuses"]
        if not main["state"].get("running"):
            main["state"] = {"running": {"startedAt": "2026-07-01T12:00:00Z"}}
            pod["status"]["phase"] = "Running"
        elif main["name"] == "publish":
            main["state"] = {"terminated": {"exitCode": 0, "message": self.published}}
            pod["status"]["phase"] = "Succeeded"
            job = self.objects["jobs", pod["owner"][1]]
            job["status"] = {"succeeded": 1, "conditions": [{"type": "Complete", **TRUE}]}
        else:
            main["ready"] = True
            pod["status"]["conditions"] = [{"type": "Ready", **TRUE}]
        return True

    def _make_pod(self, plural: str, owner: dict[str, Any], *, init: tuple[str, ...], main: str) -> None:
        template = owner["spec"]["template"]
        name = f"{owner['metadata']['name']}-{len(self.created)}"
        self.put(
            "pods",
            {
                "metadata": {**template["metadata"], "name": name},
                "owner": (plural, owner["metadata"]["name"]),
                "spec": {"nodeName": "node"},
                "status": {
                    "phase": "Pending",
                    "podIP": "10.0.0.1",
                    "initContainerStatuses": [{"name": n, "state": {"waiting": {}}} for n in init],
                    "containerStatuses": [{"name": main, "state": {"waiting": {"reason": "PodInitializing"}}}],
                },
            },
        )

    def _remove(self, key: tuple[str, str]) -> None:
        self.objects.pop(key)
        for pod in self.all("pods"):
            if pod.get("owner") == key:
                self.objects.pop(("pods", pod["metadata"]["name"]))
        for claim in self.all("nodeclaims"):
            if key == ("nodepools", claim["metadata"]["labels"].get("karpenter.sh/nodepool")):
                self.objects.pop(("nodeclaims", claim["metadata"]["name"]))

    def _pods_of(self, plural: str, owner: dict[str, Any]) -> list[dict[str, Any]]:
        return [pod for pod in self.all("pods") if pod.get("owner") == (plural, owner["metadata"]["name"])]

    def _claims(self) -> list[dict[str, Any]]:
        return [*self.all("nodeclaims"), *self.all("machines")]

    def _read(self, plural: str, name: str, model: Any) -> Any:
        body = self.objects.get((plural, name))
        return msgspec.convert(body, model) if body else None

    def settle(self, rounds: int = 60) -> None:
        """Reconcile and step until nothing changes any more."""
        for _ in range(rounds):
            writes = self.writes
            self.reconcile()
            if self.workspace is None or (not self.step() and self.writes == writes):
                return
            self.now += timedelta(seconds=1)
        raise AssertionError("the world did not come to rest")


def node(name: str, labels: dict[str, str], gpus: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {**labels}},
        "spec": {"providerID": f"fake://{name}"},
        "status": {
            "conditions": [{"type": "Ready", **TRUE}],
            "allocatable": {"nvidia.com/gpu": str(gpus)},
        },
    }


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" for c in pod["status"].get("conditions", ()))


def _merged(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
