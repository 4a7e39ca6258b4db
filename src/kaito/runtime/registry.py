"""What the steps that talk to registries share: the session out of the environment, and errors in people's words."""

from __future__ import annotations

from kaito.oci.auth import DockerConfig
from kaito.oci.errors import (
    BadCredentialsFile,
    BadImage,
    BadReference,
    NotFound,
    OciError,
    RegistryError,
    Unauthorized,
    Unreachable,
)
from kaito.oci.reference import Reference, parse_reference
from kaito.oci.session import RetryPolicy, Session
from kaito.runtime.errors import InputError, RuntimeFailure, StepError
from kaito.runtime.step import Step


def open_session(step: Step, retry: RetryPolicy | None = None) -> Session:
    """A session with the credentials of KAITO_REGISTRY_AUTH.

    KAITO_INSECURE_REGISTRIES: host[:port] names, comma separated, that may be spoken to over plain http; loopback
    always may.
    """
    insecure = step.environ.get("KAITO_INSECURE_REGISTRIES", "")
    return Session(
        DockerConfig(step.optional_path("KAITO_REGISTRY_AUTH")),
        insecure=frozenset(filter(None, (one.strip() for one in insecure.split(",")))),
        retry=retry or RetryPolicy(),
    )


def image_reference(step: Step, variable: str) -> Reference:
    try:
        return parse_reference(step.require(variable))
    except BadReference as error:
        raise InputError("ImageInvalid", str(error), "correct the image reference in the Workspace") from error


def pull_failure(error: OciError, what: str) -> RuntimeFailure:
    """The failure of a step that cannot pull an image."""
    match error:
        case NotFound():
            return InputError("ImageNotFound", f"the {what} image is not there: {error}", "correct the reference")
        case Unauthorized():
            return StepError("PullUnauthorized", f"the {what} image cannot be pulled: {error}", "mend the pull secret")
        case BadCredentialsFile():
            return StepError("PullSecretInvalid", str(error), "mend the pull secret; its type is dockerconfigjson")
        case BadImage():
            return InputError("ImageInvalid", f"the {what} image cannot be used: {error}", "push it again")
        case Unreachable():
            return StepError("RegistryUnreachable", str(error), "check the registry and the network; it tries again")
        case RegistryError():
            return StepError("PullFailed", f"the {what} image cannot be pulled: {error}", "the step tries again")
        case _:
            return StepError("PullFailed", f"the {what} image cannot be pulled: {error}", "the step tries again")
