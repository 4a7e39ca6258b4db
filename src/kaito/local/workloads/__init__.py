"""The workload controllers of one machine: what kube-controller-manager does in a cluster, as far as it is needed here.

They are ordinary controllers: they know the API through `kaito.kube` alone, and would run against any cluster. Planners
(`deployment`, `replica_set`, `stateful_set`, `job`, `endpoints`, `garbage`) are pure; `controllers` feeds them from the
informers, `writer` carries their plans out.
"""

from kaito.local.workloads.run import run_workloads

__all__ = ["run_workloads"]
