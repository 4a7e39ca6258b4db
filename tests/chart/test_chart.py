"""The chart is what the code makes, and Helm renders from it what `kaito install` applies."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import typer
import yaml

from kaito.cli.main import app
from kaito.install.chart import chart_files
from kaito.install.errors import ValuesInvalid
from kaito.install.render import Object, check_values, merged, render
from kaito.install.values import default_values
from kaito.nodes.providers.azure.config import read_config
from tests.chart.helm import CHART, helm_python

AZURE = {"subscriptionId": "s", "resourceGroup": "r", "clusterName": "c", "tenantId": "t", "clientId": "i"}
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "AKS": {"provisioner": {"enabled": True, "azure": AZURE, "serviceAccount": {"annotations": {"a": "b"}}}},
    "AKS with a managed identity": {
        "provisioner": {"enabled": True, "azure": {**AZURE, "credential": "managed-identity", "clientId": ""}},
        "nvidiaDevicePlugin": {"enabled": "never"},
        "crds": {"karpenter": "never"},
    },
    "EKS": {"nodes": "karpenter", "cloud": "aws", "nodeClass": "karpenter.k8s.aws/v1/EC2NodeClass/gpu"},
    "own nodes": {"nodes": "byo", "webhook": {"enabled": False}, "nvidiaDevicePlugin": {"enabled": "always"}},
    "two replicas of all, restricted": {
        "global": {"imageRegistry": "mirror.example.com/", "imagePullSecrets": [{"name": "mirror"}]},
        "operator": {
            "replicas": 2,
            "priorityClassName": "system-cluster-critical",
            "tolerations": [{"key": "system", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "podLabels": {"team": "ml"},
            "podAnnotations": {"a/b": "true"},
            "extraArgs": ['--odd="{{ quoted }}"'],
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "image": {"digest": "sha256:" + "a" * 64},
        },
        "provisioner": {
            "enabled": True,
            "provider": "simulated",
            "replicas": 2,
            "extraEnv": [{"name": "A", "value": "b"}],
        },
        "metrics": {"port": 9090, "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
        "networkPolicy": {"egress": {"enabled": True}},
        "webhook": {"failurePolicy": "Fail", "namespaceSelector": {}},
        "runtime": {"allowDataFrom": ["10.0.0.0/8", "192.168.0.0/16"], "engine": "vllm", "image": {"tag": "cpu"}},
        "defaultConfigs": {"lora": "training_config:\n  LoraConfig: {r: 8}\n"},
        "watchNamespace": "team-a",
    },
    "nothing but the operator": {
        "crds": {"install": False},
        "rbac": {"create": False, "aggregate": False},
        "operator": {"serviceAccount": {"create": False}, "podDisruptionBudget": {"enabled": False}},
        "networkPolicy": {"enabled": False},
        "defaultConfigs": {"create": False},
        "webhook": {"enabled": False},
    },
}


def test_the_chart_in_the_repository_is_what_the_code_makes() -> None:
    found = {str(path.relative_to(CHART)): path.read_text() for path in CHART.rglob("*") if path.is_file()}
    found.pop("README.md", None)
    assert found == chart_files(), "run scripts/make_chart.py"


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_helm_renders_what_kaito_install_applies(values: dict[str, Any]) -> None:
    with helm_python().Chart.load(str(CHART)) as chart:
        rendered = chart.render(values, name="kaito", namespace="kaito-system")
    helms = [body for name, text in rendered.items() if name.endswith(".yaml") for body in yaml.safe_load_all(text)]
    ours = render(merged(default_values(), values), "kaito-system")
    assert _by_name(_said_by_kaito(helms)) == _by_name(ours)


def _said_by_kaito(bodies: list[Object | None]) -> list[Object]:
    """The one difference: who manages the objects."""
    found: list[Object] = json.loads(json.dumps([b for b in bodies if b]).replace('"Helm"', '"kaito"'))
    return found


def _by_name(bodies: list[Object]) -> dict[tuple[str, str], Object]:
    return {(body["kind"], body["metadata"]["name"]): body for body in bodies}


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_the_schema_takes_every_set_of_values(values: dict[str, Any]) -> None:
    check_values(merged(default_values(), values))


def test_helm_finds_nothing_to_complain_of() -> None:
    found = helm_python().lint(str(CHART))
    assert found["errors"] == []
    assert [m["error"] for m in found["messages"]] == ["icon is recommended"]


def test_kubernetes_own_roles_may_write_workspaces() -> None:
    """People who have `edit` in their namespace need nothing else."""
    roles = [body for body in render(default_values()) if body["kind"] == "ClusterRole"]
    granted = {
        (body["metadata"]["labels"].get("rbac.authorization.k8s.io/aggregate-to-edit"), verb)
        for body in roles
        for rule in body["rules"]
        for verb in rule["verbs"]
        if "workspaces" in rule["resources"] and not rule.get("resourceNames")
    }
    assert {("true", verb) for verb in ("get", "list", "watch", "create", "update", "patch", "delete")} <= granted


def test_the_pods_may_run_in_a_restricted_namespace() -> None:
    """What the level `restricted` of Kubernetes' pod security asks for."""
    pods = [
        body["spec"]["template"]["spec"]
        for body in render(merged(default_values(), SETS["two replicas of all, restricted"]))
        if body["kind"] == "Deployment"
    ]
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
        assert all({"emptyDir"} >= set(volume) - {"name"} for volume in pod["volumes"])
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown word": ({"operator": {"replica": 2}}, "replica"),
    "an unknown mode": ({"nodes": "cloud"}, "nodes"),
    "no cluster to make nodes in": ({"provisioner": {"enabled": True}}, "azure"),
    "too few": ({"operator": {"replicas": 0}}, "replicas"),
}


@pytest.mark.parametrize(("values", "words"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused_by_both(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValuesInvalid, match=words):
        check_values(merged(default_values(), values))
    helm = helm_python()
    with helm.Chart.load(str(CHART)) as chart, pytest.raises(helm.HelmError, match=words):
        chart.validate_schema(copy.deepcopy(values))


def containers(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By the name of the Deployment."""
    return {
        body["metadata"]["name"]: body["spec"]["template"]["spec"]["containers"][0]
        for body in render(merged(default_values(), values), "kaito-system")
        if body["kind"] == "Deployment"
    }


@pytest.mark.parametrize("values", [v for k, v in SETS.items() if "restricted" not in k])
def test_the_command_takes_every_flag(values: dict[str, Any]) -> None:
    """One that it does not know would end the pod at once."""
    program: Any = typer.main.get_command(app)
    for container in containers(values).values():
        name, *flags = container["args"]
        program.commands[name].make_context(name, list(flags))


def test_the_provisioner_finds_its_cluster_in_its_environment() -> None:
    container = containers(SETS["AKS"])["kaito-provisioner"]
    config = read_config({one["name"]: one["value"] for one in container["env"]} | {"AZURE_FEDERATED_TOKEN_FILE": "/t"})
    assert (config.subscription, config.resource_group, config.cluster) == ("s", "r", "c")
    assert (config.credential, config.tenant, config.client_id) == ("workload-identity", "t", "i")
