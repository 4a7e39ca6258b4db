"""The service proxy of one machine: what kube-proxy does with packet filters, by listening on the Service's address.

Every Service has a loopback address of its own, so that `curl http://$CLUSTERIP/` works as in a cluster. `ports` and
`targets` are pure; `listener` forwards one port's connections; `service_proxy` follows the API.
"""

from kaito.local.proxy.service_proxy import ServiceProxy

__all__ = ["ServiceProxy"]
