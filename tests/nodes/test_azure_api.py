"""The Azure provider against a resource manager and a token endpoint on loopback: calls, errors, tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kaito.nodes.errors import Busy, ConfigError, InsufficientCapacity, InvalidSpec, NotFound, ProviderError, Transient
from kaito.nodes.providers.azure.config import AzureConfig
from kaito.nodes.providers.azure.provider import AzureProvider, connect
from kaito.nodes.providers.base import InstanceState
from tests.nodes.builders import claim
from tests.nodes.fake_arm import Answer, FakeArm, error_body, serving
from tests.nodes.world import eventually

QUOTA = (
    "Operation could not be completed as it results in exceeding approved standardNCSv3Family Cores quota. "
    "Additional details - Deployment Model: Resource Manager, Location: eastus, Current Limit: 12, Current Usage: 10, "
    "Additional Required: 6, (Minimum) New Limit Required: 16."
)
BUSY = error_body("OperationNotAllowed", "Operation is not allowed because there's an in progress create node pool")


class Azure:
    def __init__(self, arm: FakeArm, config: AzureConfig, provider: AzureProvider) -> None:
        self.arm = arm
        self.config = config
        self.provider = provider

    async def until(self, name: str, state: InstanceState) -> None:
        async def reached() -> bool:
            return (await self.provider.get(name)).state is state

        await eventually(reached)


@pytest_asyncio.fixture
async def azure(tmp_path: Path) -> AsyncIterator[Azure]:
    arm = FakeArm()
    async with serving(tmp_path, arm) as config:
        provider = connect(config)
        yield Azure(arm, config, provider)
        await provider.close()


async def test_create_returns_when_the_cloud_has_accepted(azure: Azure) -> None:
    azure.arm.hold = True
    created = await azure.provider.create(claim())
    assert created.state is InstanceState.CREATING
    assert created.operation.startswith("/subscriptions/11111111-2222/providers/Microsoft.ContainerService/locations/")
    assert azure.arm.calls == {"put": 1, "token": 1}, "nobody polls the operation"
    assert azure.arm.versions == {"2024-01-01"}
    body = azure.arm.bodies[0]["properties"]
    assert body["vmSize"] == "Standard_NC6s_v3" and body["nodeTaints"] == ["sku=gpu:NoSchedule"]
    azure.arm.hold = False
    await azure.until("ws1234", InstanceState.RUNNING)
    found = await azure.provider.get("ws1234")
    assert found.claim_uid == "uid-1" and found.image == "AKSUbuntu-2204gen2"


async def test_a_list_reads_all_pages_and_only_ours(azure: Azure) -> None:
    for name in ("ws1", "ws2", "ws3", "ws4", "ws5"):
        await azure.provider.create(claim(name=name))
    azure.arm.pools["system"] = {"name": "system", "properties": {"provisioningState": "Succeeded"}}
    assert sorted(i.name for i in await azure.provider.list()) == ["ws1", "ws2", "ws3", "ws4", "ws5"]
    assert azure.arm.calls["page"] == 2


async def test_a_list_that_fails_on_its_second_page_fails(azure: Azure) -> None:
    for name in ("ws1", "ws2", "ws3"):
        await azure.provider.create(claim(name=name))
    azure.arm.script("page", *[Answer(500, error_body("InternalServerError"))] * 8)
    with pytest.raises(Transient):
        await azure.provider.list()


async def test_delete_and_delete_again(azure: Azure) -> None:
    await azure.provider.create(claim())
    await azure.provider.delete("ws1234")

    async def gone() -> bool:
        try:
            await azure.provider.delete("ws1234")
        except NotFound:
            return True
        return False

    await eventually(gone)
    with pytest.raises(NotFound):
        await azure.provider.get("ws1234")


NO_QUOTA = (InsufficientCapacity, "SubscriptionQuotaReached")

REFUSALS: list[Any] = [
    pytest.param(409, error_body("OperationNotAllowed", QUOTA), *NO_QUOTA, id="quota 409"),
    pytest.param(400, error_body("QuotaExceeded", QUOTA), *NO_QUOTA, id="quota 400"),
    pytest.param(
        400,
        error_body(
            "ErrCode_InsufficientVCPUQuota",
            "Insufficient vcpu quota requested 24, remaining 0 for family standardNCADSA100v4Family for region eastus",
        ),
        *NO_QUOTA,
        id="vcpu quota",
    ),
    pytest.param(
        400,
        error_body("InvalidTemplateDeployment", "see details", [{"code": "QuotaExceeded", "message": QUOTA}]),
        *NO_QUOTA,
        id="quota in details",
    ),
    pytest.param(400, error_body("SkuNotAvailable", "no"), InsufficientCapacity, "SkuNotAvailable", id="sku"),
    pytest.param(400, error_body("VMSizeNotSupported", "no"), InsufficientCapacity, "SkuNotAvailable", id="size"),
    pytest.param(
        400,
        error_body("BadRequest", "The VM size of Standard_X is not allowed in your subscription in location 'eastus'"),
        InsufficientCapacity,
        "SkuNotAvailable",
        id="not allowed",
    ),
    pytest.param(409, error_body("AllocationFailed", "no"), InsufficientCapacity, "AllocationFailed", id="allocation"),
    pytest.param(
        409,
        error_body(
            "ResourceOperationFailure", "x", [{"code": "OverconstrainedZonalAllocationRequest", "message": "y"}]
        ),
        InsufficientCapacity,
        "OverconstrainedZonalAllocationRequest",
        id="zonal in details",
    ),
    pytest.param(409, BUSY, Busy, "CloudBusy", id="busy"),
    pytest.param(
        409,
        error_body("OperationNotAllowed", "Another agentpool operation (x - Creating) is in progress"),
        Busy,
        "CloudBusy",
        id="another",
    ),
    pytest.param(403, error_body("AuthorizationFailed", "no"), ConfigError, "AuthorizationFailed", id="forbidden"),
    pytest.param(
        401, error_body("InvalidAuthenticationToken", "no"), ConfigError, "InvalidAuthenticationToken", id="401"
    ),
    pytest.param(
        404,
        error_body("ResourceNotFound", "The Resource 'Microsoft.ContainerService/managedClusters/aks' was not found"),
        ConfigError,
        "ResourceNotFound",
        id="no cluster",
    ),
    pytest.param(400, error_body("InvalidParameter", "bad"), InvalidSpec, "InvalidSpec", id="invalid"),
    pytest.param(400, error_body("AvailabilityZoneNotSupported", "bad"), InvalidSpec, "InvalidSpec", id="zone"),
    pytest.param(400, error_body("SomethingNew", "bad"), InvalidSpec, "InvalidSpec", id="other 400"),
    pytest.param(400, {"code": "InvalidParameter", "message": "not nested"}, InvalidSpec, "InvalidSpec", id="flat"),
    pytest.param(409, error_body("ReconcileVMSSAgentPoolFailed", "x"), Transient, "LaunchFailed", id="reconcile"),
]


@pytest.mark.parametrize(("status", "body", "kind", "reason"), REFUSALS)
async def test_every_row_of_the_error_table_at_the_put(
    azure: Azure, status: int, body: object, kind: type[ProviderError], reason: str
) -> None:
    azure.arm.script("put", Answer(status, body))
    with pytest.raises(kind) as refused:
        await azure.provider.create(claim())
    assert refused.value.reason == reason
    assert azure.arm.calls["put"] == 1


FAILURES = [row for row in REFUSALS if row.values[0] in (400, 409)]


@pytest.mark.parametrize(("status", "body", "kind", "reason"), FAILURES)
async def test_every_row_of_the_error_table_behind_an_accepted_put(
    azure: Azure, status: int, body: Any, kind: type[ProviderError], reason: str
) -> None:
    azure.arm.fail_with = body if "error" in body else {"error": body}
    created = await azure.provider.create(claim())
    await azure.until("ws1234", InstanceState.FAILED)
    error = await azure.provider.explain("ws1234", created.operation)
    # Status is unknown here: what only the status would tell is a fault of the cloud.
    assert isinstance(error, kind) or (isinstance(error, Transient) and body["error"]["code"] == "SomethingNew")
    listed = await azure.provider.list()
    assert listed[0].state is InstanceState.FAILED and listed[0].error is error
    assert azure.arm.calls["operation"] == 1


async def test_the_numbers_of_a_quota_are_told(azure: Azure) -> None:
    azure.arm.script("put", Answer(409, error_body("OperationNotAllowed", QUOTA)))
    with pytest.raises(InsufficientCapacity) as refused:
        await azure.provider.create(claim())
    said = refused.value.sentence
    assert "limit 12, in use 10, needed 6" in said
    assert "ask Azure for a quota of 16 cores of standardNCSv3Family" in said
    assert "or use Standard_" in said
    assert refused.value.retry_after == 600


async def test_a_limit_of_zero_waits_longer(azure: Azure) -> None:
    azure.arm.script("put", Answer(409, error_body("OperationNotAllowed", QUOTA.replace("Limit: 12", "Limit: 0"))))
    with pytest.raises(InsufficientCapacity) as refused:
        await azure.provider.create(claim())
    assert refused.value.retry_after == 3600


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(429, error_body("TooManyRequests"), {"Retry-After": "0"}), id="429"),
        pytest.param(Answer(503, error_body("ServerBusy")), id="503"),
        pytest.param(Answer(500, error_body("InternalServerError")), id="500"),
    ],
)
async def test_throttling_is_waited_out_and_told_when_it_does_not_end(azure: Azure, answer: Answer) -> None:
    azure.arm.script("put", answer, answer)
    assert (await azure.provider.create(claim())).state is InstanceState.CREATING
    azure.arm.script("put", *[answer] * 10)
    with pytest.raises(Transient):
        await azure.provider.create(claim(name="ws2"))


async def test_busy_with_our_own_request_of_before_a_crash(azure: Azure) -> None:
    azure.arm.hold = True
    await azure.provider.create(claim())
    azure.arm.script("put", Answer(409, BUSY))
    again = await connect_again(azure)
    assert (await again.create(claim())).state is InstanceState.CREATING
    await again.close()


async def connect_again(azure: Azure) -> AzureProvider:
    return connect(azure.config)


async def test_only_so_many_pools_are_asked_for_at_once(azure: Azure) -> None:
    azure.arm.hold = True
    provider = connect(replace(azure.config, max_operations=2))
    await provider.create(claim(name="ws1"))
    await provider.create(claim(name="ws2"))
    with pytest.raises(Busy):
        await provider.create(claim(name="ws3"))
    assert azure.arm.calls["put"] == 2
    azure.arm.hold = False
    await azure.until("ws1", InstanceState.RUNNING)
    await azure.until("ws2", InstanceState.RUNNING)
    await provider.list()
    await provider.create(claim(name="ws3"))
    await provider.close()


async def test_a_new_token_is_made_of_the_rotated_file(azure: Azure) -> None:
    azure.arm.token_seconds = 0  # expired as it comes: the next call needs another
    await azure.provider.list()
    assert azure.config.token_file is not None
    azure.config.token_file.write_text("assertion-2\n")
    await azure.provider.list()
    assert azure.arm.assertions[0] == "assertion-1" and azure.arm.assertions[-1] == "assertion-2"


async def test_a_token_that_the_cloud_no_longer_takes(azure: Azure) -> None:
    await azure.provider.list()
    azure.arm.revoked = 99
    with pytest.raises(ConfigError) as refused:
        await azure.provider.list()
    assert refused.value.reason == "ExpiredAuthenticationToken"


async def test_an_identity_that_gets_no_token(azure: Azure) -> None:
    said = {"error": "invalid_client", "error_description": "AADSTS700016: no such application"}
    azure.arm.script("token", *[Answer(401, said)] * 4)
    with pytest.raises(ConfigError) as refused:
        await azure.provider.list()
    assert "AADSTS700016" in refused.value.message and refused.value.reason == "AuthenticationFailed"


async def test_a_cloud_that_is_not_there(azure: Azure) -> None:
    nowhere = replace(azure.config.cloud, endpoint="https://127.0.0.1:9")
    provider = connect(replace(azure.config, cloud=nowhere))
    with pytest.raises(Transient):
        await provider.list()
    await provider.close()


@pytest.mark.parametrize("operation", ["", "https://evil.example/x", "/subscriptions/1/other", "//evil.example/x"])
async def test_no_token_goes_where_an_annotation_points(azure: Azure, operation: str) -> None:
    await azure.provider.create(claim())
    assert await azure.provider.explain("ws1234", operation) is None
    assert azure.arm.calls["operation"] == 0
