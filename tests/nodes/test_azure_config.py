"""What the environment says about Azure, and how claims become agent pools: tables, no network."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kaito.api.karpenter import Requirement, Taint
from kaito.nodes.claim import Claim
from kaito.nodes.errors import ConfigError, InvalidSpec
from kaito.nodes.providers.azure.config import CLOUDS, read_config
from kaito.nodes.providers.azure.pool import is_ours, render_pool, to_instance
from kaito.nodes.providers.base import InstanceState
from tests.nodes.builders import TYPE, claim

CLUSTER = {"ARM_SUBSCRIPTION_ID": "sub", "ARM_RESOURCE_GROUP": "group", "AZURE_CLUSTER_NAME": "aks"}
IDENTITY = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_FEDERATED_TOKEN_FILE": "/token"}


def test_the_environment_of_workload_identity() -> None:
    config = read_config({**CLUSTER, **IDENTITY})
    assert (config.subscription, config.resource_group, config.cluster) == ("sub", "group", "aks")
    assert config.credential == "workload-identity" and config.token_file == Path("/token")
    assert (config.tenant, config.client_id) == ("tenant", "client")
    assert config.cloud == CLOUDS["AzurePublicCloud"]


CREDENTIALS: list[Any] = [
    pytest.param({}, "cli", id="a person"),
    pytest.param({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "managed-identity", id="a pod"),
    pytest.param(IDENTITY, "workload-identity", id="a pod with the webhook"),
    pytest.param({**IDENTITY, "KAITO_AZURE_CREDENTIAL": "cli"}, "cli", id="named"),
]


@pytest.mark.parametrize(("environ", "kind"), CREDENTIALS)
def test_which_credential(environ: dict[str, str], kind: str) -> None:
    assert read_config({**CLUSTER, **environ}).credential == kind


@pytest.mark.parametrize(
    ("name", "endpoint", "authority"),
    [
        ("AzurePublicCloud", "https://management.azure.com", "https://login.microsoftonline.com"),
        ("AZURECHINACLOUD", "https://management.chinacloudapi.cn", "https://login.chinacloudapi.cn"),
        ("AzureUSGovernment", "https://management.usgovcloudapi.net", "https://login.microsoftonline.us"),
    ],
)
def test_sovereign_clouds(name: str, endpoint: str, authority: str) -> None:
    cloud = read_config({**CLUSTER, "AZURE_ENVIRONMENT": name}).cloud
    assert (cloud.endpoint, cloud.authority) == (endpoint, authority)
    assert cloud.scope == f"{endpoint}/.default"


def test_private_endpoints_replace_those_of_the_cloud() -> None:
    own = {"KAITO_AZURE_ENDPOINT": "https://arm.private/", "AZURE_AUTHORITY_HOST": "https://login.private/"}
    config = read_config({**CLUSTER, **own, "KAITO_AZURE_CA_FILE": "/ca.pem"})
    assert (config.cloud.endpoint, config.cloud.authority) == ("https://arm.private", "https://login.private")
    assert config.ca_file == Path("/ca.pem")


WRONG: list[Any] = [
    pytest.param({}, ["ARM_SUBSCRIPTION_ID", "ARM_RESOURCE_GROUP", "AZURE_CLUSTER_NAME"], id="nothing is set"),
    pytest.param(
        {**CLUSTER, "AZURE_FEDERATED_TOKEN_FILE": "/token"},
        ["AZURE_TENANT_ID", "AZURE_CLIENT_ID"],
        id="half an identity",
    ),
    pytest.param({**CLUSTER, "AZURE_ENVIRONMENT": "Moon"}, ["'Moon'", "AzureChinaCloud"], id="no such cloud"),
    pytest.param({**CLUSTER, "KAITO_AZURE_CREDENTIAL": "pin"}, ["'pin'", "managed-identity"], id="no such credential"),
]


@pytest.mark.parametrize(("environ", "words"), WRONG)
def test_what_is_missing_or_wrong_is_named(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(environ)
    assert all(word in caught.value.sentence for word in words), caught.value.sentence


def asking(*requirements: tuple[str, list[str]], **changes: Any) -> Claim:
    listed = (("node.kubernetes.io/instance-type", [TYPE]), *requirements)
    return claim(requirements=tuple(Requirement(key, "In", values) for key, values in listed), **changes)


def properties(asked: Claim) -> dict[str, Any]:
    return dict(render_pool(asked)["properties"])


def test_the_body_of_a_plain_claim() -> None:
    assert properties(asking()) == {
        "mode": "User",
        "type": "VirtualMachineScaleSets",
        "count": 1,
        "vmSize": TYPE,
        "osType": "Linux",
        "osSKU": "Ubuntu",
        "nodeLabels": {
            "karpenter.sh/nodepool": "kaito",
            "kaito.sh/workspace": "phi",
            "kaito.sh/machine-type": "gpu",
            "kaito.sh/creation-timestamp": "2026-05-01T12-00-00Z",
        },
        "nodeTaints": ["sku=gpu:NoSchedule"],
        "tags": {"kaito-claim-kind": "NodeClaim", "kaito-claim-name": "ws1234", "kaito-claim-uid": "uid-1"},
    }


def test_spot_only_where_the_claim_allows_nothing_else() -> None:
    spot = properties(asking(("karpenter.sh/capacity-type", ["spot"])))
    assert (spot["scaleSetPriority"], spot["scaleSetEvictionPolicy"], spot["spotMaxPrice"]) == ("Spot", "Delete", -1.0)
    assert "scaleSetPriority" not in properties(asking(("karpenter.sh/capacity-type", ["spot", "on-demand"])))


def test_zones_without_their_region() -> None:
    assert properties(asking(("topology.kubernetes.io/zone", ["eastus-1", "3"])))["availabilityZones"] == ["1", "3"]
    assert "availabilityZones" not in properties(asking())


DISKS: list[Any] = [
    pytest.param("50Gi", 50, id="GiB"),
    pytest.param("50G", 47, id="GB, rounded up"),
    pytest.param("1", 1, id="a byte"),
    pytest.param("1.5Gi", 2, id="a fraction"),
    pytest.param("1e11", 94, id="exponent"),
    pytest.param(2**31, 2, id="an integer"),
    pytest.param("0", None, id="none"),
    pytest.param(None, None, id="not asked for"),
]


@pytest.mark.parametrize(("storage", "gib"), DISKS)
def test_the_disk_in_whole_gib(storage: str | int | None, gib: int | None) -> None:
    requests = {} if storage is None else {"storage": storage}
    assert properties(asking(requests=requests)).get("osDiskSizeGB") == gib


REFUSED: list[Any] = [
    pytest.param({"requests": {"storage": "9Ti"}}, "2048Gi", id="disk too large"),
    pytest.param({"requests": {"storage": "much"}}, "quantity", id="no quantity"),
    pytest.param({"name": "a-name-that-is-long"}, "12 lower-case", id="name"),
    pytest.param({"requirements": ()}, "instance-type", id="no type"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_aks_could_never_do_is_refused_here(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        render_pool(claim(**changes))
    assert words in caught.value.sentence


def test_image_family_startup_taints_and_a_machines_labels() -> None:
    asked = asking(
        annotations={"kaito.sh/node-image-family": "AzureLinux"},
        startup_taints=(Taint("example.com/agent", "NoExecute"),),
        labels={"karpenter.sh/provisioner-name": "default", "kaito.sh/workspace": "phi"},
        kind="Machine",
    )
    body = properties(asked)
    assert body["osSKU"] == "AzureLinux"
    assert body["nodeTaints"] == ["sku=gpu:NoSchedule", "example.com/agent=:NoExecute"]
    assert "karpenter.sh/nodepool" not in body["nodeLabels"]
    assert body["tags"]["kaito-claim-kind"] == "Machine"


def test_a_pool_is_read_back_as_the_instance_that_it_is() -> None:
    body = render_pool(asking())
    pool = {"name": "ws1234", "properties": {**body["properties"], "provisioningState": "Succeeded"}}
    found = to_instance(pool)
    assert is_ours(pool)
    assert (found.name, found.state, found.claim_uid) == ("ws1234", InstanceState.RUNNING, "uid-1")
    assert found.created_at == datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_pools_of_other_people_are_not_ours() -> None:
    assert not is_ours({"name": "system", "properties": {"nodeLabels": {"team": "web"}}})
    theirs = {"kaito.sh/workspace": "phi", "karpenter.sh/provisioner-name": "default"}
    assert is_ours({"name": "ws0", "properties": {"nodeLabels": theirs}})
