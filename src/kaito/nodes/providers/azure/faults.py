"""Azure's errors sorted into ours: by code and text, searched through nested details, never by HTTP status alone.

The same refusal comes as 400, as 409 or as a failed operation behind a 200, and often wrapped in a general one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kaito.nodes.errors import (
    Busy,
    ConfigError,
    InsufficientCapacity,
    InvalidSpec,
    NotFound,
    ProviderError,
    Transient,
)
from kaito.nodes.providers.azure.alternatives import alternatives_in_words

HOUR = 3600.0
SKU_TTL = 23 * HOUR
QUOTA_TTL = 600.0


@dataclass(frozen=True)
class Fault:
    """One error of Azure with those nested in it."""

    code: str
    message: str = ""
    details: tuple[Fault, ...] = ()
    status: int = 0
    retry_after: float | None = None

    def walk(self) -> Iterator[Fault]:
        """This error and all in it, the innermost first: those are the causes."""
        for detail in self.details:
            yield from detail.walk()
        yield self


@dataclass(frozen=True)
class Asked:
    """What was asked of Azure when the fault came."""

    pool: str
    size: str = ""
    spot: bool = False


def parse_fault(body: object, status: int = 0, retry_after: float | None = None) -> Fault:
    """Read Azure's error body, nested in `error` or not. Anything else becomes a fault without a code."""
    content: object = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(content, Mapping):
        return Fault("", str(content)[:300] if content else "", (), status, retry_after)
    details = content.get("details")
    nested = tuple(parse_fault(detail) for detail in details) if isinstance(details, list) else ()
    return Fault(str(content.get("code") or ""), str(content.get("message") or ""), nested, status, retry_after)


def classify(fault: Fault, asked: Asked) -> ProviderError:
    """The error that stands for `fault`: the first row of the table that any part of it meets."""
    for meets, to_error in TABLE:
        for part in fault.walk():
            if meets(part):
                return to_error(part, asked)
    return _by_status(fault, asked)


def _by_status(fault: Fault, asked: Asked) -> ProviderError:
    if fault.status in (401, 403):
        return _config(fault, asked)
    if fault.status == 429 or fault.status >= 500:
        return _transient(fault, asked)
    if 400 <= fault.status < 500:
        return _invalid(fault, asked)
    return _transient(fault, asked)


def _codes(*codes: str) -> Callable[[Fault], bool]:
    known = {code.lower() for code in codes}
    return lambda fault: fault.code.lower() in known


def _is_gone(fault: Fault) -> bool:
    if fault.code == "NotFound" or "agent pool not found" in fault.message.lower():
        return True
    return fault.code == "ResourceNotFound" and "agentpools" in fault.message.lower()


def _is_busy(fault: Fault) -> bool:
    text = fault.message.lower()
    if fault.code in ("Canceled", "OperationPreempted"):
        return "later operation" in text or "preempted" in text
    running = "in progress" in text or re.search(r"another .*operation", text) is not None
    return running and (fault.code in ("OperationNotAllowed", "Conflict", "AnotherOperationInProgress"))


def _is_quota(fault: Fault) -> bool:
    if fault.code == "ErrCode_InsufficientVCPUQuota":
        return True
    text = fault.message.lower()
    words = ("cores quota", "lowprioritycores", "quota limit", "approved quota")
    return fault.code == "QuotaExceeded" or (fault.code == "OperationNotAllowed" and any(w in text for w in words))


def _is_sku(fault: Fault) -> bool:
    if fault.code in ("SkuNotAvailable", "VMSizeNotSupported"):
        return True
    text = fault.message.lower()
    return fault.code == "BadRequest" and (
        "not allowed in your subscription" in text or "is not supported for subscription" in text
    )


def _is_transient(fault: Fault) -> bool:
    code = fault.code.lower()
    known = ("reconcilevmssagentpoolfailed", "toomanyrequests", "serverbusy", "serverunavailable", "requesttimeout")
    return code in known or code.startswith("internal") or "throttl" in code


def _gone(_: Fault, asked: Asked) -> ProviderError:
    return NotFound(f"agent pool {asked.pool} does not exist")


def _config(fault: Fault, _: Asked) -> ProviderError:
    return ConfigError(
        f"Azure refuses the provisioner: {_words(fault)}",
        reason=fault.code if fault.code.isalnum() and fault.code else "AuthorizationFailed",
        hint="check the subscription, resource group and cluster name, and that the identity is Contributor on it",
    )


def _busy(fault: Fault, asked: Asked) -> ProviderError:
    return Busy(f"AKS works on something else before agent pool {asked.pool}: {_words(fault)}")


def _quota(fault: Fault, asked: Asked) -> ProviderError:
    quota = parse_quota(fault.message)
    family = quota.family or "the machine family"
    numbers = f"limit {quota.limit}, in use {quota.usage}, needed {quota.needed}" if quota.limit is not None else ""
    figures = numbers or (f"{quota.needed} needed, {quota.remaining} left" if quota.needed else _words(fault))
    where = f" in {quota.region}" if quota.region else ""
    ask = f"ask Azure for a quota of {quota.new_limit} cores of {family}" if quota.new_limit else f"raise {family}"
    return InsufficientCapacity(
        f"the quota of {family}{where} does not allow {asked.size}: {figures}",
        reason="SubscriptionQuotaReached",
        hint=_or_else(ask, asked),
        retry_after=HOUR if quota.limit == 0 else QUOTA_TTL,
    )


def _sku(fault: Fault, asked: Asked) -> ProviderError:
    return InsufficientCapacity(
        f"{asked.size} is not offered to this subscription here: {_words(fault)}",
        reason="SkuNotAvailable",
        hint=_or_else("take another region or zone", asked),
        retry_after=HOUR if asked.spot else SKU_TTL,
    )


def _allocation(fault: Fault, asked: Asked) -> ProviderError:
    return InsufficientCapacity(
        f"Azure has no {asked.size} free: {_words(fault)}",
        reason=fault.code,
        hint=_or_else("take another zone, or wait", asked),
        retry_after=HOUR,
    )


def _transient(fault: Fault, asked: Asked) -> ProviderError:
    return Transient(
        f"Azure failed at agent pool {asked.pool}: {_words(fault)}",
        reason="Throttled" if fault.status == 429 or fault.code == "TooManyRequests" else "",
        retry_after=fault.retry_after or 30.0,
    )


def _invalid(fault: Fault, asked: Asked) -> ProviderError:
    return InvalidSpec(f"Azure does not take agent pool {asked.pool} as specified: {_words(fault)}")


Row = tuple[Callable[[Fault], bool], Callable[[Fault, Asked], ProviderError]]

TABLE: Iterable[Row] = (
    (_is_quota, _quota),
    (_is_sku, _sku),
    (
        _codes(
            "ZonalAllocationFailed",
            "AllocationFailed",
            "OverconstrainedAllocationRequest",
            "OverconstrainedZonalAllocationRequest",
        ),
        _allocation,
    ),
    (_is_busy, _busy),
    (_is_gone, _gone),
    (
        _codes(
            "ResourceNotFound",
            "ResourceGroupNotFound",
            "SubscriptionNotFound",
            "AuthorizationFailed",
            "LinkedAuthorizationFailed",
            "InvalidAuthenticationToken",
            "InvalidAuthenticationTokenTenant",
            "ExpiredAuthenticationToken",
            "AuthenticationFailed",
        ),
        _config,
    ),
    (_codes("InvalidParameter", "AvailabilityZoneNotSupported", "PropertyChangeNotAllowed"), _invalid),
    (_is_transient, _transient),
)
"""From the most telling to the most general."""


@dataclass(frozen=True)
class Quota:
    """The numbers of a refusal, in cores; None where Azure does not say."""

    family: str = ""
    region: str = ""
    limit: int | None = None
    usage: int | None = None
    needed: int | None = None
    remaining: int | None = None
    new_limit: int | None = None


def parse_quota(message: str) -> Quota:
    """Read the numbers out of either wording of a quota refusal."""

    def number(pattern: str) -> int | None:
        found = re.search(pattern, message, re.IGNORECASE)
        return int(found[1]) if found else None

    def text(pattern: str) -> str:
        found = re.search(pattern, message)
        return found[1] if found else ""

    total = "Total Regional Cores" if "Total Regional Cores" in message else ""
    return Quota(
        family=total
        or text(r"approved (\w+?) ?Cores quota")
        or text(r"for family (\w+)")
        or text(r"(LowPriorityCores)"),
        region=text(r"for region (\w+)") or text(r"Location: (\w+)"),
        limit=number(r"Current Limit: (\d+)"),
        usage=number(r"Current Usage: (\d+)"),
        needed=number(r"Additional Required: (\d+)") or number(r"requested (\d+)"),
        remaining=number(r"remaining (\d+)"),
        new_limit=number(r"New Limit Required: (\d+)"),
    )


def _or_else(advice: str, asked: Asked) -> str:
    others = alternatives_in_words(asked.size)
    return f"{advice}, or use {others}" if others else advice


def _words(fault: Fault) -> str:
    """Code and message, short enough for a condition."""
    text = " ".join(fault.message.split())
    short = text if len(text) <= 300 else text[:299] + "…"
    return f"{fault.code}: {short}" if fault.code and short else fault.code or short or f"HTTP {fault.status}"


def parse_details(details: Iterable[Any]) -> tuple[Fault, ...]:
    """Details of the SDK's error objects, which have the same fields as attributes."""
    return tuple(
        Fault(str(part.code or ""), str(part.message or ""), parse_details(getattr(part, "details", None) or ()))
        for part in details
    )
