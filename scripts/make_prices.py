"""Write `src/kaito/catalog/data/prices.csv` from the price tables that Karpenter's cloud providers publish.

    python scripts/make_prices.py azure=zz_generated.pricing.go aws=zz_generated.pricing_aws.go gcp=initial-prices.json

The files are those of `pkg/providers/pricing` in Azure/karpenter-provider-azure, aws/karpenter-provider-aws and
cloudpilot-ai/karpenter-provider-gcp: on-demand prices for Linux in US dollars an hour, from the clouds' own
price lists. Only instance types of the catalogue are taken. Dates go into `price-sources.csv` by hand.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parents[1] / "src" / "kaito" / "catalog" / "data"


def azure(text: str) -> Iterator[tuple[str, str, float]]:
    region = ""
    for line in text.splitlines():
        if found := re.search(r'initialOnDemandPrices\["([^"]+)"\] =', line):
            region = found[1]
        elif found := re.search(r'"([^"]+)":\s+([\d.]+),', line):
            yield found[1], region, float(found[2])


def aws(text: str) -> Iterator[tuple[str, str, float]]:
    region = ""
    for line in text.splitlines():
        if found := re.match(r'\s+"([a-z0-9-]+)": \{', line):
            region = found[1]
        for name, price in re.findall(r'"([a-z0-9-]+\.[a-z0-9-]+)": ([\d.]+)', line):
            yield name, region, float(price)


def gcp(text: str) -> Iterator[tuple[str, str, float]]:
    for region, kinds in json.loads(text)["prices"].items():
        for name, price in kinds["on_demand"].items():
            yield name, region, float(price)


def main(arguments: list[str]) -> None:
    with (DATA / "instances.csv").open() as file:
        known = {(row["cloud"], row["name"].lower()): row["name"] for row in csv.DictReader(file)}
    rows = []
    for argument in arguments:
        cloud, _, path = argument.partition("=")
        read = {"azure": azure, "aws": aws, "gcp": gcp}[cloud]
        for name, region, price in read(Path(path).read_text()):
            if own := known.get((cloud, name.lower())):
                rows.append((own, region, f"{price:.4f}".rstrip("0").rstrip(".")))
    with (DATA / "prices.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "region", "usd_hour"])
        writer.writerows(sorted(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
