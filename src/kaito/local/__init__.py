"""One machine: a Kubernetes API server with its store, the workload controllers, a scheduler, a node agent, a service
proxy and a registry. The suite's controllers reach all of it through the Kubernetes API and cannot tell it from a
cluster.
"""
