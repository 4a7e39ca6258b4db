"""What became of Job pods that are no longer there.

Kubernetes holds finished pods back with a finalizer until they are counted. Here one process sees every deletion, so
that it counts them as they go; what was counted before it started is in the Job's status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kaito.api.core import Generic
from kaito.local.workloads.job import Tally, count_pods
from kaito.local.workloads.job_policy import is_ignored
from kaito.local.workloads.objects import controller_uid, phase


class TallyBook:
    """Tallies by the uid of the Job. Fed with every pod that disappears."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def tally(self, job: Generic, pods: Sequence[Generic]) -> Tally:
        """The tally of a Job; at first sight, what its status counts beyond the pods that are there."""
        known = self._tallies.get(job.metadata.uid)
        if known is not None:
            return known
        census = count_pods(job, pods, Tally())
        lost = Tally(
            succeeded=max(0, int(job.status.get("succeeded") or 0) - len(census.succeeded)),
            failed=max(0, int(job.status.get("failed") or 0) - len(census.failed)),
        )
        return self._tallies.setdefault(job.metadata.uid, lost)

    def excuse(self, job_uid: str, pod_uids: frozenset[str]) -> None:
        """The controller deletes these pods itself."""
        tally = self._tallies[job_uid]
        self._tallies[job_uid] = replace(tally, excused=tally.excused | pod_uids)

    def count_gone(self, job: Generic | None, pod: Generic) -> None:
        """A pod is gone. `pod` is the last that was seen of it, `job` its owner as far as it is known."""
        uid = controller_uid(pod.metadata)
        tally = self._tallies.get(uid)
        if tally is None:
            return
        excused = tally.excused - {pod.metadata.uid}
        if phase(pod) == "Succeeded":
            tally = replace(tally, succeeded=tally.succeeded + 1)
        elif pod.metadata.uid not in tally.excused and not (job and is_ignored(job, pod)):
            tally = replace(tally, failed=tally.failed + 1)
        self._tallies[uid] = replace(tally, excused=excused)

    def forget(self, job_uid: str) -> None:
        self._tallies.pop(job_uid, None)
