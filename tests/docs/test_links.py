"""Links lead somewhere, every page is reached, and the ten questions are two clicks away. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.docs.pages import DOCS, PAGES, README, ROOT, anchors, links, name_of

QUESTIONS = {
    "why is it not ready": ("faq.md#why-is-it-not-ready", "reference/reasons.md"),
    "which instance type": ("faq.md#which-instance-type", "planning.md"),
    "how do I bring my data": ("faq.md#how-do-i-bring-my-data", "tuning.md#data"),
    "private registry": ("faq.md#how-do-i-use-a-private-registry",),
    "own nodes": ("faq.md#how-do-i-use-my-own-nodes", "install/own-nodes.md"),
    "several adapters": ("faq.md#how-do-i-serve-several-adapters",),
    "upgrade": ("faq.md#how-do-i-upgrade", "operations.md#upgrade"),
    "costs": ("faq.md#what-does-it-cost",),
    "CPU or laptop": ("faq.md#does-it-run-on-a-cpu-or-a-laptop", "one-machine.md"),
    "delete hangs": ("faq.md#why-does-a-delete-hang",),
}


@pytest.mark.parametrize("page", [*PAGES, README], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme in ("https", "http"), link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        if not target.exists() or (parts.fragment and parts.fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_the_site_stay_within_it(page: Path) -> None:
    """A link out of docs/ works in the repository and not on the site."""
    outside = [
        link for link in links(page) if not urlsplit(link).scheme and link.startswith("../") and not _inside(page, link)
    ]
    assert outside == []


def _inside(page: Path, link: str) -> bool:
    return (page.parent / urlsplit(link).path).resolve().is_relative_to(DOCS)


def test_the_menu_has_every_page() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(_pages(menu)) == sorted(map(name_of, PAGES))


def _pages(menu: object) -> list[str]:
    if isinstance(menu, str):
        return [menu]
    inner = menu if isinstance(menu, list) else menu.values() if isinstance(menu, dict) else []
    return [page for entry in inner for page in _pages(entry)]


@pytest.mark.parametrize("question", QUESTIONS)
def test_ten_questions_are_two_clicks_away(question: str) -> None:
    first = {link for link in links(DOCS / "index.md") if not urlsplit(link).scheme}
    for answer in QUESTIONS[question]:
        page = urlsplit(answer).path
        reached = first | {_from(step, link) for step in first for link in links(DOCS / urlsplit(step).path)}
        assert answer in reached or page in {urlsplit(one).path for one in first}, answer
        fragment = urlsplit(answer).fragment
        assert not fragment or fragment in anchors(DOCS / page)


def _from(page: str, link: str) -> str:
    parts = urlsplit(link)
    folder = (DOCS / urlsplit(page).path).parent
    path = (folder / parts.path).resolve()
    inside = str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else link
    return inside + (f"#{parts.fragment}" if parts.fragment else "")


def test_every_page_is_reached_from_the_first() -> None:
    reached, waiting = {"index.md"}, ["index.md"]
    while waiting:
        page = waiting.pop()
        for link in links(DOCS / page):
            found = urlsplit(_from(page, link)).path
            if found.endswith(".md") and found not in reached and (DOCS / found).exists():
                reached.add(found)
                waiting.append(found)
    assert set(map(name_of, PAGES)) - reached == set()
