"""The scheduler of one machine: binds pending pods to nodes, and says why when it cannot.

It honours nodeSelector, required and preferred node affinity, taints and tolerations, cordoned nodes, and requests
against what nodes have to give. Pod affinity, pod anti-affinity, topology spread and host ports are not looked at; a
pod that asks for them gets an event that says so. There is no preemption.
"""

from kaito.local.scheduler.run import run_scheduler

__all__ = ["run_scheduler"]
