"""The loopback addresses of one control plane: a slice of 127.96.0.0/16 for Services, of 127.97.0.0/16 for pods.

Two control planes on one machine must not hand out the same addresses. Each holds a slice by listening on a port of the
slice's first pod address for as long as it runs; the kernel lets go when it dies, however it dies. A folder asks for
the slice that it had before, since Services and running pods keep their addresses.
"""

from __future__ import annotations

import errno
import json
import socket
from dataclasses import dataclass
from pathlib import Path

from kaito.local.up.errors import UpError

MEMORY = "networks.json"
SLICES = 64
HOLDING_PORT = 10250
"""The kubelet's port: it is the node agent whose addresses these are."""


@dataclass(frozen=True)
class Networks:
    index: int
    holder: socket.socket

    @property
    def services(self) -> str:
        return f"127.96.{self.index * 4}.0/22"

    @property
    def pods(self) -> str:
        return f"127.97.{self.index * 4}.0/22"

    def remember(self, home: Path) -> None:
        """For the next run on this folder. Only whoever holds the folder's lock may say so."""
        (home / MEMORY).write_text(json.dumps({"slice": self.index}) + "\n")

    def release(self) -> None:
        self.holder.close()


def claim_networks(home: Path) -> Networks:
    """A slice that no other control plane holds; the one of last time if it is free. Raises UpError when none is."""
    before = _remembered(home)
    for index in [before, *(number for number in range(SLICES) if number != before)]:
        holder = _hold(index)
        if holder is not None:
            return Networks(index, holder)
    raise UpError(f"{SLICES} control planes run on this machine already; stop one with `kaito down`")


def _remembered(home: Path) -> int:
    try:
        return int(json.loads((home / MEMORY).read_text())["slice"]) % SLICES
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0


def _hold(index: int) -> socket.socket | None:
    holder = socket.socket()
    try:
        holder.bind((f"127.97.{index * 4}.1", HOLDING_PORT))
        holder.listen(1)
    except OSError as error:
        holder.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise UpError(f"the loopback addresses of 127.97.0.0/16 cannot be used: {error.strerror or error}") from error
    return holder
