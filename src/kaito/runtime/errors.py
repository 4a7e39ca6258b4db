"""How a step says that it cannot go on.

    RuntimeFailure            reason, message, hint: the three things that a person is shown
    ├── InputError            what the user gave is wrong; exit code 2, no retry helps
    └── StepError             anything else; exit code 1, a retry may help

Every step raises these and nothing else on purpose; `step.run_step` turns them into the exit code and the last words.
"""

from __future__ import annotations


class RuntimeFailure(Exception):
    """A failure with words for people.

    `reason` is one CamelCase word that programs may match; `message` says what is wrong and where, in one sentence;
    `hint` says what to do next, in one sentence, and may be empty.
    """

    exit_code = 1

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[RuntimeFailure], tuple[str, str, str]]:
        return type(self), (self.reason, self.message, self.hint)

    def as_dict(self) -> dict[str, str]:
        return {"reason": self.reason, "message": self.message, "hint": self.hint}


class InputError(RuntimeFailure):
    """The user's input is wrong: the same input will fail again."""

    exit_code = 2


class StepError(RuntimeFailure):
    """Something around the step failed; the same input may succeed later."""
