"""Scenario files: how slow the simulated cloud is, and what goes wrong in it.

    seed: 7
    delays: {create: [20, 60], node: [10, 30], ready: [5, 10], gpus: [5, 20], delete: [10, 20]}
    faults:
      - {fault: quota, instanceType: Standard_NC24ads_A100_v4, times: 1}
      - {fault: list-fails, after: 30, lasts: 60}

A delay is a number of seconds, or the two ends between which it is drawn. The same seed and the same claim names give
the same delays, in whatever order the claims come.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kaito.nodes.errors import ConfigError

Seconds = float | tuple[float, float]


class Fault(StrEnum):
    """What can be asked to go wrong. The first group answers a create; the second befalls an instance."""

    QUOTA = "quota"
    NO_CAPACITY = "no-capacity"
    NOT_OFFERED = "not-offered"
    INVALID = "invalid"
    BUSY = "busy"
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    FAILS_LATE = "fails-late"
    STUCK = "stuck"
    NEVER_REGISTERS = "never-registers"
    NEVER_READY = "never-ready"
    NO_GPUS = "no-gpus"
    FLAPS = "flaps"
    DIES = "dies"
    SPOT_RECLAIM = "spot-reclaim"
    LIST_FAILS = "list-fails"


ON_CREATE = frozenset(
    {
        Fault.QUOTA,
        Fault.NO_CAPACITY,
        Fault.NOT_OFFERED,
        Fault.INVALID,
        Fault.BUSY,
        Fault.THROTTLED,
        Fault.UNAUTHORIZED,
    }
)
ON_INSTANCE = frozenset(Fault) - ON_CREATE - {Fault.LIST_FAILS}


class Delays(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds from one state of an instance to the next."""

    create: Seconds = (2.0, 5.0)
    node: Seconds = (1.0, 3.0)
    ready: Seconds = (1.0, 2.0)
    gpus: Seconds = (1.0, 3.0)
    delete: Seconds = (1.0, 3.0)


class FaultRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One thing that goes wrong, for one instance type or (empty) for all.

    `times` limits how often (0: always). `after` is in seconds: since the scenario began for faults of the API, since
    the node was ready for `flaps`, `dies` and `spot-reclaim`. `lasts` is how long an API fault or a flap lasts, or the
    notice that a spot reclaim gives.
    """

    fault: Fault
    instance_type: str = ""
    times: int = 0
    after: float = 0.0
    lasts: float = 0.0


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    seed: int = 0
    delays: Delays = Delays()
    faults: tuple[FaultRule, ...] = ()
    poll_seconds: float = 0.5
    """How often the provisioner lists while it waits."""

    def draw(self, name: str, delay: Seconds, what: str) -> float:
        """The delay, in seconds, of `what` for the instance `name`."""
        if not isinstance(delay, tuple):
            return delay
        return random.Random(f"{self.seed}/{name}/{what}").uniform(*delay)  # noqa: S311 - a simulation, not a secret


CALM = Scenario()


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises ConfigError that says what is wrong, and where."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"scenario file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"scenario file {path} is not text in UTF-8 (byte {error.start})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"scenario file {path} is not YAML: {error}") from error
    return parse_scenario(content, str(path))


def parse_scenario(content: object, where: str) -> Scenario:
    try:
        scenario = msgspec.convert(content if content is not None else {}, Scenario)
    except msgspec.ValidationError as error:
        raise ConfigError(f"scenario {where}: {error}{_hint(content)}") from error
    for field in Delays.__struct_fields__:
        _check_delay(getattr(scenario.delays, field), f"{where}: delays.{field}")
    return scenario


def _check_delay(delay: Seconds, where: str) -> None:
    low, high = delay if isinstance(delay, tuple) else (delay, delay)
    if not 0 <= low <= high:
        raise ConfigError(f"scenario {where}: {low:g} to {high:g} is no span of seconds; write the lower end first")


def _hint(content: object) -> str:
    """The nearest right name of a fault that does not exist."""
    rules = content.get("faults") if isinstance(content, Mapping) else None
    for rule in rules if isinstance(rules, list) else []:
        name: Any = rule.get("fault") if isinstance(rule, Mapping) else None
        if isinstance(name, str) and name not in set(Fault):
            near = difflib.get_close_matches(name, list(Fault), n=1)
            known = f"did you mean {near[0]}?" if near else f"the faults are {', '.join(Fault)}"
            return f"; there is no fault {name}, {known}"
    return ""
