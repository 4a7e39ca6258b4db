"""`--help` that teaches: commands by what they are for, examples with each, and the exit codes.

The examples are data, so that the reference in the documents and the tests read the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

EXIT_CODES = (
    (0, "done"),
    (1, "what was asked for failed"),
    (2, "the input is wrong: an option, a name, a manifest"),
    (3, "`plan`: the model does not fit the instance type"),
    (4, "`wait`, `delete`: the time ran out"),
    (130, "interrupted (Ctrl-C)"),
)

SECTIONS = (
    ("Models as Workspaces", ("apply", "get", "wait", "explain", "logs", "chat", "url", "delete")),
    ("Before anything is spent", ("plan", "models", "skus", "doctor")),
    ("On this machine, without a cluster", ("up", "down", "demo")),
    ("On a cluster", ("install", "uninstall", "crds", "operator", "provisioner")),
    ("Other", ("completion",)),
)

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "apply": (
        ("kaito apply -f workspace.yaml", "create it, or change it to what the file says"),
        ("kaito apply -f workspace.yaml --dry-run", "let the server check it, and change nothing"),
        ("kaito crds | kaito apply -f -", "from standard input"),
    ),
    "get": (
        ("kaito get", "all Workspaces of the namespace"),
        ("kaito get workspace phi-3 -o yaml", "one, whole"),
        ("kaito get wk -A -o wide", "of all namespaces, with the training's progress"),
        ("kaito get pods,svc -l kaito.sh/workspace=phi-3", "what belongs to one"),
        ("kaito get svc phi-3 -o jsonpath='{.spec.clusterIP}'", "one value"),
        ("kaito get -w", "and what changes, until Ctrl-C"),
    ),
    "wait": (
        ("kaito wait phi-3", "until it is ready"),
        ("kaito wait phi-3 --for TuningSucceeded --timeout 2h", "until the adapter is pushed"),
        ("kaito wait phi-3 --for delete", "until it is gone"),
    ),
    "explain": (("kaito explain phi-3", "why it is not ready, down to the container that is the cause"),),
    "logs": (
        ("kaito logs phi-3 -f", "of the step that is at work, as lines come"),
        ("kaito logs phi-3 -c data", "of one step: data, model, tune, publish or serve"),
        ("kaito logs phi-3 -p", "of the life before the last restart"),
    ),
    "chat": (
        ('kaito chat phi-3 "What is a pod?"', "one question"),
        ("kaito chat phi-3", "a conversation; Ctrl-D ends it"),
        ("kaito chat phi-3 --model my-adapter", "with one of its adapters"),
    ),
    "url": (("curl -s $(kaito url phi-3)/v1/models", "where it answers, for other programs"),),
    "delete": (
        ("kaito delete phi-3", "a Workspace, with its nodes, and wait until they are gone"),
        ("kaito delete -f workspace.yaml --no-wait", "what a file names, without waiting"),
        ("kaito delete pods -l kaito.sh/workspace=phi-3", "by label"),
    ),
    "plan": (
        ("kaito plan -f workspace.yaml", "does it fit, how many nodes, which others would do"),
        ("kaito plan -f workspace.yaml -o json", "for programs; exit code 3 when it does not fit"),
    ),
    "models": (
        ("kaito models", "all that have a name"),
        ("kaito models phi-3-mini-128k-instruct", "one, with all that is known of it"),
    ),
    "skus": (
        ("kaito skus --cloud azure", "the instance types of one cloud"),
        ("kaito skus Standard_NC24ads_A100_v4", "one, with what its GPUs can run"),
    ),
    "doctor": (("kaito doctor train.jsonl", "what tuning would make of a data file"),),
    "up": (
        ("kaito up", "in this terminal, until Ctrl-C"),
        ("kaito up --detach", "in the background; `kaito down` stops it"),
    ),
    "down": (("kaito down", "stop it; what is stored stays"),),
    "demo": (("kaito demo", "tune a small model, serve it and ask it, in about a minute"),),
    "install": (
        ("kaito install", "apply it to the cluster of the kubeconfig, and wait until it runs"),
        ("kaito install --dry-run | kubectl apply -f -", "the objects, applied by kubectl"),
        ("kaito install --set nodes=karpenter --set cloud=aws", "for EKS with Karpenter"),
        ("kaito install --show-values > values.yaml", "all that can be chosen; then --values values.yaml"),
    ),
    "uninstall": (
        ("kaito uninstall", "what `kaito install` made; Workspaces and their CRD stay"),
        ("kaito uninstall --crds", "also the CRDs, where no Workspace is left"),
    ),
    "crds": (
        ("kaito crds | kubectl apply -f -", "the Workspace's definition"),
        ("kaito crds --karpenter", "NodeClaim, Machine and NodePool as well"),
    ),
    "operator": (
        ("kaito operator --nodes byo", "for nodes that exist already"),
        ("kaito operator --leader-election --health-port 8081 --metrics-port 8080", "as the chart runs it"),
    ),
    "provisioner": (
        ("kaito provisioner --provider azure", "AKS agent pools"),
        ("kaito provisioner --provider simulated --faults week.yaml", "a rehearsal, without a cloud"),
    ),
    "completion": (
        ("source <(kaito completion bash)", "for this shell"),
        ("kaito completion bash > ~/.local/share/bash-completion/completions/kaito", "for every bash from now on"),
    ),
}


class Command(TyperCommand):
    """A command whose help ends with examples."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        examples = EXAMPLES.get(self.name or "", ())
        if examples:
            with formatter.section("Examples"):
                _write_examples(formatter, examples, _program(ctx))


class Group(TyperGroup):
    """The command itself: its help lists the commands by what they are for, then the exit codes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = {name for _, names in SECTIONS for name in names}
        others = [name for name in self.list_commands(ctx) if name not in listed]
        for title, names in (*SECTIONS, ("More", tuple(others))):
            rows = [(name, _first_sentence(self, ctx, name)) for name in names if self.get_command(ctx, name)]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES])
        formatter.write_paragraph()
        formatter.write_text(f"`{_program(ctx)} COMMAND --help` has the options of a command, with examples.")


def _write_examples(formatter: Any, examples: Iterable[tuple[str, str]], program: str) -> None:
    for number, (command, meaning) in enumerate(examples):
        text = command.replace("kaito ", f"{program} ") if program != "kaito" else command
        if number:
            formatter.write("\n")
        formatter.write(f"{'':{formatter.current_indent}}# {meaning}\n{'':{formatter.current_indent}}{text}\n")


def _program(ctx: typer.Context) -> str:
    return str(ctx.find_root().info_name or "kaito")


def _first_sentence(group: Group, ctx: typer.Context, name: str) -> str:
    command = group.get_command(ctx, name)
    text = " ".join((command.help or "").split()) if command else ""
    return text.partition(": ")[0].partition(". ")[0].rstrip(".")
