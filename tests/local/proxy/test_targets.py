from __future__ import annotations

from typing import Any

import pytest

from kaito.api.core import Service, ServicePort, ServiceSpec
from kaito.api.meta import ObjectMeta
from kaito.local.proxy.targets import ListenOn, plan_listeners
from kaito.local.workloads.resources import Endpoints, EndpointSlice

HTTP = ServicePort(80, "http", 5000)


def service(*ports: ServicePort, address: str = "127.96.0.1", deleted: str | None = None) -> Service:
    spec = ServiceSpec(clusterIP=address, ports=list(ports or (HTTP,)))
    return Service(ObjectMeta(name="web", namespace="default", deletionTimestamp=deleted), spec)


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def endpoint_slice(*endpoints: dict[str, Any], name: str = "http", port: int = 5000) -> EndpointSlice:
    return EndpointSlice(ObjectMeta(), "IPv4", list(endpoints), [{"name": name, "port": port}])


def test_ready_endpoints_are_targets() -> None:
    members = endpoint_slice(
        endpoint("127.97.0.1", ready=True), endpoint("127.97.0.2", ready=False, serving=True), endpoint("127.97.0.3")
    )
    plan = plan_listeners(service(), [members], None)
    assert plan == {80: ListenOn("127.96.0.1", 80, (("127.97.0.1", 5000), ("127.97.0.3", 5000)))}


def test_each_port_has_its_own_targets() -> None:
    ports = (HTTP, ServicePort(29500, "torch", 29500))
    slices = [
        endpoint_slice(endpoint("127.97.0.1", ready=True)),
        endpoint_slice(endpoint("127.97.0.1", ready=True), name="torch", port=29500),
    ]
    plan = plan_listeners(service(*ports), slices, None)
    assert {port: on.targets for port, on in plan.items()} == {
        80: (("127.97.0.1", 5000),),
        29500: (("127.97.0.1", 29500),),
    }


def test_without_a_slice_endpoints_are_asked() -> None:
    by_hand = Endpoints(ObjectMeta(), [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 9}]}])
    plan = plan_listeners(service(ServicePort(80)), [], by_hand)
    assert plan[80].targets == (("10.0.0.1", 9),)


@pytest.mark.parametrize(
    "none",
    [
        pytest.param(service(address="None"), id="headless"),
        pytest.param(service(address=""), id="no address yet"),
        pytest.param(service(deleted="2026-01-01T00:00:00Z"), id="being deleted"),
        pytest.param(service(ServicePort(53, "dns", 53, "UDP")), id="UDP"),
    ],
)
def test_nothing_to_listen_on(none: Service) -> None:
    assert plan_listeners(none, [], None) == {}


def test_a_service_without_endpoints_still_listens() -> None:
    assert plan_listeners(service(), [], None)[80].targets == ()
