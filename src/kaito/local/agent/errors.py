"""What can stop a container from being started.

AgentError
├── ContainerRefused     it cannot be started now; `reason` and `message` become its waiting state
└── PodRefused           the pod can never run here; it ends as Failed with `reason` and `message`
"""

from __future__ import annotations


class AgentError(Exception):
    pass


class ContainerRefused(AgentError):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class PodRefused(AgentError):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def config_error(message: str) -> ContainerRefused:
    """A ConfigMap, a Secret or a key is not there; the container starts once it is."""
    return ContainerRefused("CreateContainerConfigError", message)
