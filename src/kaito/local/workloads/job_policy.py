"""`podFailurePolicy` of a Job: which pod failures end it, and which do not count.

The first rule that matches a failed pod decides: FailJob ends the Job, Ignore keeps the failure out of the count, Count
(and no match) lets it count. FailIndex needs `backoffLimitPerIndex`, which the API refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kaito.api.core import Generic


def failure_verdict(job: Generic, failed: Sequence[Generic]) -> str | None:
    """Why the policy ends the Job, or None."""
    for pod in failed:
        rule = _rule_for(job, pod)
        if rule and rule[1].get("action") == "FailJob":
            index, matched = rule
            cause = _cause(matched, pod)
            return (
                f"{cause} for pod {job.metadata.namespace}/{pod.metadata.name} matching FailJob rule at index {index}"
            )
    return None


def is_ignored(job: Generic, pod: Generic) -> bool:
    rule = _rule_for(job, pod)
    return rule is not None and rule[1].get("action") == "Ignore"


def _rule_for(job: Generic, pod: Generic) -> tuple[int, dict[str, Any]] | None:
    rules = (job.spec.get("podFailurePolicy") or {}).get("rules") or ()
    return next(((i, rule) for i, rule in enumerate(rules) if _matches(rule, pod)), None)


def _matches(rule: dict[str, Any], pod: Generic) -> bool:
    if rule.get("onExitCodes"):
        return _failed_container(rule["onExitCodes"], pod) is not None
    held = {(c.get("type"), c.get("status")) for c in pod.status.get("conditions") or ()}
    return any((c.get("type"), c.get("status", "True")) in held for c in rule.get("onPodConditions") or ())


def _failed_container(wanted: dict[str, Any], pod: Generic) -> tuple[str, int] | None:
    """The container, and its exit code, that meets an `onExitCodes` rule. Exit code 0 never does."""
    statuses = [*(pod.status.get("initContainerStatuses") or ()), *(pod.status.get("containerStatuses") or ())]
    for status in statuses:
        code = ((status.get("state") or {}).get("terminated") or {}).get("exitCode", 0)
        named = wanted.get("containerName") in (None, status.get("name"))
        listed = code in wanted.get("values", ())
        if code and named and listed == (wanted.get("operator") == "In"):
            return str(status.get("name")), int(code)
    return None


def _cause(rule: dict[str, Any], pod: Generic) -> str:
    if rule.get("onExitCodes"):
        container = _failed_container(rule["onExitCodes"], pod)
        return f"Container {container[0]} with exit code {container[1]}" if container else "Container failed"
    return "Pod has a condition"
