"""Run as `python -I -S tether.py PARENT_PID COMMAND...`: becomes COMMAND, which the kernel kills when its parent dies.

The wish to die with the parent outlives exec, so the command itself need not know of it. A script of its own, since
setting it between fork and exec in a process with threads is not safe.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it died before we asked
    os.execv(command[0], command)  # noqa: S606 - the command that our own parent gave


if __name__ == "__main__":
    main()
