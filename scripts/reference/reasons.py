"""docs/reference/reasons.md: every reason that a status can carry, read from the code that says it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kaito.workspace.causes import ROUTINE
from kaito.workspace.stuck import HINTS

SOURCES = Path(__file__).parents[2] / "src" / "kaito"
SECTIONS = (
    (
        "From the check of the manifest",
        ("api",),
        "The webhook refuses these at once; without it they are in `WorkspaceReady`.",
    ),
    ("From the controller", ("workspace/plan", "workspace/status.py"), "What the operator finds on the way."),
    (
        "From claims, nodes and pods",
        ("workspace/explain",),
        "What the operator reads off the objects below a Workspace.",
    ),
    (
        "From the node provisioner",
        ("nodes/providers/azure", "nodes/providers/types.py", "nodes/providers/local", "nodes/lifecycle"),
        "On a claim in `Launched`, `Registered` or `Initialized`, and from there in `NodeClaimReady`. A code of the cloud's "
        "own, such as `ZonalAllocationFailed`, is shown as the cloud gives it.",
    ),
    (
        "From the steps in the pods",
        ("runtime",),
        "The last words of `data`, `model`, `adapter`, `tune`, `publish` or `serve`; `kaito logs WORKSPACE -c STEP` has the rest.",
    ),
)
# The constructor, and at which places reason, message and hint are given.
CALLS = {
    "Cause": (0, 1, 2),
    "Fault": (3, 1, 2),
    "InputError": (0, 1, 2),
    "StepError": (0, 1, 2),
    "InvalidSpec": (9, 0, 9),
    "InsufficientCapacity": (9, 0, 9),
    "ConfigError": (9, 0, 9),
    "Transient": (9, 0, 9),
    "failed": (1, 2, 9),
    "pending": (1, 2, 9),
}
PAIR = re.compile(r"[A-Z][a-z]+(?:[A-Z][A-Za-z]+)|Training|Publishing")
COMPOSED = (
    *(
        (
            "Node" + what,
            "The node … is short of it",
            "Free some of it, or use a larger node.",
            "workspace/explain/nodes.py",
        )
        for what in ("DiskPressure", "MemoryPressure", "PIDPressure")
    ),
    *((reason, "…", hint, "workspace/explain/pods.py") for reason, hint in HINTS.items()),
    ("ServerNotAnswering", "The server runs but does not answer its health check", "", "workspace/explain/pods.py"),
)
"""Reasons that the code puts together out of a condition of the node, or takes over from a kubelet's Events."""
BY_ITSELF = "Nothing: it goes on by itself."
ADVICE = {
    "ContainerCrashLoopBackOff": "`kaito logs WORKSPACE -p` has the last words; a changed Workspace starts it anew.",
    "ContainerFailed": "`kaito logs WORKSPACE -p` has the last words.",
    "DataNotFound": "Correct the address, or put the files there.",
    "InstanceCreating": BY_ITSELF,
    "LaunchDeadlineExceeded": "Nothing: the claim is made anew. When it happens again, take another zone, region or instance type.",
    "MultipleNodesFound": "Delete the Node that is not this machine's.",
    "NodeNotFound": "Nothing for some minutes; then look at the machine's boot log in the cloud's console.",
    "RegistrationDeadlineExceeded": "Nothing: the claim is made anew. When it happens again, look at the machine's network and boot log.",
    "ResourceNotRegistered": "Look at the device plugin's pods: `kubectl get pods -A -l name=nvidia-device-plugin-ds`.",
    "SkuNotAvailable": "Take another instance type (`kaito plan` lists those that fit), region or zone.",
    "StartupTaintsExist": "Look at what has to remove the taint, such as the CNI's agent.",
    "SubscriptionQuotaReached": "Ask the cloud for the quota that the message names, or take an instance type of another family.",
    "InstanceDeleting": BY_ITSELF,
    "KnownEphemeralTaintsExist": "Nothing for a moment; then look at the node's CNI and kubelet.",
    "LaunchFailed": BY_ITSELF,
    "ReplacingInstance": BY_ITSELF,
    "Waiting": "`kaito logs WORKSPACE` says for what.",
    "ApiRefused": "Look at what the API server says, and at its own log; it is tried again.",
    "ArchitectureUnsupported": "Use the vllm runtime.",
    "AuthorizationFailed": "Give the provisioner's identity the role Contributor on the AKS cluster.",
    "ContainerStartError": "Look at the image's entry point, and at the node's log.",
    "EnvironmentInvalid": "Correct the variable that the message names, in the Workspace's template or in the operator's settings.",
    "EnvironmentMissing": "Set the variable that the message names; the operator sets it in the pods that it makes.",
    "InputOutputError": "Look at the volume and the node's disk; it is tried again.",
    "JobFailed": "`kaito logs WORKSPACE` has the last words; `kubectl delete job WORKSPACE` begins anew.",
    "ObjectRefused": "Correct the part of the Workspace that the message names; a pod template above all.",
    "PodFailed": "`kaito logs WORKSPACE -p` has the last words.",
    "NameTaken": "Nothing: another node has the name; it is tried again when that is gone.",
    "NoInstanceType": "Give the Workspace an instance type.",
    "Throttled": "Nothing: it is tried again when the cloud allows it.",
    "InsufficientGPUMemory": "Take one of the instance types that `kaito plan` lists.",
    "ConfigInvalid": "Correct the ConfigMap; the message names section and key.",
    "EngineStopped": "Nothing: the pod starts again; the log above says why.",
}


@dataclass(frozen=True)
class Saying:
    """One place in the code that gives a reason. `…` stands for what is filled in."""

    reason: str
    message: str
    hint: str
    place: str


class Scan(ast.NodeVisitor):
    """Finds the calls of `CALLS`, and follows names to the texts that were assigned to them just above."""

    def __init__(self, place: str) -> None:
        self.found: list[Saying] = []
        self._place = place
        self._scopes: list[dict[str, ast.expr]] = [{}]
        self._base = ""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scopes.append({})
        self.generic_visit(node)
        self._scopes.pop()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._scopes[-1][target.id] = node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                self._scopes[-1] |= {name.id: value for name, value in pairs if isinstance(name, ast.Name)}
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        places = CALLS.get(self._callee(node.func))
        if places:
            given = dict(enumerate(node.args)) | {word.arg: word.value for word in node.keywords}
            reason, message, hint = (
                self._texts(given.get(name, given.get(place)))
                for name, place in zip(("reason", "message", "hint"), places, strict=True)
            )
            for one in reason:
                if one and "…" not in one:
                    self.found.append(Saying(one, (message or [""])[-1], (hint or [""])[-1], self._place))
        self.generic_visit(node)

    def _callee(self, function: ast.expr) -> str:
        """The constructor's name; of `super().__init__` that of the class above."""
        if isinstance(function, ast.Attribute) and function.attr == "__init__":
            return self._base
        return str(getattr(function, "id", ""))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._base = next((base.id for base in node.bases if isinstance(base, ast.Name) and base.id in CALLS), "")
        self.generic_visit(node)
        self._base = ""

    def visit_Tuple(self, node: ast.Tuple) -> None:
        """A reason beside its message, as functions that judge return them."""
        if len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
            reason, messages = str(node.elts[0].value), self._texts(node.elts[1])
            if PAIR.fullmatch(reason) and messages and " " in messages[-1]:
                self.found.append(Saying(reason, messages[-1], "", self._place))
        self.generic_visit(node)

    def _texts(self, node: object) -> list[str]:
        """All that an expression may say; empty for what is not written here."""
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if isinstance(node, ast.JoinedStr):
            parts = [str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values]
            return ["".join(parts)]
        if isinstance(node, ast.IfExp):
            return [*self._texts(node.body), *self._texts(node.orelse)]
        if isinstance(node, ast.BoolOp):
            return [text for value in node.values for text in self._texts(value)]
        if isinstance(node, ast.Name):
            for scope in reversed(self._scopes):
                if node.id in scope:
                    return self._texts(scope[node.id])
        return []


def sayings() -> Iterator[Saying]:
    for file in sorted(SOURCES.rglob("*.py")):
        place = file.relative_to(SOURCES).as_posix()
        scan = Scan(place)
        scan.visit(ast.parse(file.read_text()))
        yield from scan.found
    yield from (Saying(*one) for one in COMPOSED)


def page() -> str:
    found = list(sayings())
    parts = [HEAD]
    for title, places, text in SECTIONS:
        here = [one for one in found if one.place.startswith(places)]
        parts.append(f"## {title}\n\n{text}\n\n| reason | what it says | what to do |\n|---|---|---|\n" + _rows(here))
    return "\n".join(parts)


HEAD = """# Reasons

<!-- Made by `make reference` from the code; a test compares them. Edit the code, or scripts/reference/reasons.py. -->

Every condition that is not True carries one of these reasons, in its `reason` and in front of its message:

    kubectl get workspace NAME -o jsonpath='{.status.conditions[?(@.type=="WorkspaceReady")].reason}'

`kaito explain NAME` shows the same with the objects below it. `…` stands for what the message fills in. In the third column is
the hint that comes with the message, or advice where it has none.
"""


def _rows(found: list[Saying]) -> str:
    reasons: dict[str, list[Saying]] = {}
    for one in found:
        reasons.setdefault(one.reason, []).append(one)
    rows = [_row(reason, reasons[reason]) for reason in sorted(reasons)]
    return "".join(rows)


def _row(reason: str, here: list[Saying]) -> str:
    messages = _distinct(_sentence(one.message) for one in here if one.message.strip("…: "))
    return f'| <a id="{reason.lower()}"></a>`{reason}` | {"<br>".join(messages[:4]) or "What the place below says."} | {advice(reason, here)} |\n'


def advice(reason: str, here: list[Saying]) -> str:
    """What to do about a reason; empty when neither the code nor this page knows."""
    hints = _distinct(_sentence(one.hint) for one in here if one.hint.strip("…: "))
    if hints:
        return "<br>".join(hints[:4])
    return ADVICE.get(reason) or (BY_ITSELF if reason in ROUTINE else "")


def _distinct(texts: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))


def _sentence(text: str) -> str:
    words = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return words[:1].upper() + words[1:] if words else ""
