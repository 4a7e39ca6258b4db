"""The API's requests as data: sequences that hold on any Kubernetes API server, and what each answer must contain.

Run against the embedded server always, and against a real kube-apiserver where KUBEBUILDER_ASSETS names one
(`test_request_suite.py`). Every scenario has a namespace of its own, `{ns}` in paths and bodies.
"""

from __future__ import annotations

from tests.local.apiserver.requests import custom, gadgets, kinds, objects, patches, verbs, watches
from tests.local.apiserver.requests.asks import Ask

SCENARIOS: dict[str, list[Ask]] = {
    **verbs.SCENARIOS,
    **patches.SCENARIOS,
    **objects.SCENARIOS,
    **custom.SCENARIOS,
    **gadgets.SCENARIOS,
    **watches.SCENARIOS,
    **kinds.SCENARIOS,
}
