"""Ports: the ones that a folder had before, and who listens on one that we wanted."""

from __future__ import annotations

import errno
import json
import socket
from dataclasses import replace
from pathlib import Path

from kaito.local.up.config import UpConfig
from kaito.local.up.errors import PortTaken, UpError

MEMORY = "ports.json"


def with_remembered_ports(config: UpConfig) -> UpConfig:
    """A port of 0 becomes the one that this folder had before, if it is free.

    Manifests and image references in the store name these ports; they must mean the same after a restart.
    """
    try:
        before = json.loads((config.home / MEMORY).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return config
    port, registry = (int(before.get(name) or 0) for name in ("api", "registry"))
    return replace(
        config,
        port=config.port or (port if _is_free(port) else 0),
        registry_port=config.registry_port or (registry if _is_free(registry) else 0),
    )


def remember_ports(home: Path, api: int, registry: int) -> None:
    (home / MEMORY).write_text(json.dumps({"api": api, "registry": registry}) + "\n")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def bind_error(error: OSError, port: int, what: str, option: str) -> UpError:
    """The sentence for a server that could not listen on `port`."""
    if error.errno != errno.EADDRINUSE:
        return UpError(f"{what} cannot listen on port {port}: {error.strerror or error}")
    holder = port_holder(port)
    by = f" by {holder}" if holder else ""
    return PortTaken(f"port {port} for {what} is taken{by}; stop that program, or choose another port with {option}")


def port_holder(port: int) -> str:
    """`name (pid N)` of the listener on a TCP port, or an empty text where we may not see it."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return ""
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr[1] == port
        if listens and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                return ""
    return ""
