"""How commands fail: one sentence and a next step on stderr, never a traceback, and a documented exit code.

CommandError            exit 1, what was asked for failed
├── UsageError          exit 2, the input is wrong
└── TimedOut            exit 4, waited in vain
"""

from __future__ import annotations


class CommandError(Exception):
    code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(CommandError):
    code = 2


class TimedOut(CommandError):
    code = 4
