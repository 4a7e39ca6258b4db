"""Write a bill of materials (CycloneDX 1.6) of this interpreter's environment and of the Debian packages around it.

    python docker/sbom.py sbom.cdx.json

Only the standard library: it runs in the image's build, before anything else is sure to be there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

DPKG = Path("/var/lib/dpkg/status")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def main(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bill(), indent=1) + "\n")


def bill() -> dict[str, Any]:
    """The whole document. It has no time and no serial number, so that equal environments give equal files."""
    found: dict[str, Distribution] = {}
    for one in distributions():
        found.setdefault(normal(one.metadata["Name"]), one)  # the first on the path is the one that is imported
    listed = sorted(found.values(), key=reference)
    root = {"type": "application", "name": "kaito", "version": version("kaito"), "bom-ref": reference(found["kaito"])}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": [*(component(one) for one in listed if one is not found["kaito"]), *debian_packages()],
        "dependencies": [{"ref": reference(one), "dependsOn": sorted(needs(one, found))} for one in listed],
    }


def component(one: Distribution) -> dict[str, Any]:
    name, number = normal(one.metadata["Name"]), one.version
    body = {"type": "library", "bom-ref": reference(one), "name": name, "version": number, "purl": reference(one)}
    licence = one.metadata.get("License-Expression")
    return {**body, "licenses": [{"expression": licence}]} if licence else body


def needs(one: Distribution, found: dict[str, Distribution]) -> set[str]:
    """What it requires of what is installed; requirements of extras count where they are there."""
    names = (_NAME.match(line) for line in one.requires or ())
    return {reference(found[name]) for match in names if match and (name := normal(match[0])) in found}


def debian_packages() -> Iterator[dict[str, Any]]:
    """Of the base image."""
    if not DPKG.exists():
        return
    for paragraph in DPKG.read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            name, number = fields["Package"], fields["Version"]
            purl = f"pkg:deb/debian/{name}@{quote(number)}?arch={fields.get('Architecture', 'all')}"
            yield {"type": "library", "bom-ref": purl, "name": name, "version": number, "purl": purl}


def reference(one: Distribution) -> str:
    return f"pkg:pypi/{normal(one.metadata['Name'])}@{quote(one.version)}"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
