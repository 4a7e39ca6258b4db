"""The documents as data: pages, their headings' anchors, links, and the blocks that a reader would run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
GENERATED = {
    "examples.md",
    *(f"reference/{name}.md" for name in ("api", "chart", "cli", "configuration", "metrics", "reasons")),
}
FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
DIRECTIVE = re.compile(r"<!-- (not run|cluster|soak): (.+?) -->")
COMMAND = re.compile(r"(?:kaito|kubectl|helm|az|aws|curl|make|pip|docker|export) ")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    why_not: str
    """The reason that the page gives for not running it; empty where it is run."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS)) if page.is_relative_to(DOCS) else page.name


def blocks(page: Path) -> Iterator[Block]:
    """Fenced blocks, each with the `not run` comment above it."""
    lines = page.read_text().splitlines()
    number, why_not = 0, ""
    while number < len(lines):
        line = lines[number]
        directive, fence = DIRECTIVE.search(line), FENCE.fullmatch(line)
        if directive and directive[1] == "not run":
            why_not = directive[2]
        elif fence:
            end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == "```")
            indent = len(fence["indent"])
            text = "\n".join(one[indent:] for one in lines[number + 1 : end])
            yield Block(page, number + 1, fence["language"], text, why_not)
            number, why_not = end, ""
        elif line.strip():
            why_not = ""
        number += 1


def directives(page: Path) -> dict[str, str]:
    found = DIRECTIVE.finditer(page.read_text())
    return {match[1]: match[2] for match in found if match[1] != "not run"}


def indented_commands(page: Path) -> Iterator[str]:
    """Commands in blocks that are indented rather than fenced: nobody runs those."""
    is_fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        is_fenced ^= line.strip().startswith("```")
        if not is_fenced and re.match(r" {4}(\$ )?", line) and COMMAND.match(line.strip().removeprefix("$ ")):
            yield f"{name_of(page)}:{number}: {line.strip()}"


def without_code(page: Path) -> str:
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text())
    return re.sub(r"`[^`\n]*`", "", text)


def links(page: Path) -> list[str]:
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text())
    return [first or second for first, second in LINK.findall(text)]


def anchors(page: Path) -> set[str]:
    """As Python-Markdown makes them of headings; and those that stand in the page by themselves."""
    found: set[str] = set()
    is_fenced = False
    for line in page.read_text().splitlines():
        is_fenced ^= line.strip().startswith("```")
        if not is_fenced and (heading := re.match(r"#+ (.+)", line)):
            words = re.sub(r"[^\w\s-]", "", heading[1].replace("`", "")).strip().lower()
            found.add(re.sub(r"[-\s]+", "-", words))
        found |= set(re.findall(r'<a id="([^"]+)">', line))
    return found
