"""Who listens on a port that we wanted."""

from __future__ import annotations

import errno

from kaito.local.up.errors import PortTaken, UpError


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
