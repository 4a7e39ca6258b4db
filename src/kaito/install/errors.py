"""What can go wrong with an installation.

InstallError               one sentence, and a hint
├── ValuesInvalid          the values are wrong: what, where
├── Refused                installing would harm what is there
└── NotReady               it was applied, and did not come up in time
"""

from __future__ import annotations


class InstallError(Exception):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ValuesInvalid(InstallError):
    pass


class Refused(InstallError):
    pass


class NotReady(InstallError):
    pass
