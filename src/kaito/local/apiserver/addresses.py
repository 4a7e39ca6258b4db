"""The cluster addresses of Services: the lowest free ones of a loopback network that curl can reach."""

from __future__ import annotations

import ipaddress

from kaito.local.apiserver.call import Call
from kaito.local.machinery import errors
from kaito.local.store.records import Object
from kaito.local.store.store import Store

BUCKET = "services"
NODE_PORTS = range(30000, 32768)


class ServiceAddresses:
    def __init__(self, store: Store, network: str) -> None:
        self._store = store
        self._network = ipaddress.IPv4Network(network)

    @property
    def first(self) -> str:
        """The API's own address, of the Service `kubernetes`."""
        return str(self._network[1])

    def assign(self, call: Call, service: Object) -> None:
        """Sets clusterIP, clusterIPs and node ports where they are wanted and missing."""
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return
        name = service["metadata"].get("name") or ""
        asked = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or []), "")
        if asked == "None":
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return
        others = self._others(call.namespace, name)
        taken = {(other.get("spec") or {}).get("clusterIP") for other in others}
        if asked:
            self._check(name, asked, taken)
        address = asked or self._free(taken)
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            _assign_node_ports(spec, others)

    def _others(self, namespace: str, name: str) -> list[Object]:
        records = self._store.latest_records(BUCKET)
        return [record.value for record in records if (record.key.namespace, record.key.name) != (namespace, name)]

    def _free(self, taken: set[str | None]) -> str:
        """The network's first address is the API's own; .0 and the last one are nobody's."""
        for number in range(2, self._network.num_addresses - 1):
            address = str(self._network[number])
            if address not in taken:
                return address
        raise errors.internal(f"no free address left for a Service in {self._network}")

    def _check(self, name: str, asked: str, taken: set[str | None]) -> None:
        problem = ""
        try:
            if ipaddress.IPv4Address(asked) not in self._network:
                problem = (
                    f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is {self._network}"
                )
        except ValueError:
            problem = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        if not problem and asked in taken:
            problem = "provided IP is already allocated"
        if problem:
            cause = errors.FieldCause("spec.clusterIPs[0]", f'Invalid value: "{asked}": {problem}')
            raise errors.invalid("", "Service", name, [cause])


def _assign_node_ports(spec: Object, others: list[Object]) -> None:
    taken = {port.get("nodePort") for other in others for port in (other.get("spec") or {}).get("ports") or []}
    taken |= {port.get("nodePort") for port in spec.get("ports") or []}
    free = (port for port in NODE_PORTS if port not in taken)
    for port in spec.get("ports") or []:
        if not port.get("nodePort"):
            port["nodePort"] = next(free)
