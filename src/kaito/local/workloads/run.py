"""All workload controllers over one set of informers, until cancelled."""

from __future__ import annotations

import asyncio

from kaito.kube.client import Client
from kaito.local.workloads.collector import Collector
from kaito.local.workloads.controllers import (
    Clock,
    World,
    deployment_controller,
    job_controller,
    replica_set_controller,
    stateful_set_controller,
    utc_now,
)
from kaito.local.workloads.endpoint_controller import EndpointController
from kaito.local.workloads.informers import Informers
from kaito.local.workloads.lost_pods import LostPods


async def run_workloads(client: Client, *, now: Clock = utc_now) -> None:
    """Run until cancelled. The client is the caller's: it stays open."""
    async with asyncio.TaskGroup() as group:
        world = World(client, Informers(client, group), now)
        controllers = [
            replica_set_controller(world),
            deployment_controller(world),
            stateful_set_controller(world),
            job_controller(world),
            EndpointController(world).controller,
            LostPods(world).controller,
        ]
        for controller in controllers:
            group.create_task(controller.run(), name=controller.name)
        group.create_task(Collector(world).run(), name="collector")
        group.create_task(world.announcer.run(), name="events")
