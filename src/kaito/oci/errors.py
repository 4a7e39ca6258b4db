"""What can go wrong with a registry or an image.

    OciError
    ├── BadReference          a text that is not an image reference
    ├── BadCredentialsFile    a docker config.json that cannot be read
    ├── BadImage              a manifest or layer that breaks the specification or our limits
    └── RegistryError         the registry, with `.registry`
        ├── Unreachable       no answer: DNS, connection, TLS, timeout; or only 5xx and 429 to the last try
        ├── Unauthorized      401 or 403: the credentials are missing, wrong or not enough
        ├── NotFound          404: no such repository, tag, manifest or blob
        ├── DigestMismatch    the bytes are not what their digest says
        └── Refused           any other answer, with `.status` and the registry's own words

Messages never hold credentials or query strings (which may).
"""

from __future__ import annotations


class OciError(Exception):
    """The base of all errors of this package; its text is one sentence for people."""


class BadReference(OciError):
    """The text is not an image reference."""


class BadCredentialsFile(OciError):
    """The docker config.json cannot be read or understood."""


class BadImage(OciError):
    """The image breaks the specification, or a limit on what is unpacked."""


class RegistryError(OciError):
    """Something between this client and one registry."""

    def __init__(self, registry: str, message: str) -> None:
        super().__init__(message)
        self.registry = registry


class Unreachable(RegistryError):
    """No answer, or none that a retry could use."""


class Unauthorized(RegistryError):
    """401 or 403."""


class NotFound(RegistryError):
    """404."""


class DigestMismatch(RegistryError):
    """Content whose digest differs from the one asked for or announced."""


class Refused(RegistryError):
    """An answer that no retry mends."""

    def __init__(self, registry: str, message: str, status: int) -> None:
        super().__init__(registry, message)
        self.status = status
