"""Write docs/reference/ anew from the code, or say with --check which page is not what the code says.

python scripts/reference [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

import commands
import metrics
import reasons

import api
import chart
import examples

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "reference/api.md": api.page,
    "reference/cli.md": commands.page,
    "reference/configuration.md": commands.configuration_page,
    "reference/chart.md": chart.page,
    "reference/metrics.md": metrics.page,
    "reference/reasons.md": reasons.page,
    "examples.md": examples.page,
}


def main(check: bool) -> int:
    stale = []
    for name, make in PAGES.items():
        text = make().rstrip() + "\n"
        file = DOCS / name
        if check and (not file.exists() or file.read_text() != text):
            stale.append(name)
        elif not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    if stale:
        print(f"not what the code says: {', '.join(stale)}; `make reference` writes them anew", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
