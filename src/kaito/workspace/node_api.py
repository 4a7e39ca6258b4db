"""Which node API the cluster serves: NodeClaim v1, else v1beta1, else Machine v1alpha5; NodePool where it is wanted."""

from __future__ import annotations

from typing import Any, Literal

from kaito.api.karpenter import NodeClaim
from kaito.kube.client import Client
from kaito.kube.errors import NotFound
from kaito.kube.resources import MACHINES, NODE_CLAIMS, NODE_CLAIMS_V1BETA1, NODE_POOLS, Resource

NodeApi = Literal["auto", "nodeclaim-v1", "nodeclaim-v1beta1", "machine", "nodepool"]

_CANDIDATES: dict[NodeApi, tuple[Resource[NodeClaim], ...]] = {
    "auto": (NODE_CLAIMS, NODE_CLAIMS_V1BETA1, MACHINES),
    "nodeclaim-v1": (NODE_CLAIMS,),
    "nodeclaim-v1beta1": (NODE_CLAIMS_V1BETA1,),
    "machine": (MACHINES,),
    "nodepool": (NODE_CLAIMS,),
}


async def find_node_api(client: Client, choice: NodeApi) -> Resource[NodeClaim] | None:
    """The first of the chosen kinds that the cluster serves; None when it serves none of them.

    For pools that is the claim that Karpenter makes of them, if the cluster serves pools too.
    """
    if choice == "nodepool" and not await is_served(client, NODE_POOLS):
        return None
    for resource in _CANDIDATES[choice]:
        if await is_served(client, resource):
            return resource
    return None


async def is_served(client: Client, resource: Resource[Any]) -> bool:
    """Asks for one object, which also shows whether we may read them; discovery would not."""
    try:
        await client.request("list", "GET", resource.path(), {"limit": "1"})
    except NotFound:
        return False
    return True
