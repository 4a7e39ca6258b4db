"""The controller runtime: how the suite's controllers read and write a Kubernetes API.

`client` speaks HTTP over lightkube's configuration and credentials, `resources` names the kinds, `informer` keeps a
cache with indexes, `queue` holds keys to reconcile, `controller` runs workers, `applier` writes by server-side apply
and only what changed, `lease` elects one leader, `events` tells people. lightkube is known here and nowhere else.
"""
