"""The pages that are made from code say what the code says; what they and the alerts name exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from kaito.cli.main import app
from kaito.cli.teaching import EXAMPLES, SECTIONS
from tests.docs.pages import DOCS, ROOT, blocks

SCRIPTS = ROOT / "scripts" / "reference"


def test_made_pages_are_what_the_code_says() -> None:
    command = [sys.executable, str(SCRIPTS), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import reasons as module  # type: ignore[import-not-found]

    return module


def test_every_reason_has_something_to_do(reasons: Any) -> None:
    found: dict[str, list[Any]] = {}
    for one in reasons.sayings():
        if any(one.place.startswith(places) for _, places, _ in reasons.SECTIONS):
            found.setdefault(one.reason, []).append(one)
    assert [reason for reason, here in found.items() if not reasons.advice(reason, here)] == []


def test_advice_is_for_reasons_that_there_are(reasons: Any) -> None:
    known = {one.reason for one in reasons.sayings()}
    assert sorted(set(reasons.ADVICE) - known) == []


@pytest.mark.parametrize("page", ["workspace.md", "tuning.md", "faq.md", "provisioner.md"])
def test_reasons_that_other_pages_name_are_in_the_list(page: str, reasons: Any) -> None:
    """Words such as `ImagePullError` in the tables of reasons."""
    listed = (DOCS / "reference/reasons.md").read_text()
    text = (DOCS / page).read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `") and re.search(r"`[A-Z][a-z]+[A-Z]\w+`", line)]
    named = {word for row in rows for word in re.findall(r"`([A-Z][a-z]+(?:[A-Z][A-Za-z]+)+)`", row)}
    passed = {"NodeClaimReady", "MachineReady", "TuningSucceeded", "WorkspaceSucceeded", "NodeClaim", "DatasetConfig"}
    unknown = {
        word
        for word in named - passed
        if f"`{word}`" not in listed and not word.endswith(("Ready", "Started", "Deleting"))
    }
    cloud = {
        "ZonalAllocationFailed",
        "AzurePublicCloud",
        "AzureChinaCloud",
        "AzureUSGovernment",
    }  # the cloud's own words
    assert unknown - cloud == set()


def test_alerts_name_metrics_that_are_registered() -> None:
    listed = set(re.findall(r"^\| `([\w:]+)` \|", (DOCS / "reference/metrics.md").read_text(), re.MULTILINE))
    rule = next(b for b in blocks(DOCS / "operations.md") if "PrometheusRule" in b.text)
    expressions = [one["expr"] for group in yaml.safe_load(rule.text)["spec"]["groups"] for one in group["rules"]]
    named = {word for text in expressions for word in re.findall(r"\b((?:kaito_|karpenter_|vllm:)\w+)", text)}
    assert named
    assert {word for word in named if word.removesuffix("_bucket") not in listed} == set()


def test_alerts_name_outcomes_that_there_are() -> None:
    code = (ROOT / "src/kaito/kube/controller.py").read_text()
    outcomes = set(re.findall(r'return "(\w+)"', code))
    assert set(re.findall(r'outcome="(\w+)"', (DOCS / "operations.md").read_text())) <= outcomes


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line, _ in lines])
def test_examples_of_the_help_are_commands_that_there_are(line: str) -> None:
    root: Any = get_command(app)
    for part in [*re.findall(r"[$<]\(([^)]*)\)", line), *re.split(r" \| | > ", re.sub(r"[$<]\([^)]*\)", "", line))]:
        words = shlex.split(part)
        if words[:1] == ["kaito"]:
            command = root.commands[words[1]]
            with command.make_context(words[1], words[2:]) as context:
                assert context.command is command


def test_every_command_is_in_a_section_and_has_examples() -> None:
    root: Any = get_command(app)
    listed = [name for _, names in SECTIONS for name in names]
    assert sorted(listed) == sorted(root.commands)
    assert sorted(EXAMPLES) == sorted(root.commands)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    quiet = {"NO_MKDOCS_2_WARNING": "1", "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").exists()
