"""Whether a tuned model may be served: the annotation `kaito.sh/promote-if`, judged on the figures in the status.

The figures are those that `kubectl get` shows, so that anyone can see why the gate stayed shut; and since they are kept
there, a changed or removed annotation decides anew without another training.
"""

from __future__ import annotations

from kaito.api.promotion import METRICS, parse_promotion
from kaito.api.workspace import ANNOTATION_PROMOTE_IF, TuningStatus, Workspace
from kaito.workspace.causes import Cause


def cause_of_no_promotion(workspace: Workspace, tuned: TuningStatus) -> Cause | None:
    """Why the finished training is not served; None when it may be."""
    wanted = workspace.metadata.annotations.get(ANNOTATION_PROMOTE_IF)
    if wanted is None:
        return None
    why = _why_not(wanted, tuned)
    if not why:
        return None
    where = "in the volume"
    if tuned.adapter is not None:
        where = tuned.adapter.image + (f"@{tuned.adapter.digest}" if tuned.adapter.digest else "")
    message = f'The adapter is published ({where}) but not served, since it misses "{wanted}": {why}'
    name = workspace.metadata.name
    hint = f"To serve it anyway: kubectl annotate workspace {name} {ANNOTATION_PROMOTE_IF}-"
    return Cause("NotPromoted", message, hint, "you", is_final=True)


def _why_not(wanted: str, tuned: TuningStatus) -> str:
    if tuned.scoredOn == "train":
        return (
            "nothing was held out of the data, so nothing is proven "
            "(set DatasetConfig.train_test_split under 1, such as 0.95)"
        )
    return parse_promotion(wanted).why_not(_measured(tuned))


def _measured(tuned: TuningStatus) -> dict[str, float]:
    texts = {name: getattr(tuned, name) for name in (*METRICS, *METRICS.values())}
    return {name: float(text) for name, text in texts.items() if text}
