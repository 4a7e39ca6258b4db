"""Other instance types that would do: of the same cloud, the cheapest first.

Prices are list prices by the hour (`catalog/prices.py`) or those of a file of one's own. Types without one come after
those with one, by GPU memory of all nodes together, which prices follow roughly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kaito.catalog.instances import InstanceType
from kaito.catalog.prices import Price, price_of
from kaito.estimate.result import Estimate

MOST_NODES = 4


def alternatives(
    instance: InstanceType,
    candidates: Iterable[InstanceType],
    estimate: Callable[[InstanceType], Estimate],
    *,
    region: str = "",
    count: int = 5,
) -> list[tuple[InstanceType, Estimate, Price | None]]:
    """The `count` cheapest types that fit, of the same cloud, GPU resource and architecture, with a node's price.

    Types that the cloud gives up are left out, and of types that are alike in GPUs and price all but the first.
    """
    same = (
        type_
        for type_ in candidates
        if type_.name != instance.name
        and not type_.status
        and (type_.cloud, type_.resource, type_.architecture)
        == (instance.cloud, instance.resource, instance.architecture)
    )
    found = [(type_, estimate(type_), price_of(type_, region)) for type_ in same]
    fitting = [entry for entry in found if entry[1].fits and entry[1].nodes <= MOST_NODES]
    unlike = {_likeness(*entry): entry for entry in sorted(fitting, key=_rank, reverse=True)}
    return sorted(unlike.values(), key=_rank)[:count]


def _likeness(type_: InstanceType, estimate: Estimate, price: Price | None) -> tuple[object, ...]:
    """Without a price two types are never taken for one."""
    return type_.gpu_model, type_.gpu_count, type_.gpu_memory_mib, price.usd_hour if price else type_.name


def _rank(entry: tuple[InstanceType, Estimate, Price | None]) -> tuple[bool, float, int, int, str]:
    type_, estimate, price = entry
    cost = 0.0 if price is None else price.usd_hour * estimate.nodes
    memory = estimate.nodes * type_.gpu_count * type_.gpu_memory_mib
    return price is None, cost, memory, estimate.nodes, type_.name
