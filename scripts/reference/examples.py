"""docs/examples.md: the examples by folder, each with what its first lines say."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = """# Examples

<!-- Made by `make reference` from examples/; a test compares them. Edit the first lines of the examples. -->

Manifests in the folder `examples/`, each for one use. All of them are applied by a test, with the operator's admission at work.
"""
FOLDERS = {
    "tiny": "On one machine, with the built-in model",
    "inference": "Serving",
    "custom-model": "A container of your own",
    "fine-tuning": "Fine-tuning",
    "own-nodes": "Nodes that exist already",
    "karpenter": "Karpenter",
    "cpu": "Without a GPU",
}


def page() -> str:
    parts = [HEAD]
    for folder, title in FOLDERS.items():
        rows = "".join(_row(file) for file in sorted((EXAMPLES / folder).glob("*.yaml")))
        parts.append(f"\n## {title}\n\n| file | what it shows, and what to replace |\n|---|---|\n{rows}")
    missing = {file.parent.name for file in EXAMPLES.rglob("*.yaml")} - set(FOLDERS)
    if missing:
        raise SystemExit(f"folders of examples without a title in {__file__}: {', '.join(sorted(missing))}")
    return "".join(parts)


def _row(file: Path) -> str:
    lines = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    text = " ".join(line for line in lines if not line.startswith(("kaito ", "kubectl ", "export ")))
    return f"| `{file.relative_to(EXAMPLES.parent)}` | {text} |\n"
