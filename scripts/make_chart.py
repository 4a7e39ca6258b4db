"""Write the Helm chart from the objects of `kaito install`.

python scripts/make_chart.py [charts/kaito]
"""

from __future__ import annotations

import sys
from pathlib import Path

from kaito.install.chart import chart_files


def main(folder: Path) -> None:
    wanted = chart_files()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and str(path.relative_to(folder)) not in {*wanted, "README.md"}:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "charts/kaito"))
