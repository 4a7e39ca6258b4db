from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kaito.api.core import Generic
from kaito.local.workloads.endpoints import Observed, plan_endpoints
from kaito.local.workloads.plan import Plan
from kaito.local.workloads.resources import ENDPOINT_SLICES, ENDPOINTS, Endpoints, EndpointSlice
from tests.local.workloads.builders import at, creates, deleted, meta, patches, pod

HTTP = {"name": "http", "port": 80, "targetPort": 5000, "protocol": "TCP"}


def service(*ports: dict[str, Any], **spec: Any) -> Generic:
    body = {"selector": {"app": "web"}, "clusterIP": "127.96.0.9", "ports": list(ports or (HTTP,)), **spec}
    return Generic(meta("web"), body, {})


def server(name: str, address: str, *, ready: bool = True, **more: Any) -> Generic:
    made = pod(name, ready=ready, **more)
    return msgspec.structs.replace(made, status={**made.status, "podIP": address})


def plan(
    owner: Generic | None, *pods: Generic, endpoints: Endpoints | None = None, slices: tuple[EndpointSlice, ...] = ()
) -> Plan:
    return plan_endpoints(Observed("web", "default", owner, pods, endpoints, slices))


def subsets(planned: Plan) -> list[dict[str, Any]]:
    return list(next(a for a in creates(planned) if a.resource is ENDPOINTS).body["subsets"])


def slice_body(planned: Plan) -> dict[str, Any]:
    return next(a for a in creates(planned) if a.resource is ENDPOINT_SLICES).body


def addresses(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["ip"] for entry in entries]


def test_ready_and_not_ready_addresses() -> None:
    planned = plan(service(), server("a", "127.97.0.1"), server("b", "127.97.0.2", ready=False))
    (subset,) = subsets(planned)
    assert addresses(subset["addresses"]) == ["127.97.0.1"]
    assert addresses(subset["notReadyAddresses"]) == ["127.97.0.2"]
    assert subset["ports"] == [{"name": "http", "port": 5000, "protocol": "TCP"}]
    assert subset["addresses"][0]["targetRef"]["name"] == "a"
    body = slice_body(planned)
    assert body["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert body["metadata"]["ownerReferences"][0]["uid"] == "uid-web"
    assert [e["conditions"]["ready"] for e in body["endpoints"]] == [True, False]


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(server("x", "127.97.0.9", phase="Succeeded"), id="finished"),
        pytest.param(pod("x", ready=True), id="no address yet"),
    ],
)
def test_pods_that_are_not_listed(gone: Generic) -> None:
    assert slice_body(plan(service(), gone))["endpoints"] == []


def test_a_pod_that_terminates_serves_but_is_not_ready() -> None:
    planned = plan(service(), server("x", "127.97.0.9", deletionTimestamp=at(-1)))
    assert subsets(planned) == []
    (endpoint,) = slice_body(planned)["endpoints"]
    assert endpoint["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_headless_with_addresses_before_readiness() -> None:
    owner = service(clusterIP="None", publishNotReadyAddresses=True)
    member = server("db-0", "127.97.0.1", ready=False, spec={"hostname": "db-0", "subdomain": "web"})
    planned = plan(owner, member)
    assert subsets(planned)[0]["addresses"][0]["hostname"] == "db-0"
    body = slice_body(planned)
    assert body["endpoints"][0]["hostname"] == "db-0"
    assert body["endpoints"][0]["conditions"]["ready"]
    assert "service.kubernetes.io/headless" in body["metadata"]["labels"]


def container(port: int) -> dict[str, Any]:
    return {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]}


def test_a_named_port_may_be_another_number_in_each_pod() -> None:
    owner = service({"port": 80, "targetPort": "web"})
    planned = plan(
        owner, server("a", "127.97.0.1", spec=container(5000)), server("b", "127.97.0.2", spec=container(6000))
    )
    assert [(addresses(s["addresses"]), s["ports"][0]["port"]) for s in subsets(planned)] == [
        (["127.97.0.1"], 5000),
        (["127.97.0.2"], 6000),
    ]


def test_a_port_name_that_no_container_has_leads_nowhere() -> None:
    planned = plan(service({"port": 80, "targetPort": "other"}), server("a", "127.97.0.1", spec=container(5000)))
    assert slice_body(planned)["ports"] == []


def test_what_is_right_is_left_and_what_is_not_is_patched() -> None:
    pods = [server("a", "127.97.0.1")]
    first = plan(service(), *pods)
    endpoints = Endpoints(meta("web"), subsets(first))
    body = slice_body(first)
    kept = EndpointSlice(meta(body["metadata"]["name"]), "IPv4", body["endpoints"], body["ports"])
    assert plan(service(), *pods, endpoints=endpoints, slices=(kept,)).actions == ()
    changed = plan(service(), endpoints=endpoints, slices=(kept,))
    assert [p.body for p in patches(changed)] == [{"subsets": []}, {"endpoints": [], "ports": []}]


def test_a_service_without_selector_is_left_alone() -> None:
    assert plan(service(selector=None)).actions == ()


def test_endpoints_go_with_their_service() -> None:
    assert deleted(plan(None, endpoints=Endpoints(meta("web"), []))) == ["web"]
