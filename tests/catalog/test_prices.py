"""Prices are those of a region, dated and with their source; what is not known is not guessed."""

import csv
from importlib import resources

import pytest

from kaito.catalog.instances import InstanceType, find_instance_type, instance_types
from kaito.catalog.prices import known_regions, price_of, price_sources


def type_of(name: str) -> InstanceType:
    found = find_instance_type(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "region", "usd"),
    [
        pytest.param("Standard_NC6s_v3", "eastus", 3.06, id="Azure, V100"),
        pytest.param("Standard_ND96isr_H100_v5", "eastus", 98.32, id="Azure, eight H100"),
        pytest.param("p4d.24xlarge", "us-east-1", 21.9576, id="AWS, eight A100"),
        pytest.param("g2-standard-4", "us-central1", 0.7068, id="Google, L4"),
    ],
)
def test_list_prices_of_the_reference_region(name: str, region: str, usd: float) -> None:
    price = price_of(type_of(name))
    assert price is not None
    assert (price.region, price.usd_hour) == (region, pytest.approx(usd, abs=0.0001))
    assert price.dated.startswith("2026-")
    assert price.source


def test_another_region_has_its_own_price_or_none() -> None:
    here, there = price_of(type_of("Standard_NC6s_v3"), "eastus"), price_of(type_of("Standard_NC6s_v3"), "WestEurope")
    assert here is not None
    assert there is not None
    assert there.usd_hour != here.usd_hour
    assert price_of(type_of("Standard_NC6s_v3"), "nowhere") is None


def test_a_type_that_is_not_sold_in_the_reference_region_has_the_cheapest_regions_price() -> None:
    price = price_of(type_of("Standard_ND96isr_H200_v5"))
    assert price is not None
    assert price.region != "eastus"


def test_what_nobody_publishes_is_unknown() -> None:
    assert price_of(type_of("Standard_NV6")) is None
    assert price_of(type_of("a4-highgpu-8g")) is None


def test_every_row_is_of_a_known_type_and_every_cloud_of_a_dated_source() -> None:
    text = resources.files("kaito.catalog").joinpath("data/prices.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len({(row["name"], row["region"]) for row in rows}) == len(rows) > 1000
    assert {row["name"].lower() for row in rows} <= instance_types().keys()
    assert {type_of(row["name"]).cloud for row in rows} == set(price_sources())
    assert all(0.05 < float(row["usd_hour"]) < 400 for row in rows)
    assert {"eastus", "us-east-1", "us-central1"} <= set(known_regions())
