"""What can go wrong between the provisioner and a cloud. Each error carries the reason that the condition shows.

ProviderError
├── NotFound               the instance is gone, or never was
├── Busy                   the cloud works on something that excludes this; ask again later
├── InsufficientCapacity   quota, or no machine of that type where it was asked for
├── InvalidSpec            the claim can never be met as it stands
├── ConfigError            the provisioner itself is not allowed, or points to the wrong place
└── Transient              anything that a retry may cure: time-outs, throttling, the cloud's own faults

They tell what is to be done about the claim; where they came from is the provider's business.
"""

from __future__ import annotations

from typing import ClassVar


class ProviderError(Exception):
    """`reason` is CamelCase, `message` says what and where, `hint` what a person can do (both may be empty).

    `retry_after` is in seconds; None means that no retry helps while the claim is what it is.
    """

    default_reason: ClassVar[str] = "LaunchFailed"
    default_retry: ClassVar[float | None] = 60.0

    def __init__(self, message: str, *, reason: str = "", hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.hint = hint
        self.retry_after = self.default_retry if retry_after is None else retry_after

    @property
    def sentence(self) -> str:
        """Message and hint as one text, for a condition."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class NotFound(ProviderError):
    default_reason = "InstanceNotFound"
    default_retry = 0.0


class Busy(ProviderError):
    default_reason = "CloudBusy"
    default_retry = 20.0


class InsufficientCapacity(ProviderError):
    default_reason = "InsufficientCapacity"
    default_retry = 600.0


class InvalidSpec(ProviderError):
    default_reason = "InvalidSpec"
    default_retry = None


class ConfigError(ProviderError):
    default_reason = "ProviderMisconfigured"
    default_retry = 300.0


class Transient(ProviderError):
    default_reason = "LaunchFailed"
    default_retry = 5.0
