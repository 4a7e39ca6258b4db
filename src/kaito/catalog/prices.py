"""What a node costs an hour: on-demand list prices by region, dated and with their source; unknown is unknown.

Data: `data/prices.csv` and `data/price-sources.csv`, made by `scripts/make_prices.py`. A price that a user's own file
gives wins.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources

import msgspec

from kaito.catalog.instances import InstanceType, instance_types


class Price(msgspec.Struct, frozen=True):
    """Of one node, in US dollars an hour."""

    usd_hour: float
    region: str
    dated: str
    source: str


class PriceSource(msgspec.Struct, frozen=True):
    dated: str
    reference_region: str
    source: str


def price_of(instance: InstanceType, region: str = "") -> Price | None:
    """The price in `region`, and in no other one; without a region that of the cloud's reference region, or, where the
    type is not sold there, of the cheapest region that is known. None: not known.
    """
    if instance.price_usd_hour is not None:
        return Price(instance.price_usd_hour, "", "", instance.price_note or "your own file of instance types")
    by_region = _prices().get(instance.name.lower())
    source = price_sources().get(instance.cloud)
    if not by_region or source is None:
        return None
    wanted = region.lower() or source.reference_region
    if wanted not in by_region and not region:
        wanted = min(by_region, key=lambda name: (by_region[name], name))
    found = by_region.get(wanted)
    return None if found is None else Price(found, wanted, source.dated, source.source)


def known_regions(clouds: Iterable[str] = ("azure", "aws", "gcp")) -> list[str]:
    """Regions for which at least one price of these clouds is known."""
    wanted = set(clouds)
    names = {name for name, type_ in instance_types().items() if type_.cloud in wanted}
    return sorted({region for name in names for region in _prices().get(name, {})})


@cache
def price_sources() -> Mapping[str, PriceSource]:
    """By cloud: when and where its prices were read."""
    return {
        row["cloud"]: PriceSource(row["dated"], row["reference_region"], row["source"])
        for row in _rows("price-sources.csv")
    }


@cache
def _prices() -> Mapping[str, Mapping[str, float]]:
    """By lower-case name of the instance type, then by region."""
    found: dict[str, dict[str, float]] = {}
    for row in _rows("prices.csv"):
        found.setdefault(row["name"].lower(), {})[row["region"]] = float(row["usd_hour"])
    return found


def _rows(name: str) -> Iterable[dict[str, str]]:
    text = resources.files("kaito.catalog").joinpath("data", name).read_text()
    return csv.DictReader(text.splitlines())
