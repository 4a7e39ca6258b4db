"""Other instance types that would do: of the same cloud, the cheapest first where prices are known.

The catalogue has no prices, since they differ by region, contract and day; a file of one's own may bring them. Types
without one come after those with one, by GPU memory of all nodes together, which prices follow roughly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kaito.catalog.instances import InstanceType
from kaito.estimate.result import Estimate


def alternatives(
    instance: InstanceType,
    candidates: Iterable[InstanceType],
    estimate: Callable[[InstanceType], Estimate],
    *,
    count: int = 5,
) -> list[tuple[InstanceType, Estimate]]:
    """The `count` cheapest or smallest types that fit, of the same cloud, GPU resource and architecture."""
    same = (
        type_
        for type_ in candidates
        if type_.name != instance.name
        and (type_.cloud, type_.resource, type_.architecture)
        == (instance.cloud, instance.resource, instance.architecture)
    )
    found = [(type_, estimate(type_)) for type_ in same]
    fitting = [(type_, result) for type_, result in found if result.fits and result.nodes <= 4]
    return sorted(fitting, key=lambda pair: (*_price(*pair), _memory(*pair), pair[1].nodes, pair[0].name))[:count]


def _memory(instance: InstanceType, estimate: Estimate) -> int:
    return estimate.nodes * instance.gpu_count * instance.gpu_memory_mib


def _price(instance: InstanceType, estimate: Estimate) -> tuple[bool, float]:
    price = instance.price_usd_hour
    return (True, 0.0) if price is None else (False, price * estimate.nodes)
