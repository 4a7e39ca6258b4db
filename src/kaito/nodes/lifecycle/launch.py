"""Launched: the cloud has the machine.

An instance is created only when a complete list of the cloud, younger than our last doubt, does not show one of the
claim's name. So a restart at any moment meets what was made before, and asks for nothing twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from kaito.api.meta import Condition
from kaito.nodes.claim import LAUNCHED, Claim
from kaito.nodes.codecs import AWAITING
from kaito.nodes.errors import InsufficientCapacity, ProviderError
from kaito.nodes.lifecycle.world import (
    Announce,
    Attempt,
    CreateInstance,
    DeleteClaim,
    DeleteInstance,
    ExplainFailure,
    ListInstances,
    Observed,
    RememberFailure,
    Step,
    failed,
    holds,
    pending,
    seconds_until,
)
from kaito.nodes.providers.base import Instance, InstanceState

LIST_AGAIN = 10.0


def plan_launch(seen: Observed) -> Step:
    if seen.claim.is_true(LAUNCHED):
        return Step(holds(LAUNCHED), status=_status_of(seen.instance))
    if seen.instance is None:
        return _plan_absent(seen)
    if seen.rival:
        message = (
            f"the name {seen.claim.name} is taken by the instance of {seen.rival}; rename or delete one of the two"
        )
        return Step(failed(LAUNCHED, "NameTaken", message), requeue_after=60.0)
    if is_of_former_claim(seen.instance, seen.claim):
        message = f"an instance of a former claim named {seen.claim.name} is being deleted first"
        return Step(pending(LAUNCHED, "ReplacingInstance", message), (DeleteInstance(),), requeue_after=5.0)
    return _plan_present(seen, seen.instance)


def is_of_former_claim(instance: Instance, claim: Claim) -> bool:
    """An instance that says whose it is, and names another life of this name. One that is silent is adopted."""
    return bool(instance.claim_uid) and instance.claim_uid != claim.uid


def _plan_absent(seen: Observed) -> Step:
    if seen.attempt is not None:
        waits = seen.attempt.retry_at is None or seen.now < seen.attempt.retry_at
        if waits:
            return _plan_after_failure(seen, seen.attempt)
    if not seen.instances_known and seen.list_error is not None:
        message = f"the cloud cannot be listed: {seen.list_error.sentence}"
        return Step(pending(LAUNCHED, seen.list_error.reason, message), requeue_after=LIST_AGAIN)
    if not seen.instances_known:
        return Step(pending(LAUNCHED, AWAITING, ""), (ListInstances(),), requeue_after=0.0)
    return Step(pending(LAUNCHED, AWAITING, ""), (CreateInstance(),))


def _plan_after_failure(seen: Observed, attempt: Attempt) -> Step:
    error = attempt.error
    condition = launch_condition(error)
    announce = Announce("Warning", error.reason, error.sentence)
    if isinstance(error, InsufficientCapacity) and seen.policy.delete_without_capacity:
        return Step(condition, (announce, DeleteClaim(error.reason, error.sentence)))
    again = seconds_until(attempt.retry_at, seen.now) if attempt.retry_at else None
    return Step(condition, (announce,), requeue_after=again)


def _plan_present(seen: Observed, instance: Instance) -> Step:
    match instance.state:
        case InstanceState.RUNNING:
            return Step(holds(LAUNCHED), status=_status_of(instance))
        case InstanceState.CREATING:
            kind = f" ({instance.instance_type})" if instance.instance_type else ""
            return Step(pending(LAUNCHED, "InstanceCreating", f"instance {instance.name}{kind} is being created"))
        case InstanceState.FAILED:
            return _plan_failed_instance(seen, instance)
        case InstanceState.DELETING:
            if seen.attempt is not None:  # what failed is being cleared away: the reason stays on show
                return Step(launch_condition(seen.attempt.error))
            message = f"a former instance named {instance.name} is still being deleted"
            return Step(pending(LAUNCHED, "InstanceDeleting", message))


def _plan_failed_instance(seen: Observed, instance: Instance) -> Step:
    """A failed instance stays in the cloud until somebody deletes it; only then may the name be asked for again."""
    error = instance.error
    if error is None:
        text = f"instance {instance.name} failed; the cloud is asked why"
        return Step(failed(LAUNCHED, "LaunchFailed", text), (ExplainFailure(),), requeue_after=LIST_AGAIN)
    remember = () if seen.attempt is not None else (RememberFailure(error),)
    announce = Announce("Warning", error.reason, error.sentence)
    return Step(launch_condition(error), (announce, *remember, DeleteInstance()), requeue_after=LIST_AGAIN)


def launch_condition(error: ProviderError) -> Condition:
    return failed(LAUNCHED, error.reason, error.sentence)


def _status_of(instance: Instance | None) -> dict[str, object]:
    if instance is None:
        return {}
    fields = {"provider_id": instance.provider_id, "image_id": instance.image, "capacity": dict(instance.capacity)}
    return {key: value for key, value in fields.items() if value}


def attempt_of(error: ProviderError, now: datetime) -> Attempt:
    """What to remember of a create that failed at `now`."""
    retry = None if error.retry_after is None else now + timedelta(seconds=error.retry_after)
    return Attempt(error, retry)
