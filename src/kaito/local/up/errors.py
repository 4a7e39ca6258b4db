"""What can keep a machine's control plane from running.

UpError
├── PortTaken       another program listens on a port that we need
├── FolderTaken     another control plane runs on this data folder
└── PartFailed      a part of the control plane ended, which it never should
"""

from __future__ import annotations


class UpError(Exception):
    """One sentence: what, where, and what to do."""


class PortTaken(UpError):
    pass


class FolderTaken(UpError):
    pass


class PartFailed(UpError):
    pass
