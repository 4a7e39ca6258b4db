"""`python -m ...launch PARENT COMMAND...`: become COMMAND, and be told to end when the process PARENT is gone.

The engine must not outlive its server, which can be killed without a word: a GPU would stay taken. The kernel's
parent-death signal survives exec, so that this program sets it and then is the engine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(1)  # it died before the signal was set
    os.execvp(command[0], command)  # noqa: S606 - the command is the server's own


if __name__ == "__main__":
    main()
