"""Deadlines: a claim that does not launch or register in time says so and, by policy, is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kaito.api.conditions import parse_timestamp
from kaito.api.meta import Condition
from kaito.nodes.claim import LAUNCHED, REGISTERED
from kaito.nodes.errors import InsufficientCapacity, InvalidSpec
from kaito.nodes.lifecycle.world import Announce, DeleteClaim, Observed, Step, failed, seconds_until

REGISTRATION_MISSED = "RegistrationDeadlineExceeded"


def plan_deadlines(seen: Observed, conditions: Sequence[Condition]) -> Step:
    """A step whose condition, when there is one, replaces the one of its type."""
    by_type = {condition.type: condition for condition in conditions}
    if by_type[LAUNCHED].status != "True":
        return _plan_launch_deadline(seen, by_type[LAUNCHED])
    if by_type[REGISTERED].status != "True":
        return _plan_registration_deadline(seen)
    return Step()


def _plan_launch_deadline(seen: Observed, launched: Condition) -> Step:
    if seen.attempt is not None and isinstance(seen.attempt.error, InsufficientCapacity | InvalidSpec):
        return Step()  # the claim says something better than that time is up, and its own policy holds
    limit = seen.policy.launch_deadline
    deadline = seen.claim.created_at + limit
    if seen.now < deadline:
        return Step(requeue_after=seconds_until(deadline, seen.now))
    message = (
        f"not launched within {_minutes(limit.total_seconds())}; last: {launched.reason} {launched.message}".rstrip()
    )
    return _missed(seen, failed(LAUNCHED, "LaunchDeadlineExceeded", message))


def _plan_registration_deadline(seen: Observed) -> Step:
    limit = seen.policy.registration_deadline
    if not _has_missed_registration(seen):
        since = _unregistered_since(seen)
        if since is None:
            return Step(requeue_after=limit.total_seconds())  # launched, or lost its node, in this very pass
        deadline = since + limit
        if seen.now < deadline:
            return Step(requeue_after=seconds_until(deadline, seen.now))
    message = (
        f"the instance runs, but its node did not join the cluster within {_minutes(limit.total_seconds())}; "
        "look at the machine's boot log, and whether it reaches the API server"
    )
    return _missed(seen, failed(REGISTERED, REGISTRATION_MISSED, message))


def _has_missed_registration(seen: Observed) -> bool:
    """What was said once stands until a node joins: saying it moved the transition time, which starts no new wait."""
    registered = seen.claim.condition(REGISTERED)
    return registered is not None and registered.reason == REGISTRATION_MISSED


def _unregistered_since(seen: Observed) -> datetime | None:
    """When the claim launched, or lost the node that it had; whichever is later."""
    launched, registered = seen.claim.condition(LAUNCHED), seen.claim.condition(REGISTERED)
    if launched is None or launched.status != "True" or launched.lastTransitionTime is None:
        return None
    if registered is None or registered.lastTransitionTime is None:
        return parse_timestamp(launched.lastTransitionTime)
    if registered.status == "True":
        return None
    return max(parse_timestamp(launched.lastTransitionTime), parse_timestamp(registered.lastTransitionTime))


def _missed(seen: Observed, condition: Condition) -> Step:
    actions = (Announce("Warning", condition.reason, condition.message),)
    if not seen.policy.delete_after_deadline:
        return Step(condition, actions)
    return Step(condition, (*actions, DeleteClaim(condition.reason, condition.message)))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} s"
