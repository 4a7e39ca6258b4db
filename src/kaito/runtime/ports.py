"""A port for a child process of a step, which only this machine talks to."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A loopback port that nobody listens on now; it is the child's only once the child listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
