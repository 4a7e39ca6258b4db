"""Make the project's virtual environment, with a bar while pip works. Only the standard library: nothing is there yet.

    python3 scripts/install.py .venv

torch comes first and alone: pip then takes the pinned build, and nothing that follows replaces it.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

CONSTRAINTS = Path("constraints.txt")
WIDTH = 30
STEPS = (("torch", ["torch"]), ("kaito and what it needs", ["--editable", ".[serve,tune,azure,docs,dev]"]))


def main(folder: Path) -> int:
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder}")
        venv.create(folder, with_pip=True)
    total = sum(1 for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    for what, requirements in STEPS:
        expected = total if len(requirements) > 1 else 10
        code, output = show(what, expected, install(python, requirements))
        if code:
            print(f"\npip could not install {what}:", *output[-20:], sep="\n", file=sys.stderr)
            return code
    return 0


def install(python: Path, requirements: list[str]) -> Iterator[str | int]:
    """pip's lines as they come, then its exit code."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    command += ["--constraint", str(CONSTRAINTS), *requirements]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            yield line.rstrip()
    yield pip.returncode


def show(what: str, expected: int, lines: Iterator[str | int]) -> tuple[int, list[str]]:
    """Draw how many packages have been collected; returns pip's exit code and what it said."""
    said: list[str] = []
    collected = 0
    for line in lines:
        if isinstance(line, int):
            done = f"{'done' if line == 0 else 'failed'}, {collected} packages"
            print(f"\r\033[K  {what}: {done}" if sys.stdout.isatty() else f"  {what}: {done}", flush=True)
            return line, said
        said.append(line)
        collected += line.startswith(("Collecting ", "Requirement already satisfied"))
        if sys.stdout.isatty():
            share = min(1.0, collected / expected)
            word = "installing" if line.startswith("Installing collected") else line.partition(" (")[0][:40]
            bar = "#" * round(share * WIDTH)
            print(f"\r\033[K  {what}  [{bar:<{WIDTH}}] {collected} packages  {word}", end="", flush=True)
    return 1, said


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
