"""Why something is not ready: the deepest reason that was found, whom it waits for, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from kaito.api.faults import Fault

MESSAGE_LIMIT = 1024


ROUTINE = frozenset(
    {
        "AwaitingNodes",
        "AwaitingTuning",
        "InstanceCreating",
        "KnownEphemeralTaintsExist",
        "ModelLoading",
        "NodeClaimNotReady",
        "NodeNotReady",
        "NodePluginsNotReady",
        "PodStarting",
        "PreparingData",
        "Publishing",
        "Replacing",
        "ServerNotAnswering",
        "ServerStopping",
        "StartupTaintsExist",
        "Training",
        "Unschedulable",
        "WorkloadMigration",
        "WorkspaceTuningJobStatusPending",
    }
)
"""Reasons of work that goes its way, or may do so in a moment: no alarm, and no hurry to write them down."""


@dataclass(frozen=True)
class Cause:
    """`reason` is CamelCase, `message` and `hint` are sentences, `who` is the one that has to act next.

    `is_final` means that nothing happens until somebody changes something.
    """

    reason: str
    message: str
    hint: str = ""
    who: str = "the controller"
    is_final: bool = False

    @property
    def text(self) -> str:
        """What a condition shows."""
        message = _sentence(self.message)
        text = f"{message} {_sentence(self.hint[0].upper() + self.hint[1:])}" if self.hint else message
        return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def from_faults(faults: list[Fault]) -> Cause:
    """The first fault leads; the others are named, so that all can be mended at once."""
    first = faults[0]
    others = "".join(f"; {fault.where}: {fault.message}" for fault in faults[1:])
    return Cause(first.reason, f"{first.where}: {first.message}{others}", first.hint, "you", is_final=True)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."
